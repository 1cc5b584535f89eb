"""The package's own errors: each says in one line what was expected, what was found and what to do."""

from collections.abc import Iterable


class ThalwegError(Exception):
    """A job failed for a reason the user can act on; the command line shows it as one line, exit code 1."""


class UsageError(ThalwegError, ValueError):
    """An argument or an input file is not as expected; the command line exits with code 2."""


class MissingPathError(UsageError, FileNotFoundError):
    """A file or folder that an argument names does not exist."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for an unknown name: the known names and, where one is close, what may have been meant.

    Args:
        kind: Kind of thing that is named, such as "model".
        name: Name that is not known.
        known: Known names, in the order of the message.
    """
    from difflib import get_close_matches

    names = list(dict.fromkeys(known))
    by_lower_case = {known_name.lower(): known_name for known_name in names}
    close = get_close_matches(name.lower(), by_lower_case, n=1)
    meant = f"; did you mean {by_lower_case[close[0]]}?" if close else ""
    return UsageError(f"{kind} {name!r}: expected {', '.join(names)}{meant}")


def one_line(error: BaseException) -> str:
    """Return an error's message on one line, preceded by its class if it is not an error of this package."""
    message = " ".join(str(error).split())
    return message if isinstance(error, ThalwegError) else f"{type(error).__name__}: {message}"


class NotFiniteError(ThalwegError):
    """An image, an embedding or a number came out as NaN or infinity; nothing of it is written."""


class ThalwegWarning(UserWarning):
    """A result may not be what was meant; the command line shows the warning as one line."""


class PromptWarning(ThalwegWarning):
    """A text is not seen as it was written."""


class PromptCut(PromptWarning):
    """A prompt is longer than a model's text encoder takes; the warning says which words it does not see."""


class UnknownWords(PromptWarning):
    """A prompt holds words that a model does not know; the warning names them."""


class PromptSyntax(PromptWarning):
    """A prompt holds another program's syntax; the warning says which parts are read as plain text."""


class DataWarning(ThalwegWarning):
    """Values or files of an input were left out or could not be checked; the warning says which and how many."""
