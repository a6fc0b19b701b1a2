"""`manage.py stop`: heat off, with nothing but this machine: no database, no broker, no web server."""

from __future__ import annotations

import getpass
import json
import sys
from argparse import ArgumentParser
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from commands.stop import journal, wire
from commands.stop.journal import HaltNote
from drivers import keeper_config
from drivers.keeper_client import KeeperUnreachable
from drivers.keeper_config import BadConfig, KeeperConfig
from drivers.port import DriverError
from kernel import clock, ids

EXIT_HEAT_OFF = 0
EXIT_UNPROVED = 2
EXIT_NO_MACHINE = 3


class Command(BaseCommand):
    help = "STOP a machine now: through its keeper, or by taking the device where no keeper lives. Exit 0: heat is off."
    requires_system_checks: list[str] = []
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--machine", metavar="ID", help="machine id (or its unique beginning, or its name)")
        which.add_argument("--all", action="store_true", help="every machine this data folder knows")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        configs = known_configs(settings.RUN_DIR)
        chosen = configs if options["all"] else [_named(configs, options["machine"])]
        if not chosen:
            raise CommandError(f"No machine is known in {settings.RUN_DIR}.", returncode=EXIT_NO_MACHINE)
        begun_s = clock.monotonic()
        with ThreadPoolExecutor(max_workers=len(chosen)) as pool:  # all at once: none waits for another
            results = list(pool.map(lambda config: stop_one(config, begun_s), chosen))
        for result in results:
            self.stdout.write(json.dumps(result) if options["json"] else _in_words(result))
        if any(result["result"] != wire.HEAT_OFF for result in results):
            sys.exit(EXIT_UNPROVED)


def known_configs(run_dir: Path) -> list[KeeperConfig]:
    """Every machine with a readable run file."""
    found = []
    for path in sorted(run_dir.glob("*.json")):
        try:
            found.append(keeper_config.read(path))
        except BadConfig:
            continue  # latch files and the like lie beside them
    return found


def _named(configs: list[KeeperConfig], word: str) -> KeeperConfig:
    exact = [config for config in configs if word in (config.machine_id, config.name)]
    matching = exact or [config for config in configs if config.machine_id.startswith(word)]
    if len(matching) != 1:
        known = ", ".join(f"{config.machine_id} ({config.name})" for config in configs) or "none"
        raise CommandError(f"{word!r} names {len(matching)} machines. Known: {known}.", returncode=EXIT_NO_MACHINE)
    return matching[0]


def stop_one(config: KeeperConfig, begun_s: float) -> dict[str, Any]:
    """Stop one machine, journal its halt, and say what is proved."""
    user = getpass.getuser()
    note = HaltNote(
        stop_id=ids.new("hlt"),
        machine_id=config.machine_id,
        kind="stop",
        code="",
        by_kind="system",
        by_id="manage.py stop",
        by_name=f"{user} (manage.py stop)",
        opened_at=clock.now().isoformat(),
    )
    ended = note.ended(**_outcome(config, note, begun_s))
    try:
        journal.write(settings.DATA_DIR, ended)
    except OSError as error:
        print(f"The halt could not be journalled: {error}", file=sys.stderr)
    return {
        "machine_id": config.machine_id,
        "name": config.name,
        "result": ended.result,
        "halt_id": ended.stop_id,
        "first_byte_ms": ended.first_byte_ms,
        "proved_ms": ended.proved_ms,
        "by_hand": ended.by_hand,
        "proof": ended.proof,
    }


def _outcome(config: KeeperConfig, note: HaltNote, begun_s: float) -> dict[str, Any]:
    by, stop_id = note.by_name, note.stop_id
    try:
        try:
            answer = wire.stop_through_keeper(config, by=by, reason="STOP", stop_id=stop_id)
        except KeeperUnreachable:
            answer = wire.stop_directly(config, by=by, reason="STOP", stop_id=stop_id)
    except (DriverError, OSError) as error:
        code = getattr(error, "code", "unreachable")
        advice = getattr(error, "how_to_fix", "")
        return {
            "result": wire.UNPROVED,
            "by_hand": [*wire.BY_HAND_NO_KEEPER, *([advice] if advice else [])],
            "proof": {"outcome": "unproved", "reason": code, "message": str(error)},
        }
    return wire.outcome_of(answer, begun_s)


def _in_words(result: dict[str, Any]) -> str:
    name = f"{result['name']} ({result['machine_id']})"
    if result["result"] == wire.HEAT_OFF:
        first = (
            "heat was off already" if result["first_byte_ms"] is None else f"first byte {result['first_byte_ms']} ms"
        )
        lines = [f"{name}: HEAT OFF, proved after {result['proved_ms']} ms ({first})."]
    else:
        reason = result["proof"].get("message") or result["proof"].get("reason", "")
        lines = [f"{name}: UNPROVED. {reason}"]
    return "\n".join([*lines, *[f"  by hand: {line}" for line in result["by_hand"]]])
