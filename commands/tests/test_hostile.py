"""What a hostile stranger, or a bad moment, does above the keeper."""

from __future__ import annotations

import datetime as dt

import pytest

from commands import execution
from commands.loop import reconcile
from commands.stop import filing
from commands.stop.authority import Authority, Credentials, Refused, Snapshot, authorize, load_snapshot
from commands.stop.journal import HaltNote
from commands.tests.rows import machine_row, person_row
from drivers import stop_token
from drivers.bullet import applying
from kernel import clock
from kernel.models import Membership

KEY = b"k" * 32


def stop_with_token(user, machine, *, issued_at: dt.datetime, now: dt.datetime):
    token = stop_token.sign(KEY, machine.pk, f"usr_{user.pk}", int(issued_at.timestamp()) + 900)
    snapshot = load_snapshot(Snapshot(), now)
    given = Credentials(stop_token=token)
    return authorize(given, machine.pk, machine.organization_id, snapshot=snapshot, stop_key=KEY, now=now)


@pytest.mark.django_db
@pytest.mark.parametrize("how", ["deactivated", "no member any more"])
def test_a_stop_token_ends_with_its_holder(how: str) -> None:
    machine, user = machine_row(), person_row("anna", "operator")
    now = clock.now()
    issued_at = now - dt.timedelta(minutes=5)
    assert stop_with_token(user, machine, issued_at=issued_at, now=now).may("stop")
    if how == "deactivated":
        user.is_active = False
        user.save()
    else:
        Membership.objects.filter(user=user).delete()
    with pytest.raises(Refused) as refused:
        stop_with_token(user, machine, issued_at=issued_at, now=now)
    assert (refused.value.status, refused.value.code) == (401, "bad_stop_token")


@pytest.mark.django_db
def test_a_token_younger_than_what_is_known_still_stops() -> None:
    """The page was served by another process, to somebody who was made a moment ago."""
    machine, user = machine_row(), person_row("anna", "operator")
    user.is_active = False
    user.save()
    now = clock.now()
    assert stop_with_token(user, machine, issued_at=now, now=now).may("stop")


def test_strangers_do_not_make_us_read_the_database_without_a_break(monkeypatch: pytest.MonkeyPatch) -> None:
    authority, reads = Authority(), []
    monkeypatch.setattr(authority, "refresh", lambda: (reads.append(1), authority._wanted.set()))
    monkeypatch.setattr("commands.stop.authority.draining.is_draining", lambda: clock.monotonic() > until_s)
    monkeypatch.setattr("commands.stop.authority.connection", type("None", (), {"close": lambda: None}))
    monkeypatch.setattr("commands.stop.authority.close_old_connections", lambda: None)
    until_s = clock.monotonic() + 0.5
    authority._run()
    assert 1 <= len(reads) <= 6


def test_a_doubt_is_settled_only_when_no_byte_can_leave_any_more() -> None:
    longest_s = max(execution.APPLY_DEADLINE_S, execution.STATE_DEADLINE_S)
    shown_s = max(applying.SETTLE_S, applying.STATE_SETTLE_S)
    assert execution.SEND_WITHIN_S + longest_s + shown_s <= reconcile.SETTLED_AFTER_S


@pytest.mark.django_db
@pytest.mark.parametrize("opened_at", ["", "yesterday", "2026-11-21T08:00:00"])
def test_a_note_with_a_broken_time_is_filed_all_the_same(opened_at: str) -> None:
    """It would stand before every later halt of its machine."""
    machine, now = machine_row(), clock.now()
    note = HaltNote("hlt_1", machine.pk, "stop", "", "person", "usr_1", "anna", opened_at, result="unproved")
    halt = filing.file_note(note, now=now)
    assert (halt.opened_at, halt.result) == (now, "unproved")
