"""Tabs of the three tools: Gradio components around the views; each event is an action of the user's session."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from thalweg.app.security.auth import user_of
from thalweg.app.security.checked_blocks import check_clicked
from thalweg.app.security.uploads import Uploads
from thalweg.app.steering import views
from thalweg.app.steering.imprint_session import ImprintSession, SeedsSession
from thalweg.app.steering.navigate_session import MAX_SHOWN_CANDIDATES, NavigateSession
from thalweg.app.steering.optimize_session import OptimizeSession
from thalweg.app.steering.session import AnySession, Session, Sessions
from thalweg.embedding import Embedding
from thalweg.errors import ThalwegError, UsageError
from thalweg.io.safetensors_files import SUFFIX
from thalweg.limits import shown
from thalweg.steer.imprinting.aspect import VOCABULARIES

STATIC = Path(__file__).parent / "static"
PROMPT = "a ball"
"""Prompt of a new page."""
METRICS = ("sharpness", "blur", "colourfulness", "contrast", "symmetry", "text", "colour")
AT_ONCE: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", "trigger_mode": "multiple"}
"""Options of an event that does not wait for other events and shows no progress of its own."""


def steering_tabs(sessions: Sessions, page: gr.Blocks, uploads: Uploads) -> None:
    """Add the controls that the tools share, and one tab per tool, to the page."""
    with gr.Row(elem_classes="tw-controls"):
        prompt = gr.Textbox(
            label="Prompt, or the name of an embedding file in the workspace", value=PROMPT, scale=4, elem_id="prompt"
        )
        seeds = gr.Textbox(label="Seeds, such as 0 or 0-3", value="0", scale=1, elem_id="seeds")
        upload = gr.UploadButton(
            "Upload an embedding", file_types=[SUFFIX], size="md", scale=0, min_width=200, elem_id="upload"
        )
    upload.upload(_keep_upload(sessions, uploads), upload, prompt, show_progress="hidden")
    with gr.Tab("Navigate", id="navigate"):
        _navigate(sessions, page, prompt, seeds)
    with gr.Tab("Optimise", id="optimize"):
        _optimize(sessions, page, prompt, seeds)
    with gr.Tab("Imprint", id="imprint"):
        _imprint(sessions, page, prompt)


def _keep_upload(sessions: Sessions, uploads: Uploads) -> Callable[[str], str]:
    """Return a function that copies an uploaded embedding into the workspace and returns its name there."""

    def keep(path: str) -> str:
        context, is_kept = sessions.context, False
        try:
            with _page_errors():
                embedding = Embedding.load(path, context.generator.model)
                name = f"upload-{embedding.hash[:12]}{SUFFIX}"
                embedding.save(context.workspace.inside(name))
                is_kept = True
        finally:
            uploads.remove(Path(path), is_kept)
        return name

    return keep


def _navigate(sessions: Sessions, page: gr.Blocks, prompt: gr.Textbox, seeds: gr.Textbox) -> None:
    with gr.Row(elem_classes="tw-controls"):
        count = gr.Slider(2, MAX_SHOWN_CANDIDATES, 5, step=1, label="Candidates")
        strength = gr.Slider(0.1, 2.0, 1.0, step=0.1, label="Strength of a choice", elem_id="strength")
        start = _button("Start", "navigate-start", "primary")
    with gr.Row():
        none = _button("None of these (0)", "navigate-none")
        undo = _button("Undo (z)", "navigate-undo")
        fork = _button("Fork here", "navigate-fork")
        stop = _button("Stop rendering", "navigate-stop")
    view = _view("navigate-view")
    with gr.Row(elem_classes="tw-controls"):
        more = gr.Textbox(label="Show this choice on seeds", value="10-15", elem_id="navigate-more")
        show = _button("Show", "navigate-show")
        name = gr.Textbox(label="Name of this node", elem_id="navigate-name")
        give = _button("Name it", "navigate-give-name")
    tab = _Tab(sessions, NavigateSession, views.navigate, view)
    with gr.Row(elem_classes="tw-controls"):
        tab.add_files(page, lambda session: session.opened.current)

    def clicked(session: NavigateSession, action: str, value: int, strength: float) -> None:
        if action == "choose":
            session.choose(value, strength)
        elif action == "go":
            session.go(value)
        else:
            raise UsageError(f"expected a click on a candidate or a node, got {shown(action)}")

    tab.on(start.click, lambda session, *asked: session.start(*asked), [prompt, seeds, count])
    tab.on_view(clicked, [strength])
    tab.on(none.click, lambda session: session.none())
    tab.on(undo.click, lambda session: session.undo())
    tab.on(fork.click, lambda session: session.fork(session.opened.node.number))
    tab.on(stop.click, lambda session: session.stop())
    tab.on(give.click, lambda session, text: session.name(session.opened.node.number, text), [name])
    tab.on(show.click, lambda session, text: session.show_on(text), [more])


def _optimize(sessions: Sessions, page: gr.Blocks, prompt: gr.Textbox, seeds: gr.Textbox) -> None:
    rows: list[Any] = []
    for number, first in enumerate(("sharpness", "")):
        with gr.Row():
            rows.append(gr.Dropdown(["", *METRICS], value=first, label="Metric" if number == 0 else "and", scale=1))
            rows.append(gr.Textbox(label="of (text: words; colour: #rrggbb)", scale=2))
            rows.append(gr.Number(1.0, label="Weight", scale=1))
    with gr.Row(elem_classes="tw-controls"):
        has_scorer = sessions.context.model_config.has_scorer
        keep = gr.Textbox(
            PROMPT if has_scorer else "", label="Must stay: a text that must still fit", elem_id="optimize-keep"
        )
        iterations = gr.Slider(1, 100, 20, step=1, label="Steps", elem_id="optimize-steps")
        start = _button("Start", "optimize-start", "primary")
        stop = _button("Stop and keep the best", "optimize-stop")
        resume = _button("Resume", "optimize-resume")
    view = _view("optimize-view")
    tab = _Tab(sessions, OptimizeSession, views.optimize, view)
    with gr.Row(elem_classes="tw-controls"):
        tab.add_files(page, lambda session: session.best)

    def begin(session: OptimizeSession, text: str, seeds: str, keep: str, iterations: int, *rows: Any) -> None:
        terms = list(zip(rows[::3], rows[1::3], rows[2::3], strict=True))
        constraint = views.metric_text([("text", keep, 1.0)]) if keep.strip() else ""
        session.start(text, seeds, views.metric_text(terms), constraint, iterations)

    tab.on(start.click, begin, [prompt, seeds, keep, iterations, *rows])
    tab.on(stop.click, lambda session: session.stop())
    tab.on(resume.click, lambda session: session.resume())
    if has_scorer:
        follow = (STATIC / "must_stay.js").read_text().replace('"FIRST PROMPT"', json.dumps(PROMPT))
        prompt.change(None, [prompt, keep], keep, js=follow, show_progress="hidden")


def _imprint(sessions: Sessions, page: gr.Blocks, prompt: gr.Textbox) -> None:
    with gr.Row(elem_classes="tw-controls"):
        shown = gr.Textbox(label="Seeds to select from", value="0-7", elem_id="imprint-seeds")
        render = _button("Render them", "imprint-render", "primary")
    gallery = _view("imprint-gallery")
    with gr.Row(elem_classes="tw-controls"):
        keep = gr.Dropdown(
            [("the whole image", ""), *((f"the {name}", f"the {name}") for name in VOCABULARIES)],
            value="the colour",
            label="Aspect to imprint",
            elem_id="imprint-keep",
        )
        steps = gr.Slider(1, 64, 16, step=1, label="Steps", elem_id="imprint-steps")
        start = _button("Imprint the seed", "imprint-start", "primary")
        stop = _button("Stop", "imprint-stop")
        resume = _button("Resume", "imprint-resume")
    view = _view("imprint-view")
    tab = _Tab(sessions, ImprintSession, views.imprint, view)
    pick = _Tab(sessions, SeedsSession, views.seeds, gallery)
    with gr.Row(elem_classes="tw-controls"):
        tab.add_files(page, lambda session: session.result)
    pick.reload(page)

    def begin(request: gr.Request, keep: str, steps: int) -> Iterator[str]:
        session, seeds = tab.session(request), pick.session(request)
        session.attempt(lambda: session.start(seeds, keep, steps))
        yield from tab.show(session)

    pick.on(render.click, lambda session, *asked: session.start(*asked), [prompt, shown])
    pick.on_view(_select_seed)
    start.click(begin, [keep, steps], view, **AT_ONCE)
    tab.on(stop.click, lambda session: session.stop())
    tab.on(resume.click, lambda session: session.resume())


def _select_seed(session: SeedsSession, action: str, value: int) -> None:
    if action != "select":
        raise UsageError(f"expected a click on a seed, got {shown(action)}")
    session.select(value)


class _Tab:
    """Connection of events to a type of session and to the view that shows it."""

    def __init__(
        self, sessions: Sessions, session_type: type[AnySession], draw: Callable[..., str], view: gr.HTML
    ) -> None:
        self._sessions = sessions
        self._session_type: type[Any] = session_type
        self._draw = draw
        self._view = view

    def session(self, request: gr.Request) -> Any:
        """Return the session of the user who sent a request."""
        with _page_errors():
            return self._sessions.of(user_of(request.cookies), self._session_type)

    def show(self, session: Session) -> Iterator[str]:
        """Yield the view now, and after each change."""
        for _ in session.watch():
            try:
                drawn = self._draw(session)
            except Exception as error:  # a run folder may have any content
                drawn = views.problem(session.browser_message(error))
            yield drawn

    def on(self, event: Any, action: Callable[..., object], inputs: Sequence[Any] = ()) -> None:
        """Run an action at an event, and show its result."""

        def handle(request: gr.Request, *values: Any) -> Iterator[str]:
            session = self.session(request)
            session.attempt(lambda: action(session, *values))
            yield from self.show(session)

        event(handle, list(inputs), self._view, **AT_ONCE)

    def on_view(self, action: Callable[..., object], inputs: Sequence[Any] = ()) -> None:
        """Run an action at a click in the view."""

        def handle(request: gr.Request, clicked: gr.EventData, *values: Any) -> Iterator[str]:
            session = self.session(request)
            session.attempt(lambda: action(session, *check_clicked(clicked._data), *values))
            yield from self.show(session)

        self._view.click(handle, list(inputs), self._view, **AT_ONCE)

    def reload(self, page: gr.Blocks) -> None:
        """Show the session when the page is loaded, and watch its active job."""

        def restore(request: gr.Request) -> Iterator[str]:
            yield from self.show(self.session(request))

        page.load(restore, None, self._view, **AT_ONCE)

    def add_files(self, page: gr.Blocks, result: Callable[[Any], Embedding]) -> None:
        """Add controls that open a run of the workspace and save a result there."""
        known = gr.Dropdown([], label="Runs in the workspace", allow_custom_value=True, elem_id=f"{self._name}-runs")
        opening = _button("Open", f"{self._name}-open")
        name = gr.Textbox(label="Save the embedding as", placeholder="good-ball", elem_id=f"{self._name}-save-as")
        saving = _button("Save", f"{self._name}-save")

        def names(request: gr.Request) -> Any:
            session = self.session(request)
            return gr.update(choices=session.context.workspace.runs(session.user, session.operation))

        def save(session: Session, name: str) -> None:
            session.problem = f"Saved {session.export(result(session), name).name} in the workspace."

        self.reload(page)
        page.load(names, None, known, show_progress="hidden")
        known.focus(names, None, known, show_progress="hidden")
        self.on(opening.click, lambda session, name: session.open(name or ""), [known])
        self.on(saving.click, save, [name])

    @property
    def _name(self) -> str:
        return str(self._session_type.operation)


def _button(text: str, name: str, variant: Literal["primary", "secondary"] = "secondary") -> gr.Button:
    return gr.Button(text, variant=variant, size="md", scale=0, min_width=180, elem_id=name)


def _view(name: str) -> gr.HTML:
    return gr.HTML("", elem_id=name, js_on_load=(STATIC / "view.js").read_text(), apply_default_css=False)


@contextmanager
def _page_errors() -> Iterator[None]:
    """Show the package's own errors on the page, as one line."""
    try:
        yield
    except ThalwegError as error:
        raise gr.Error(str(error), print_exception=False) from error
