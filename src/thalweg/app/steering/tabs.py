"""The three tools as tabs: Gradio components around the boards; each event is a wish at the asking person's desk."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from thalweg.app.auth import user_of
from thalweg.app.checked_blocks import check_clicked
from thalweg.app.steering import views
from thalweg.app.steering.imprint_session import ImprintSession, SeedsSession
from thalweg.app.steering.navigate_session import MOST, NavigateSession
from thalweg.app.steering.optimize_session import OptimizeSession
from thalweg.app.steering.session import AnyDesk, Session, Sessions
from thalweg.app.uploads import Uploads
from thalweg.embedding import SUFFIX, Embedding
from thalweg.errors import ThalwegError, UsageError
from thalweg.limits import shown
from thalweg.steer.imprinting.aspects import VOCABULARIES

STATIC = Path(__file__).parent / "static"
METRICS = ("sharpness", "blur", "colourfulness", "contrast", "symmetry", "text", "colour")
AT_ONCE: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "trigger_mode": "multiple"}
"""How an event is followed that need not wait for another, and shows nothing of its own."""


def steering_tabs(desks: Sessions, page: gr.Blocks, uploads: Uploads) -> None:
    """Add what all tools start from, and a tab for each, to the page."""
    with gr.Row(elem_classes="tw-controls"):
        prompt = gr.Textbox(
            label="Prompt, or the name of an embedding file in the workspace", value="a ball", scale=4, elem_id="prompt"
        )
        seeds = gr.Textbox(label="Seeds, such as 0 or 0-3", value="0", scale=1, elem_id="seeds")
        upload = gr.UploadButton(
            "Upload an embedding", file_types=[SUFFIX], size="md", scale=0, min_width=200, elem_id="upload"
        )
    upload.upload(_keep_upload(desks, uploads), upload, prompt, show_progress="hidden")
    with gr.Tab("Navigate", id="navigate"):
        _navigate(desks, page, prompt, seeds)
    with gr.Tab("Optimise", id="optimize"):
        _optimize(desks, page, prompt, seeds)
    with gr.Tab("Imprint", id="imprint"):
        _imprint(desks, page, prompt)


def _keep_upload(desks: Sessions, uploads: Uploads) -> Callable[[str], str]:
    """Return what copies an uploaded embedding into the workspace and returns its name there."""

    def keep(path: str) -> str:
        studio, is_kept = desks.studio, False
        try:
            with _in_the_page():
                embedding = Embedding.load(path, studio.generator.model)
                name = f"upload-{embedding.hash[:12]}{SUFFIX}"
                embedding.save(studio.workspace.inside(name))
                is_kept = True
        finally:
            uploads.remove(Path(path), is_kept)
        return name

    return keep


def _navigate(desks: Sessions, page: gr.Blocks, prompt: gr.Textbox, seeds: gr.Textbox) -> None:
    with gr.Row(elem_classes="tw-controls"):
        count = gr.Slider(2, MOST, 5, step=1, label="Candidates")
        strength = gr.Slider(0.1, 2.0, 1.0, step=0.1, label="Strength of a choice", elem_id="strength")
        start = _button("Start", "navigate-start", "primary")
    with gr.Row():
        none = _button("None of these (0)", "navigate-none")
        undo = _button("Undo (z)", "navigate-undo")
        fork = _button("Fork here", "navigate-fork")
        stop = _button("Stop rendering", "navigate-stop")
    board = _board("navigate-board")
    with gr.Row(elem_classes="tw-controls"):
        more = gr.Textbox(label="Show this choice on seeds", value="10-15", elem_id="navigate-more")
        show = _button("Show", "navigate-show")
        name = gr.Textbox(label="Name of this node", elem_id="navigate-name")
        give = _button("Name it", "navigate-give-name")
    tab = _Tab(desks, NavigateSession, views.navigate, board)
    with gr.Row(elem_classes="tw-controls"):
        tab.add_files(page, lambda desk: desk.opened.current)

    def clicked(desk: NavigateSession, act: str, value: int, strength: float) -> None:
        if act == "choose":
            desk.choose(value, strength)
        elif act == "go":
            desk.go(value)
        else:
            raise UsageError(f"expected a click on a candidate or a node, got {shown(act)}")

    tab.on(start.click, lambda desk, *asked: desk.start(*asked), [prompt, seeds, count])
    tab.on_board(clicked, [strength])
    tab.on(none.click, lambda desk: desk.none())
    tab.on(undo.click, lambda desk: desk.undo())
    tab.on(fork.click, lambda desk: desk.fork(desk.opened.node.number))
    tab.on(stop.click, lambda desk: desk.stop())
    tab.on(give.click, lambda desk, text: desk.name(desk.opened.node.number, text), [name])
    tab.on(show.click, lambda desk, text: desk.show_on(text), [more])


def _optimize(desks: Sessions, page: gr.Blocks, prompt: gr.Textbox, seeds: gr.Textbox) -> None:
    rows: list[Any] = []
    for number, first in enumerate(("sharpness", "")):
        with gr.Row():
            rows.append(gr.Dropdown(["", *METRICS], value=first, label="Metric" if number == 0 else "and", scale=1))
            rows.append(gr.Textbox(label="of (text: words; colour: #rrggbb)", scale=2))
            rows.append(gr.Number(1.0, label="Weight", scale=1))
    with gr.Row(elem_classes="tw-controls"):
        keep = gr.Textbox(label="Must stay, in words", elem_id="optimize-keep")
        iterations = gr.Slider(1, 100, 20, step=1, label="Steps", elem_id="optimize-steps")
        start = _button("Start", "optimize-start", "primary")
        stop = _button("Stop and keep the best", "optimize-stop")
        go_on = _button("Go on", "optimize-go-on")
    board = _board("optimize-board")
    tab = _Tab(desks, OptimizeSession, views.optimize, board)
    with gr.Row(elem_classes="tw-controls"):
        tab.add_files(page, lambda desk: desk.best)

    def begin(desk: OptimizeSession, text: str, seeds: str, keep: str, iterations: int, *rows: Any) -> None:
        terms = list(zip(rows[::3], rows[1::3], rows[2::3], strict=True))
        stay = views.metric_text([("text", keep, 1.0)]) if keep.strip() else ""
        desk.start(text, seeds, views.metric_text(terms), stay, iterations)

    tab.on(start.click, begin, [prompt, seeds, keep, iterations, *rows])
    tab.on(stop.click, lambda desk: desk.stop())
    tab.on(go_on.click, lambda desk: desk.go_on())


def _imprint(desks: Sessions, page: gr.Blocks, prompt: gr.Textbox) -> None:
    with gr.Row(elem_classes="tw-controls"):
        shown = gr.Textbox(label="Seeds to pick from", value="0-7", elem_id="imprint-seeds")
        render = _button("Render them", "imprint-render", "primary")
    gallery = _board("imprint-gallery")
    with gr.Row(elem_classes="tw-controls"):
        keep = gr.Dropdown(
            [("all of it", ""), *((f"the {name}", f"the {name}") for name in VOCABULARIES)],
            value="the colour",
            label="What to keep of it",
            elem_id="imprint-keep",
        )
        steps = gr.Slider(1, 64, 16, step=1, label="Steps", elem_id="imprint-steps")
        start = _button("Imprint the seed", "imprint-start", "primary")
        stop = _button("Stop", "imprint-stop")
        go_on = _button("Go on", "imprint-go-on")
    board = _board("imprint-board")
    tab = _Tab(desks, ImprintSession, views.imprint, board)
    pick = _Tab(desks, SeedsSession, views.seeds, gallery)
    with gr.Row(elem_classes="tw-controls"):
        tab.add_files(page, lambda desk: desk.result)
    pick.reload(page)

    def begin(request: gr.Request, keep: str, steps: int) -> Iterator[str]:
        desk, seeds = tab.desk(request), pick.desk(request)
        desk.attempt(lambda: desk.start(seeds, keep, steps))
        yield from tab.show(desk)

    pick.on(render.click, lambda desk, *asked: desk.start(*asked), [prompt, shown])
    pick.on_board(lambda desk, act, value: desk.like(value))
    start.click(begin, [keep, steps], board, **AT_ONCE)
    tab.on(stop.click, lambda desk: desk.stop())
    tab.on(go_on.click, lambda desk: desk.go_on())


class _Tab:
    """Ties events to a kind of desk and to the board that shows it."""

    def __init__(self, desks: Sessions, kind: type[AnyDesk], draw: Callable[..., str], board: gr.HTML) -> None:
        self._desks = desks
        self._kind: type[Any] = kind
        self._draw = draw
        self._board = board

    def desk(self, request: gr.Request) -> Any:
        """The asking person's desk."""
        with _in_the_page():
            return self._desks.of(user_of(request.cookies), self._kind)

    def show(self, desk: Session) -> Iterator[str]:
        """The board now, and after each change."""
        for _ in desk.watch():
            try:
                drawn = self._draw(desk)
            except Exception as error:  # a run folder may hold anything
                drawn = views.fault(desk.in_words(error))
            yield drawn

    def on(self, event: Any, wish: Callable[..., object], inputs: Sequence[Any] = ()) -> None:
        """Follow a wish at an event, and show what comes of it."""

        def handle(request: gr.Request, *values: Any) -> Iterator[str]:
            desk = self.desk(request)
            desk.attempt(lambda: wish(desk, *values))
            yield from self.show(desk)

        event(handle, list(inputs), self._board, **AT_ONCE)

    def on_board(self, wish: Callable[..., object], inputs: Sequence[Any] = ()) -> None:
        """Follow what is clicked in the board."""

        def handle(request: gr.Request, clicked: gr.EventData, *values: Any) -> Iterator[str]:
            desk = self.desk(request)
            desk.attempt(lambda: wish(desk, *check_clicked(clicked._data), *values))
            yield from self.show(desk)

        self._board.click(handle, list(inputs), self._board, **AT_ONCE)

    def reload(self, page: gr.Blocks) -> None:
        """Show the desk as it was left when the page is loaded, and go on watching what is under way."""

        def restore(request: gr.Request) -> Iterator[str]:
            yield from self.show(self.desk(request))

        page.load(restore, None, self._board, **AT_ONCE)

    def add_files(self, page: gr.Blocks, result: Callable[[Any], Embedding]) -> None:
        """Add what opens a run of the workspace and what saves a result there."""
        known = gr.Dropdown([], label="Runs in the workspace", allow_custom_value=True, elem_id=f"{self._name}-runs")
        opening = _button("Open", f"{self._name}-open")
        name = gr.Textbox(label="Save the embedding as", placeholder="good-ball", elem_id=f"{self._name}-save-as")
        saving = _button("Save", f"{self._name}-save")

        def names(request: gr.Request) -> Any:
            desk = self.desk(request)
            return gr.update(choices=desk.studio.workspace.runs(desk.person, desk.operation))

        def save(desk: Session, name: str) -> None:
            desk.problem = f"Saved {desk.export(result(desk), name).name} in the workspace."

        self.reload(page)
        page.load(names, None, known, show_progress="hidden")
        known.focus(names, None, known, show_progress="hidden")
        self.on(opening.click, lambda desk, name: desk.open(name or ""), [known])
        self.on(saving.click, save, [name])

    @property
    def _name(self) -> str:
        return str(self._kind.operation)


def _button(text: str, name: str, variant: Literal["primary", "secondary"] = "secondary") -> gr.Button:
    return gr.Button(text, variant=variant, size="md", scale=0, min_width=180, elem_id=name)


def _board(name: str) -> gr.HTML:
    return gr.HTML("", elem_id=name, js_on_load=(STATIC / "view.js").read_text(), apply_default_css=False)


@contextmanager
def _in_the_page() -> Iterator[None]:
    """Show the package's own errors in the page, as one line."""
    try:
        yield
    except ThalwegError as error:
        raise gr.Error(str(error), print_exception=False) from error
