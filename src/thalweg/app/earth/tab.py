"""Earth tab: one page component, assembled from the files of `static`."""

from importlib.resources import files

from thalweg.app.workspace import Workspace

_SCRIPTS = (
    "page.js",
    "places.js",
    "maps.js",
    "charts.js",
    "labels.js",
    "mapping.js",
    "viewer.js",
)  # joined to one script; the last one starts the page


def earth_tab(workspace: Workspace) -> None:
    """Build the tab inside an open `gr.Blocks` or `gr.Tab`; the page requests all its data from `earth_router`.

    Args:
        workspace: folder that the router serves; the page names it while it holds no store.
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
