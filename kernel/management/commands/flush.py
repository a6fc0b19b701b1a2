"""Django's `flush`, for the test runner alone: elsewhere the audit trail is not emptied."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.core.management.commands.flush import Command as DjangoFlush

from kernel import append_only


class Command(DjangoFlush):
    def handle(self, **options: Any) -> None:
        if not settings.IS_TEST:
            raise CommandError("RoastOps' tables are not flushed: the audit trail is append-only. See `demo --reset`.")
        with append_only.lifted("test_runner"):
            super().handle(**options)
