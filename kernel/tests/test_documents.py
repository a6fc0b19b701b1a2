"""What the documents name exists: files, functions, management commands, make targets."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest
from django.core.management import get_commands

from kernel.tests.detectors import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PATH = re.compile(r"`((?:[a-z_]+/)+[a-z_0-9-]+\.(?:py|md|sh))`")
#: `path/file.py` · `name`, `other` and `third`: names that file must define
NAMED = re.compile(r"`((?:[a-z_0-9]+/)+[a-z_0-9]+\.py)`\s·\s((?:`[\w.]+`(?:,\s|\sand\s)?)+)")
COMMAND = re.compile(r"manage\.py ([a-z]+)")


def text_of(path: Path) -> str:
    return " ".join(path.read_text(encoding="utf-8").split())


@functools.cache
def names_in(path: str) -> frozenset[str]:
    """Functions, classes, methods (bare and qualified) and constants a module defines."""
    names: set[str] = set()

    def walk(node: ast.AST, outer: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = outer
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{outer}.{child.name}" if outer else child.name
                names.update({child.name, inner})
            walk(child, inner)

    walk(ast.parse((ROOT / path).read_text(encoding="utf-8")), "")
    return frozenset(names)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_a_document_names_is_there(document: Path) -> None:
    missing = [path for path in PATH.findall(text_of(document)) if not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_management_command_and_make_target_exists(document: Path) -> None:
    text = text_of(document)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(COMMAND.findall(text)) <= set(get_commands())
    shown = re.findall(r"`make ([a-z]+)", text) + re.findall(
        r"\n\s*make ([a-z]+)", document.read_text(encoding="utf-8")
    )
    assert set(shown) <= targets


@pytest.mark.parametrize("document", ["life-of-a-command.md", "governor.md"])
def test_a_page_that_names_functions_names_what_the_code_defines(document: str) -> None:
    text = text_of(ROOT / "docs" / document)
    missing, count = [], 0
    for path, names in NAMED.findall(text):
        for name in re.findall(r"`([\w.]+)`", names):
            count += 1
            if name not in names_in(path):
                missing.append(f"{path}: {name}")
    assert count >= 30, "the page names its functions as `file.py` · `function`"
    assert not missing


def test_a_name_that_is_not_there_would_be_seen() -> None:
    assert "propose_order" in names_in("commands/services.py")
    assert "Keeper.apply" in names_in("drivers/keeper.py")
    assert "propose_disorder" not in names_in("commands/services.py")
    [(path, names)] = NAMED.findall("see `commands/services.py` · `propose_order` and `move`.")
    assert (path, names.count("`")) == ("commands/services.py", 4)
