"""The tab: one page component whose parts lie in `static`."""

from importlib.resources import files

from thalweg.app.workspace import Workspace

_SCRIPTS = ("page.js", "maps.js", "charts.js", "viewer.js")  # one script to the browser, the last begins


def earth_tab(workspace: Workspace) -> None:
    """Build the tab inside an open `gr.Blocks` or `gr.Tab`; the page asks `earth_router` for all it shows.

    Args:
        workspace: the folder that the router serves; named to whoever has no store in it yet.
    """
    import gradio as gr

    gr.HTML(
        value=workspace.folder.name,
        html_template=_part("viewer.html"),
        css_template=_part("viewer.css"),
        js_on_load="".join(_part(name) for name in _SCRIPTS),
        apply_default_css=False,
        elem_id="thalweg-earth",
    )


def _part(name: str) -> str:
    return files("thalweg.app.earth").joinpath("static", name).read_text("utf-8")
