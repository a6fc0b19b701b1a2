"""The agent over real HTTP: it proposes with evidence, waits for what comes of it, and survives its server."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

from agents.client import RoastOpsClient, Unauthorized
from agents.heuristics import Plan
from agents.roastrunner import RoastRunner, limits_of, look_of, scaled, why_not
from agents.tests.http_double import Heard, HttpDouble, decision_frame, reading_frame, serving
from agents.tests.test_heuristics import roast, share_of_usual

ROOT = Path(__file__).resolve().parents[2]
MACHINE = {
    "machine_id": "mch_1",
    "name": "Bullet",
    "link": "up",
    "envelope": {"heater": {"min_step": 0, "max_step": 9}, "fan": {"min_step": 1, "max_step": 12}},
    "halts": [],
}


def hot_frames(to_c: float = 175.0) -> list[str]:
    """A roast that runs away, reading by reading."""
    return [
        reading_frame(
            device_ms=look.device_ms,
            state=look.state,
            bean_temp_c=look.bean_temp_c,
            infrared_temp_c=look.infrared_temp_c,
            heater_step=look.heater_step,
            fan_step=look.fan_step,
            roast_id="rst_1",
            quality={},
        )
        for look in roast(share_of_usual(1.35), to_c=to_c)
    ]


class Shop:
    """A double with a machine, proposals, and a log of what the agent said."""

    def __init__(self, double: HttpDouble, frames: list[str]) -> None:
        self.double = double
        self.said: list[str] = []
        self.status = "PENDING_APPROVAL"
        self.settled = "COMPLETED"
        self.numbers = count(1)
        double.frames = lambda _heard: iter(frames)
        double.answers["GET", "/v1/machines/mch_1"] = lambda _heard: (200, dict(MACHINE))
        double.answers["GET", "/v1/machines"] = lambda _heard: (200, {"results": [MACHINE]})
        double.answers["POST", "/v1/proposals"] = self.propose
        client = RoastOpsClient(double.url, "ro_a_b", sleep=lambda _s: None)
        self.runner = RoastRunner(client, machine_id="mch_1", plan=Plan(), say=self.said.append)

    def propose(self, _heard: Heard) -> tuple[int, dict[str, Any]]:
        proposal_id = f"prp_{next(self.numbers)}"
        settled = {"proposal_id": proposal_id, "status": self.settled}
        self.double.answers["GET", f"/v1/proposals/{proposal_id}"] = lambda _heard: (200, settled)
        reasons = [{"code": "held_for_approval", "message": "L3 asks a person"}]
        verdict = {"decision": "HOLD", "reasons": reasons}
        return 201, {"proposal_id": proposal_id, "status": self.status, "verdict": verdict}

    @property
    def proposals(self) -> list[dict[str, Any]]:
        return [heard.body for heard in self.double.hears("POST", "/v1/proposals")]

    def play(self, *, until: str = "lost", seconds_per_tick: float = 0.25) -> None:
        """Tick until the agent has said something with `until` in it."""
        now = 0.0
        for _ in range(5000):
            self.runner.tick(now)
            now += seconds_per_tick
            if any(until in line for line in self.said):
                return
        raise AssertionError(f"never said {until!r}: {self.said}")


@pytest.fixture
def double() -> Iterator[HttpDouble]:
    with serving(HttpDouble()) as server:
        yield server


def test_a_hot_roast_brings_one_proposal_with_reasons_and_evidence(double: HttpDouble) -> None:
    shop = Shop(double, hot_frames(to_c=135.0))
    shop.play()
    first = shop.proposals[0]
    assert first["machine_id"] == "mch_1" and first["roast_id"] == "rst_1"
    assert (first["order_type"], first["target_value"], first["target_unit"]) == ("SET_POWER", 5, "step")
    assert "corridor" in first["reasoning"]
    assert first["evidence"][0]["kind"] == "rate_of_rise"
    key = double.hears("POST", "/v1/proposals")[0].headers["Idempotency-Key"]
    assert len(key) == 40
    assert any("PENDING_APPROVAL hot: heater 6 → 5 (L3 asks a person)" in line for line in shop.said)


def test_orders_keep_forty_seconds_of_roast_time_apart(double: HttpDouble) -> None:
    shop = Shop(double, hot_frames())
    shop.play()
    at_ms = [body["evidence"][0]["to_device_ms"] for body in shop.proposals]
    assert len(at_ms) >= 2
    assert all(right - left >= 40_000 for left, right in pairwise(at_ms))


def test_no_second_proposal_while_the_first_is_held(double: HttpDouble) -> None:
    shop = Shop(double, hot_frames())
    shop.settled = "PENDING_APPROVAL"
    shop.play()
    assert len(shop.proposals) == 1


def test_the_stream_says_what_came_of_it(double: HttpDouble) -> None:
    frames = hot_frames(to_c=135.0)
    frames.append(decision_frame(5, "proposal", "prp_1", {"status": "REJECTED", "rejection_code": "WRONG_TIMING"}))
    shop = Shop(double, frames)
    shop.settled = "PENDING_APPROVAL"
    shop.play(seconds_per_tick=0.0)
    assert any(
        "prp_1 ended REJECTED WRONG_TIMING; no new proposal for 40 s of roast time" in line for line in shop.said
    )


def test_each_refusal_in_a_row_doubles_the_rest(double: HttpDouble) -> None:
    shop = Shop(double, hot_frames(to_c=195.0))
    shop.status = "REJECTED"
    shop.play()
    rests = [line.split("for ")[1].split(" s")[0] for line in shop.said if "no new proposal" in line]
    assert rests[:2] == ["40", "80"]
    at_ms = [body["evidence"][0]["to_device_ms"] for body in shop.proposals]
    assert at_ms[2] - at_ms[1] >= 80_000 if len(at_ms) > 2 else True


def test_a_refused_request_is_explained_and_not_repeated(double: HttpDouble) -> None:
    shop = Shop(double, hot_frames(to_c=135.0))
    double.answers["POST", "/v1/proposals"] = lambda _heard: (403, {"error": "no_scope", "message": "No scope."})
    shop.play()
    assert len(shop.proposals) == 1
    assert any(line.startswith("refused: No scope. [no_scope]") for line in shop.said)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"halts": [{"halt_id": "hlt_1"}]}, "halted"),
        ({"link": "down"}, "the link to the machine is down"),
        ({"link": {"state": "stale"}}, "the link to the machine is stale"),
        ({"is_suspended": True}, "a person has it"),
        ({"is_orders_paused": True}, "paused"),
    ],
)
def test_it_holds_back_while_nobody_could_let_it_through(double: HttpDouble, change: dict[str, Any], word: str) -> None:
    shop = Shop(double, hot_frames(to_c=135.0))
    double.answers["GET", "/v1/machines/mch_1"] = lambda _heard: (200, MACHINE | change)
    shop.play()
    assert shop.proposals == []
    assert any("holding back" in line and word in line for line in shop.said)


def test_a_withdrawn_first_crack_still_keeps_heat_down(double: HttpDouble) -> None:
    crack = decision_frame(3, "roast_event", "evt_1", {"kind": "first_crack_start", "is_withdrawn": False})
    shop = Shop(double, [hot_frames()[20], crack])
    shop.play()
    assert shop.runner.view.first_crack_ms is not None


def test_401_in_mid_roast_ends_the_loop(double: HttpDouble) -> None:
    shop = Shop(double, hot_frames())
    double.answers["POST", "/v1/proposals"] = lambda _heard: (401, {"error": "key_revoked", "message": "revoked"})
    with pytest.raises(Unauthorized):
        shop.play(until="never")


def test_what_is_not_fresh_is_not_there() -> None:
    reading = {"device_ms": 5, "state": "roasting", "bean_temp_c": 150.0, "quality": {"bean_temp_c": "stale"}}
    look = look_of(reading)
    assert look is not None and look.bean_temp_c is None
    assert look_of({"device_ms": None, "state": "roasting"}) is None


def test_limits_are_read_from_either_shape_and_never_made_up() -> None:
    rows = [{"control": "heater", "min_step": 0, "max_step": 9}]
    assert limits_of({"envelope": {"controls": rows}}) == {"heater": (0, 9)}
    assert limits_of({"envelope": {"heater": {"min_step": 0, "max_step": 9}}}) == {"heater": (0, 9)}
    assert limits_of({"envelope": None}) == limits_of({}) == {}


def test_a_machine_that_says_nothing_against_it_may_be_asked() -> None:
    assert why_not(MACHINE) == ""


# --- the process ------------------------------------------------------------------------------


@contextlib.contextmanager
def running_agent(double: HttpDouble, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    key_file = tmp_path / "key"
    key_file.write_text("ro_a_b\n")
    command = [sys.executable, "manage.py", "runagent", "roastrunner", "--key-file", str(key_file), "--url", double.url]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ROASTOPS_")}
    environment |= {"ROASTOPS_DATA_DIR": str(tmp_path / "data"), "DJANGO_SETTINGS_MODULE": "roastops.settings"}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)


def wait_for(condition: Any, timeout_s: float = 20.0) -> None:
    ends_at = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends_at, "it did not happen in time"
        time.sleep(0.05)


@pytest.mark.slow
def test_the_command_survives_a_server_restart_and_ends_cleanly_on_sigterm(double: HttpDouble, tmp_path: Path) -> None:
    port = int(double.url.rsplit(":", 1)[1])
    Shop(double, [reading_frame(device_ms=1, state="off")])
    with running_agent(double, tmp_path) as process:
        wait_for(lambda: double.hears("GET", "/v1/stream"))
        double.close()
        time.sleep(0.5)
        with serving(HttpDouble(), port) as again:
            Shop(again, [reading_frame(device_ms=1, state="off")])
            wait_for(lambda: len(again.hears("GET", "/v1/stream")) >= 2)
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=10)
    assert process.returncode == 0, errors
    assert "watching mch_1" in output and "stream lost" in output and output.rstrip().endswith("stopped")


@pytest.mark.slow
def test_the_command_stops_with_a_clear_word_when_the_key_opens_nothing(double: HttpDouble, tmp_path: Path) -> None:
    body = {"error": "key_revoked", "message": "This API key was revoked.", "how_to_fix": "Ask an admin for a new key."}
    double.answers["GET", "/v1/machines"] = lambda _heard: (401, body)
    with running_agent(double, tmp_path) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "does not accept this key" in errors and "key_revoked" in errors and "Traceback" not in errors


def test_full_scale_comes_from_the_machines_envelope() -> None:
    rows = {"heater": {"min_step": 0, "max_step": 14, "full_scale_step": 14}, "fan": {"full_scale_step": 10}}
    plan = scaled(Plan(), {"envelope": {"controls": rows}})
    assert (plan.heater_full_step, plan.fan_full_step) == (14, 10)
    for silent in ({}, {"envelope": None}, {"envelope": {"controls": {"heater": {"full_scale_step": 0}}}}):
        assert scaled(plan, silent) == plan
