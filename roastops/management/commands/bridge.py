"""`manage.py bridge`: read a roaster here, and send what it says to a RoastOps elsewhere, signed, through a queue."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import httpx
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from drivers import keeper_config
from drivers.bridge import QUEUE_BYTES_MAX, BadQueue, Queue
from drivers.keeper import take_lock
from drivers.management.commands.probe import is_same_device
from drivers.port import Driver, DriverError
from drivers.registry import KINDS, make_driver, open_driver
from kernel import clock
from roastops import bridging


class Command(BaseCommand):
    help = "Read any driver here and send it to a server elsewhere. Reads only. What is not acknowledged stays on disk."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--driver", required=True, help=f"kind of driver: {', '.join(sorted(KINDS))}")
        parser.add_argument("--options", default="{}", help="the driver's options as a JSON object")
        parser.add_argument("--server", required=True, help="address of the server, such as https://roast.example.org")
        parser.add_argument("--key-file", required=True, type=Path, help="file with an API key (scope telemetry)")
        parser.add_argument("--signing-key", type=Path, help="file that `manage.py devicekey new` wrote")
        parser.add_argument("--machine", help="id of the remote machine; the signing key's when left out")
        parser.add_argument("--queue", type=Path, help="folder of the queue; in the data folder when left out")
        parser.add_argument("--batch-seconds", type=float, default=2.0, help="0.1 to 5: points of so long go together")
        parser.add_argument("--queue-megabytes", type=float, default=QUEUE_BYTES_MAX / 1e6)
        parser.add_argument(
            "--no-sync", action="store_true", help="do not wait for the disk: a power cut may lose the newest points"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if not 0.1 <= options["batch_seconds"] <= 5:
            raise CommandError("--batch-seconds must be from 0.1 to 5")
        if not 1 <= options["queue_megabytes"] <= 1e6:
            raise CommandError("--queue-megabytes must be from 1 to 1000000")
        try:
            driver_options = json.loads(options["options"])
            api_key = options["key_file"].read_text().strip()
            key = bridging.read_key_file(options["signing_key"]) if options["signing_key"] else None
        except (OSError, ValueError) as error:
            raise CommandError(str(error)) from error
        if not isinstance(driver_options, dict):
            raise CommandError("--options must be a JSON object, such as {}.")
        machine_id = options["machine"] or (key.machine_id if key else "")
        if not machine_id:
            raise CommandError("Name the machine with --machine, or give its --signing-key.")
        if key is not None and key.machine_id != machine_id:
            raise CommandError(f"{options['signing_key']} is the key of {key.machine_id}, not of {machine_id}.")
        self._run(options, driver_options, api_key, key, machine_id)

    def _run(
        self,
        options: dict[str, Any],
        driver_options: dict[str, Any],
        api_key: str,
        key: bridging.DeviceKeyFile | None,
        machine_id: str,
    ) -> None:
        folder = options["queue"] or Path(settings.DATA_DIR) / "bridge" / machine_id
        locks: list[int] = []
        try:
            locks = self._hold(options["driver"], driver_options)
            make_driver(options["driver"], driver_options)  # a wrong option is said now, not after waiting for it
            queue = Queue(
                folder,
                machine_id,
                bytes_max=int(options["queue_megabytes"] * 1e6),
                does_sync=not options["no_sync"],
            )
        except DriverError as error:
            raise CommandError(f"{error.code}: {error.message} {error.how_to_fix}".strip()) from error
        except (BadQueue, OSError) as error:
            raise CommandError(str(error)) from error
        self._say(f"queue {folder}: {queue.waiting} envelopes wait; next sequence {queue.last_sequence + 1}")
        if key is None:
            self._say("no --signing-key: what is sent vouches for nothing")
        headers = {"Authorization": f"Bearer {api_key}"}
        with httpx.Client(
            base_url=options["server"], headers=headers, timeout=bridging.SEND_TIMEOUT_S, trust_env=False
        ) as client:
            bridge = bridging.Bridge(
                queue,
                bridging.Sealer(machine_id, key),
                open_driver=lambda: _opened(options["driver"], driver_options),
                client=client,
                machine_id=machine_id,
                batch_s=options["batch_seconds"],
                say=self._say,
            )
            bridging.run(bridge, _asked_to_end())
        for handle in locks:
            os.close(handle)
        self._say(f"ended; {queue.waiting} envelopes wait for the next start")

    def _hold(self, kind: str, driver_options: dict[str, Any]) -> list[int]:
        """The locks of machines here that are this device. Busy, where their keeper has it."""
        held = []
        for path in sorted((Path(settings.DATA_DIR) / "run").glob("*.json")):
            try:
                config = keeper_config.read(path)
            except keeper_config.BadConfig:
                continue  # a latch file lies there too
            theirs, ours = config.driver_options.get("backend"), driver_options.get("backend")
            if ours == theirs and (ours is not None or is_same_device(kind, driver_options, config)):
                held.append(take_lock(config))
        return held

    def _say(self, line: str) -> None:
        self.stdout.write(f"{clock.now():%H:%M:%S} {line}")
        self.stdout.flush()


def _opened(kind: str, options: dict[str, Any]) -> Driver:
    return open_driver(kind, options)


def _asked_to_end() -> Any:
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    return asked.is_set
