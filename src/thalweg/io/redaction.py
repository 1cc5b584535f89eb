"""Removal of credentials from addresses in messages, log lines and stored attributes."""

import logging
import re

HIDDEN = "***"
"""Replacement of a user name, a password, a key or a token."""

_USER = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]+:/{1,2})"  # one slash if the address was parsed as a path
    r"(?:[^/\s?#'\"<>]*@"
    r"|[^/\s?#'\"<>:@]*:(?!\d*(?:[/\s?#]|$))[^\s'\"<>@]*@)",  # a password with a slash in it; not a port and a path
    re.IGNORECASE,
)

_WORDS = (
    r"token|secret|signature|passw(?:or)?d|credential|authorization|api[-_]?key|access[-_]?key|subscription[-_]?key"
)
_NAMES = (
    rf"[\w.-]*(?:{_WORDS})[\w.-]*|x-(?:amz|goog|oss|ms)-[\w-]+|awsaccesskeyid|googleaccessid|key-pair-id|policy|expires|"
    r"auth|key|pwd|pass|user(?:name)?|jwt|sid|code|sig|se|st|sp|sv|sr|srt|ss|spr|sip|ske|sks|skt|skv|skoid|sktid"
)
_QUERY = re.compile(
    rf"(?P<start>[?&;#]|%3F|%26)(?P<name>{_NAMES})(?P<equals>=|%3D)(?:(?!%26)[^&;\s#'\"<>])*", re.IGNORECASE
)


def redact(text: str) -> str:
    """Return a text without the credentials of the addresses in it.

    User and password before a host are replaced, and the values of query parameters that sign or authorize (SAS, AWS
    and Google signatures, tokens, keys). Names of query parameters are kept, so that a changed token gives the same
    text.
    """
    without_user = _USER.sub(lambda found: f"{found['scheme']}{HIDDEN}@", text)
    return _QUERY.sub(lambda found: f"{found['start']}{found['name']}{found['equals']}{HIDDEN}", without_user)


def public_cause(error: BaseException) -> BaseException | None:
    """Return an error that another error can have as its cause; None if it or its own causes contain credentials.

    Use as `raise ThalwegError(redact(message)) from public_cause(error)`.
    """
    cause: BaseException | None = error
    while cause is not None:
        said = f"{cause} {cause.args}"
        if redact(said) != said:
            return None
        cause = cause.__cause__ or cause.__context__
    return error


class RedactingFilter(logging.Filter):
    """Logging filter that removes credentials from the records of a library."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the message of a record and let it pass."""
        record.msg, record.args = redact(record.getMessage()), ()
        return True


_FILTER = RedactingFilter()
_LOGGERS = (
    *("urllib3.connectionpool", "urllib3.util.retry", "pystac_client.stac_api_io", "pystac_client.client"),
    *("pystac.stac_io", "odc.loader", "rasterio._env", "rasterio._io", "rasterio._base", "rasterio._err"),
    *("fsspec", "s3fs", "botocore.endpoint", "botocore.auth"),
)


def redact_logs() -> None:
    """Remove credentials from the log records of all libraries that request addresses."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)
