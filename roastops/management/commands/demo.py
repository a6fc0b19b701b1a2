"""`manage.py demo [--reset] [--json]`: the demo organisation, made once; prints its logins."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from kernel import clock
from roastops import demo, demo_reset, preparation


class Command(BaseCommand):
    help = "Make (or with --reset, make again) the demo organisation and print its logins."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--reset", action="store_true", help="delete it first, records and all; not in production")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        preparation.migrate()  # the first command of all may be this one
        try:
            machine_id = demo_reset.reset() if options["reset"] else None
            made = demo.ensure(now=clock.now(), machine_id=machine_id)
        except (demo_reset.NotHere, demo.NotOurs) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(made))
            return
        self.stdout.write(f"Organisation {made['organization']}, machine {made['machine']} ({made['machine_id']})")
        for role, login in made["users"].items():
            self.stdout.write(f"  {role:<10} {login['username']} / {login['password']}")
