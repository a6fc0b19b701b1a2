"""A run that did nothing has proved nothing: it is red by itself."""

from __future__ import annotations

from collections import Counter

import pytest

from simulation import race_sometimes as sometimes


def _full() -> Counter[str]:
    met: Counter[str] = Counter({"waits": 9})
    for verb in (*sometimes.REFUSABLE, *sometimes.UNREFUSABLE):
        met[f"{verb} ok"], met[f"{verb} refused"] = 20, 5
    met.update({f"order {move}": 1 for move in sometimes.MOVES})
    met.update({f"fault {fault}": 1 for fault in sometimes.FAULTS})
    return met


def test_a_run_that_met_everything_lacks_nothing() -> None:
    assert sometimes.missing(_full(), 10_000) == []


def test_an_empty_run_is_red_however_short() -> None:
    assert len(sometimes.missing({}, 1)) >= len(sometimes.ALWAYS)


@pytest.mark.parametrize("what", sometimes.ALWAYS)
def test_a_run_that_never_approved_refused_or_stopped_is_red(what: str) -> None:
    met = _full()
    del met[what]
    assert f"never: {what}" in sometimes.missing(met, 200)


@pytest.mark.parametrize("verb", sometimes.REFUSABLE)
def test_nineteen_times_done_is_too_few_and_twenty_is_enough(verb: str) -> None:
    """(Of a verb that is seldom done, four are too few and five enough.)"""
    enough = sometimes.SELDOM_ENOUGH if verb in sometimes.SELDOM_DONE else sometimes.ENOUGH_OK
    met = _full()
    met[f"{verb} ok"] = enough - 1
    assert any(verb in what for what in sometimes.missing(met, 10_000))
    met[f"{verb} ok"] = enough
    assert sometimes.missing(met, 10_000) == []


@pytest.mark.parametrize("what", [*(f"order {m}" for m in sometimes.MOVES), *(f"fault {f}" for f in sometimes.FAULTS)])
def test_a_move_or_fault_never_met_is_red(what: str) -> None:
    met = _full()
    del met[what]
    assert sometimes.missing(met, 10_000)
