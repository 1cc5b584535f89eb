"""Hook of the documentation site: the pages at the root of the repository become pages of the site."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
"""Files at the root, and the names under which the site shows them."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages at the root of the repository."""
    for name, page in PAGES.items():
        text = _with_links_of_the_site((ROOT / name).read_text("utf-8"))
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Let links to files outside of the site lead to pages of the site or, for code, be plain text."""
    return _with_links_of_the_site(markdown)


def _with_links_of_the_site(text: str) -> str:
    def link(found: re.Match[str]) -> str:
        label, target = found["label"], found["target"]
        if "://" in target or target.startswith("#"):
            return found[0]
        path = target.removeprefix("../").removeprefix("docs/")
        if path in PAGES:
            return f"[{label}]({PAGES[path]})"
        if (ROOT / "docs" / path.partition("#")[0]).exists():
            return f"[{label}]({path})"
        return label  # a file of the repository that is no page

    return re.sub(r"(?<!!)\[(?P<label>[^\]]*)\]\((?P<target>[^)]+)\)", link, text).replace(
        "](docs/images/", "](images/"
    )
