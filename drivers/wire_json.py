"""The port's values as JSON and back, for the keeper's socket and wire log. Pure.

Reading back is strict: a wrong type is a :class:`~drivers.port.ProtocolError`, never another value.
"""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

from drivers.port import (
    Capabilities,
    Control,
    Identity,
    MachineState,
    Outcome,
    ProtocolError,
    Quality,
    Reading,
    Receipt,
    SettingOrder,
    StateOrder,
    WireWrite,
)

_READING_PLAIN = (
    "sequence", "monotonic_s", "device_ms", "state_code", "bean_temp_c", "infrared_temp_c", "environment_temp_c",
    "exhaust_temp_c", "ambient_temp_c", "rate_of_rise_c_per_min", "infrared_rate_c_per_min", "heater_step",
    "fan_step", "drum_step", "fan_rpm", "voltage_v", "preheat_target_c", "roast_clock_s",
)


def reading_to_json(reading: Reading) -> dict[str, Any]:
    """Field names of the port; ``at`` as ISO with Z."""
    out: dict[str, Any] = {name: getattr(reading, name) for name in _READING_PLAIN}
    out["at"] = time_to_json(reading.at)
    out["state"] = reading.state.value
    out["error_codes"] = list(reading.error_codes)
    out["quality"] = {name: quality.value for name, quality in reading.quality.items()}
    out["extras"] = reading.extras
    return out


def reading_from_json(data: dict[str, Any]) -> Reading:
    """ProtocolError where it is no reading."""
    try:
        plain: dict[str, Any] = {name: data.get(name) for name in _READING_PLAIN}
        for name, value in plain.items():
            is_missing = value is None and name in ("sequence", "monotonic_s", "device_ms")
            if is_missing or isinstance(value, bool) or not isinstance(value, (int, float, type(None))):
                raise ValueError(f"{name} cannot be {value!r}")
        return Reading(
            at=time_from_json(data["at"]), state=MachineState(data["state"]),
            error_codes=tuple(int(code) for code in data.get("error_codes", ())),
            quality={str(name): Quality(value) for name, value in data.get("quality", {}).items()},
            extras=dict(data.get("extras") or {}), **plain,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"not a reading: {error}") from error


def receipt_to_json(receipt: Receipt) -> dict[str, Any]:
    """Field names of the port."""
    return {
        "order_id": receipt.order_id, "outcome": receipt.outcome.value, "reason": receipt.reason,
        "message": receipt.message,
        "writes": [
            {"monotonic_s": w.monotonic_s, "data_hex": w.data_hex, "meaning": w.meaning} for w in receipt.writes
        ],
        "value_before": receipt.value_before, "value_after": receipt.value_after,
        "proof": reading_to_json(receipt.proof) if receipt.proof is not None else None,
        "started_monotonic_s": receipt.started_monotonic_s,
        "first_byte_monotonic_s": receipt.first_byte_monotonic_s,
        "proved_monotonic_s": receipt.proved_monotonic_s, "by_hand": list(receipt.by_hand),
    }


def receipt_from_json(data: dict[str, Any]) -> Receipt:
    """ProtocolError where it is no receipt."""
    try:
        proof = data.get("proof")
        return Receipt(
            order_id=str(data["order_id"]), outcome=Outcome(data["outcome"]), reason=str(data.get("reason", "")),
            message=str(data.get("message", "")),
            writes=tuple(WireWrite(w["monotonic_s"], w["data_hex"], w["meaning"]) for w in data.get("writes", ())),
            value_before=data.get("value_before"), value_after=data.get("value_after"),
            proof=reading_from_json(proof) if proof is not None else None,
            started_monotonic_s=float(data.get("started_monotonic_s", 0.0)),
            first_byte_monotonic_s=data.get("first_byte_monotonic_s"),
            proved_monotonic_s=data.get("proved_monotonic_s"),
            by_hand=tuple(str(line) for line in data.get("by_hand", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"not a receipt: {error}") from error


def order_to_json(order: SettingOrder | StateOrder) -> dict[str, Any]:
    """The order without its kind: `order_kind` says that."""
    if isinstance(order, SettingOrder):
        return {
            "order_id": order.order_id, "control": order.control.value, "target_step": order.target_step,
            "from_step": order.from_step, "allowed_states": sorted(state.value for state in order.allowed_states),
            "max_reading_age_s": order.max_reading_age_s,
        }
    return {
        "order_id": order.order_id, "target_state": order.target_state.value,
        "from_state": order.from_state.value if order.from_state is not None else None,
        "max_reading_age_s": order.max_reading_age_s,
        **({} if order.preheat_target_c is None else {"preheat_target_c": order.preheat_target_c}),
    }


def order_kind(order: SettingOrder | StateOrder) -> str:
    """``setting`` or ``state``."""
    return "setting" if isinstance(order, SettingOrder) else "state"


def order_from_json(kind: str, data: dict[str, Any]) -> SettingOrder | StateOrder:
    """ProtocolError where it is no order of that kind, or says something this side does not know."""
    try:
        order_id = data["order_id"]
        if not isinstance(order_id, str) or not 1 <= len(order_id) <= 128:
            raise ValueError("order_id must be 1–128 characters")
        max_age_s = float(data.get("max_reading_age_s", 1.0))
        if not math.isfinite(max_age_s):
            raise ValueError("max_reading_age_s must be finite")
        if kind == "setting":
            _only(data, SettingOrder.__slots__)
            return SettingOrder(
                order_id=order_id, control=Control(data["control"]), target_step=_step(data["target_step"]),
                from_step=None if data.get("from_step") is None else _step(data["from_step"]),
                allowed_states=frozenset(MachineState(state) for state in data.get("allowed_states", ())),
                max_reading_age_s=max_age_s,
            )
        if kind == "state":
            _only(data, StateOrder.__slots__)
            from_state, preheat_c = data.get("from_state"), data.get("preheat_target_c")
            if preheat_c is not None and not math.isfinite(float(preheat_c)):
                raise ValueError("preheat_target_c must be finite")
            return StateOrder(
                order_id=order_id, target_state=MachineState(data["target_state"]),
                from_state=MachineState(from_state) if from_state is not None else None, max_reading_age_s=max_age_s,
                preheat_target_c=None if preheat_c is None else float(preheat_c),
            )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ProtocolError(f"not an order: {error!r}") from error
    raise ProtocolError(f"not an order: kind {kind!r}")


def identity_to_json(identity: Identity) -> dict[str, Any]:
    """Field names of the port."""
    return {
        "model": identity.model, "serial": identity.serial, "firmware": identity.firmware,
        "hours_on": identity.hours_on, "roast_count": identity.roast_count, "extras": identity.extras,
    }


def capabilities_to_json(capabilities: Capabilities) -> dict[str, Any]:
    """Controls with their ranges, states that may be asked for, fields that are filled."""
    return {
        "controls": {
            control.value: {"min_step": limits.min_step, "max_step": limits.max_step}
            for control, limits in capabilities.controls.items()
        },
        "states": sorted(state.value for state in capabilities.states),
        "poll_interval_s": capabilities.poll_interval_s, "fields": sorted(capabilities.fields),
    }


def time_to_json(at: dt.datetime) -> str:
    """UTC ISO-8601 with Z, microseconds always there so that text sorts as time."""
    return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def time_from_json(text: str) -> dt.datetime:
    """Aware UTC. ValueError."""
    at = dt.datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time needs its zone")
    return at.astimezone(dt.UTC)


def _step(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"a step is a whole number, not {value!r}")
    return value


def _only(data: dict[str, Any], names: tuple[str, ...]) -> None:
    unknown = set(data) - set(names)
    if unknown:
        raise ValueError(f"unknown {sorted(unknown)}")
