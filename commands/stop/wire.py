"""STOP on the wire: through the keeper, or by taking the device ourselves where no keeper lives. No Django.

Wire first: nothing here waits for a store or a broker.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from commands.stop.journal import HaltNote
from drivers import keeper, keeper_process, registry, stop_token
from drivers.keeper_client import KeeperClient, KeeperUnreachable, StopAnswer
from drivers.keeper_config import KeeperConfig
from drivers.keeper_record import Latch, LatchFile, WireLog
from drivers.port import MachineState, NoHooks, Outcome, Receipt, WriteNote
from drivers.wire_json import reading_to_json, receipt_from_json, time_to_json
from kernel import clock

logger = logging.getLogger(__name__)
#: Who latches without a person: the keeper's own interlocks and the loop's.
SYSTEM_LATCHERS = frozenset({"keeper", "machine_loop"})
HEAT_OFF = "heat_off"
UNPROVED = "unproved"
DIRECT_DEADLINE_S = 3.0
REVIVE_S = 3.0
PROOF_WAIT_S = 3.0
DROP_BY_HAND = "Beans still hot: drop them by hand."
BY_HAND_NO_KEEPER = (
    "Use the machine's panel, or cut the mains: nothing here could reach it.",
    "Heat off is not cold: drop the beans by hand if they are in the drum.",
)


def stop_through_keeper(
    config: KeeperConfig, *, by: str, reason: str, stop_id: str, timeout_s: float = 1.0
) -> StopAnswer:
    """Ask the keeper, signed with the STOP key. KeeperUnreachable, KeeperRefused, OSError (no key)."""
    auth = stop_token.sign_request(config.stop_key(), "stop", config.machine_id, stop_id)
    client = KeeperClient(config.socket, timeout_s)
    try:
        return client.stop(stop_id=stop_id, by=by, reason=reason, auth=auth)
    finally:
        client.close()


def stop_reviving(config: KeeperConfig, *, by: str, reason: str, stop_id: str) -> StopAnswer:
    """No keeper answers: start one and stop through it; where none comes up, take the device ourselves.

    A keeper just born latches at once and goes on trying while it opens the device: its proof is waited for.
    """
    try:
        keeper_process.ensure_keeper(config, wait_s=REVIVE_S)
        answer = stop_through_keeper(config, by=by, reason=reason, stop_id=stop_id)
    except KeeperUnreachable as error:
        logger.warning("no keeper for %s: %s; taking the device", config.machine_id, error)
        return stop_directly(config, by=by, reason=reason, stop_id=stop_id)
    return answer if answer.receipt.outcome is Outcome.PROVED else _later_proof(config, answer)


def _later_proof(config: KeeperConfig, answer: StopAnswer) -> StopAnswer:
    """The proof of the keeper's own repeats, if it comes within PROOF_WAIT_S."""
    client = KeeperClient(config.socket, 1.0)
    until_s = clock.monotonic() + PROOF_WAIT_S
    try:
        while clock.monotonic() < until_s:
            status = client.status()
            if (status.get("latched") or {}).get("is_proved"):
                stop = status["stops"][-1]
                receipt = receipt_from_json(stop["receipt"])
                first_s = answer.first_byte_monotonic_s or stop["first_byte_monotonic_s"]
                return StopAnswer(first_s, receipt, answer.latched)
            clock.sleep(0.05)
    except KeeperUnreachable as error:
        logger.warning("the keeper of %s went away again: %s", config.machine_id, error)
    finally:
        client.close()
    return answer


def release_latch(config: KeeperConfig, *, by: str) -> None:
    """Clear the keeper's latch, whichever. KeeperUnreachable, KeeperRefused, OSError."""
    auth = stop_token.sign_request(config.stop_key(), "release", config.machine_id, "*")
    client = KeeperClient(config.socket, 2.0)
    try:
        client.release(stop_id="*", by=by, auth=auth)
    finally:
        client.close()


class _Recorded(NoHooks):
    """Keeps the wire log as a keeper would (no disk holds anything up), and when the first byte left."""

    def __init__(self, wire_log: WireLog) -> None:
        self._wire_log = wire_log
        self.first_byte_s: float | None = None

    def before_write(self, note: WriteNote) -> None:
        self._wire_log.append_soon(
            "out", hex=note.data_hex, meaning=note.meaning, order_id=note.order_id, step=note.step, steps=note.steps
        )

    def after_write(self, note: WriteNote, monotonic_s: float) -> None:
        if self.first_byte_s is None:
            self.first_byte_s = monotonic_s


def stop_directly(config: KeeperConfig, *, by: str, reason: str, stop_id: str) -> StopAnswer:
    """Claim the device ourselves, under the machine's lock, and make it safe; leaves the latch for the next keeper.

    Busy names the holder of the lock; NotFound, NoPermission and the rest as the driver says them.
    """
    lock = keeper.take_lock(config)
    try:
        latches = LatchFile(config.latch_file)
        if latches.latch is None:
            latches.set_latch(Latch(stop_id, by, time_to_json(clock.now()), reason))
        wire_log = WireLog(Path(config.wire_log))
        hooks = _Recorded(wire_log)
        driver = registry.open_driver(config.driver_kind, config.driver_options, hooks=hooks)
        try:
            receipt = driver.make_safe(DIRECT_DEADLINE_S, stop_id)
        finally:
            driver.close()
            wire_log.close()
        latch = latches.latch
        return StopAnswer(
            receipt.first_byte_monotonic_s or hooks.first_byte_s, receipt, latch.to_json() if latch else None
        )
    finally:
        os.close(lock)


def standing_latch(config: KeeperConfig) -> dict[str, Any] | None:
    """The latch as the keeper's own file has it; None where none stands."""
    latch = LatchFile(config.latch_file).latch
    return latch.to_json() if latch is not None else None


def joined(note: HaltNote, latched: dict[str, Any] | None) -> HaltNote:
    """The press as part of the stop that latched first, where that was another's press: one stop is one halt.

    What an interlock latched is no press: a person's STOP beside it is a halt of its own.
    """
    stop_id, by = str((latched or {}).get("stop_id", "")), str((latched or {}).get("by", ""))
    is_press = stop_id.startswith("hlt_") and by not in SYSTEM_LATCHERS
    return note.ended(joined_id=stop_id) if is_press and stop_id != note.stop_id else note


def outcome_of(answer: StopAnswer, begun_s: float) -> dict[str, Any]:
    """What a halt records of a stop that began at ``begun_s`` (monotonic): result, times in ms, by hand, proof."""
    receipt = answer.receipt
    first_s = answer.first_byte_monotonic_s if begins_with_heat(receipt) else None
    return {
        "result": HEAT_OFF if receipt.outcome is Outcome.PROVED else UNPROVED,
        "first_byte_ms": _since_ms(first_s, begun_s),
        "proved_ms": _since_ms(receipt.proved_monotonic_s, begun_s) if receipt.outcome is Outcome.PROVED else None,
        "by_hand": [*receipt.by_hand, *([DROP_BY_HAND] if may_hold_beans(receipt) else [])],
        "proof": proof_of(receipt),
    }


def begins_with_heat(receipt: Receipt) -> bool:
    """Whether the first byte was heat going down; with heat at 0 already it is the fan's, and proves nothing."""
    return not receipt.writes or "heater" in receipt.writes[0].meaning or receipt.writes[0].data_hex[:2] == "34"


def may_hold_beans(receipt: Receipt) -> bool:
    """Heat off is not cold: while it roasts (or nobody could see), beans may be in the hot drum."""
    return receipt.proof is None or receipt.proof.state in (MachineState.ROASTING, MachineState.UNKNOWN)


def proof_of(receipt: Receipt) -> dict[str, Any]:
    """The evidence: what was written, and the reading that showed it."""
    reading = receipt.proof
    return {
        "outcome": receipt.outcome.value,
        "reason": receipt.reason,
        "message": receipt.message,
        "value_before": receipt.value_before,
        "value_after": receipt.value_after,
        "writes": [{"data_hex": write.data_hex, "meaning": write.meaning} for write in receipt.writes],
        "reading": reading_to_json(reading) if reading is not None else None,
    }


def _since_ms(at_s: float | None, begun_s: float) -> float | None:
    """Milliseconds after the request; a stop that joined one already running may have its first byte before."""
    return None if at_s is None else round(max(0.0, at_s - begun_s) * 1000, 2)
