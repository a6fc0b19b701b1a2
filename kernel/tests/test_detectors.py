"""Each detector shown one good and one bad piece of code: a detector nobody saw fire proves nothing."""

from __future__ import annotations

import textwrap

import pytest

from kernel.tests import detectors
from kernel.tests.detectors import Detector, Source

# (detector, module it stands in, good code, bad code)
CASES: list[tuple[Detector, str, str, str]] = [
    (
        detectors.imports_upwards,
        "roasts.api",
        "from kernel import clock",
        "from commands.services import propose_order",
    ),
    (detectors.imports_upwards, "drivers.usb", "from kernel import clock", "def f():\n    import agents.client"),
    (detectors.imports_upwards, "commands.api", "from . import services", "from roastops import settings"),
    (
        detectors.imports_upwards,
        "kernel.live",
        "import importlib\nimportlib.import_module(name)",
        "import importlib\nimportlib.import_module('roasts.models')",
    ),
    (
        detectors.imports_upwards,
        "kernel.tests.test_live",
        "from roastops.testing import servers",
        "import roastops.urls",
    ),
    (detectors.imports_upwards, "commands.api", "import commands.services", "import simulation.world"),
    (detectors.impure, "commands.governor", "from dataclasses import dataclass", "from django.db import models"),
    (
        detectors.impure,
        "commands.governor",
        "import datetime as dt\ndef f(now): return now + dt.timedelta(1)",
        "import datetime as dt\ndef f(): return dt.datetime.now(dt.UTC)",
    ),
    (detectors.impure, "commands.governor", "LIMITS = {}", "def f(): return open('limits.json')"),
    (detectors.impure, "commands.governor", "from drivers.port import Reading", "from roasts.models import Machine"),
    (detectors.imports_django, "drivers.keeper", "import json", "from django.conf import settings"),
    (
        detectors.declares_model,
        "drivers.x",
        "class Reading: ...",
        "from django.db import models\nclass Reading(models.Model): ...",
    ),
    (
        detectors.view_imports_driver,
        "commands.api",
        "from drivers import stop_token",
        "from drivers import keeper_client",
    ),
    (
        detectors.view_imports_driver,
        "commands.pages",
        "from drivers.stop_token import sign",
        "from drivers.registry import open_driver",
    ),
    (
        detectors.speaks_to_keeper,
        "roasts.services",
        "from drivers.port import Reading",
        "from drivers.keeper_client import KeeperClient",
    ),
    (
        detectors.reads_clock,
        "roasts.services",
        "from kernel import clock\nclock.now()",
        "from django.utils import timezone\ntimezone.now()",
    ),
    (
        detectors.reads_clock,
        "roasts.models",
        "at = models.DateTimeField()",
        "at = models.DateTimeField(auto_now_add=True)",
    ),
    (
        detectors.reads_clock,
        "roasts.x",
        "import datetime as dt\ndt.datetime.fromisoformat('x')",
        "import datetime as dt\ndt.datetime.now(dt.UTC)",
    ),
    (detectors.reads_clock, "roasts.x", "from kernel import clock\nclock.sleep(1)", "from time import sleep\nsleep(1)"),
    (
        detectors.reads_clock,
        "roasts.x",
        "cursor.execute('select at from x where at < %s', [now])",
        "cursor.execute('select 1 from x where at < now()')",
    ),
    (detectors.draws_chance, "roasts.x", "from kernel import ids\nids.new('x')", "import uuid\nuuid.uuid4()"),
    (
        detectors.draws_chance,
        "drivers.virtual.x",
        "import random\nrandom.Random(7).random()",
        "import random\nrandom.random()",
    ),
    (
        detectors.draws_chance,
        "drivers.virtual.x",
        "import random\ndef f(r: random.Random): ...",
        "import random\nrandom.Random()",
    ),
    (
        detectors.draws_chance,
        "kernel.x",
        "import secrets\nsecrets.compare_digest(a, b)",
        "import secrets\nsecrets.token_hex()",
    ),
    (detectors.draws_chance, "kernel.x", "import os\nos.getpid()", "import os\nos.urandom(8)"),
    (
        detectors.starts_thread,
        "roasts.x",
        "import threading\nthreading.Lock()",
        "import threading\nthreading.Thread(target=f)",
    ),
    (
        detectors.starts_thread,
        "roasts.x",
        "import asyncio\nasyncio.Event()",
        "from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor(2)",
    ),
    (
        detectors.starts_process,
        "roasts.x",
        "import subprocess\nx = subprocess.PIPE",
        "import subprocess\nsubprocess.run(['x'])",
    ),
    (detectors.talks_to_network, "roasts.x", "import urllib.parse", "import urllib.request"),
    (
        detectors.talks_to_network,
        "roasts.x",
        "import asyncio\nasyncio.Queue()",
        "import asyncio\nasyncio.open_unix_connection('x')",
    ),
    (detectors.writes_status, "commands.api", "proposal.status == 'X'", "proposal.status = 'X'"),
    (
        detectors.writes_status,
        "commands.api",
        "Proposal.objects.filter(status='X')",
        "Proposal.objects.filter(pk=1).update(status='X')",
    ),
    (detectors.writes_status, "commands.api", "Response(body, status=201)", "Proposal.objects.create(status='X')"),
    (
        detectors.writes_status,
        "commands.api",
        "proposal.save(update_fields=['text'])",
        "proposal.save(update_fields=['status'])",
    ),
    (
        detectors.writes_status,
        "commands.api",
        "cursor.execute('select status from x')",
        "cursor.execute(\"update x set status = 'X'\")",
    ),
    (detectors.writes_status, "commands.api", "setattr(proposal, 'text', 1)", "setattr(proposal, 'status', 1)"),
    (
        detectors.names_table,
        "commands.api",
        "cursor.execute(f'select 1 from {table}')",
        "cursor.execute('select 1 from commands_proposal')",
    ),
    (
        detectors.bare_enum,
        "roasts.models",
        "models.CharField(default=Link.NEVER.value)",
        "models.CharField(default=Link.NEVER)",
    ),
    (
        detectors.bare_enum,
        "roasts.models",
        "models.CharField(choices=Link.choices)",
        "models.CharField(choices=[(Link.NEVER, 'x')])",
    ),
    (detectors.publishes_directly, "commands.services", "work.publish('tend', [1])", "tend.delay(1)"),
    (
        detectors.publishes_in_transaction,
        "commands.services",
        "from django.db import transaction\nfrom kernel import live\ntransaction.on_commit(lambda: live.wake('x'))",
        "from kernel import live\nlive.wake('x')",
    ),
    (
        detectors.publishes_in_transaction,
        "commands.services",
        "from django.db import transaction\nfrom kernel import live\ndef f():\n live.wake(1)\ntransaction.on_commit(f)",
        "from kernel import live\ndef f():\n live.wake(1)\nf()",
    ),
    (detectors.broad_except, "roasts.x", "try: f()\nexcept ValueError: pass", "try: f()\nexcept Exception: pass"),
    (detectors.broad_except, "roasts.x", "try: f()\nexcept (OSError, ValueError): pass", "try: f()\nexcept: pass"),
    (
        detectors.broad_except,
        "roasts.x",
        "import contextlib\nwith contextlib.suppress(OSError): f()",
        "import contextlib\nwith contextlib.suppress(Exception): f()",
    ),
    (detectors.guards_with_assert, "drivers.usb", "if not ok: raise ValueError", "assert ok"),
    (detectors.empty_name, "roasts.curve", "bean_temp_c = 1", "temp = 1"),
    (detectors.empty_name, "roasts.curve", "class Curve: ...", "class CurveManager: ..."),
    (detectors.too_long, "roasts.curve", "def f():\n" + "    x = 1\n" * 69, "def f():\n" + "    x = 1\n" * 70),
]


@pytest.mark.parametrize(
    ("detector", "module", "good", "bad"), CASES, ids=[f"{case[0].__name__}-{n}" for n, case in enumerate(CASES)]
)
def test_detector_passes_good_code_and_finds_bad_code(detector: Detector, module: str, good: str, bad: str) -> None:
    assert detector(Source(module, textwrap.dedent(good))) == []
    findings = detector(Source(module, textwrap.dedent(bad)))
    assert findings, f"{detector.__name__} saw nothing in:\n{bad}"
    assert {finding.rule for finding in findings} <= {detector.__name__, "reads_clock", "draws_chance"}


def test_a_drawer_is_found_by_its_file_name() -> None:
    assert detectors.empty_name(Source("roasts.utils", ""))
    assert not detectors.empty_name(Source("roasts.curve", ""))


def test_a_file_is_too_long_after_six_hundred_lines() -> None:
    assert not detectors.too_long(Source("roasts.curve", "x = 1\n" * 600))
    assert detectors.too_long(Source("roasts.curve", "x = 1\n" * 601))


def test_a_finding_names_the_function_it_stands_in() -> None:
    [finding] = detectors.broad_except(Source("roasts.x", "def tick():\n    try: f()\n    except Exception: pass\n"))
    assert finding.where == "tick"
    assert str(finding).startswith("roasts.x:3 in tick")


def test_relative_imports_are_resolved() -> None:
    source = Source("commands.management.commands.stop", "from ...machine_loop import tick\nfrom .... import roastops")
    assert [name for _, name in detectors.imports(source)] == ["commands.machine_loop.tick", ".roastops"]


def test_services_may_write_a_status_and_nobody_else() -> None:
    text = "Proposal.objects.filter(pk=1).update(status='X')"
    assert not detectors.writes_status(Source("commands.services_orders", text))
    assert detectors.writes_status(Source("commands.execution", text))
