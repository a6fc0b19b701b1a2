"""What an integrator reads of an endpoint where its own words leave a question open, and bodies to begin with.

By operation id; the rest of the description comes from the views themselves. A test holds each name to an operation and
each example to the body it is one of.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_MACHINE, _ROAST = "mch_01m7zwqk1v8n4x2c6r0t9y3b5d", "rst_01m7zwr2f6k8d4s0a3p7h9j1m5"

#: Operation → its line in the list, "" where the view's own serves.
TITLES = {
    "machines_reset_create": "Reset halts",
    "machines_resume_create": "Resume agents or orders",
    "machines_resume_orders_create": "Resume orders",
    "machines_stop_create": "STOP",
    "machines_suspend_create": "Suspend agents: “I have it”",
    "me": "Who am I",
    "reports_retrieve": "Get report",
    "roasts_events_retrieve": "List marks",
    "roasts_events_create": "Mark, correct or withdraw",
    "roasts_golden_retrieve": "Get golden curve",
    "roasts_plan_create": "Plan the drop",
    "roasts_reports_retrieve": "List reports",
    "roasts_reports_create": "Write report",
    "roasts_samples_retrieve": "Get samples",
    "stream": "Live stream",
}
SAID = {
    "archive_profile": "A lead puts the profile away (`is_archived` true) or takes it back; roasts that followed it"
    " keep it.",
    "compare_roasts": "Up to 6 roasts (`ids`, with commas) laid over the first by charge or a mark: how far each"
    " lies from it in bean temperature (RMSE and farthest deviation in °C, seconds within `tolerance_c`), whole"
    " and by phase. One that lacks the mark is named under `refused`.",
    "delete_view": "Your own view; somebody else's is not there, even if it is shared with you.",
    "get_commissioning": "The machine's walk-through: the one in force, the one under way, each step with its"
    " result and what it was judged by.",
    "get_envelope": "One machine's limits, in its own steps, and the maxima of its interlocks (°C, °C/min, s). Its"
    " ETag is what `If-Match` names when it is set.",
    "get_grant": "One grant: agent, machine, level, orders, who signed it and until when, and what a circuit"
    " breaker lowered it to. Has an ETag for a revocation.",
    "get_plan": "One plan with its orders, their verdicts and where each stands.",
    "get_proposal": "One order: what was asked, the verdict with every reason, who decided, what came of it. Has an"
    " ETag.",
    "get_roast": "One roast: machine, status, beans, weights (g), times, the profile it follows. Has an ETag.",
    "get_roast_curve": "The whole curve for a chart: seconds since charge, temperatures in °C, rates in °C/min,"
    " controls as the moves they made; holes in the record are named.",
    "get_roast_provenance": "Where its points came from: own machine, telemetry or a file; how many were verified,"
    " unsigned, failed and late; the digest of the packed roast.",
    "get_telemetry_stream": "Where a bridge's stream stands: the last sequence and digest taken, and which"
    " sequences never came.",
    "list_device_keys": "Public halves that telemetry may be signed by, with the time each counts.",
    "list_grants": "How far each agent is trusted on each machine, newest first; `is_live=true` leaves out what ended.",
    "list_machines": "Every machine of yours with its newest reading (°C, °C/min, steps), that reading's age in"
    " seconds, its link, halts and who has it.",
    "list_profiles": "Golden curves with their newest version; archived ones on demand.",
    "list_roasts": "Roasts, newest first: recorded here, by telemetry, or imported.",
    "machine_outlook": "What the twin expects of the open roast: the probe's next 3 minutes (°C, with a band), time"
    " to first crack and to the drop (s), and whether it is extrapolating. Empty where no roast is open.",
    "machines_stop_create": "Heat off, now: asks nobody, waits for no queue, goes on while the database or the"
    " broker is away, and is never limited. Heater steps go down to 0 first, then the fan up. Answers once it"
    " knows: `heat_off` (0 was read back twice; `proved_ms` after the request) or `unproved` (sent, not read"
    " back, or the machine's firmware owns the heat): then somebody must use the panel or the mains; `by_hand`"
    " says what. A halt latches until a lead resets it. Pressed twice, it joins the first. A repeat is harmless:"
    " no `Idempotency-Key` is needed. Who may: session, key with the scope `stop`, or a STOP token of the"
    " console.",
    "me": "Whose key or session this is, in which organisation, and what it may do (`may`).",
    "revoke_device_key": "From now on the key vouches for nothing that comes in; what came before stays verified."
    " 409 `key_revoked`.",
    "roasts_reports_retrieve": "Every version of a roast's report, newest first.",
    "share_view": "Your own view is shown to your organisation, or no longer.",
    "stream": "Server-sent events of your organisation. `decision` events (orders, halts, alarms, roasts, grants)"
    " are durable and numbered: send the last number as `Last-Event-ID` to go on without a gap. `reading` events"
    " are the newest reading of a machine, at most 4 a second, and are not repeated. A comment every 15 s keeps"
    " the line open; a client that reads too slowly is disconnected with a reason.",
}
_ORDER = {"order_type": "SET_POWER", "target_value": 5, "target_unit": "step"}
#: Operation → a body that it would take.
EXAMPLES: dict[str, dict[str, Any]] = {
    "propose": {
        "machine_id": _MACHINE, **_ORDER, "roast_id": _ROAST, "expires_in_s": 45,
        "reasoning": "Rate of rise 16.8 °C/min at 178.0 °C has been above 13.5 °C/min for 12 s.",
        "evidence": [{"kind": "rate_of_rise", "rate_c_per_min": 16.8, "bound_c_per_min": 13.5, "bean_temp_c": 178.0}],
    },
    "propose_plan": {
        "machine_id": _MACHINE, "title": "Into first crack", "reasoning": "Less heat and more air before the crack.",
        "orders": [_ORDER, {"order_type": "SET_FAN", "target_value": 4, "target_unit": "step"}],
    },
    "what_if": {"orders": [_ORDER, {"order_type": "SET_FAN", "target_value": 4, "target_unit": "step"}]},
    "reject_proposal": {"code": "WRONG_TIMING", "text": "First crack is near."},
    "roasts_events_create": {"kind": "first_crack_start", "elapsed_ms": 415000},
    "roasts_plan_create": {"drop_temp_c": 204.0, "development_s": None},
    "machines_reset_create": {"reason": "Looked: drum empty, heater at 0."},
    "machines_resume_create": {"what": "agents"},
    "shelve_alarm": {"minutes": 10, "reason": "The cable is being changed."},
}  # fmt: skip


def operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every operation of an OpenAPI document."""
    for path_item in document.get("paths", {}).values():
        for method, operation in path_item.items():
            if method in ("get", "post", "put", "patch", "delete"):
                yield operation


def put_into_words(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Post-processing hook of drf-spectacular, after `kernel.schema.document_common_errors`."""
    for operation in operations(result):
        name = operation["operationId"]
        operation["summary"] = TITLES.get(name, operation["summary"])
        operation["description"] = SAID.get(name, operation["description"])
        if name in EXAMPLES:
            content = operation["requestBody"]["content"]
            content["application/json"]["example"] = EXAMPLES[name]
    return result
