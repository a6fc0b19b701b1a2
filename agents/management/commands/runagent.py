"""`manage.py runagent roastrunner --key-file F --url URL [--machine ID]`: a built-in agent, until it is stopped."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from agents.client import ClientError, Refused, RoastOpsClient, Unauthorized
from agents.corridor import CHARGE_SETPOINT_C, DROP_TEMP_C, FIRST_CRACK_TEMP_C
from agents.heuristics import Plan
from agents.roastrunner import RoastRunner
from kernel import audit, clock, keys
from kernel.models import Agent
from kernel.principals import system_principal

AGENTS = ("roastrunner",)
DEMO_ORGANIZATION = "demo"
LOOK_AGAIN_S = 2.0
DEMO_KEYS_MAX = 20


class Stopped(BaseException):
    """SIGTERM or SIGINT: leave at once, wherever we wait."""


class Command(BaseCommand):
    help = "Run a built-in agent: a REST client with a key of its own. Ctrl-C or SIGTERM ends it."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("agent", choices=AGENTS)
        parser.add_argument("--key-file", help="file with the agent's API key (default: $ROASTOPS_KEY_FILE)")
        parser.add_argument("--url", help="the server (default: $ROASTOPS_URL, else http://127.0.0.1:$PORT)")
        parser.add_argument("--machine", help="the machine's id; may be left out where there is only one")
        parser.add_argument("--demo", action="store_true", help="use the demo agent's key; make it where there is none")
        parser.add_argument("--drop-temp-c", type=float, default=DROP_TEMP_C, help="bean temperature of the drop, °C")
        parser.add_argument("--drop-after-s", type=float, help="seconds from charge to drop, where agreed")

    def handle(self, *args: Any, **options: Any) -> None:
        if not 150 <= options["drop_temp_c"] <= 250:
            raise CommandError("--drop-temp-c must be from 150 to 250 °C")
        demo_file = settings.DATA_DIR / "agent-roastrunner.key"
        key = (
            demo_key(demo_file)
            if options["demo"]
            else read_key(options["key_file"] or os.environ.get("ROASTOPS_KEY_FILE"))
        )
        url = options["url"] or os.environ.get("ROASTOPS_URL") or f"http://127.0.0.1:{settings.ENVIRONMENT.port}"
        if not url.startswith(("http://", "https://")):
            raise CommandError(f"--url {url!r} is no address: write it like http://127.0.0.1:8000.")
        plan = Plan(FIRST_CRACK_TEMP_C, options["drop_temp_c"], options["drop_after_s"], CHARGE_SETPOINT_C)
        logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for every request says nothing
        signal.signal(signal.SIGTERM, _stop)
        signal.signal(signal.SIGINT, _stop)
        try:
            self._run_with(url, key, options["machine"], plan)
        except Stopped:
            self._say("stopped")
        except Unauthorized as error:
            if not options["demo"]:
                raise CommandError(f"The server does not accept this key. {error}") from error
            self._say("the demo data was made anew; asking for a new key")
            self._run_again(url, demo_file, options["machine"], plan)
        except Refused as error:
            raise CommandError(f"The server refuses this agent. {error}") from error

    def _run_with(self, url: str, key: str, machine_id: str | None, plan: Plan) -> None:
        client = RoastOpsClient(url, key, sleep=clock.sleep)
        try:
            self._run(client, machine_id, plan)
        finally:
            client.close()

    def _run_again(self, url: str, demo_file: Path, machine_id: str | None, plan: Plan) -> None:
        """After `demo --reset` the demo's agent comes back with the key of the new data; a few times at most."""
        for _ in range(DEMO_KEYS_MAX):
            clock.sleep(LOOK_AGAIN_S)
            try:
                self._run_with(url, demo_key(demo_file), machine_id, plan)
            except Stopped:
                self._say("stopped")
                return
            except Unauthorized as error:
                self._say(f"the key was not accepted: {error}")
        raise CommandError("The server keeps refusing the demo agent's key. Start `make run` again.")

    def _run(self, client: RoastOpsClient, machine_id: str | None, plan: Plan) -> None:
        machine_id = self._wait_for_machine(client, machine_id)
        self._say(f"watching {machine_id}")
        runner = RoastRunner(client, machine_id=machine_id, plan=plan, say=self._say)
        while True:
            runner.tick(clock.monotonic())

    def _wait_for_machine(self, client: RoastOpsClient, machine_id: str | None) -> str:
        """The machine to watch; waits while the server is not up yet."""
        said = ""
        while True:
            try:
                machines = client.machines()
            except (Unauthorized, Refused):
                raise
            except ClientError as error:
                if str(error) != said:
                    said = str(error)
                    self._say(f"waiting for the server: {said}")
                clock.sleep(LOOK_AGAIN_S)
                continue
            return choose_machine(machines, machine_id)

    def _say(self, line: str) -> None:
        self.stdout.write(f"{clock.now():%Y-%m-%dT%H:%M:%SZ} roastrunner: {line}")
        self.stdout.flush()


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise Stopped


def choose_machine(machines: list[dict[str, Any]], machine_id: str | None) -> str:
    """The one asked for, or the only one there is; CommandError names the choice."""
    ids = [str(machine["machine_id"]) for machine in machines]
    if machine_id in ids:
        return str(machine_id)
    if machine_id is None and len(ids) == 1:
        return ids[0]
    known = ", ".join(f"{machine['machine_id']} ({machine.get('name', '')})" for machine in machines) or "none"
    raise CommandError(f"Name a machine with --machine. There are: {known}.")


def read_key(path: str | None) -> str:
    """The key in a file of one line."""
    if not path:
        raise CommandError("Give --key-file (see `manage.py createkey`), or --demo.")
    try:
        key = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"The key cannot be read: {error}") from error
    if not key:
        raise CommandError(f"{path} is empty.")
    if not key.isascii() or not key.isprintable():
        raise CommandError(f"{path} holds no key: a key is one line, as `manage.py createkey` prints it.")
    return key


def demo_key(path: Path) -> str:
    """The demo agent's own key, kept with mode 0600; a new one where the file is missing or its key opens nothing."""
    now = clock.now()
    try:
        plain = path.read_text(encoding="utf-8").strip()
        keys.find_key(plain, now=now)
        return plain
    except (OSError, UnicodeDecodeError, keys.BadKey):
        pass
    agent = Agent.objects.filter(organization__slug=DEMO_ORGANIZATION, name=AGENTS[0]).first()
    if agent is None:
        raise CommandError("There is no demo agent yet: run `manage.py demo` first.")
    with transaction.atomic():
        key, plain = keys.create_key(agent.organization, agent=agent, scopes=["read", "propose"], now=now)
        actor = system_principal("runagent", agent.organization)
        payload = {"agent": agent.name, "scopes": key.scopes, "prefix": key.prefix}
        audit.record(agent.organization, actor, "api_key_created", "api_key", key.pk, payload, now=now)
    write_private(path, plain)
    return plain


def write_private(path: Path, text: str) -> None:
    """Replace a small file at once; only its owner may read it."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text + "\n")
    temporary.replace(path)
