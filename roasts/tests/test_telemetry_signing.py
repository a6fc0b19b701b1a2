"""A signature fits one payload of one machine at one place in its row, by a key that was valid then."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roasts.telemetry import signing
from roasts.telemetry.signing import FAILED, UNSIGNED, PublicHalf, Statement, Verdict, check_chain, sign, verify
from roasts.tests.telemetry_senders import BEGUN, PRIVATE_KEY, envelope, span, statement_of

SAID = Statement("org_a", "mch_a", 5, BEGUN, "1" * 64, "2" * 64, "3" * 64)
KEY = PublicHalf("dvk_a", "org_a", "mch_a", signing.public_half(PRIVATE_KEY), BEGUN, BEGUN + dt.timedelta(days=1))
SIGNATURE = sign(PRIVATE_KEY, SAID)
SOON = dt.timedelta(seconds=1)
LATER = BEGUN + SOON


def judged(statement: Statement = SAID, signature: str = SIGNATURE, kid: str = "dvk_a", key: Any = KEY) -> Verdict:
    return verify(statement, signature, kid, key, received_at=LATER)


def test_what_was_signed_verifies() -> None:
    assert judged() == Verdict("verified")


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": 6},
        {"sequence": 4},
        {"at": BEGUN + dt.timedelta(microseconds=1)},
        {"points_digest": "4" * 64},
        {"events_digest": "4" * 64},
        {"previous_digest": "4" * 64},
        {"previous_digest": ""},
    ],
    ids=str,
)
def test_a_signature_does_not_fit_another_statement(change: dict[str, Any]) -> None:
    assert judged(replace(SAID, **change)) == Verdict(FAILED, "signature_mismatch")


@pytest.mark.parametrize("change", [{"machine_id": "mch_b"}, {"organization_id": "org_b"}], ids=str)
def test_a_signature_does_not_fit_another_machine_or_organisation(change: dict[str, Any]) -> None:
    other = replace(SAID, **change)
    assert judged(other) == Verdict(FAILED, "key_of_another_machine")
    assert judged(other, key=replace(KEY, **change)) == Verdict(FAILED, "signature_mismatch")


@pytest.mark.parametrize("bit", [0, 7, 255, 300, 511])
def test_one_bit_of_the_signature_breaks_it(bit: int) -> None:
    raw = bytearray.fromhex(SIGNATURE)
    raw[bit // 8] ^= 1 << (bit % 8)
    assert judged(signature=raw.hex()) == Verdict(FAILED, "signature_mismatch")


def test_another_key_does_not_verify() -> None:
    other = signing.public_half(bytes(32))
    assert judged(key=replace(KEY, public_key=other)) == Verdict(FAILED, "signature_mismatch")


def test_nothing_signed_is_unsigned_and_half_a_signature_fails() -> None:
    assert judged(signature="", kid="", key=None) == Verdict(UNSIGNED, "no_signature")
    assert judged(signature="").reason == "key_without_signature"
    assert judged(kid="", key=None).reason == "signature_without_key"
    assert judged(key=None) == Verdict(FAILED, "unknown_key")
    assert judged(kid="dvk_b") == Verdict(FAILED, "unknown_key")


@pytest.mark.parametrize(
    ("seconds", "reason"),
    [(-1, "key_not_valid_yet"), (0, ""), (86_399, ""), (86_400, "key_expired"), (90_000, "key_expired")],
)
def test_the_window_counts_by_the_envelopes_time(seconds: int, reason: str) -> None:
    said = replace(SAID, at=BEGUN + dt.timedelta(seconds=seconds))
    assert judged(said, sign(PRIVATE_KEY, said)).reason == reason


def test_a_revoked_key_vouches_for_nothing_that_comes_in_after_whatever_its_time_says() -> None:
    revoked = replace(KEY, revoked_at=LATER)
    before = verify(SAID, SIGNATURE, "dvk_a", revoked, received_at=LATER - dt.timedelta(microseconds=1))
    after = verify(SAID, SIGNATURE, "dvk_a", revoked, received_at=LATER)
    assert (before.is_verified, after) == (True, Verdict(FAILED, "key_revoked"))


def test_the_chain_is_checked_where_the_statement_before_is_known() -> None:
    good = Verdict("verified")
    assert check_chain(good, "3" * 64, "3" * 64) == good
    assert check_chain(good, "3" * 64, None) == good
    assert check_chain(good, "3" * 64, "4" * 64) == Verdict(FAILED, "chain_broken")
    assert check_chain(Verdict(UNSIGNED, "no_signature"), "", "4" * 64).verdict == UNSIGNED


def test_an_empty_signature_space_is_no_key() -> None:
    assert not signing.is_public_key("")
    assert not signing.is_public_key("zz" * 32)
    assert not signing.is_public_key(KEY.public_key.upper())
    assert not signing.is_public_key(KEY.public_key + "00")
    assert signing.is_public_key(KEY.public_key)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 19), st.sampled_from(["bean_temp_c", "infrared_temp_c"]), st.floats(-99, 999))
def test_any_changed_value_of_any_point_breaks_the_signature(index: int, name: str, value: float) -> None:
    body = envelope("mch_a", 1, span(0, 20))
    signature = sign(PRIVATE_KEY, statement_of("org_a", body))
    if body["points"][index][name] == value:
        return
    body["points"][index][name] = value
    said = statement_of("org_a", body)
    assert verify(said, signature, "dvk_a", replace(KEY, valid_from=BEGUN), received_at=LATER).verdict == FAILED


def test_the_statement_is_spelled_in_one_way() -> None:
    """A third party must be able to write it: docs/telemetry.md shows this one."""
    assert SAID.as_bytes() == (
        b'{"at":"2026-11-21T08:00:00.000000Z","events_digest":"' + b"2" * 64 + b'","machine_id":"mch_a",'
        b'"organization_id":"org_a","points_digest":"' + b"1" * 64 + b'","previous_digest":"' + b"3" * 64 + b'",'
        b'"schema":"roastops-telemetry/1","sequence":5}'
    )
