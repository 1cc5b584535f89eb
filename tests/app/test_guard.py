from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from starlette.testclient import TestClient

from thalweg.app.guard import PERSON, add_guards, check_host, person_of
from thalweg.errors import UsageError

TOKEN = "correct-horse-battery"


def client_of(host: str, token: str | None, base: str) -> TestClient:
    app = FastAPI()
    add_guards(app, host, token)

    @app.get("/")
    @app.get("/deep")
    def who(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.cookies.get(PERSON, "nobody"))

    return TestClient(app, base_url=base, follow_redirects=False)


@pytest.fixture
def guarded() -> Iterator[TestClient]:
    yield client_of("0.0.0.0", TOKEN, "http://example.org")


def test_only_this_machine_goes_without_a_token() -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        check_host(host, None)
    check_host("0.0.0.0", TOKEN)
    with pytest.raises(UsageError, match="--token"):
        check_host("0.0.0.0", None)
    with pytest.raises(UsageError, match="at least 12"):
        check_host("0.0.0.0", "short")


@pytest.mark.parametrize("path", ["/", "/deep", "/?token=wrong", "/gradio_api/info", "/runs/a/b.png"])
def test_without_the_token_nothing_is_answered(guarded: TestClient, path: str) -> None:
    answer = guarded.get(path)
    assert answer.status_code == 401
    assert not answer.cookies


def test_the_token_comes_once_in_the_address_and_then_as_a_cookie(guarded: TestClient) -> None:
    first = guarded.get(f"/deep?token={TOKEN}&x=1")
    assert (first.status_code, first.headers["location"]) == (307, "/deep?x=1")
    assert "httponly" in first.headers["set-cookie"].lower()
    assert "samesite=strict" in first.headers["set-cookie"].lower()
    assert guarded.get("/deep").status_code == 200


def test_programs_send_the_token_as_a_bearer(guarded: TestClient) -> None:
    assert guarded.get("/deep", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert guarded.get("/deep", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_each_browser_gets_a_secret_of_its_own() -> None:
    one, other = (client_of("127.0.0.1", None, "http://127.0.0.1") for _ in range(2))
    assert one.get("/").text == "nobody"
    secret = one.get("/").text
    assert len(secret) >= 32
    assert one.get("/").text == secret
    other.get("/")
    assert other.get("/").text not in ("nobody", secret)


def test_on_this_machine_only_its_own_names_are_answered() -> None:
    client = client_of("127.0.0.1", None, "http://127.0.0.1")
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400


def test_who_keeps_no_cookie_is_told() -> None:
    with pytest.raises(UsageError, match="cookies"):
        person_of({})
