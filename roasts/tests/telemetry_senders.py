"""A bridge for tests: points of a made-up roast, and envelopes of them, signed or not. Pure."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any

from roasts.telemetry import signing
from roasts.telemetry.envelope import SCHEMA, read

BEGUN = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.UTC)
CHARGE_S, DROP_S, COOLED_S = 10.0, 300.0, 360.0
PRIVATE_KEY = bytes(range(32))


def text(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def state_at(seconds: float) -> str:
    """Of a machine that is charged, dropped and cooled at the times above."""
    if seconds < CHARGE_S:
        return "charge"
    return "roasting" if seconds < DROP_S else "cooling" if seconds < COOLED_S else "off"


def bean_temp_c(seconds: float) -> float:
    """A probe that falls at charge and climbs to about 210 °C."""
    since_s = seconds - CHARGE_S
    if since_s < 0:
        return 180.0
    return round(180.0 * math.exp(-since_s / 15) + 215.0 * (1 - math.exp(-(since_s + 45) / 250)), 3)


def point(seconds: float, *, begun: dt.datetime = BEGUN, **values: Any) -> dict[str, Any]:
    """The machine's reading ``seconds`` after it was watched first."""
    made = {
        "at": text(begun + dt.timedelta(seconds=seconds)),
        "device_ms": round(seconds * 1000),
        "state": state_at(seconds),
        "bean_temp_c": bean_temp_c(seconds),
        "infrared_temp_c": round(bean_temp_c(seconds) + 8.5, 3),
        "heater_step": 5,
        "fan_step": 3,
        "drum_step": 6,
        **values,
    }
    return {name: value for name, value in made.items() if value is not None}


def span(from_s: float, to_s: float, every_s: float = 1.0, **values: Any) -> list[dict[str, Any]]:
    """Points from one second up to, and without, another."""
    count = math.ceil(round((to_s - from_s) / every_s, 6))
    return [point(from_s + n * every_s, **values) for n in range(count)]


def envelope(machine_id: str, sequence: int, points: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """Unsigned; ``at`` is the newest point's time unless given."""
    made = {"schema": SCHEMA, "machine_id": machine_id, "sequence": sequence, "points": points, **fields}
    if "at" not in made:
        made["at"] = max((each["at"] for each in points), default=text(BEGUN))
    return made


def statement_of(organization_id: str, body: dict[str, Any]) -> signing.Statement:
    """What a signature of this body is over."""
    seen = read(body, received_at=dt.datetime(2100, 1, 1, tzinfo=dt.UTC))
    return signing.Statement(
        organization_id,
        seen.machine_id,
        seen.sequence,
        seen.at,
        seen.points_digest,
        seen.events_digest,
        seen.previous_digest,
    )


def signed(organization_id: str, body: dict[str, Any], kid: str, private_key: bytes = PRIVATE_KEY) -> dict[str, Any]:
    """The body with its signature."""
    return {**body, "kid": kid, "signature": signing.sign(private_key, statement_of(organization_id, body))}
