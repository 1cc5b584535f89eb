"""Eight users at once, each in their own browser profile."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import App

COLOURS = ("red", "green", "blue", "yellow", "orange", "pink", "brown", "white")
USERS = len(COLOURS)
ROUNDS = 3
"""Choices that each user makes at least."""
MAX_LEAD = 3
"""Choices by which one user may be ahead of another: the queue serves all users in turn."""


def test_eight_users_at_once_keep_their_own_runs_and_meet_no_error(app: "App", open_page: Callable) -> None:
    pages, faults = [open_page(app.url, width=900, height=700) for _ in range(USERS)], []
    for user, page in enumerate(pages):
        page.on("pageerror", lambda error, user=user: faults.append(f"{user}: {error}"))
        page.on("response", lambda answer: faults.append(answer.url) if answer.status >= 400 else None)
        page.get_by_label("Prompt").fill(f"a {COLOURS[user]} ball")
        page.get_by_label("number input for Candidates").fill("2")
        page.keyboard.press("Tab")
        page.click("#navigate-start")
    chosen = [0] * USERS
    while min(chosen) < ROUNDS:
        for user, page in enumerate(pages):
            candidate = f'[data-action="choose"][data-value="{chosen[user] % 2}"]'
            if page.locator(candidate).count() and page.locator(".tw-current img").count():
                here = page.inner_text(".tw-current figcaption")
                page.click(candidate)
                page.wait_for_function(
                    "here => document.querySelector('.tw-current figcaption')?.innerText !== here", arg=here
                )
                chosen[user] += 1
        assert max(chosen) - min(chosen) <= MAX_LEAD, f"the queue serves some users more often: {chosen}"
    for page in pages:
        page.wait_for_function("document.querySelector('#navigate-view .tw-status')?.innerText === ''")
    runs = [page.inner_text("#navigate-view code >> nth=0") for page in pages]
    assert len(set(runs)) == USERS
    for user, page in enumerate(pages):
        assert page.locator(".tw-tree g").count() == chosen[user] + 1
        assert page.locator(".tw-problem").count() == 0
        assert runs[user].startswith(f"a-{COLOURS[user]}-ball")
    assert not faults
