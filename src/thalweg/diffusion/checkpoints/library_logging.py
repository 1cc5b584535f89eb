"""Log messages and progress bars of diffusers, transformers and the hub's client, silenced for a block of code."""

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

# The libraries' settings are the whole process's, and models load in several threads: the first block to begin
# silences, the last one to end restores. Blocks that each restored what they found could leave the libraries silent.
_lock = threading.Lock()
_blocks = 0
_restore = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings and errors logged by diffusers, transformers and the hub's client, and the first two's bars.

    The settings found are restored when the last of the blocks that overlap ends, whichever thread runs it.
    """
    global _blocks
    with _lock:
        if _blocks == 0:
            _silence(_restore)
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if _blocks == 0:
                _restore.close()


def _silence(restore: ExitStack) -> None:
    import diffusers.utils.logging
    import huggingface_hub.utils.logging as hub
    import transformers.utils.logging

    restore.callback(hub.set_verbosity, hub.get_verbosity())
    hub.set_verbosity(logging.CRITICAL)
    for library in (diffusers.utils.logging, transformers.utils.logging):
        restore.callback(library.set_verbosity, library.get_verbosity())
        library.set_verbosity(logging.CRITICAL)
        if library.is_progress_bar_enabled():
            restore.callback(library.enable_progress_bar)
            library.disable_progress_bar()
