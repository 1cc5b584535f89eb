"""Eight people at once for a minute, each in a browser profile of their own."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import App

PEOPLE = 8
SECONDS = 60
COLOURS = ("red", "green", "blue", "yellow", "orange", "pink", "brown", "white")


def test_eight_people_at_once_do_not_mix_and_meet_no_error(app: "App", open_page: Callable) -> None:
    pages, faults = [open_page(app.url, width=900, height=700) for _ in range(PEOPLE)], []
    for person, page in enumerate(pages):
        page.on("pageerror", lambda error, person=person: faults.append(f"{person}: {error}"))
        page.on("response", lambda answer: faults.append(answer.url) if answer.status >= 400 else None)
        page.get_by_label("Prompt").fill(f"a {COLOURS[person]} ball")
        page.get_by_label("number input for Candidates").fill("2")
        page.keyboard.press("Tab")
        page.click("#navigate-start")
    chosen, deadline = [0] * PEOPLE, time.monotonic() + SECONDS
    while time.monotonic() < deadline or min(chosen) < 1:
        for person, page in enumerate(pages):
            candidate = f'[data-act="choose"][data-value="{chosen[person] % 2}"]'
            if page.locator(candidate).count() and page.locator(".tw-current img").count():
                here = page.inner_text(".tw-current figcaption")
                page.click(candidate)
                page.wait_for_function(
                    "here => document.querySelector('.tw-current figcaption')?.innerText !== here", arg=here
                )
                chosen[person] += 1
        boards = [page.inner_text("#navigate-board") for page in pages]
        assert time.monotonic() < deadline + 60, f"someone never got a turn: {chosen}, {boards}"
    for page in pages:
        page.wait_for_function("document.querySelector('#navigate-board .tw-status')?.innerText === ''", timeout=60_000)
    runs = [page.inner_text("#navigate-board code >> nth=0") for page in pages]
    assert len(set(runs)) == PEOPLE
    for person, page in enumerate(pages):
        assert page.locator(".tw-tree g").count() == chosen[person] + 1
        assert page.locator(".tw-problem").count() == 0
        assert runs[person].startswith(f"a-{COLOURS[person]}-ball")
    assert not faults
