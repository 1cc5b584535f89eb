"""Log messages and progress bars of diffusers, transformers and the hub's client, silenced for a block of code."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings of diffusers, transformers and the hub's client, and progress bars of the first two."""
    import diffusers.utils.logging
    import huggingface_hub.utils.logging as hub
    import transformers.utils.logging

    libraries = (diffusers.utils.logging, transformers.utils.logging)
    hub_verbosity = hub.get_verbosity()
    hub.set_verbosity(logging.ERROR)
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity(logging.ERROR)
        library.disable_progress_bar()
    try:
        yield
    finally:
        hub.set_verbosity(hub_verbosity)
        for library, (verbosity, bars) in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()
