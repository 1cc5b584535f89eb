"""Imports go down only: no layer imports a higher one, and neither sibling folders nor modules form a circle."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "thalweg"
LAYERS = (
    ("cli",),
    ("app",),
    ("gpp",),
    ("earth", "simulate"),
    ("steer", "diffusion"),
    ("generator", "embedding"),
    ("devices", "prompts", "seeds", "threads"),
    ("io",),
    ("gradient_modes", "limits", "notices"),
    ("errors", "_version"),
)
"""Layers from the highest to the lowest; parts of one layer do not import each other, unless named below."""
SAME_LAYER = {("generator", "embedding"), ("gpp", "simulate"), ("seeds", "prompts"), ("prompts", "seeds")}
ENTRANCES = {"thalweg", "thalweg._accessor"}
"""Modules that load others when a name is first asked for."""


def modules() -> dict[str, Path]:
    """Return the package's modules by name."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = ("thalweg", *path.relative_to(SOURCE).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(path: Path) -> Iterator[str]:
    """Yield the modules of the package that a file imports when it runs, also within functions."""
    tree = ast.parse(path.read_text("utf-8"))
    for_types = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    skipped = {id(inner) for node in for_types for statement in node.body for inner in ast.walk(statement)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in skipped:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in MODULES or node.module in MODULES:
                    yield name if name in MODULES else node.module


GRAPH: dict[str, set[str]] = {name: set(imports(path)) - {name} for name, path in MODULES.items()}


def part(name: str) -> str:
    """Return the part of the package, below its root, that a module belongs to."""
    return name.split(".")[1] if "." in name else ""


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return a circle of a graph, empty if it has none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_every_part_has_a_layer() -> None:
    assert {part(name) for name in MODULES} - {""} - {"_accessor"} == {name for layer in LAYERS for name in layer}


def test_imports_go_down() -> None:
    level = {name: index for index, layer in enumerate(LAYERS) for name in layer}
    upward = [
        f"{name} imports {imported}"
        for name, found in GRAPH.items()
        if name not in ENTRANCES
        for imported in found
        if imported != "thalweg"
        and part(name) != part(imported)
        and level[part(name)] >= level[part(imported)]
        and (part(name), part(imported)) not in SAME_LAYER
    ]
    assert not upward, "\n".join(upward)


def test_no_modules_form_a_circle() -> None:
    graph = {name: found for name, found in GRAPH.items() if name not in ENTRANCES}
    assert not circle(graph)


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES.values()}), ids=lambda path: path.name)
def test_sibling_folders_form_no_circle(folder: Path) -> None:
    def child(name: str) -> str | None:
        path = MODULES[name]
        inside = path.is_relative_to(folder) and path.parent != folder
        return path.relative_to(folder).parts[0] if inside else None

    graph: dict[str, set[str]] = {}
    for name, found in GRAPH.items():
        if own := child(name):
            graph.setdefault(own, set()).update(other for one in found if (other := child(one)) and other != own)
    if folder == SOURCE:  # the layers order these
        return
    assert not circle(graph)


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"a"}}) and not circle({"a": {"b"}, "b": set()})


def test_names_of_files_and_public_classes_are_unique() -> None:
    files: dict[tuple[str, str], list[str]] = {}
    classes: dict[str, list[str]] = {}
    for name, path in MODULES.items():
        if path.name != "__init__.py":
            files.setdefault((part(name), path.name), []).append(name)
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes.setdefault(node.name, []).append(name)
    assert not {found for found in files if len(files[found]) > 1}
    assert not {found: where for found, where in classes.items() if len(where) > 1}
