"""Credentials of addresses: removed in every position, and other text is unchanged."""

import logging
from collections.abc import Callable

import pytest

import thalweg
from thalweg.earth.cube.cube import Cube
from thalweg.errors import UsageError
from thalweg.io.redaction import public_cause, redact, redact_logs

HIDDEN = {
    "http://user:s3cr3t@host/a.tif": "http://***@host/a.tif",
    "https:/user:s3cr3t@host/a": "https:/***@host/a",
    "https://s3cr3t@host/a": "https://***@host/a",
    "http://user:s3@cr3t@host/a": "http://***@host/a",
    "http://user:s3/cr3t@host/a": "http://***@host/a",
    "https://host/a?sig=s3cr3t%2B&se=2022-01-01&limit=5": "https://host/a?sig=***&se=***&limit=5",
    "https://host/a?X-Amz-Signature=s3cr3t&x-amz-credential=s3cr3t": "https://host/a?X-Amz-Signature=***&x-amz-credential=***",
    "https://host/a?api_key=s3cr3t#part": "https://host/a?api_key=***#part",
    "https://host/a#access_token=s3cr3t": "https://host/a#access_token=***",
    "/vsicurl?url=https%3A%2F%2Fhost%3Fsig%3Ds3cr3t%26n%3D4": "/vsicurl?url=https%3A%2F%2Fhost%3Fsig%3D***%26n%3D4",
    "retries exceeded with url: /a?token=s3cr3t (Caused by": "retries exceeded with url: /a?token=*** (Caused by",
    "two: http://u:s3cr3t@h/a 'https://h?subscription-key=s3cr3t'": "two: http://***@h/a 'https://h?subscription-key=***'",
}


@pytest.mark.parametrize("text", HIDDEN)
def test_credentials_are_removed(text: str) -> None:
    assert redact(text) == HIDDEN[text]
    assert redact(redact(text)) == HIDDEN[text]


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/image@2x.tif",
        "C:/image@2x.tif",
        "http://host:8080/image@2x.tif",
        "https://host/search?collections=sentinel-2-l2a&limit=100",
        "token=3: expected a number",
        "expected A?B, got C@D",
    ],
)
def test_text_without_credentials_is_unchanged(text: str) -> None:
    assert redact(text) == text


def test_a_cause_with_credentials_is_omitted() -> None:
    inner, plain = ValueError("https://host/a?token=s3cr3t"), ValueError("no such file")
    outer = RuntimeError("failed")
    outer.__cause__ = inner
    assert public_cause(inner) is None and public_cause(outer) is None
    assert public_cause(plain) is plain


def test_log_records_of_libraries_are_redacted(caplog: pytest.LogCaptureFixture) -> None:
    redact_logs()
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("urllib3.connectionpool").warning("Retrying after %r: %s", "fault", "/a?token=s3cr3t")
    assert caplog.messages == ["Retrying after 'fault': /a?token=***"]


@pytest.mark.parametrize("opening", [thalweg.open, Cube.open])
def test_an_address_given_as_a_path_is_redacted(opening: Callable[[str], object]) -> None:
    with pytest.raises(UsageError, match="no such") as caught:
        opening("https://user:s3cr3t@host/store.zarr?token=s3cr3t")
    assert "s3cr3t" not in str(caught.value)
