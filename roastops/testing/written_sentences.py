"""The sentences that modules write with their figures in them: constants and f-strings, gaps as `{}`. For the tests."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent.parent
#: Rooms whose sentences a page may show.
ROOMS = ("agents", "commands", "drivers", "evals", "kernel", "roastops", "roasts")
_GAP = re.compile(r"\{\w*\}")
_FORMAT_GAP = re.compile(r"\{\w+\}")


def without_names(template: str) -> str:
    """`{a} of {b}` → `{} of {}`: what a gap is called does not matter."""
    return _GAP.sub("{}", template)


def _said(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _FORMAT_GAP.sub("{}", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def _docstrings(tree: ast.AST) -> set[int]:
    owners = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    first = [node.body[0] for node in ast.walk(tree) if isinstance(node, owners) and node.body]
    return {id(each.value) for each in first if isinstance(each, ast.Expr)}


@functools.cache
def of_module(path: Path) -> frozenset[str]:
    """Every text of the module that is no docstring, gaps as `{}`."""
    tree = ast.parse(path.read_text())
    skipped = _docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in ast.walk(node) if part is not node}
    found = {_said(node) for node in ast.walk(tree) if id(node) not in skipped}
    return frozenset(text for text in found if text)


@functools.cache
def of_rooms() -> frozenset[str]:
    """Those of all rooms but the lists of known sentences themselves."""
    found: set[str] = set()
    for path in (path for room in ROOMS for path in sorted((BASE_DIR / room).rglob("*.py"))):
        if "tests" not in path.parts and not path.name.startswith("known_"):
            found |= of_module(path)
    return frozenset(found)


def sentences(path: Path) -> list[str]:
    """Those texts of a module that are whole sentences: a capital, words, a full stop."""
    return sorted(text for text in of_module(path) if re.match(r"(\{\}|[A-Z]).*\w.* .*[.:]$", text, re.S))
