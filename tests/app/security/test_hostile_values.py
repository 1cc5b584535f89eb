"""Invalid values of every type for every input of every event are refused in one line, and the session works on."""

import asyncio
import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from starlette.requests import Request as StarletteRequest

from thalweg.app.security.auth import USER_COOKIE
from thalweg.app.security.checked_blocks import CheckedBlocks, check_clicked, check_values
from thalweg.app.server import create_app
from thalweg.app.workspace import Workspace
from thalweg.diffusion.config import ModelConfig
from thalweg.errors import UsageError
from waiting import wait_until

NESTED: list[Any] = []
for _ in range(200):
    NESTED = [NESTED]
HOSTILE: tuple[Any, ...] = (
    *(None, True, 2.5, -1, 10**30, math.nan, math.inf, 1e308, "", "x" * 100_000, "a\0b", "\ud800", "../../etc/passwd"),
    *([], [1, 2], {}, {"a": 1}, NESTED, "0-1000000000", "-5", "no such choice"),
)
GOOD = {
    "Prompt, or the name of an embedding file in the workspace": "a ball",
    "Seeds, such as 0 or 0-3": "0",
    "Candidates": 2,
    "Strength of a choice": 1.0,
    "Show this choice on seeds": "3",
    "Metric": "sharpness",
    "and": "",
    "of (text: words; colour: #rrggbb)": "",
    "Weight": 1.0,
    "Must stay: a text that must still fit": "",
    "Steps": 1,
    "Seeds to select from": "0",
    "Aspect to imprint": "the colour",
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("a workspace"))


@pytest.fixture(scope="module")
def page(workspace: Workspace) -> Iterator[CheckedBlocks]:
    app = create_app(workspace, ModelConfig(steps=2, gradient="full"), token=None)
    mounted = next(route.app for route in app.routes if hasattr(getattr(route, "app", None), "get_blocks"))  # type: ignore[attr-defined]
    yield mounted.get_blocks()


def ask(page: CheckedBlocks, function: Any, values: Any, clicked: Any = None) -> str:
    """Return the first output of an event as text, or the message where it is refused."""
    cookie = (b"cookie", f"{USER_COOKIE}={'p' * 32}".encode())
    request = gr.Request(StarletteRequest({"type": "http", "headers": [cookie], "method": "POST", "path": "/"}))
    event = gr.EventData(None, clicked)

    async def answer() -> Any:
        return await page.process_api(
            function, values, request=request, session_hash="session", event_data=event, state=None
        )

    try:
        with ThreadPoolExecutor(1) as pool:  # the browser's tests leave a loop running in the main thread
            return json.dumps(pool.submit(asyncio.run, answer()).result()["data"], default=str)
    except gr.Error as refusal:
        message = str(refusal.message)
        assert message and "\n" not in message and len(message) < 700, message
        assert "Traceback" not in message and "Error:" not in message, message
        return f"refused: {message}"


def events(page: CheckedBlocks) -> list[Any]:
    return [function for function in page.fns.values() if function.fn is not None]


def good(function: Any) -> list[Any]:
    return [GOOD.get(component.label, "") for component in function.inputs]


def test_hostile_values_of_every_input_are_refused_and_the_session_works_on(
    page: CheckedBlocks, workspace: Workspace
) -> None:
    tried = refused = 0
    for function in events(page):
        for position, component in enumerate(function.inputs):
            for value in HOSTILE:
                values = good(function)
                values[position] = value
                answer = ask(page, function, values, {"action": "choose", "value": "0"})
                tried += 1
                refused += answer.startswith("refused: ")
                assert str(workspace.folder) not in answer, answer
                assert "site-packages" not in answer, answer
                number = isinstance(component, gr.Slider | gr.Number)
                kind = isinstance(value, str) if not number else isinstance(value, int | float)
                if value is not None and (not kind or value is True):
                    assert answer.startswith("refused: expected "), (component.label, value, answer)
    assert tried > 200 and refused > 100
    works(page, workspace)


def works(page: CheckedBlocks, workspace: Workspace) -> None:
    """Show that a new prompt is rendered and a navigation begins."""
    for name, made in (("Seeds to select from", "seed-1.png"), ("Candidates", "current.png")):
        function = next(one for one in events(page) if [c.label for c in one.inputs][-1:] == [name])
        values = good(function)
        values[1] = "1"
        before = len(list(workspace.folder.rglob(made)))
        assert "refused" not in ask(page, function, values)
        wait_until(lambda made=made, before=before: len(list(workspace.folder.rglob(made))) > before)  # type: ignore[misc]


def test_clicks_of_wrong_types_are_refused(page: CheckedBlocks, workspace: Workspace) -> None:
    views = [
        f for f in events(page) if any(event == "click" for _, event in f.targets) and "on_view" in f.fn.__qualname__
    ]
    assert views
    for function in views:
        for clicked in (
            None,
            [],
            5,
            "x",
            {},
            {"action": 5, "value": 0},
            {"action": "go"},
            {"action": "go", "value": NESTED},
        ):
            answer = ask(page, function, good(function), clicked)
            assert "expected" in answer, answer
        for value in HOSTILE:
            assert "expected" in ask(page, function, good(function), {"action": "go", "value": value})
    works(page, workspace)


@pytest.mark.parametrize("values", [None, {}, "x", [], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]])
def test_too_few_or_too_many_values_are_refused(page: CheckedBlocks, values: Any) -> None:
    for function in events(page):
        if function.inputs:
            assert "refused: expected " in ask(page, function, values)


def test_a_slider_takes_whole_steps_only() -> None:
    slider = gr.Slider(2, 9, 5, step=1, label="Candidates", render=False)
    assert check_values([slider], [5.0]) == [5]
    for value in (2.5, 1, 10, "5", None, True, math.nan):
        with pytest.raises(UsageError, match="expected Candidates to be a whole number from 2 to 9"):
            check_values([slider], [value])


def test_a_click_may_name_the_largest_seed() -> None:
    assert check_clicked({"action": "select", "value": str(2**64 - 1)}) == ("select", 2**64 - 1)
    for value in (str(2**64), "-1", "1.0", "²", "9" * 5000):
        with pytest.raises(UsageError):
            check_clicked({"action": "select", "value": value})


def test_the_workspaces_path_is_in_no_output(page: CheckedBlocks, workspace: Workspace) -> None:
    (workspace.folder / "damaged").mkdir(exist_ok=True)
    (workspace.folder / "damaged" / "run.json").write_text("{")
    Path(workspace.folder / "broken.safetensors").write_bytes(b"{}")
    for function in events(page):
        for name in ("damaged", "broken.safetensors", "none.safetensors"):
            values = [
                name if isinstance(c, gr.Textbox | gr.Dropdown) else GOOD.get(c.label, "") for c in function.inputs
            ]
            answer = ask(page, function, values, {"action": "go", "value": "0"})
            assert str(workspace.folder) not in answer
            assert workspace.folder.name not in answer
