"""What the source asks a catalog for: the msgids of templates, scripts, modules and fields. For the tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from django.contrib import admin
from django.template import Engine
from django.template.base import Node
from django.templatetags.i18n import BlockTranslateNode, TranslateNode

from kernel import model_words

BASE_DIR = Path(__file__).resolve().parent.parent.parent
#: Rooms whose modules ask for words.
ROOMS = ("commands", "kernel", "roasts", "evals")
_ASKS = frozenset({"_", "gettext", "gettext_lazy", "gettext_noop", "ngettext"})
_SCRIPT = re.compile(r'(?<![\w.])t\("((?:[^"\\]|\\.)*)"')


def _of_node(node: Node) -> Iterator[str]:
    if isinstance(node, TranslateNode):
        words = node.filter_expression.var
        yield (words if isinstance(words, str) else words.literal).replace("%", "%%")  # as Django asks for it
    elif isinstance(node, BlockTranslateNode):
        yield node.render_token_list(node.singular)[0]
        if node.plural:
            yield node.render_token_list(node.plural)[0]


def of_templates() -> dict[str, set[str]]:
    """msgid → the templates that ask for it (both forms of a plural)."""
    found: dict[str, set[str]] = {}
    engine = Engine.get_default()
    for path in sorted((BASE_DIR / "templates").rglob("*.html")):
        template = engine.from_string(path.read_text())
        nodes = [n for kind in (TranslateNode, BlockTranslateNode) for n in template.nodelist.get_nodes_by_type(kind)]
        asked = [words for node in nodes for words in _of_node(node)]
        asked += re.findall(r'_\("([^"]+)"\)', path.read_text())  # a literal in a filter: default:_("nobody")
        for words in asked:
            found.setdefault(words, set()).add(str(path.relative_to(BASE_DIR)))
    return found


def of_scripts() -> dict[str, set[str]]:
    """msgid → the scripts that ask for it by `t("…")`."""
    found: dict[str, set[str]] = {}
    for path in sorted((BASE_DIR / "static" / "src").glob("*.js")):
        for words in _SCRIPT.findall(path.read_text()):
            found.setdefault(words, set()).add(str(path.relative_to(BASE_DIR)))
    return found


def of_modules() -> dict[str, set[str]]:
    """msgid → the modules that ask for it with literal words."""
    found: dict[str, set[str]] = {}
    paths = [path for room in ROOMS for path in sorted((BASE_DIR / room).rglob("*.py"))]
    for path in paths:
        if "tests" in path.parts or "gettext" not in (text := path.read_text()):
            continue
        for call in ast.walk(ast.parse(text)):
            if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in _ASKS:
                continue
            for argument in call.args[:2]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    found.setdefault(argument.value, set()).add(str(path.relative_to(BASE_DIR)))
    return found


def of_fields() -> dict[str, set[str]]:
    """Label → the models of the admin that have a field of this label (`kernel.model_words`)."""
    found: dict[str, set[str]] = {}
    for model, shown in admin.site._registry.items():
        for each in (model, *(inline.model for inline in shown.inlines)):
            for field in each._meta.local_fields if each._meta.app_label in ROOMS else ():
                found.setdefault(model_words.label_of(field.name), set()).add(each.__name__)
    return found


def of_everything() -> dict[str, set[str]]:
    """msgid → everything that asks for it."""
    found: dict[str, set[str]] = {}
    for part in (of_templates(), of_scripts(), of_modules(), of_fields()):
        for words, where in part.items():
            found.setdefault(words, set()).update(where)
    return found


def inputs_of_templates() -> list[str]:
    """What hidden fields say into the record (an order's reasoning)."""
    paths = (BASE_DIR / "templates").rglob("*.html")
    return [words for path in paths for words in re.findall(r'type="hidden"[^>]* value="([^"{]+)"', path.read_text())]
