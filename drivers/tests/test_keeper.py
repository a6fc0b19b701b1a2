"""The keeper as a real process, against a served virtual machine that outlives it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from drivers import benches, stop_token
from drivers.benches import Bench
from drivers.keeper_client import KeeperClient, KeeperRefused, KeeperUnreachable, stop_async
from drivers.keeper_config import KeeperConfig, Limits
from drivers.keeper_process import ensure_keeper, living_keeper, stop_keeper
from drivers.port import Control, Outcome, SettingOrder
from drivers.virtual.panel import Panel

pytestmark = pytest.mark.timeout(90)
UP, DOWN = "3401aaaa", "3402aaaa"


@pytest.fixture
def serve() -> Iterator[Callable[..., Bench]]:
    with ExitStack() as stack:
        yield lambda **details: stack.enter_context(benches.served_machine(**details))


@pytest.fixture
def bench(serve: Callable[..., Bench]) -> Bench:
    return serve()


@pytest.fixture
def panel(bench: Bench) -> Iterator[Panel]:
    with Panel(bench.machine_socket) as opened:
        yield opened


def sent(bench: Bench, data_hex: str) -> int:
    """Transfers the machine's own wire log has taken."""
    lines = (bench.folder / "machine.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines if data_hex in line]
    return sum(entry["dir"] == "out" and entry["hex"] == data_hex for entry in entries)


def order(order_id: str, step: int, control: Control = Control.HEATER, **more: Any) -> SettingOrder:
    return SettingOrder(order_id, control, step, **more)


def eventually(is_so: Callable[[], Any], within_s: float, what: str) -> float:
    """Seconds until it is so; fails after ``within_s``."""
    started_s = time.monotonic()
    while time.monotonic() - started_s < within_s:
        if is_so():
            return time.monotonic() - started_s
        time.sleep(0.01)
    pytest.fail(f"not within {within_s} s: {what}")


def kill_keeper(config: KeeperConfig) -> None:
    pid = living_keeper(config)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: living_keeper(config) is None, 3.0, "the killed keeper is gone")


def test_status_says_who_and_how(bench: Bench) -> None:
    status = bench.client.status()
    assert status["link"]["state"] == "up" and status["latched"] is None
    assert status["identity"]["serial"] == "1183"
    assert status["capabilities"]["controls"]["heater"] == {"min_step": 0, "max_step": 9}
    assert status["reading"]["state"] == "roasting" and status["reading_age_s"] < 0.3
    assert stat.S_IMODE(Path(bench.config.socket).stat().st_mode) == 0o600


def test_an_order_is_carried_out_once_however_often_it_is_sent(bench: Bench, panel: Panel) -> None:
    first = bench.client.apply(order("a", 7, from_step=5), token=1)
    again = bench.client.apply(order("a", 7, from_step=5), token=1)
    other = bench.client.apply(order("a", 9), token=1)  # the id decides
    assert first.outcome is Outcome.PROVED and first == again == other
    assert panel.status()["heater_step"] == 7 and sent(bench, UP) == 2
    trace = bench.client.trace("a")
    assert trace["known"] and trace["receipt"]["outcome"] == "proved"
    assert [(w["data_hex"], w["step"], w["steps"], w["is_done"]) for w in trace["writes"]] == [
        (UP, 1, 2, True), (UP, 2, 2, True)]
    assert bench.client.trace("b") == {"known": False, "writes": [], "receipt": None}


def test_stop_goes_to_the_wire_first_and_latches(bench: Bench, panel: Panel) -> None:
    bench.heat_to(9, "up")
    stages: list[float | None] = []
    asked_s = time.monotonic()
    answer = bench.client.stop(stop_id="s1", by="user:1", reason="smoke", auth=bench.sign("stop", "s1"),
                               on_sent=lambda first_s, _latched: stages.append(first_s))
    assert answer.receipt.outcome is Outcome.PROVED
    assert stages == [answer.first_byte_monotonic_s]
    assert answer.first_byte_monotonic_s is not None and 0 <= answer.first_byte_monotonic_s - asked_s <= 0.05
    assert answer.receipt.proved_monotonic_s is not None and answer.receipt.proved_monotonic_s - asked_s <= 2.0
    assert panel.status()["heater_step"] == 0 and panel.status()["fan_step"] >= 7
    assert bench.client.status()["latched"]["stop_id"] == "s1"
    bench.client.beat(1)
    with pytest.raises(KeeperRefused) as refused:
        bench.client.apply(order("after", 3), token=1)
    assert refused.value.code == "halted" and not bench.client.trace("after")["known"]
    panel.turn_knob("heater", 4)
    eventually(lambda: bench.client.status()["reading"]["heater_step"] == 4, 2.0, "the knob is read")
    bench.client.beat(1)
    assert bench.client.apply(order("down", 1), token=1).outcome is Outcome.PROVED, "heat down is allowed"
    bench.release()
    bench.client.beat(1)
    assert bench.client.apply(order("again", 3), token=1).outcome is Outcome.PROVED


def test_stop_pre_empts_a_running_order(bench: Bench, panel: Panel) -> None:
    bench.client.apply(order("low", 1), token=1)
    receipts: list[Any] = []
    running = threading.Thread(target=lambda: receipts.append(bench.client.apply(order("up", 9), token=1)))
    running.start()
    time.sleep(0.35)
    other = KeeperClient(bench.config.socket)
    answer = other.stop(stop_id="s", by="u", reason="r", auth=bench.sign("stop", "s"))
    running.join(timeout=10)
    assert answer.receipt.outcome is Outcome.PROVED
    assert receipts[0].outcome is Outcome.DECLINED and receipts[0].reason in ("stopped", "contradicted")
    time.sleep(0.5)
    assert panel.status()["heater_step"] == 0
    assert sent(bench, UP) < 8
    other.close()


def test_stops_at_once_share_one_run_and_its_receipt(bench: Bench) -> None:
    bench.heat_to(9, "up")
    downs_before = sent(bench, DOWN)
    answers: list[Any] = []

    def stop(number: int) -> None:
        client = KeeperClient(bench.config.socket)
        answers.append(client.stop(stop_id=f"s{number}", by="u", reason="r", auth=bench.sign("stop", f"s{number}")))
        client.close()

    threads = [threading.Thread(target=stop, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=15)
    assert len(answers) == 16
    assert {answer.receipt.outcome for answer in answers} == {Outcome.PROVED}
    assert sent(bench, DOWN) - downs_before == 9


@pytest.mark.parametrize("wrong", [
    {"auth": "0" * 64}, {"auth": ""}, {"token": "v1.mch_bench.u.99999999999." + "0" * 64}, {}, {"token": 5},
])
def test_a_stop_without_proof_of_right_is_refused(bench: Bench, wrong: dict[str, Any]) -> None:
    with pytest.raises(KeeperRefused) as refused:
        bench.client._ask({"op": "stop", "stop_id": "s", "by": "u", "reason": "r", **wrong})
    assert refused.value.code == "unauthorised"
    assert bench.client.status()["latched"] is None


def test_console_tokens_stop_this_machine_until_they_expire_and_release_nothing(bench: Bench) -> None:
    key, now = bench.config.stop_key(), int(time.time())
    for bad in (stop_token.sign(key, "mch_other", "u", now + 60), stop_token.sign(key, "mch_bench", "u", now - 1)):
        with pytest.raises(KeeperRefused):
            bench.client.stop(stop_id="s", by="u", reason="r", token=bad)
    good = stop_token.sign(key, "mch_bench", "u", now + 60)
    assert bench.client.stop(stop_id="s", by="u", reason="r", token=good).receipt.outcome is Outcome.PROVED
    with pytest.raises(KeeperRefused) as refused:
        bench.client._ask({"op": "release", "stop_id": "s", "by": "u", "token": good})
    assert refused.value.code == "unauthorised" and bench.client.status()["latched"]["stop_id"] == "s"


async def _stop_from_a_loop(config: KeeperConfig) -> Any:
    return await stop_async(config, stop_id="s", by="u", reason="r")


def test_stop_from_an_event_loop(bench: Bench) -> None:
    import asyncio

    answer = asyncio.run(_stop_from_a_loop(bench.config))
    assert answer.receipt.outcome is Outcome.PROVED and answer.first_byte_monotonic_s is not None


def test_a_higher_token_fences_the_older_loop(bench: Bench) -> None:
    younger = KeeperClient(bench.config.socket)
    younger.hello(2)
    for act in (lambda: bench.client.beat(1), lambda: bench.client.apply(order("a", 7), token=1),
                lambda: bench.client.hello(1)):
        with pytest.raises(KeeperRefused) as refused:
            act()
        assert refused.value.code == "fenced"
    assert sent(bench, UP) == 0
    assert younger.apply(order("b", 6), token=2).outcome is Outcome.PROVED
    kill_keeper(bench.config)
    ensure_keeper(bench.config)
    with pytest.raises(KeeperRefused) as refused:
        KeeperClient(bench.config.socket).hello(1)
    assert refused.value.code == "fenced", "also after the keeper's own death"
    younger.close()


def test_the_fenced_loop_is_told(bench: Bench) -> None:
    KeeperClient(bench.config.socket).hello(2)
    with pytest.raises(KeeperRefused):
        bench.client.beat(1)
    eventually(lambda: bench.client.status()["token"] == 2 and bench.client.is_fenced, 2.0, "the event came")


def test_silence_holds_orders_until_the_loop_is_heard(bench: Bench, panel: Panel) -> None:
    eventually(lambda: (bench.client.status()["loop_silent_s"] or 0) > 2.05, 4.0, "silent")
    with pytest.raises(KeeperRefused) as refused:
        bench.client.apply(order("a", 7), token=1)
    assert refused.value.code == "loop_silent"
    assert panel.status()["heater_step"] == 5 and bench.client.status()["latched"] is None
    bench.client.beat(1)
    assert bench.client.apply(order("a", 7), token=1).outcome is Outcome.PROVED


def test_silence_turns_the_heat_off_where_the_policy_says_so(serve: Callable[..., Bench]) -> None:
    bench = serve(make_config=lambda config: dataclasses.replace(config, silence_policy="heat_off"))
    for _ in range(6):
        time.sleep(0.4)
        bench.client.beat(1)
    assert bench.client.status()["latched"] is None, "a loop that beats is not silent"
    with Panel(bench.machine_socket) as panel:
        took_s = eventually(lambda: panel.status()["heater_step"] == 0, 5.0, "heat off")
        assert took_s > 1.5
    assert bench.client.status()["latched"]["reason"] == "loop_silent"


def test_too_hot_for_a_second_makes_it_safe(serve: Callable[..., Bench]) -> None:
    limits = Limits(max_bean_temp_c=225.0)
    bench = serve(make_config=lambda config: dataclasses.replace(config, limits=limits))
    with Panel(bench.machine_socket) as panel:
        panel.fault("over_temperature@0+20:sensor=probe:temp_c=226")
        took_s = eventually(lambda: panel.status()["heater_step"] == 0, 5.0, "heat off")
        assert took_s >= 1.0
    assert bench.client.status()["latched"]["reason"] == "bean_above_maximum"


def test_a_silent_machine_is_made_safe_blind_and_proved_when_it_speaks_again(bench: Bench, panel: Panel) -> None:
    panel.fault("time_out@0+9")
    stopper = threading.Event()

    def beat() -> None:
        client = KeeperClient(bench.config.socket)
        while not stopper.wait(0.4):
            client.beat(1)
        client.close()

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        eventually(lambda: bench.client.status()["link"]["state"] == "stale", 2.5, "stale is said")
        eventually(lambda: bench.client.status()["latched"], 9.0, "the keeper latches")
        eventually(lambda: panel.status()["heater_step"] == 0, 4.0, "heat off, blind")
        eventually(lambda: bench.client.status()["latched"]["is_proved"], 10.0, "proved when readings come again")
    finally:
        stopper.set()
        beating.join()
    assert bench.client.status()["latched"]["reason"] == "stale_reading"
    assert bench.client.status()["stops"][0]["receipt"]["outcome"] == "unproved"


def test_unplugged_is_known_in_half_a_second_and_replugged_in_two(bench: Bench, panel: Panel) -> None:
    panel.unplug()
    assert eventually(lambda: bench.client.status()["link"]["code"] in ("unplugged", "not_found"), 2, "gone") <= 0.5
    answer, _ = bench.stop("s")
    assert answer.receipt.outcome is Outcome.UNPROVED and answer.receipt.by_hand
    panel.replug()
    assert eventually(lambda: bench.client.status()["link"]["state"] == "up", 3, "back") <= 2.0
    eventually(lambda: bench.client.status()["latched"]["is_proved"], 5.0, "the stop is done once it can be")
    assert panel.status()["heater_step"] == 0


@pytest.mark.parametrize("after_s", [0.05, 0.15, 0.25, 0.4, 0.6])
def test_kill_9_in_mid_order_never_sends_a_step_again(bench: Bench, panel: Panel, after_s: float) -> None:
    failed: list[Exception] = []

    def apply() -> None:
        try:
            bench.client.apply(order("x", 9, from_step=5), token=1)
        except KeeperUnreachable as error:
            failed.append(error)

    running = threading.Thread(target=apply)
    running.start()
    time.sleep(after_s)
    kill_keeper(bench.config)
    running.join(timeout=10)
    started_s = time.monotonic()
    ensure_keeper(bench.config)
    assert time.monotonic() - started_s < 5.0
    client = KeeperClient(bench.config.socket)
    trace = client.trace("x")
    on_the_wire = sent(bench, UP)
    assert on_the_wire <= len(trace["writes"]) <= on_the_wire + 1
    assert sum(write["is_done"] for write in trace["writes"]) <= on_the_wire
    client.hello(2)
    eventually(lambda: client.status()["link"]["state"] == "up", 3.0, "up again")
    receipt = client.apply(order("x", 9, from_step=5), token=2)
    if trace["known"]:
        assert sent(bench, UP) == on_the_wire, "an id in the wire log is never sent again"
        assert receipt.outcome is (Outcome.IN_DOUBT if trace["writes"] else Outcome.NOT_SENT)
    assert panel.status()["heater_step"] == 5 + sent(bench, UP)
    client.close()


def test_the_latch_survives_kill_9_and_an_unfinished_stop_is_finished(bench: Bench, panel: Panel) -> None:
    bench.heat_to(9, "up")

    def stop() -> None:
        with pytest.raises(KeeperUnreachable):
            bench.stop("s")

    stopping = threading.Thread(target=stop)
    stopping.start()
    time.sleep(0.3)
    kill_keeper(bench.config)
    stopping.join(timeout=10)
    assert panel.status()["heater_step"] > 0
    ensure_keeper(bench.config)
    client = KeeperClient(bench.config.socket)
    assert client.status()["latched"]["stop_id"] == "s"
    eventually(lambda: client.status()["latched"]["is_proved"], 6.0, "made safe after all")
    assert panel.status()["heater_step"] == 0
    client.close()


def test_followers_get_every_reading_in_order_and_from_the_ring(bench: Bench) -> None:
    time.sleep(1.0)
    newest = bench.client.status()["reading"]["sequence"]
    follower = KeeperClient(bench.config.socket).follow(after_sequence=newest - 5, boot_id=bench.boot_id)
    assert next(follower)["event"] == "hello"
    events = [next(follower) for _ in range(15)]
    seen = [event["reading"]["sequence"] for event in events if event["event"] == "reading"]
    assert seen == list(range(newest - 4, newest - 4 + len(seen)))
    follower.close()
    whole = KeeperClient(bench.config.socket).follow(after_sequence=10**9, boot_id="another life")
    next(whole)
    first = next(event for event in whole if event["event"] == "reading")
    assert first["reading"]["sequence"] == 1, "another boot's sequence means nothing: everything is told"
    whole.close()


def test_a_hand_at_the_machine_is_told_and_our_own_moves_are_not(bench: Bench, panel: Panel) -> None:
    follower = KeeperClient(bench.config.socket).follow(after_sequence=10**9, boot_id=bench.boot_id)
    next(follower)
    bench.client.apply(order("ours", 7), token=1)
    panel.turn_knob("fan", 5)
    moved = next(event for event in follower if event["event"] == "moved")
    assert (moved["control"], moved["from"], moved["to"]) == ("fan", 3, 5)
    follower.close()


APPLY = b'{"id":1,"op":"apply","token":1,"kind":"setting","order":'


@pytest.mark.parametrize("garbage", [
    b"\n", b"not json\n", b"[]\n", b"{}\n", b'{"id":1,"op":"fly"}\n', b'{"id":1,"op":["stop"]}\n', b"\xff\xfe\n",
    b'{"id":{},"op":"status"}\n', b'{"id":1,"op":"beat","token":-1}\n', b'{"id":1,"op":"beat","token":true}\n',
    b'{"id":1,"op":"hello","token":1}\n', b"[" * 60_000 + b"\n",
    APPLY + b"{}}\n", APPLY + b'{"order_id":"g"},"deadline_s":NaN}\n',
    APPLY + b'{"order_id":"g","control":"heater","target_step":true}}\n',
    APPLY + b'{"order_id":"g","control":"heater","target_step":7},"deadline_s":NaN}\n',
    APPLY + b'{"order_id":"g","control":"heater","target_step":7,"surprise":1}}\n',
])
def test_garbage_is_answered_and_moves_nothing(garbage: bytes, shared_bench: Bench) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(5)
        raw.connect(shared_bench.config.socket)
        raw.sendall(garbage)
        answer = json.loads(raw.makefile("rb").readline())
    assert answer["ok"] is False and answer["error"] in ("bad_request", "protocol_error") and answer["message"]
    assert not shared_bench.client.trace("g")["known"]


@pytest.fixture(scope="module")
def shared_bench() -> Iterator[Bench]:
    with benches.served_machine() as made:
        yield made


def test_a_huge_line_is_cut_off_and_others_are_served(shared_bench: Bench) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(5)
        raw.connect(shared_bench.config.socket)
        try:
            raw.sendall(b"x" * 200_000)
            line = raw.makefile("rb").readline()
            assert json.loads(line)["error"] == "bad_request"
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert shared_bench.client.status()["link"]["state"] == "up"


def test_a_crowd_of_clients_leaves_room_for_stop(shared_bench: Bench) -> None:
    crowd = [socket.socket(socket.AF_UNIX) for _ in range(33)]
    try:
        for one in crowd:
            one.connect(shared_bench.config.socket)
        time.sleep(0.2)
        late = KeeperClient(shared_bench.config.socket)
        with pytest.raises(KeeperRefused):
            late.hello(99)
        auth = shared_bench.sign("stop", "crowd")
        assert late.stop(stop_id="crowd", by="u", reason="r", auth=auth).receipt.outcome is Outcome.PROVED
        late.close()
    finally:
        for one in crowd:
            one.close()


def test_a_second_keeper_names_the_first(bench: Bench) -> None:
    path = Path(bench.config.lock_file).with_suffix(".json")
    second = subprocess.run([sys.executable, "-m", "drivers.keeper", "--config", str(path)], capture_output=True,
                            text=True, timeout=20, check=False, cwd=Path(__file__).parents[2])
    assert second.returncode == 3
    assert str(living_keeper(bench.config)) in second.stderr
    assert bench.client.status()["link"]["state"] == "up"


def test_ending_a_keeper_moves_nothing(bench: Bench, panel: Panel) -> None:
    before = panel.status()
    assert stop_keeper(bench.config)
    after = panel.status()
    assert [after[f"{c.value}_step"] for c in Control] == [before[f"{c.value}_step"] for c in Control]
    assert living_keeper(bench.config) is None


def test_a_loop_that_is_frozen_and_thawed_reads_before_it_writes(bench: Bench, panel: Panel) -> None:
    pid = living_keeper(bench.config)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        panel.turn_knob("heater", 2)
        time.sleep(1.5)
    finally:
        os.kill(pid, signal.SIGCONT)
    bench.client.beat(1)
    receipt = bench.client.apply(order("a", 7, from_step=5), token=1)
    assert (receipt.outcome, receipt.reason) == (Outcome.DECLINED, "moved_at_machine")
    assert sent(bench, UP) == 0


def test_ages_and_rate_hold_the_bars() -> None:
    figures = benches.bench_poll(3.0)
    assert figures.present_age_p99_ms <= 150.0
    assert 9.0 <= figures.rate_hz <= 10.5


def test_stop_latency_holds_the_bars() -> None:
    figures = benches.bench_stop_keeper(5)
    assert figures.proved == 5
    assert figures.first_byte_p99_ms <= 50.0 and figures.written_max_s <= 1.2 and figures.proved_max_s <= 2.0


def test_new_limits_hold_at_once_and_only_whole_ones_are_taken(bench: Bench, panel: Panel) -> None:
    """A lead lowers the maximum under what the beans have: within a moment the keeper makes it safe by itself."""
    temp_c = bench.client.status()["reading"]["bean_temp_c"]
    for wrong in ({}, {"max_bean_temp_c": 200}, {**NO_LIMITS, "max_bean_temp_c": "hot"}, {**NO_LIMITS, "x": 1}):
        with pytest.raises(KeeperRefused):
            bench.client._ask({"op": "limits", "token": 1, "limits": wrong})
    assert bench.client.status()["latched"] is None
    bench.client.set_limits(1, Limits(max_bean_temp_c=temp_c - 20))
    eventually(lambda: bench.client.status()["latched"], 4.0, "the keeper's own interlock")
    assert bench.client.status()["latched"]["reason"] == "bean_above_maximum"
    eventually(lambda: panel.status()["heater_step"] == 0, 4.0, "heat off")


NO_LIMITS = {"max_bean_temp_c": None, "max_infrared_temp_c": None, "max_heat_time_s": None}
