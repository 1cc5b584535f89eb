from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from thalweg.app.security.auth import USER_COOKIE, add_guards, user_of
from thalweg.app.security.hosts import check_access
from thalweg.errors import UsageError

TOKEN = "correct-horse-battery"
HERE = "http://127.0.0.1:7860"
OTHER_PORT = "http://127.0.0.1:9999"
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def client_of(host: str, token: str | None, base: str = HERE, allow_hosts: tuple[str, ...] = ()) -> TestClient:
    app = FastAPI()
    add_guards(app, host, token, allow_hosts)

    @app.get("/")
    @app.get("/deep")
    @app.get("/gradio_api/queue/data")
    @app.post("/gradio_api/queue/join")
    @app.post("/earth/whatif")
    def who(request: Request) -> PlainTextResponse:
        headers = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true"}
        return PlainTextResponse(request.cookies.get(USER_COOKIE, "nobody"), headers=headers)

    @app.websocket("/talk")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()

    return TestClient(app, base_url=base, follow_redirects=False)


@pytest.fixture
def guarded() -> Iterator[TestClient]:
    yield client_of("0.0.0.0", TOKEN, "http://192.0.2.7")


@pytest.fixture
def local() -> Iterator[TestClient]:
    yield client_of("127.0.0.1", None)


def test_only_loopback_addresses_need_no_token() -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        check_access(host, None)
    check_access("0.0.0.0", TOKEN)
    with pytest.raises(UsageError, match="expected a token"):
        check_access("0.0.0.0", None)
    with pytest.raises(UsageError, match="at least 12"):
        check_access("0.0.0.0", "short")


@pytest.mark.parametrize("path", ["/", "/deep", "/?token=wrong", "/?token=%C3%A9%ED%A0%80", "/runs/a/b.png"])
def test_requests_without_the_token_are_refused(guarded: TestClient, path: str) -> None:
    answer = guarded.get(path)
    assert answer.status_code == 401
    assert not answer.cookies


def test_the_token_comes_once_in_the_address_and_then_as_a_cookie(guarded: TestClient) -> None:
    first = guarded.get(f"/?token={TOKEN}&x=1")
    assert first.status_code == 200
    cookie = first.headers["set-cookie"]
    assert "httponly" in cookie.lower()
    assert "samesite=lax" in cookie.lower()  # a strict one is not sent with a link from elsewhere
    assert TOKEN not in cookie
    assert guarded.get("/deep").status_code == 200


def test_a_link_from_another_site_is_admitted_and_keeps_the_browsers_secret(guarded: TestClient) -> None:
    assert guarded.get(f"/?token={TOKEN}", headers=LINK).status_code == 200
    assert guarded.get("/", headers=LINK).status_code == 200
    secret = guarded.cookies[USER_COOKIE]
    assert guarded.get("/", headers=LINK).text == secret
    assert guarded.cookies[USER_COOKIE] == secret


@pytest.mark.parametrize("path", ["//evil.example/%2e%2e", "//evil.example", "/\\evil.example", "/%2f%2fevil.example"])
def test_the_token_never_leads_to_another_host(guarded: TestClient, path: str) -> None:
    answer = guarded.get(f"http://192.0.2.7{path}?token={TOKEN}")
    assert "location" not in answer.headers


def test_apps_on_two_ports_of_one_host_are_separate() -> None:
    one, other = (client_of("127.0.0.1", f"{TOKEN}-{port}", f"http://127.0.0.1:{port}") for port in (7860, 7861))
    names = [
        client.get(f"/?token={TOKEN}-{port}").headers["set-cookie"].partition("=")[0]
        for client, port in ((one, 7860), (other, 7861))
    ]
    assert len(set(names)) == 2


@pytest.mark.parametrize("token", [TOKEN, "pässwörter und 水 genug"])
def test_programs_send_the_token_as_a_bearer(token: str) -> None:
    client = client_of("0.0.0.0", token, "http://192.0.2.7")
    bearer = {"Authorization": f"Bearer {token}".encode()}
    assert client.get("/deep", headers=bearer).status_code == 200
    assert client.post("/earth/whatif", headers=bearer).status_code == 200
    assert client.get("/deep", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/deep", headers={"Authorization": "Bearer "}).status_code == 401
    assert client.get("/", params={"token": token}).status_code == 200


def test_each_browser_gets_its_own_secret(local: TestClient) -> None:
    other = client_of("127.0.0.1", None)
    assert local.get("/").text == "nobody"
    secret = local.get("/").text
    assert len(secret) >= 32
    assert local.get("/").text == secret
    other.get("/")
    assert other.get("/").text not in ("nobody", secret)


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/earth/whatif"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": OTHER_PORT}, 403),
        ({"Origin": "http://localhost:7860"}, 403),
        ({"Origin": "https://127.0.0.1:7860.evil.example"}, 403),
        ({"Origin": HERE, "Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Referer": f"{HERE}/"}, 403),
        ({"Origin": HERE}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_requests_that_change_something_must_come_from_the_app(
    local: TestClient, path: str, headers: dict[str, str], status: int
) -> None:
    assert local.post(path, headers=headers).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Origin": OTHER_PORT}, 403),
        ({"Sec-Fetch-Site": "same-site", "Referer": f"{OTHER_PORT}/"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Referer": f"{OTHER_PORT}/"}, 403),
        ({"Referer": f"{HERE}/"}, 200),  # of a browser that sends no Sec-Fetch-Site, as beyond the loopback address
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_streams_are_for_the_app_s_own_pages(local: TestClient, headers: dict[str, str], status: int) -> None:
    assert local.get("/gradio_api/queue/data", headers=headers).status_code == status


def test_another_site_reaches_only_the_page_by_a_link(local: TestClient) -> None:
    embedded = {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    framed = {**LINK, "Sec-Fetch-Dest": "iframe"}
    assert local.get("/deep", headers=embedded).status_code == 403
    assert local.get("/deep", headers={"Origin": OTHER_PORT}).status_code == 403
    assert local.get("/deep", headers=LINK).status_code == 403
    assert local.get("/", headers=framed).status_code == 403
    assert local.get("/", headers=LINK).status_code == 200
    assert local.get("/deep").status_code == 200


@pytest.mark.parametrize("origin", [HERE, OTHER_PORT, "http://localhost:3000", "null"])
def test_no_response_has_a_cors_header(local: TestClient, origin: str) -> None:
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    answers = [local.get("/", headers={"Origin": origin}), local.options("/gradio_api/queue/join", headers=asked)]
    answers.append(local.post("/gradio_api/queue/join", headers={"Origin": origin}))
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answers[1].status_code == 405


def test_responses_are_in_no_frame_cache_or_referer(local: TestClient) -> None:
    headers = local.get("/").headers
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["referrer-policy"] == "strict-origin"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


def test_on_this_machine_only_its_own_names_are_answered(local: TestClient) -> None:
    assert local.get("/").status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example", "192.0.2.7", "", "[::1", "127.0.0.1:port", "a@127.0.0.1"):
        assert local.get("/", headers={"Host": host}).status_code == 400, host


def test_behind_a_proxy_the_allowed_name_is_answered_and_is_the_origin() -> None:
    client = client_of("127.0.0.1", TOKEN, "http://maps.example.org", ("maps.example.org",))
    assert client.get(f"/?token={TOKEN}").status_code == 200
    assert client.post("/earth/whatif", headers={"Origin": "https://maps.example.org"}).status_code == 200
    assert client.post("/earth/whatif", headers={"Origin": "https://maps.example.org:8443"}).status_code == 403
    assert client.post("/earth/whatif", headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400
    rewritten = {"Host": "127.0.0.1:7860", "Origin": "https://maps.example.org"}
    assert client.post("/earth/whatif", headers=rewritten).status_code == 200


def test_web_sockets_are_refused(local: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), local.websocket_connect("/talk", headers={"Origin": OTHER_PORT}):
        pass


def test_a_browser_without_cookies_is_refused() -> None:
    with pytest.raises(UsageError, match="cookies"):
        user_of({})
