"""Standing work of the ground floor."""

from __future__ import annotations

from celery import shared_task


@shared_task(name="kernel.tasks.prune")
def prune() -> None:
    """Forget what need not be kept (idempotency records, old stream events, sessions)."""


@shared_task(name="kernel.tasks.note_beat")
def note_beat() -> None:
    """A beat arrived through the broker and a worker took it."""
