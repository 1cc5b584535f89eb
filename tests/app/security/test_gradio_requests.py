"""The whole app over HTTP: no event, upload or route returns a file of the machine or accepts an unknown one."""

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from thalweg.app.security.auth import USER_COOKIE
from thalweg.app.security.uploads import private_folder
from thalweg.app.server import create_app
from thalweg.app.workspace import Workspace
from thalweg.diffusion.config import ModelConfig
from waiting import HANG_SECONDS

LIMIT = 100_000
SECRET = b"a canary outside of the workspace"
META = {"_type": "gradio.FileData"}


@dataclass(frozen=True)
class Attack:
    """A served app, a file that it must not give away, and two browsers' clients."""

    app: Any
    client: httpx.Client
    stranger: httpx.Client
    canary: Path
    origin: str


@pytest.fixture(scope="module")
def attack(served: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attack]:
    outside, inside = tmp_path_factory.mktemp("outside"), tmp_path_factory.mktemp("workspace")
    canary = outside / "canary.safetensors"
    canary.write_bytes(SECRET)
    app = create_app(Workspace(inside), ModelConfig(steps=1), upload_limit=LIMIT)
    with served(app) as url:
        clients = [httpx.Client(base_url=url, headers={"Origin": url}, timeout=HANG_SECONDS) for _ in range(2)]
        for client in clients:
            client.get("/")
        yield Attack(app, *clients, canary, url)
        for client in clients:
            client.close()


def copies() -> list[Path]:
    """Files of Gradio's cache and of the uploads."""
    return sorted(path for path in private_folder().rglob("*") if path.is_file())


def events_of(client: httpx.Client) -> list[tuple[dict[str, Any], list[Any]]]:
    """Every event of the page with a value for each of its inputs."""
    config = client.get("/config").json()
    values = {part["id"]: part["props"].get("value") for part in config["components"]}
    return [(event, [values[part] for part in event["inputs"]]) for event in config["dependencies"]]


def file_values(path: str) -> list[Any]:
    """Ways to name a file in a value."""
    whole = {"path": path, "meta": META}
    return [
        whole,
        {**whole, "url": f"http://127.0.0.1/gradio_api/file={path}", "orig_name": "x.safetensors", "size": 3},
        {"path": path},
        {"path": "x", "url": f"file://{path}", "meta": META},
        {"path": "http://169.254.169.254/latest/meta-data", "meta": META},
        {"path": path, "meta": "gradio.FileData"},
        {"path": path, "meta": META, "is_stream": True},
        [whole],
        {"a": [{"b": whole}]},
        [[[[whole]]]],
    ]


def join(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/gradio_api/queue/join", json={"session_hash": "attack", "trigger_id": None, **body})


def test_no_input_of_any_event_takes_a_file_that_was_not_uploaded(attack: Attack) -> None:
    before, events = copies(), events_of(attack.client)
    assert len(events) > 20
    tried = 0
    for event, values in events:
        for place in range(len(values) + 1):  # one more than there are, too
            for value in file_values(str(attack.canary)):
                data = [*values[:place], value, *values[place + 1 :]]
                answer = join(attack.client, fn_index=event["id"], data=data)
                assert answer.status_code == 422
                assert answer.json()["error"].startswith("expected a file that this browser uploaded")
                tried += 1
        for value in file_values(str(attack.canary)):
            answer = join(attack.client, fn_index=event["id"], data=values, event_data=value)
            assert answer.status_code == 422
    assert tried > 500
    assert copies() == before


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/run/{name}",
        "/gradio_api/api/{name}",
        "/gradio_api/call/{name}",
        "/gradio_api/call/v2/{name}",
        "/gradio_api/component_server",
        "/gradio_api/process_recording",
        "/gradio_api/stream/event",
        "/gradio_api/queue/join/",
        "/gradio_api//queue/join",
    ],
)
def test_no_other_way_to_call_a_function_is_open(attack: Attack, path: str) -> None:
    before = copies()
    for event, values in events_of(attack.client):
        body = {"data": [file_values(str(attack.canary))[0]] * max(1, len(values)), "session_hash": "attack"}
        answer = attack.client.post(path.format(name=event["api_name"]), json={**body, "fn_index": event["id"]})
        assert answer.status_code == 404
    assert copies() == before


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file={canary}",
        "/gradio_api/file/{canary}",
        "/file={canary}",
        "/gradio_api/file=http://127.0.0.1/",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/gradio_api/proxy=https://x.hf.space/{canary}",
        "/gradio_api/custom_component/x/client/component/index.js",
        "/gradio_api/deep_link?session_hash=attack",
        "/gradio_api/stream/attack/0/1/playlist-file",
        "/gradio_api/runs",
        "/gradio_api/openapi.json",
        "/gradio_api/upload_progress?upload_id=x",
        "/monitoring",
        "/monitoring/summary",
        "/pwa_icon",
        "/docs",
        "/openapi.json",
        "/assets/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2f..{canary}",
        "/static/%2e%2e/%2e%2e/%2e%2e{canary}",
        "/assets/%2f{canary}",
        "/static//{canary}",
        "/svelte/..%2f{canary}",
        "/runs/..%2f..{canary}",
        "/runs/%2e%2e/{canary}",
        "/runs//{canary}",
        "/runs/x/..%2f..%2f{canary}",
        "/earth/..%2f{canary}",
        "//evil.example/%2e%2e",
    ],
)
def test_no_route_returns_a_file_of_the_machine(attack: Attack, path: str) -> None:
    for method in ("GET", "HEAD", "POST", "PUT"):
        answer = attack.client.request(method, attack.origin + path.format(canary=attack.canary))
        assert answer.status_code in (404, 405), (method, answer.status_code)
        assert SECRET not in answer.content
        assert "location" not in answer.headers


def test_gradio_checks_paths_itself_too(attack: Attack) -> None:
    from starlette.testclient import TestClient

    mounted = next(route.app for route in attack.app.routes if getattr(route, "path", None) == "")
    before = copies()
    upload = next(event for event, _ in events_of(attack.client) if ["upload"] in [[t[1]] for t in event["targets"]])
    with TestClient(mounted) as behind_the_door:
        body = {"data": [file_values(str(attack.canary))[0]], "fn_index": upload["id"], "session_hash": "attack"}
        answer = behind_the_door.post(f"/gradio_api/run/{upload['api_name']}", json=body)
    assert answer.status_code == 500
    assert "not uploaded by a user" in answer.json()["error"]
    assert copies() == before


def upload(client: httpx.Client, content: Any = b"nothing", name: str = "x.safetensors") -> httpx.Response:
    return client.post("/gradio_api/upload", files={"files": (name, content)})


def test_an_upload_is_for_its_own_browser_and_has_no_path(attack: Attack) -> None:
    name = upload(attack.client).json()[0]
    assert "/" not in name
    event = next(event for event, _ in events_of(attack.client) if event["targets"][0][1] == "upload")
    value = {"path": name, "meta": META}
    assert join(attack.stranger, fn_index=event["id"], data=[value]).status_code == 422
    assert attack.client.get(f"/gradio_api/file={name}").status_code == 404
    assert join(attack.client, fn_index=event["id"], data=[value]).status_code == 200
    output = last_message(attack.client, "attack")
    assert not output["success"]
    assert output["output"]["error"].startswith("upload.safetensors is not a whole safetensors file")
    assert str(private_folder()) not in json.dumps(output)
    assert not copies()  # refused, and gone
    assert join(attack.client, fn_index=event["id"], data=[value]).status_code == 422


def last_message(client: httpx.Client, session: str) -> dict[str, Any]:
    """Return the last message of the stream about the only active event."""
    with client.stream(
        "GET", "/gradio_api/queue/data", params={"session_hash": session}, headers=same_origin()
    ) as output:
        for line in output.iter_lines():
            if line.startswith("data: "):
                message = json.loads(line.removeprefix("data: "))
                if message["msg"] == "process_completed":
                    return dict(message)
    raise AssertionError("the stream ended without a response")


def same_origin() -> dict[str, str]:
    return {"Sec-Fetch-Site": "same-origin"}


def test_a_session_is_read_by_its_own_browser_alone(attack: Attack) -> None:
    event, values = events_of(attack.client)[0]
    assert join(attack.client, fn_index=event["id"], data=values).status_code == 200
    with attack.stranger.stream("GET", "/gradio_api/queue/data?session_hash=attack") as output:
        assert '"session_not_found":true' in next(output.iter_lines())
    assert last_message(attack.client, "attack")["success"]


@pytest.mark.parametrize(
    ("content", "name", "status", "words"),
    [
        (b"x" * (LIMIT + 1), "x.safetensors", 413, "at most 0.1 MB"),
        (b"x" * (3 * LIMIT), "x.safetensors", 413, "at most 0.1 MB"),
        (b"x", "x.pt", 400, r"*.safetensors"),
        (b"x", "../../x.sh", 400, r"*.safetensors"),
    ],
)
def test_a_refused_upload_leaves_no_file(attack: Attack, content: bytes, name: str, status: int, words: str) -> None:
    answer = upload(attack.client, content, name)
    assert (answer.status_code, answer.text.count("\n")) == (status, 0)
    assert words in answer.text
    assert not copies()


def test_a_file_of_labels_has_the_same_limits(attack: Attack) -> None:
    for content, name, words in ((b"x" * (LIMIT + 1), "x.csv", "at most 0.1 MB"), (b"x", "../x.sh", "a GeoPackage")):
        answer = attack.client.post("/earth/upload", files={"files": (name, content)})
        assert answer.status_code == 422
        assert words in answer.json()["error"] and "\n" not in answer.json()["error"]
    assert not copies()
    name = attack.client.post("/earth/upload", files={"files": ("x.csv", b"lon,lat,crop\n3,50,a\n")}).json()[0]
    (path,) = copies()
    assert path.name == "upload.csv"
    for client, asked in ((attack.stranger, name), (attack.client, str(path))):
        answer = client.post("/earth/labels/file", json={"store": "x.zarr", "upload": asked})
        assert "that this browser uploaded" in answer.json()["error"]
    path.unlink()


def test_an_upload_in_chunks_is_refused_on_the_way(attack: Attack) -> None:
    sent = 0
    start = b'--b\r\nContent-Disposition: form-data; name="files"; filename="x.safetensors"\r\n\r\n'

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        yield start
        for _ in range(1000):
            sent += LIMIT
            yield b"x" * LIMIT

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    try:
        answer = attack.client.post("/gradio_api/upload", content=chunks(), headers=headers)
        assert answer.status_code == 413
    except httpx.TransportError:  # the server has closed the connection before it was asked for an answer
        assert sent < 1000 * LIMIT
    assert not copies()


def test_an_aborted_upload_leaves_no_file(attack: Attack, capfd: pytest.CaptureFixture[str]) -> None:
    cookie = f"{USER_COOKIE}={attack.client.cookies[USER_COOKIE]}"
    head = {"Origin": attack.origin, "Host": attack.origin.removeprefix("http://"), "Cookie": cookie}
    head |= {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(LIMIT)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    part = '--b\r\nContent-Disposition: form-data; name="files"; filename="x.safetensors"\r\n\r\n'
    for _ in range(8):  # more than one browser may have under way at once
        with socket.create_connection(("127.0.0.1", int(attack.origin.rpartition(":")[2]))) as browser:
            browser.sendall(f"POST /gradio_api/upload HTTP/1.1\r\n{lines}\r\n{part}".encode() + b"x" * (LIMIT // 2))
    assert upload(attack.client, b"x" * LIMIT).status_code == 200
    assert len(copies()) == 1
    assert "Traceback" not in capfd.readouterr().err


def test_uploads_have_a_total(attack: Attack) -> None:
    answers = [upload(attack.stranger, b"x" * LIMIT) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [413]
    assert answers[-1].text.startswith("expected at most 0.5 MB of uploads from one browser")
    assert len(copies()) == 6  # with the one of the other browser


def test_deeply_nested_values_are_refused(attack: Attack) -> None:
    for levels, status in ((20, 200), (500, 422)):
        value: Any = "deep"
        for _ in range(levels):
            value = [value]
        assert join(attack.client, fn_index=0, data=[], event_data={"action": value}).status_code == status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"null",
        b"[" * 100_000,
        b'{"data": [NaN]}',
        b'{"data": ["' + b"x" * 1_000_001 + b'"]}',
        b"\xff",
    ],
)
def test_an_invalid_event_raises_one_line_error(attack: Attack, body: bytes) -> None:
    answer = attack.client.post("/gradio_api/queue/join", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert "Traceback" not in answer.text


def test_a_browser_without_cookies_is_refused(attack: Attack) -> None:
    with httpx.Client(base_url=attack.client.base_url, headers={"Origin": attack.origin}) as bare:
        for answer in (
            upload(bare),
            join(bare, fn_index=0, data=[]),
            bare.get("/gradio_api/queue/data?session_hash=a"),
        ):
            assert answer.status_code == 422
            assert "cookies" in answer.json()["error"]
