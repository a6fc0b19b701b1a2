"""A scene in which every code, alarm and sentence of ours stands at once: what the pages are read through in German.

People's own words in it are German, so that any English word on a page is one of ours.
"""

from __future__ import annotations

import datetime as dt

from commands import services
from commands.commissioning import drill as stop_drill
from commands.commissioning import steps
from commands.console import reason_words
from commands.history.alerts import Found, Kind, Severity
from commands.history.services_alerts import raise_found
from commands.loop import interlocks
from commands.models import (
    Alarm,
    Attendance,
    BreakerTrip,
    Commissioning,
    Grant,
    Halt,
    Proposal,
    SavedView,
    StopDrill,
)
from commands.reasons import Code
from commands.rules import policy
from commands.rules.significance import DEFAULT_TABLE
from commands.tests import console_scene
from commands.tests.orders_at import GuardsAside
from kernel import principals
from roasts.models import QcNote, Roast

WORDS = "Zu heiß."
AGENTS_WORDS = (
    "[hot] Rate of rise 16.8 °C/min at 178.0 °C has been above the corridor's 13.5 °C/min for 12 s."
    " Power 7 → 6.",
    "[stall] At this pace the rate of rise at first crack (196 °C, 40 s away) would be 3.1 °C/min, under 4: the"
    " roast may stall. Power 5 → 6.",
    "[hot] After first crack the rate of rise 3.0 °C/min at 199.0 °C has been below the corridor's 4.0 °C/min for"
    " 12 s: less air, never more heat here. Fan 5 → 4.",
    "[scorch_risk] Charged at 231.0 °C by the infrared sensor, more than 10 °C above the usual 200 °C: the drum"
    " may scorch the beans. Power 9 → 8.",
)
ALERTS = (
    "2 of 5 executions of the last hour failed at Bench Bullet.",
    "Executions of the last hour took 9.1 s on average over all machines.",
    "An interlock halted Bench Bullet: rate_of_rise_too_high.",
    "A control of Bench Bullet moved without an order of ours: a hand or the firmware.",
    "roastrunner ordered outside the machine's envelope: 4 refusals in ten minutes.",
    "SET_POWER at Bench Bullet failed: contradicted.",
    "SET_FAN at Bench Bullet is in doubt: it may or may not have reached the machine.",
    "3 held orders at Bench Bullet ran out of time in the last hour.",
    "roastrunner asked for SET_DRUM for the first time.",
)
EVIDENCE = [
    {"kind": "rate_of_rise", "rate_c_per_min": 16.8, "bound_c_per_min": 13.5, "bean_temp_c": 178.0, "held_s": 12.0,
     "window_s": 20},
    {"kind": "stall_prediction", "predicted_rate_c_per_min": 3.1, "predicted_bound_c_per_min": 4.0,
     "first_crack_in_s": 40, "usual_heater_step": 6},
    {"kind": "charge_setpoint", "infrared_temp_c": 231.0, "bound_c": 210.0, "device_ms": 4000},
]  # fmt: skip


def fill(scene: console_scene.Scene, now: dt.datetime) -> None:
    """Into a scene of `console_scene.build`."""
    _orders(scene, now)
    _alarms(scene, now)
    _alerts(scene, now)
    _authority(scene, now)
    _fitness(scene, now)


def every_reason() -> list[dict[str, object]]:
    """One reason of every code, as the governor stores them, with a value and a bound that the code could have."""
    states = {Code.WRONG_STATE, Code.FIRMWARE_OWNS_HEAT}
    levels = {Code.SIGNIFICANCE, Code.SECOND_PERSON}
    found = []
    for code in map(Code, reason_words.SENTENCES):
        value: object = "cooling" if code in states else "severe" if code in levels else 7
        bound: object = ["off", "roasting"] if code is Code.WRONG_STATE else "severe" if code in levels else 6
        if code in (Code.HALTED, Code.LINK_DOWN, Code.POOR_QUALITY):
            value = {"halted": "rate_of_rise_too_high, stop", "link_down": "stale", "poor_quality": "stale"}[code]
        found.append({
            "code": code.value, "decision": "REFUSE", "message": "Nobody has translated this.", "value": value,
            "bound": bound, "how_to_fix": "",
        })  # fmt: skip
    return found


def _orders(scene: console_scene.Scene, now: dt.datetime) -> None:
    with GuardsAside():
        for n, words in enumerate(AGENTS_WORDS):
            row = DEFAULT_TABLE[3 * n + 1]
            _changed(
                console_scene.complete_order(scene, now), reasoning=words, evidence=EVIDENCE, reasons=every_reason(),
                significance=row.significance.value, significance_reason=row.reason,
                outcome_message="The machine reads 6, as ordered.",
            )  # fmt: skip
        _changed(
            console_scene.advise(scene, now), reasoning=WORDS, reasons=every_reason(), rejection_code="stale_reading",
            rejection_text="Nobody has translated this.",
        )  # fmt: skip
        _changed(
            console_scene.hold_order(scene, now), reasoning=WORDS, status="REJECTED", rejection_text=WORDS,
            rejection_code="SAFETY_CONCERN",
        )  # fmt: skip
        doubtful = console_scene.hold_order(scene, now, control="drum")
        _changed(
            doubtful, status="IN_DOUBT", approver=scene.operator, approved_digest=doubtful.digest,
            reasoning="By hand in the console.", outcome_code="in_doubt",
            outcome_message="Whoever carried it out is gone; bytes may have left.",
        )  # fmt: skip
        for control, words in (("heater", AGENTS_WORDS[0]), ("fan", AGENTS_WORDS[2])):
            _changed(
                console_scene.hold_order(scene, now, control=control), reasoning=words, evidence=EVIDENCE,
                significance="severe", significance_reason=DEFAULT_TABLE[6].reason,
            )  # fmt: skip


def _changed(order: Proposal, **values: object) -> None:
    Proposal.objects.filter(pk=order.pk).update(**values)


def _alarms(scene: console_scene.Scene, now: dt.datetime) -> None:
    seen = interlocks.Observation(monotonic_s=1.0, is_keeper_up=True, is_link_up=False)
    found = [
        interlocks._alarm(rule, seen, interlocks.InterlockState(), interlocks.Limits()) for rule in interlocks.RULES
    ] + [interlocks.BEANS_STILL_IN_DRUM, interlocks.ROAST_BROKEN_OFF]
    for n, alarm in enumerate(found):
        Alarm.objects.create(
            organization=scene.organization, machine=scene.machine, code=alarm.code, priority=alarm.priority,
            raised_at=now, cause=alarm.cause.replace("None", "5"), consequence=alarm.consequence, action=alarm.action,
            acknowledged_at=now if n % 3 == 1 else None, acknowledged_by=scene.lead if n % 3 == 1 else None,
            cleared_at=now if n % 3 == 2 else None,
        )  # fmt: skip
    shelved = Alarm.objects.order_by("pk").first()
    Alarm.objects.filter(pk=shelved.pk if shelved else "").update(
        shelved_until=now + dt.timedelta(minutes=5), shelved_by=scene.lead, shelve_reason=WORDS
    )
    for kind, code, result in (
        ("stop", "", "unproved"), ("interlock", "rate_of_rise_too_high", "heat_off"), ("link_lost", "lost_device", ""),
    ):  # fmt: skip
        Halt.objects.create(
            organization=scene.organization, machine=scene.machine, kind=kind, code=code, opened_at=now,
            opened_by_kind="person", opened_by_id="usr_1", opened_by_name="lead", result=result,
            by_hand=["Use the machine's panel, or cut the mains."],
        )  # fmt: skip


def _alerts(scene: console_scene.Scene, now: dt.datetime) -> None:
    for n, message in enumerate(ALERTS):
        cure = "Look at the order's timeline and at the machine."
        found = Found(list(Kind)[n % len(Kind)], Severity.HIGH, f"machine:{n}", message, cure, now, scene.machine.pk)
        raise_found(scene.organization, found, now=now)


def _authority(scene: console_scene.Scene, now: dt.datetime) -> None:
    grant = console_scene.grant(scene, now, expires_at=now + dt.timedelta(days=7))
    with GuardsAside():
        Grant.objects.filter(pk=grant.pk).update(
            reason=WORDS, level="L4", lowered_to="L3", lowered_at=now,
            lowered_reason="2 of 3 orders failed within five minutes.", order_types=["SET_POWER", "SET_FAN"],
        )  # fmt: skip
    BreakerTrip.objects.create(
        organization=scene.organization, grant=grant, agent=scene.agent, machine=scene.machine, kind="error_rate",
        order_type="SET_POWER", from_level="L4", to_level="L3", at=now,
    )  # fmt: skip
    Attendance.objects.create(organization=scene.organization, machine=scene.machine, user=scene.lead, at=now)
    SavedView.objects.create(
        organization=scene.organization, user=scene.lead, name="Meine Ansicht", query="status=open", created_at=now
    )
    document = {**policy.DEFAULT_DOCUMENT, "numbers": {**policy.DEFAULT_DOCUMENT["numbers"], "veto_window_s": 20}}
    lead = principals.for_user(scene.lead)
    services.set_policy(lead, document=document, reason=WORDS, based_on=0, now=now)


def _fitness(scene: console_scene.Scene, now: dt.datetime) -> None:
    pressed = stop_drill.Pressed("heat_off", 300.0, 2500.0, "bullet-r1")
    for n, finding in enumerate((
        stop_drill.judge(pressed),
        stop_drill.judge(stop_drill.Pressed("heat_off", None, 900.0, "bullet-r1")),
        stop_drill.judge(stop_drill.Pressed("unproved", None, None, "bullet-r1")),
    )):  # fmt: skip
        StopDrill.objects.create(
            organization=scene.organization, machine=scene.machine, user=scene.lead, is_passed=finding.is_passed,
            at=now + dt.timedelta(seconds=n), result="heat_off", first_byte_ms=4.0, proved_ms=900.0,
            proof=stop_drill.proof_document(finding, {"by_hand": ["Use the machine's panel, or cut the mains."]}),
        )  # fmt: skip
    facts = steps.Facts()
    said = steps.Said(is_confirmed=True, words="Die rote Taste, vorn links.")
    entries = [
        {"code": step.code, "result": (found := steps.judge(step, facts, said)).result.value, "message": found.message,
         "evidence": dict(found.evidence), "by": "lead", "at": now.isoformat()}
        for step in steps.STEPS
    ]  # fmt: skip
    Commissioning.objects.create(
        organization=scene.organization, machine=scene.machine, begun_by=scene.lead, begun_at=now, steps=entries
    )


def taste(scene: console_scene.Scene, roast: Roast, now: dt.datetime) -> None:
    """Somebody's note on a closed roast, with every defect there is a word for."""
    QcNote.objects.create(
        roast=roast, author=scene.lead, created_at=now, cupping_score=84.5, colour_whole=60.0, colour_ground=62.0,
        attributes={"acidity": 7.5, "clean_cup": 8.0}, defects=["baked", "tipped"], text=WORDS,
    )  # fmt: skip
