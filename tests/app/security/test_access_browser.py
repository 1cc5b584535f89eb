"""Access in a real browser: a link admits the user, and pages of other local ports can read and change nothing."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from thalweg.app.security.auth import USER_COOKIE
from thalweg.app.security.hosts import new_token
from thalweg.app.server import create_app
from thalweg.app.workspace import Workspace
from thalweg.diffusion.config import ModelConfig

pytest.importorskip("playwright", reason="playwright is not installed")
NAMES = ("127.0.0.1", "localhost")  # the same site as the app's, and another


@dataclass(frozen=True)
class Place:
    """Addresses of the app, without and with its token, and of another page, for each name of this machine."""

    url: str
    entry: str
    elsewhere: dict[str, str]
    folder: Path


@pytest.fixture(scope="module")
def place(served: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    token, folder, other = new_token(), tmp_path_factory.mktemp("workspace"), FastAPI()
    app = create_app(Workspace(folder), ModelConfig(steps=1), token=token)
    with served(app) as url, served(other) as elsewhere:

        @other.get("/")
        def page() -> HTMLResponse:
            return HTMLResponse(f'<a href="{url}/?token={token}">open</a>')

        names = {name: elsewhere.replace("127.0.0.1", name) for name in NAMES}
        yield Place(url, f"{url}/?token={token}", names, folder)


def cookies_of(page: Any) -> dict[str, str]:
    return {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}


@pytest.mark.parametrize("name", NAMES)
def test_a_followed_link_is_admitted_and_keeps_the_browsers_secret(
    place: Place, open_page: Callable, name: str
) -> None:
    page = open_page(place.elsewhere[name])
    page.get_by_text("open").click()
    page.wait_for_selector("#navigate-start")
    assert page.url == f"{place.url}/"
    secret = cookies_of(page)[USER_COOKIE]
    page.goto(place.elsewhere[name])
    page.get_by_text("open").click()
    page.wait_for_selector("#navigate-start")
    assert cookies_of(page)[USER_COOKIE] == secret


def test_the_page_works_with_a_token_and_without_an_address_beyond_it(place: Place, open_page: Callable) -> None:
    page = open_page(place.entry)
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on(
        "request",
        lambda asked: None if asked.url.startswith((place.url, "data:", "blob:")) else faults.append(asked.url),
    )
    page.on(
        "request", lambda asked: faults.append(asked.headers["referer"]) if "token=" in str(asked.headers) else None
    )
    page.reload()
    page.click("#navigate-start")
    page.wait_for_selector(".tw-current img")
    assert not faults


@pytest.mark.parametrize("name", NAMES)
def test_a_page_of_another_port_neither_reads_nor_changes_anything(
    place: Place, open_page: Callable, name: str
) -> None:
    page = open_page(place.entry)
    page.wait_for_selector("#navigate-start")
    config = page.evaluate("async () => (await fetch('config')).json()")
    start = next(part["id"] for part in config["components"] if part["props"].get("elem_id") == "navigate-start")
    event = next(event["id"] for event in config["dependencies"] if [start, "click"] in event["targets"])
    body = json.dumps({"data": ["a ball", "0", 2], "fn_index": event, "session_hash": "elsewhere"})
    before = sorted(place.folder.rglob("*"))
    page.goto(place.elsewhere[name])

    def fetch(path: str, **options: Any) -> str:
        return str(
            page.evaluate(
                "async ([address, options]) => { try { return (await fetch(address, options)).type + ' answer'; } "
                "catch (error) { return String(error); } }",
                [f"{place.url}{path}", {"credentials": "include", **options}],
            )
        )

    for path in ("/", "/config", "/earth/stores", "/gradio_api/queue/data?session_hash=elsewhere"):
        assert fetch(path) == "TypeError: Failed to fetch"
    for kind in ("application/json", "text/plain"):
        asked = {"method": "POST", "body": body, "headers": {"Content-Type": kind}}
        assert fetch("/gradio_api/queue/join", **asked) == "TypeError: Failed to fetch"
        assert (
            page.context.request.post(
                f"{place.url}/gradio_api/queue/join", data=body, headers={"Origin": place.elsewhere[name]}
            ).status
            == 403
        )  # with the browser's cookies
    fetch("/gradio_api/queue/join", method="POST", body=body, mode="no-cors")
    page.evaluate(
        "async (address) => { const frame = document.createElement('iframe'); frame.src = address; "
        "const loaded = new Promise((done) => frame.onload = done); document.body.append(frame); await loaded; }",
        f"{place.url}/",
    )
    assert not page.frames[-1].locator("#navigate-start").count()
    page.goto(place.url)
    page.wait_for_selector("#navigate-start")
    assert sorted(place.folder.rglob("*")) == before
