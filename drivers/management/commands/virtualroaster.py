"""``manage.py virtualroaster --serve SOCKET [--replay FILE.alog] [--speed N] …``: serve a virtual machine."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from drivers.virtual import server


class Command(BaseCommand):
    """Same options as ``python -m drivers.virtual.server``; needs no database."""

    help = "Serve a virtual roaster on a unix socket, for any pyusb program (see docs/bullet-usb.md)."
    requires_system_checks: list[str] = []  # type: ignore[assignment]

    def add_arguments(self, parser: CommandParser) -> None:
        server.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(server.serve(argparse.Namespace(**options)))
