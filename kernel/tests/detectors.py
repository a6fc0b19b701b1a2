"""Detectors: what the house forbids, found by reading the source with ``ast``.

Each detector takes one parsed :class:`Source` and returns its :class:`Finding` s. They know nothing of
who may be excused: the allow-lists, with a reason for every entry, stand in ``test_architecture.py``.
``test_detectors.py`` shows each of them one good and one bad piece of code.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("kernel", "drivers", "agents", "roasts", "commands", "evals", "trials", "roastops", "simulation")

#: room -> rooms it may import (beside itself). Downwards only: design/house.md.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "kernel": frozenset(),
    "drivers": frozenset({"kernel"}),
    "agents": frozenset({"kernel"}),
    "roasts": frozenset({"kernel", "drivers", "agents"}),
    "commands": frozenset({"kernel", "drivers", "agents", "roasts"}),
    "evals": frozenset({"kernel", "drivers", "agents", "roasts", "commands"}),
    "trials": frozenset({"kernel", "drivers", "agents", "roasts", "commands", "evals"}),
    "roastops": frozenset({"kernel", "drivers", "agents", "roasts", "commands", "evals", "trials"}),
    "simulation": frozenset(set(ROOMS) - {"simulation"}),
}


#: What tests of every room may use beside their own room: servers and processes to try things on.
TEST_TOOLS = frozenset({"roastops.testing"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One breach: ``rule`` is the detector's name, ``where`` the enclosing function or ''."""

    rule: str
    module: str
    line: int
    what: str
    where: str = ""

    def __str__(self) -> str:
        inside = f" in {self.where}" if self.where else ""
        return f"{self.module}:{self.line}{inside}: {self.what} [{self.rule}]"


@dataclass(slots=True)
class Source:
    """A parsed module: its dotted name, its tree, and what its local names were imported as."""

    module: str
    text: str
    tree: ast.Module = field(init=False)
    names: dict[str, str] = field(init=False)
    where: dict[int, str] = field(init=False)

    def __post_init__(self) -> None:
        self.tree = ast.parse(self.text)
        self.names = dict(_imported_names(self))
        self.where = {}
        _note_functions(self.tree, "", self.where)

    @property
    def room(self) -> str:
        return self.module.split(".")[0]

    @property
    def leaf(self) -> str:
        return self.module.rsplit(".", 1)[-1]

    @property
    def package(self) -> str:
        """The package inside the room that the module lies in; "" for a module of the room itself."""
        return ".".join(self.module.split(".")[1:-1])

    @property
    def is_record(self) -> bool:
        """May it write a status? `services*.py`, and what lies in a room's `records/`."""
        return self.leaf.startswith("services") or self.package == "records"

    @property
    def is_show(self) -> bool:
        """Does it parse, authorise, call and render? By its name, or what lies in a room's `api/`."""
        return self.package == "api" or bool(_SHOW.match(self.leaf))

    @property
    def is_test(self) -> bool:
        """Tests, their fixtures, and the tools that start servers for them."""
        return ".test" in self.module or self.leaf.startswith("test_") or self.leaf == "conftest"

    @property
    def is_migration(self) -> bool:
        return ".migrations." in self.module

    def dotted(self, node: ast.AST) -> str:
        """``dt.datetime.now`` → ``datetime.datetime.now``; '' for anything that is not an imported name."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self.names:
            return ""
        return ".".join([self.names[node.id], *reversed(parts)])

    def finding(self, rule: str, node: ast.AST, what: str) -> Finding:
        line = getattr(node, "lineno", 0)
        return Finding(rule, self.module, line, what, self.where.get(id(node), ""))


def _note_functions(node: ast.AST, name: str, where: dict[int, str]) -> None:
    for child in ast.iter_child_nodes(node):
        inner = name
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{name}.{child.name}" if name else child.name
        where[id(child)] = inner
        _note_functions(child, inner, where)


def _absolute(source: Source, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    base = source.module.split(".")[: -node.level]
    return ".".join([*base, node.module] if node.module else base)


def _imported_names(source: Source) -> Iterator[tuple[str, str]]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                local = alias.asname or alias.name.split(".")[0]
                yield local, alias.name if alias.asname else local
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{_absolute(source, node)}.{alias.name}"


def imports(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Every module a source imports, at any depth, with ``import_module("literal")`` counted too."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(source, node)
            yield from ((node, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and source.dotted(node.func) == "importlib.import_module":
            if node.args and isinstance(node.args[0], ast.Constant):
                yield node, str(node.args[0].value)


def read_tree(root: Path = ROOT) -> list[Source]:
    """Every module of every room, parsed."""
    sources = []
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            dotted = ".".join(path.relative_to(root).with_suffix("").parts)
            sources.append(Source(dotted.removesuffix(".__init__"), path.read_text(encoding="utf-8")))
    return sources


# --- direction and purity ---------------------------------------------------------------------


def imports_upwards(source: Source) -> list[Finding]:
    """An import of a room that stands above (or beside) this one."""
    allowed = MAY_IMPORT[source.room] | {source.room}
    return [
        source.finding("imports_upwards", node, f"{source.room} may not import {name}")
        for node, name in imports(source)
        if name.split(".")[0] in ROOMS
        and name.split(".")[0] not in allowed
        and not (source.is_test and _is_within(name, TEST_TOOLS))
    ]


def _is_within(name: str, roots: frozenset[str]) -> bool:
    return any(name == root or name.startswith(root + ".") for root in roots)


#: What a deciding module may never import: the world, time, chance, and our doors to them.
_IMPURE = frozenset(
    "django rest_framework celery redis os io sys time random secrets uuid socket ssl threading subprocess "
    "multiprocessing concurrent asyncio pathlib tempfile shutil signal logging httpx requests urllib http usb "
    "numpy.random kernel.clock kernel.ids kernel.live kernel.work kernel.audit".split()
)
_IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval", "__import__"})


def impure(source: Source) -> list[Finding]:
    """In a deciding module: Django, clock, chance, files, threads, network, or a module-level global written."""
    found = [
        source.finding("impure", node, f"imports {name}")
        for node, name in imports(source)
        if _is_within(name, _IMPURE) or (name.split(".")[0] in ROOMS and ".models" in name)
    ]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _IMPURE_CALLS:
            found.append(source.finding("impure", node, f"calls {node.func.id}()"))
        elif isinstance(node, ast.Global):
            found.append(source.finding("impure", node, f"writes the global {', '.join(node.names)}"))
    return found + reads_clock(source) + draws_chance(source)


def imports_django(source: Source) -> list[Finding]:
    """Django where there is to be none (drivers, the keeper, the agents' clients)."""
    return [
        source.finding("imports_django", node, f"imports {name}")
        for node, name in imports(source)
        if _is_within(name, frozenset({"django", "rest_framework", "celery"}))
        or (name.split(".")[0] in ROOMS and ".models" in name)
    ]


def declares_model(source: Source) -> list[Finding]:
    """A database model (in a room that is to have none)."""
    return [
        source.finding("declares_model", node, f"class {node.name} is a model")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef) and any(source.dotted(b) == "django.db.models.Model" for b in node.bases)
    ]


_SHOW = re.compile(r"^(views?|pages?|page_urls|urls|api|admin|serializers)(_\w+)?$|^(\w+_)?(api|views|pages)$")
#: Of `drivers`, what a page may know: the plain values of the port, signing a STOP token, where a run file stands.
_SHOW_MAY_IMPORT = frozenset({"drivers.port", "drivers.stop_token", "drivers.keeper_config"})


def view_imports_driver(source: Source) -> list[Finding]:
    """A page, endpoint or admin that imports a driver."""
    if not source.is_show or source.room == "drivers":
        return []
    return [
        source.finding("view_imports_driver", node, f"a view imports {name}")
        for node, name in imports(source)
        if name.split(".")[0] == "drivers" and not _is_within(name, _SHOW_MAY_IMPORT)
    ]


def speaks_to_keeper(source: Source) -> list[Finding]:
    """An import of the keeper's client or of a device outside `drivers`."""
    doors = frozenset({"drivers.keeper_client", "drivers.registry", "drivers.bullet", "drivers.keeper", "usb"})
    if source.room == "drivers":
        return []
    return [
        source.finding("speaks_to_keeper", node, f"imports {name}")
        for node, name in imports(source)
        if _is_within(name, doors)
    ]


# --- seams ------------------------------------------------------------------------------------

_CLOCK = frozenset(
    "time.time time.time_ns time.monotonic time.monotonic_ns time.perf_counter time.perf_counter_ns time.sleep "
    "time.localtime time.gmtime datetime.datetime.now datetime.datetime.utcnow datetime.datetime.today "
    "datetime.date.today django.utils.timezone.now django.utils.timezone.localtime "
    "django.utils.timezone.localdate django.db.models.functions.Now".split()
)
_CHANCE = frozenset("random secrets uuid numpy.random os.urandom os.getrandom django.utils.crypto".split())
_CHANCE_FINE = frozenset(
    "secrets.compare_digest uuid.UUID django.utils.crypto.constant_time_compare numpy.random.Generator".split()
)
_SEEDED = frozenset({"random.Random", "numpy.random.default_rng", "numpy.random.RandomState"})
_THREADS = frozenset(
    "threading.Thread threading.Timer concurrent.futures multiprocessing _thread asyncio.to_thread".split()
)
_PROCESSES = frozenset("subprocess os.fork os.system os.popen os.execv os.execvp os.posix_spawn pty".split())
_NETWORK = frozenset(
    "socket socketserver ssl http.client http.server urllib.request httpx requests aiohttp websockets redis ftplib "
    "smtplib asyncio.open_connection asyncio.open_unix_connection asyncio.start_server "
    "asyncio.start_unix_server".split()
)


def _references(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Every use of an imported name, as a dotted path, longest attribute chain first and once."""
    inner: set[int] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute | ast.Name) and id(node) not in inner:
            part: ast.AST = node
            while isinstance(part, ast.Attribute):
                part = part.value
                inner.add(id(part))
            dotted = source.dotted(node)
            if dotted:
                yield node, dotted


def _calls(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Every call of an imported name, as a dotted path."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and source.dotted(node.func):
            yield node, source.dotted(node.func)


def reads_clock(source: Source) -> list[Finding]:
    """Time read, or slept, outside kernel/clock.py; the database's own clock counts."""
    found = [
        source.finding("reads_clock", node, f"uses {name}") for node, name in _references(source) if name in _CLOCK
    ]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.keyword) and node.arg in {"auto_now", "auto_now_add"}:
            found.append(source.finding("reads_clock", node.value, f"{node.arg} reads the clock inside the model"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.search(r"(?i)\bcurrent_timestamp\b|\bnow\(\)", node.value) and re.search(
                r"(?i)\b(select|update|insert|where|default)\b", node.value
            ):
                found.append(source.finding("reads_clock", node, "SQL reads the database's clock"))
    return found


def draws_chance(source: Source) -> list[Finding]:
    """Randomness or identity drawn outside kernel/ids.py. A generator with a seed is not chance."""
    seeded = {
        id(node.func)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and source.dotted(node.func) in _SEEDED and (node.args or node.keywords)
    }
    annotations = {
        id(part)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None
        for part in ast.walk(node.annotation)
    }
    return [
        source.finding("draws_chance", node, f"uses {name}")
        for node, name in _references(source)
        if _is_within(name, _CHANCE)
        and name not in _CHANCE_FINE | {"random", "secrets", "uuid"}
        and id(node) not in seeded | annotations
    ]


def starts_thread(source: Source) -> list[Finding]:
    """A thread or a pool of them."""
    found = [
        source.finding("starts_thread", node, f"calls {name}")
        for node, name in _calls(source)
        if _is_within(name, _THREADS)
    ]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and node.attr == "run_in_executor":
            found.append(source.finding("starts_thread", node, "uses run_in_executor"))
        elif isinstance(node, ast.ClassDef) and any(source.dotted(b) == "threading.Thread" for b in node.bases):
            found.append(source.finding("starts_thread", node, f"class {node.name} is a thread"))
    return found


def starts_process(source: Source) -> list[Finding]:
    """Another program started."""
    return [
        source.finding("starts_process", node, f"calls {name}")
        for node, name in _calls(source)
        if _is_within(name, _PROCESSES)
    ]


def talks_to_network(source: Source) -> list[Finding]:
    """A socket, or a library that opens them."""
    found = {
        name: source.finding("talks_to_network", node, f"imports {name}")
        for node, name in imports(source)
        if _is_within(name, _NETWORK)
    }
    for node, name in _references(source):
        if name in _NETWORK and name.startswith("asyncio."):
            found[name] = source.finding("talks_to_network", node, f"uses {name}")
    return list(found.values())


# --- records ----------------------------------------------------------------------------------

_STATEFUL = frozenset({"Proposal", "Roast"})
_WRITERS = frozenset({"update", "create", "get_or_create", "update_or_create", "acreate", "aupdate"})


def _names_status(node: ast.AST | None) -> bool:
    if isinstance(node, ast.Dict):
        return any(isinstance(key, ast.Constant) and key.value == "status" for key in node.keys)
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return any(isinstance(item, ast.Constant) and item.value == "status" for item in node.elts)
    return isinstance(node, ast.Constant) and node.value == "status"


def _writes_status_by_call(node: ast.Call) -> bool:
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if isinstance(node.func, ast.Attribute) and name in _WRITERS:
        return "status" in keywords or _names_status(keywords.get("defaults"))
    if name in {"bulk_update", "save", "asave"}:
        given = keywords.get("update_fields") or keywords.get("fields") or (node.args[-1] if node.args else None)
        return _names_status(given)
    if name == "setattr" and len(node.args) == 3:
        return _names_status(node.args[1])
    return name in _STATEFUL and "status" in keywords


def writes_status(source: Source) -> list[Finding]:
    """A status written outside `services*.py` and `records/` (assignment, update, create, raw SQL)."""
    if source.is_record:
        return []
    found = []
    for node in ast.walk(source.tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AugAssign | ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            if isinstance(target, ast.Attribute) and target.attr == "status":
                if not (isinstance(target.value, ast.Name) and target.value.id == "self"):
                    found.append(source.finding("writes_status", node, "assigns .status"))
        if isinstance(node, ast.Call) and _writes_status_by_call(node):
            found.append(source.finding("writes_status", node, "writes status by a call"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.search(r"(?is)\bupdate\b\s+\S+\s+set\b[^;]*\bstatus\b\s*=", node.value):
                found.append(source.finding("writes_status", node, "writes status by SQL"))
    return found


def names_table(source: Source) -> list[Finding]:
    """A table named in raw SQL: ask the model's `_meta.db_table`."""
    table = re.compile(
        r"(?i)\b(from|into|update|join|table|on)\s+[\"']?(kernel|roasts|commands|evals|trials|agents)_\w+"
    )
    return [
        source.finding("names_table", node, f"SQL names a table: {match.group(0)!r}")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for match in [table.search(node.value)]
        if match
    ]


def bare_enum(source: Source) -> list[Finding]:
    """A bare enum member in `choices` or `default`: the migration would import the enum. Use `.value`."""

    def members(node: ast.AST) -> Iterator[ast.Attribute]:
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute) and part.attr.isupper() and _is_class_name(part.value):
                yield part

    found = []
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        for keyword in node.keywords:
            if keyword.arg not in {"choices", "default", "db_default"}:
                continue
            valued = {
                id(part.value)
                for part in ast.walk(keyword.value)
                if isinstance(part, ast.Attribute) and part.attr in {"value", "label", "name"}
            }
            found += [
                source.finding("bare_enum", member, f"{keyword.arg}= holds {ast.unparse(member)} without .value")
                for member in members(keyword.value)
                if id(member) not in valued and _is_field_call(node)
            ]
    return found


def _is_class_name(node: ast.AST) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return bool(name) and name[0].isupper() and not name.isupper()


def _is_field_call(node: ast.Call) -> bool:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name.endswith("Field")


_SENDERS = frozenset({"delay", "apply_async", "send_task"})


def publishes_directly(source: Source) -> list[Finding]:
    """A Celery message sent by hand: `kernel.work.publish` is the one door."""
    return [
        source.finding("publishes_directly", node, f"calls .{node.func.attr}()")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _SENDERS
    ]


def publishes_in_transaction(source: Source) -> list[Finding]:
    """`live.wake` called by a service at once: the row may not be committed yet. Only as an argument of
    `transaction.on_commit` (a lambda, a partial, or a function named there). `work.publish` does so itself."""
    if not source.is_record:
        return []
    doors = {"kernel.live.wake", "kernel.live.wake_sealer"}
    deferred: set[int] = set()
    named: set[str] = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and source.dotted(node.func).endswith("transaction.on_commit"):
            for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                deferred |= {id(part) for part in ast.walk(argument)}
                if isinstance(argument, ast.Name):
                    named.add(argument.id)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef) and node.name in named:
            deferred |= {id(part) for part in ast.walk(node)}
    return [
        source.finding("publishes_in_transaction", node, f"calls {source.dotted(node.func)} at once")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and source.dotted(node.func) in doors and id(node) not in deferred
    ]


# --- manners ----------------------------------------------------------------------------------


def broad_except(source: Source) -> list[Finding]:
    """`except Exception`, `except BaseException`, a bare `except`, `suppress(Exception)`."""
    broad = {"Exception", "BaseException"}

    def is_broad(node: ast.expr | None) -> bool:
        if node is None:
            return True
        parts = node.elts if isinstance(node, ast.Tuple) else [node]
        return any(isinstance(part, ast.Name) and part.id in broad for part in parts)

    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and is_broad(node.type):
            found.append(source.finding("broad_except", node, "catches everything"))
        elif isinstance(node, ast.Call) and source.dotted(node.func) == "contextlib.suppress":
            if any(is_broad(argument) for argument in node.args):
                found.append(source.finding("broad_except", node, "suppresses everything"))
    return found


def guards_with_assert(source: Source) -> list[Finding]:
    """`assert` in product code: `python -O` removes it."""
    return [
        source.finding("guards_with_assert", node, "assert in product code")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Assert)
    ]


_DRAWERS = frozenset({"utils", "util", "helpers", "helper", "common", "misc", "lib", "base_utils"})
_EMPTY_NAMES = re.compile(r"(Manager|Helper|Processor|Util|Utils)$")


def empty_name(source: Source) -> list[Finding]:
    """Names that say nothing: utils.py, a *Manager*, `do_…`, `handle_data`, a bare `temp`."""
    found = []
    if set(source.module.split(".")) & _DRAWERS:
        found.append(Finding("empty_name", source.module, 1, "a drawer, not an idea"))
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef) and _EMPTY_NAMES.search(node.name):
            found.append(source.finding("empty_name", node, f"class {node.name}"))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("do_") or node.name == "handle_data":
                found.append(source.finding("empty_name", node, f"def {node.name}"))
        elif (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == "temp") or (
            isinstance(node, ast.arg) and node.arg == "temp"
        ):
            found.append(source.finding("empty_name", node, "`temp`: temperature or temporary?"))
    return found


def too_long(source: Source) -> list[Finding]:
    """A function past 70 lines, a file past 600."""
    found = []
    if source.text.count("\n") > 600:
        found.append(Finding("too_long", source.module, 1, f"{source.text.count(chr(10))} lines in one file"))
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > 70:
                found.append(source.finding("too_long", node, f"{node.name} has {length} lines"))
    return found


Detector = Callable[[Source], list[Finding]]
