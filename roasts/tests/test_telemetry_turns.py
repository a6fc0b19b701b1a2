"""One thread computes at a time, and none waits for another's database."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from roasts.telemetry import turns

WAIT_S = 10.0


def test_two_never_compute_together() -> None:
    has_entered = threading.Event()

    def compute() -> None:
        with turns.computing():
            has_entered.set()

    with ThreadPoolExecutor(1) as pool:
        with turns.computing():
            second = pool.submit(compute)
            assert not has_entered.wait(0.1), "it computes beside the first"
        second.result(WAIT_S)
    assert has_entered.is_set()


def test_while_one_waits_for_the_database_another_computes() -> None:
    has_computed = threading.Event()

    def wait_for_the_other() -> bool:
        with turns.computing(), turns.waiting():
            return has_computed.wait(WAIT_S)

    def compute() -> None:
        with turns.computing():
            has_computed.set()

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(wait_for_the_other)
        pool.submit(compute).result(WAIT_S)
        assert first.result(WAIT_S)


def test_the_turn_is_given_back_whatever_went_wrong() -> None:
    with pytest.raises(ValueError, match="refused"), turns.computing(), turns.waiting():
        raise ValueError("refused")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: turns._turn.acquire(timeout=WAIT_S) and turns._turn.release() is None).result(WAIT_S)


def test_who_has_no_turn_gives_none_up() -> None:
    with turns.waiting():
        assert not turns._turn.locked()
