"""A bench that cannot miss its bar proves nothing."""

from __future__ import annotations

import io
import json
import math

import pytest
from django.core.management import CommandError, call_command

from roastops.benches.figures import Figure, Outcome, quantile
from roastops.management.commands import bench


def test_a_bar_is_kept_on_both_its_sides() -> None:
    assert Figure("age", 150.0, "ms", at_most=150.0).is_passed
    assert not Figure("age", 150.1, "ms", at_most=150.0).is_passed
    assert Figure("ratio", 3.0, "×", at_least=3.0).is_passed
    assert not Figure("ratio", 2.99, "×", at_least=3.0).is_passed


def test_a_short_run_fails_only_where_nothing_was_measured() -> None:
    def outcome(value: float, *, is_short: bool) -> Outcome:
        return Outcome("age", (Figure("age", value, "ms", at_most=150.0),), "none", is_short)

    assert outcome(900.0, is_short=True).is_passed
    assert "MISSED" in "".join(outcome(900.0, is_short=True).lines())
    assert not outcome(900.0, is_short=False).is_passed
    assert not outcome(math.nan, is_short=True).is_passed


def test_what_is_not_a_number_keeps_no_bar() -> None:
    assert not Figure("age", math.nan, "ms", at_most=150.0).is_passed
    assert not Figure("ratio", math.nan, "×", at_least=3.0).is_passed
    assert math.isnan(quantile([], 0.99))


def test_quantiles_are_by_nearest_rank() -> None:
    assert quantile([float(n) for n in range(1, 101)], 0.99) == 100.0
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0


def test_a_missed_bar_is_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*, is_short: bool) -> Outcome:
        return Outcome("decode", (Figure("ratio", 1.0, "×", at_least=3.0),), "a plain client", is_short)

    monkeypatch.setitem(bench.BENCHES, "decode", slow)
    words = io.StringIO()
    with pytest.raises(CommandError, match="decode"):
        call_command("bench", "decode", "--json", stdout=words)
    told = json.loads(words.getvalue())
    assert told["is_passed"] is False and told["figures"][0]["is_passed"] is False


def test_an_unknown_bench_is_refused_by_name() -> None:
    with pytest.raises(CommandError, match="no bench 'decod'"):
        call_command("bench", "decod")
    with pytest.raises(CommandError, match="--frozen"):
        call_command("bench", "decode", "--frozen")
