"""Docstrings open with a noun or an imperative verb, and say what a public name takes, gives and raises."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BARE_CLAUSES = ("What", "Who", "Whose", "Whom", "Which", "Where", "When", "How", "Why", "Whether")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of every docstring, those of attributes and constants too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for before, statement in zip([None, *body], body, strict=False):
            is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if is_text and isinstance(statement.value.value, str):
                opens = before is None and isinstance(node, DOCUMENTED)
                if opens or isinstance(before, ast.Assign | ast.AnnAssign):
                    yield statement.lineno, statement.value.value


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "scripts"])
def test_no_docstring_opens_with_a_bare_clause(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text.strip().splitlines()[0]}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in docstrings(path)
        if text.split()[:1] and text.split()[0].rstrip(",.:") in BARE_CLAUSES
    ]
    assert not found, "\n".join(found)


def test_a_bare_clause_is_found(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text('"""Blocks of a store."""\nLIMIT = 3\n"""How many blocks there are."""\n')
    assert [text.split()[0] for _, text in docstrings(path)] == ["Blocks", "How"]
