"""``manage.py virtualroaster``: serve a virtual machine, or let the one of the running house play a recorded roast.

``--serve SOCKET [--replay FILE.alog] …`` is a machine of its own, in this process, for any pyusb program.
``--replay FILE.alog`` alone asks the virtual machine that ``make run`` serves and watches to play the log now.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from drivers.virtual import KINDS, line_server, playing, server

#: Options that make a machine of one's own.
_ONLY_WHEN_SERVING = ("wire_log", "faults", "machine_settings", "initial_state", "autostart", "pid_file")


class Command(BaseCommand):
    """Same options as ``python -m drivers.virtual.server``, and --machine; needs no database."""

    help = (
        "Serve a virtual roaster on a unix socket, for any pyusb program (--serve, see docs/bullet-usb.md); or let the"
        " virtual roaster of the running house play a recorded roast (--replay alone, see docs/operator-guide.md)."
    )
    requires_system_checks: list[str] = []  # type: ignore[assignment]

    def add_arguments(self, parser: CommandParser) -> None:
        server.add_arguments(parser, is_socket_required=False, kinds=(*KINDS, *line_server.KINDS))
        line_server.add_arguments(parser)
        parser.add_argument("--machine", default="", help="without --serve: the machine's id, where several run")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["kind"] in line_server.KINDS:
            sys.exit(self._serve_line(options))
        if options["socket"]:
            folder = Path(options["socket"]).absolute().parent
            if not folder.is_dir():
                raise CommandError(f"--serve {options['socket']}: there is no folder {folder}. Make it first.")
            if options["machine"]:
                raise CommandError("--machine chooses a machine of the running house; it does not go with --serve.")
            sys.exit(server.serve(argparse.Namespace(**options)))
        if not options["replay"]:
            raise CommandError("Say --serve SOCKET, or --replay FILE.alog while the house runs.")
        for name in _ONLY_WHEN_SERVING:
            if options[name]:
                raise CommandError(f"--{name.replace('_', '-')} needs --serve SOCKET: it makes a machine of its own.")
        try:
            played = playing.play(
                settings.RUN_DIR, Path(options["replay"]), machine_id=options["machine"], speed=options["speed"]
            )
        except playing.CannotPlay as error:
            raise CommandError(str(error)) from error
        self.stdout.write(playing.told(played, Path(options["replay"]).name, console_address()))


    def _serve_line(self, options: dict[str, Any]) -> int:
        """A line machine: its door is a TCP port or a terminal, not a USB socket."""
        for name in ("socket", "wire_log", "replay", "machine_settings", "autostart", "machine"):
            if options[name]:
                raise CommandError(f"--{name.replace('_', '-')} does not go with --kind {options['kind']}.")
        return line_server.serve(argparse.Namespace(**options))


def console_address() -> str:
    """As the running house wrote it down; else where a house of this environment would be."""
    try:
        return (settings.RUN_DIR / playing.ADDRESS_NAME).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        bind, port = settings.ENVIRONMENT.bind, settings.ENVIRONMENT.port
        return f"http://{'127.0.0.1' if bind == '0.0.0.0' else bind}:{port}"
