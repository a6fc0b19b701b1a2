"""Why a driver does not take an option: every sentence of the drivers' source is one that can be translated."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import drivers
from drivers import registry
from roasts import machines, option_words


def assigned(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(name, text) of every text that is given a name in this source."""
    for each in ast.walk(tree):
        if not isinstance(each, ast.Assign):
            continue
        target, value = each.targets[0], each.value
        is_several = isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple)
        for name, text in zip(target.elts, value.elts, strict=True) if is_several else ((target, value),):
            if isinstance(name, ast.Name) and isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield name.id, text.value


def sentences_of(source: str) -> set[str]:
    """What the source's `BadOption`s say: literally, or by a name."""
    tree = ast.parse(source)
    names = [*assigned(tree), *((name, text) for name, text in vars(registry).items() if isinstance(text, str))]
    found: set[str] = set()
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "BadOption":
            for each in call.args:
                said = {str(each.value)} if isinstance(each, ast.Constant) else set()
                said |= {text for name, text in names if isinstance(each, ast.Name) and name == each.id}
                assert said, f"line {each.lineno}: the words are put together, and no catalog can know them"
                found |= said
    return found


def test_every_sentence_of_a_driver_about_an_option_can_be_translated() -> None:
    sources = [path for path in Path(drivers.__file__).parent.rglob("*.py") if "tests" not in path.parts]
    said = set().union(*(sentences_of(path.read_text()) for path in sources)) | {registry.DID_YOU_MEAN}
    assert len(said) > 20 and said == set(option_words.SENTENCES)


@pytest.mark.parametrize(("kind", "options", "words"), [
    ("bullet-r1", {"sensor_mop": 1}, "has no option 'sensor_mop'; did you mean 'sensor_map'? Known: product_id, bus"),
    ("bullet-r1", {"backend": {"kind": "virtual-socket"}}, "the backend virtual-socket takes exactly kind and path."),
    ("tcp-line", {}, "tcp-line needs the option port."),
    ("bullet-r", {}, "there is no driver 'bullet-r'; did you mean 'bullet-r"),
    ("bullet-r1", {"{0}": 1}, "has no option '{0}'"),
])  # fmt: skip
def test_a_fault_is_said_in_whole_sentences(kind: str, options: dict[str, object], words: str) -> None:
    fault = machines.check_driver(kind, options)
    assert fault is not None and words in fault and ".." not in fault and "?." not in fault


def test_another_fault_of_a_driver_is_said_as_it_is() -> None:
    assert option_words.as_sentences("it burns", "Run.") == "it burns. Run."
