"""How long an order may wait, and who may approve it."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import governor
from commands.rules.values import ApprovalLook, Timing

NOW = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("own", "in_roast", "cracked", "seconds"),
    [
        (False, False, False, 300),
        (False, True, False, 45),
        (False, True, True, 20),
        (True, False, False, 20),
        (True, True, True, 20),
    ],
)
def test_expiry_by_phase(own, in_roast, cracked, seconds):
    timing = Timing(own, in_roast, cracked)
    assert governor.expiry(timing, now=NOW, asked_s=None) == NOW + dt.timedelta(seconds=seconds)
    assert governor.expiry(timing, now=NOW, asked_s=seconds + 1) == NOW + dt.timedelta(seconds=seconds)
    assert governor.expiry(timing, now=NOW, asked_s=seconds - 1) == NOW + dt.timedelta(seconds=seconds - 1)


@given(st.booleans(), st.booleans(), st.booleans(), st.none() | st.floats(-1e6, 1e6))
def test_asking_only_shortens(own, in_roast, cracked, asked_s):
    timing = Timing(own, in_roast, cracked)
    assert NOW <= governor.expiry(timing, now=NOW, asked_s=asked_s) <= governor.expiry(timing, now=NOW, asked_s=None)


FINE = ApprovalLook(True, True, False, False, "PENDING_APPROVAL", "", "d", "d", NOW + dt.timedelta(seconds=1), NOW)


def test_the_right_person_may_approve():
    assert governor.refuse_approval(FINE) is None


@pytest.mark.parametrize(
    ("change", "code", "status"),
    [
        ({"is_person": False}, "agents_cannot_approve", 403),
        ({"is_proposer": True}, "proposer_cannot_approve", 403),
        ({"is_owner_of_proposer": True}, "owner_cannot_approve", 403),
        ({"may_approve": False}, "role_required", 403),
        ({"status": "COMPLETED"}, "not_awaiting_approval", 409),
        ({"status": "TIMEOUT"}, "expired", 409),
        ({"now": NOW + dt.timedelta(seconds=1)}, "expired", 409),
        ({"given_digest": "e"}, "stale_digest", 412),
    ],
)
def test_the_wrong_approval_is_refused_by_name(change, code, status):
    refusal = governor.refuse_approval(dataclasses.replace(FINE, **change))
    assert (refusal.code.value, refusal.status) == (code, status)
