"""Hand-made bad histories: what the oracle must never let pass, beside the good one it must."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from simulation.beginning import FIRST_LOOP
from simulation.race_oracle import Asked, Commit, History, Sent, judge
from simulation.race_picture import Order, Picture

AGENT, OWNER = "agt_a", "usr_4"
NAMES = {AGENT: "agent_a", OWNER: "lead"}
ORDER = "prp_1"
DEADLINE_S = 100.0
PENDING, GRANT, LEASE = "PENDING_APPROVAL", ("grant", AGENT), ("lease", "mch")


def picture(status: str = "", *more: tuple[tuple[str, str], str], order: str = ORDER) -> Picture:
    facts: dict[tuple[str, str], str] = {GRANT: "L3 grt_1", LEASE: "1", **dict(more)}
    if status:
        facts["order", order] = status
    return Picture(facts, {order: Order("", AGENT, "heater", DEADLINE_S)} if status else {})


def asked(verb: str, *, number: int = 1, status: int = 200, since: int = 0, until: int = 1, **more: Any) -> Asked:
    arguments = more.pop("arguments", {"who": "operator"})
    order_id, now_s = more.pop("order_id", ORDER), more.pop("now_s", 50.0)
    code = more.pop("code", "a_code" if status >= 400 else "")
    return Asked(number, f"actor{number}", verb, arguments, order_id, now_s, since, until, status, code, **more)


def history(pictures: list[Picture], questions: list[Asked], sent: list[Sent] | None = None) -> History:
    """Commit k is by the k-th question that says it did something (status 200)."""
    doers = [each.number for each in questions if each.status == 200][: len(pictures) - 1]
    return History(
        pictures, [Commit(index, number) for index, number in enumerate(doers)], questions, sent or [], NAMES
    )


HALT, SUSPENSION = (("halt", "hlt_1"), "stop"), (("suspension", "machine"), "yes")
PAUSED = (("paused", "machine"), "yes")
EXECUTION, OWN_LEASE = (("execution", ORDER), "1"), (("owner", "mch"), FIRST_LOOP)
PERSONS = Order("", "usr_9", "fan", DEADLINE_S)


def persons(status: str, *more: tuple[tuple[str, str], str]) -> Picture:
    """A machine with one order of a person."""
    return dataclasses.replace(picture(status, *more), orders_by_id={ORDER: PERSONS})


def heat(status: str, *more: tuple[tuple[str, str], str], to: int, whose: str = "usr_9") -> Picture:
    """A machine with one order for its heater, claimed at step 5."""
    order = Order("", whose, "heater", DEADLINE_S, target=to)
    return dataclasses.replace(picture(status, *more), orders_by_id={ORDER: order}, from_step={ORDER: 5})


def claimed_under(stands: tuple[tuple[str, str], str], **order: Any) -> History:
    return history([heat("APPROVED", stands, **order), heat("EXECUTING", stands, EXECUTION, **order)], [asked("tick")])


APPROVED_ONCE = [picture(PENDING), picture("APPROVED")]

GOOD: dict[str, History] = {
    "approved, and the second is told it is not held": history(
        APPROVED_ONCE, [asked("approve"), asked("approve", number=2, status=409, since=0, until=1)]
    ),
    "timed out at its deadline": history(
        [picture(PENDING), picture("TIMEOUT")], [asked("expire", now_s=DEADLINE_S, order_id="")]
    ),
    "stopped with what waited": history([picture(PENDING), picture("ABORTED", HALT)], [asked("stop", subject="hlt_1")]),
    "claimed and sent": history(
        [picture("APPROVED"), picture("EXECUTING", EXECUTION)], [asked("tick")], [Sent(ORDER, 1, 1, False)]
    ),
    "a lost answer may or may not have happened": history(
        [picture(PENDING)], [asked("approve", status=503, until=0, is_unknown=True, is_struck=True)]
    ),
    "a person's less heat while paused": claimed_under(PAUSED, to=4),
    "a person's less heat while halted": claimed_under(HALT, to=4),
    "a token is won": history([picture(), picture("", (LEASE, "2"))], [asked("take_over", subject="2")]),
    "a lease is taken at its very end": history(
        [dataclasses.replace(picture(), lease_ends_s=50.0), picture("", (LEASE, "2"))],
        [asked("take_over", subject="2")],
    ),
    "a take-over that comes too late is told nothing": history(
        [picture(), picture("", (LEASE, "2"))],
        [asked("take_over", subject="2"), asked("take_over", number=2, subject="")],
    ),
    "resolved by who looked, while a loop reads": history(
        [picture("IN_DOUBT"), picture("COMPLETED")],
        [
            asked("reconcile", order_id="", subject="0/1"),
            asked("resolve", number=2, status=409, code="not_in_doubt", arguments={"who": "lead"}),
        ],
    ),
    "settled when no byte can be leaving any more": history(
        [dataclasses.replace(picture("IN_DOUBT", EXECUTION), claimed_s={ORDER: 40.5}), picture("FAILED", EXECUTION)],
        [asked("reconcile", order_id="", subject="0/1")],
    ),
    "settled at once, for its bytes have left": history(
        [dataclasses.replace(picture("IN_DOUBT", EXECUTION), claimed_s={ORDER: 49.0}), picture("COMPLETED", EXECUTION)],
        [asked("reconcile", order_id="", subject="0/1")],
        [Sent(ORDER, 0, 1, False)],
    ),
    "fenced by a newer token": history([picture()], [asked("take_over", status=409, until=0, code="fenced")]),
    "renewed at the moment of a take-over": history(
        [picture("", OWN_LEASE), picture("", (LEASE, "2"))],
        [asked("take_over", subject="2"), asked("renew", number=2, subject="True")],
    ),
    "a person orders at the moment a halt is reset": history(
        [picture("", HALT), picture(), persons("APPROVED")],
        [
            asked("reset", subject="hlt_1", arguments={"who": "lead"}),
            asked("propose", number=2, subject=ORDER, until=2),
        ],
    ),
    "suspended by another at the same moment": history(
        [picture(), picture("", SUSPENSION)], [asked("suspend"), asked("suspend", number=2)]
    ),
    "a loop that was kept waiting goes without": history(
        [picture("APPROVED")], [asked("tick", until=0, order_id="", took_s=1.0)]
    ),
    "a loop whose lease was taken leaves the order": history(
        [picture("APPROVED", (LEASE, "2"))], [asked("tick", until=0, order_id="")]
    ),
    "what was called off at that moment is not the loop's to take": history(
        [picture("APPROVED"), picture("ABORTED")],
        [asked("abort"), asked("tick", number=2, order_id="")],
    ),
    "an order whose time is over at the sweep's end, not at its beginning": history(
        [picture(PENDING)], [asked("expire", until=0, now_s=DEADLINE_S - 0.001, order_id="")]
    ),
    "the owner is forbidden": history(
        [picture(PENDING)], [asked("approve", status=403, until=0, arguments={"who": "lead"})]
    ),
}

BAD: dict[str, tuple[str, History]] = {
    "a settled order moves again": (
        "not its move", history([picture("ABORTED"), picture("APPROVED")], [asked("approve")]),
    ),
    "approved by its agent's owner": (
        "may not approve", history(APPROVED_ONCE, [asked("approve", arguments={"who": "lead"})]),
    ),
    "approved by a stranger": (
        "may not approve", history(APPROVED_ONCE, [asked("approve", arguments={"who": "stranger"})]),
    ),
    "approved by another digest": (
        "another digest", history(APPROVED_ONCE, [asked("approve", arguments={"who": "operator", "is_right": False})]),
    ),
    "approved at its deadline": ("after its time", history(APPROVED_ONCE, [asked("approve", now_s=DEADLINE_S)])),
    "timed out before its deadline": (
        "had not run out", history([picture(PENDING), picture("TIMEOUT")], [asked("expire", now_s=DEADLINE_S - 0.001)]),
    ),
    "an approval moves another order than it named": (
        "not the order it named", history(APPROVED_ONCE, [asked("approve", order_id="prp_2")]),
    ),
    "told done, and nothing moved": ("did not move", history([picture(PENDING), picture(PENDING)], [asked("approve")])),
    "two are told done, one moved it": (
        "did not move", history([*APPROVED_ONCE, picture("APPROVED")], [asked("approve"), asked("approve", number=2)]),
    ),
    "refused though it was held all along": (
        "held all along", history([picture(PENDING)], [asked("approve", status=409, until=0)]),
    ),
    "forbidden though this person may": (
        "this person may", history([picture(PENDING)], [asked("approve", status=403, until=0)]),
    ),
    "stale though the digest was right": (
        "digest was right", history([picture(PENDING)], [asked("approve", status=412, until=0)]),
    ),
    "not found though it is there": (
        "though it is there", history([picture(PENDING)], [asked("approve", status=404, until=0)]),
    ),
    "a 500": ("500", history([picture(PENDING)], [asked("approve", status=500, until=0, code="KeyError")])),
    "a 503 out of nothing": (
        "nothing befell it", history([picture(PENDING)], [asked("approve", status=503, until=0, is_unknown=True)]),
    ),
    "a refusal without a code": (
        "without a code", history([picture(PENDING)], [asked("approve", status=409, until=0, code="")]),
    ),
    "claimed with an old token": (
        "the lease is at 2",
        history([picture("APPROVED", (LEASE, "2")), picture("EXECUTING", (LEASE, "2"), EXECUTION)], [asked("tick")]),
    ),
    "claimed while halted": (
        "claimed while halted",
        history([picture("APPROVED", HALT), picture("EXECUTING", HALT, EXECUTION)], [asked("tick")]),
    ),
    "claimed while paused": ("claimed while orders are paused", claimed_under(PAUSED, to=5)),
    "an agent's less heat while paused": ("claimed while orders are paused", claimed_under(PAUSED, to=4, whose=AGENT)),
    "more heat while halted": ("claimed while halted", claimed_under(HALT, to=6)),
    "claimed while suspended": (
        "agents are suspended",
        history([picture("APPROVED", SUSPENSION), picture("EXECUTING", SUSPENSION, EXECUTION)], [asked("tick")]),
    ),
    "an attempt made anew": (
        "made twice",
        history([picture("EXECUTING", EXECUTION), picture("EXECUTING", (EXECUTION[0], "2"))], [asked("tick")]),
    ),
    "a stop that leaves what waited": (
        "still waits", history([picture(PENDING), picture(PENDING, HALT)], [asked("stop", subject="hlt_1")]),
    ),
    "a stop that halts nothing": ("no halt stood", history([picture()], [asked("stop", subject="hlt_9", until=0)])),
    "a stop that is refused": ("was refused", history([picture()], [asked("stop", status=409, until=0)])),
    "a person's order let through though halted all along": (
        "refused all along",
        history([picture("", HALT), persons("APPROVED", HALT)], [asked("propose", subject=ORDER)]),
    ),
    "two are told the same token": (
        "did not win it",
        history(
            [picture(), picture("", (LEASE, "2")), picture("", (LEASE, "2"))],
            [asked("take_over", subject="2"), asked("take_over", number=2, subject="2", until=2)],
        ),
    ),
    "told a token that stands": ("did not win it", history([picture()], [asked("work", subject="1", until=0)])),
    "a take-over refused": ("nobody foresaw", history([picture()], [asked("take_over", status=404, until=0)])),
    "renewed though another had it": (
        "was never so", history([picture("", OWN_LEASE, (LEASE, "2"))], [asked("renew", subject="True", until=0)]),
    ),
    "given up, and told it was not its own": (
        "was never so", history([picture("", OWN_LEASE)], [asked("give_up", subject="False", until=0)]),
    ),
    "a suspension refused to an operator": (
        "this person may", history([picture()], [asked("suspend", status=403, until=0)]),
    ),
    "a suspension in conflict": ("nobody foresaw", history([picture()], [asked("suspend", status=409, until=0)])),
    "told suspended, and agents were free": ("was not so", history([picture()], [asked("suspend", until=0)])),
    "told resumed, and nobody was": ("was not so", history([picture("", SUSPENSION)], [asked("resume", until=0)])),
    "told reset, and the halt stood": (
        "was not so",
        history([picture("", HALT)], [asked("reset", subject="hlt_1", until=0, arguments={"who": "lead"})]),
    ),
    "told revoked, and the grant stood": (
        "was not so", history([picture()], [asked("revoke", subject="grt_1", until=0, arguments={"who": "lead"})]),
    ),
    "told paused by this call, and it was not": (
        "was not so", history([picture()], [asked("pause_orders", subject="True", until=0)]),
    ),
    "resolved by a person, and nothing moved": (
        "nothing moved", history([picture("IN_DOUBT")], [asked("resolve", until=0, arguments={"who": "lead"})]),
    ),
    "resolved by who was not there": (
        "from afar",
        history([picture("IN_DOUBT"), picture("FAILED")], [asked("resolve", arguments={"who": "second"})]),
    ),
    "told settled, and it was in doubt": (
        "in doubt all along",
        history(
            [picture("IN_DOUBT")],
            [asked("resolve", status=409, code="not_in_doubt", until=0, arguments={"who": "lead"})],
        ),
    ),
    "told not to be at the machine, and is": (
        "and is",
        history(
            [picture("IN_DOUBT")],
            [asked("resolve", status=409, code="not_attended", until=0, arguments={"who": "lead"})],
        ),
    ),
    "a sealer turned away": ("work was refused", history([picture()], [asked("seal", status=409, until=0)])),
    "a sweep that leaves an order whose time is over": (
        "time is over", history([picture(PENDING)], [asked("expire", until=0, now_s=DEADLINE_S, order_id="")]),
    ),
    "a loop that leaves an approved order": (
        "left lying", history([picture("APPROVED")], [asked("tick", until=0, order_id="")]),
    ),
    "a loop that leaves the very order it was given": (
        "left lying", history([picture("APPROVED")], [asked("claim_again", until=0)]),
    ),
    "a lease taken before its end": (
        "had run out",
        history(
            [dataclasses.replace(picture(), lease_ends_s=50.001), picture("", (LEASE, "2"))],
            [asked("take_over", subject="2")],
        ),
    ),
    "a yes of somebody of another house": (
        "stranger may not",
        history([picture(PENDING), picture(PENDING, ((("approval", f"{ORDER} 7")), "yes"))],
                [asked("approve", arguments={"who": "stranger"})]),
    ),
    "rejected by a stranger": (
        "stranger may not",
        history([picture(PENDING), picture("REJECTED")], [asked("reject", arguments={"who": "stranger"})]),
    ),
    "settled while its bytes may be leaving": (
        "still be leaving",
        history(
            [dataclasses.replace(picture("IN_DOUBT"), claimed_s={ORDER: 40.501}), picture("FAILED")],
            [asked("reconcile", order_id="", subject="0/1")],
        ),
    ),
    "held though halted all along": (
        "refused all along",
        history([picture("", HALT), picture(PENDING, HALT)], [asked("propose", subject=ORDER)]),
    ),
    "two orders of one question": (
        "orders were born",
        history(
            [picture(), Picture({GRANT: "L3 g", LEASE: "1", ("order", "a"): PENDING, ("order", "b"): PENDING},
                                {key: Order("", AGENT, "fan", DEADLINE_S) for key in "ab"})],
            [asked("propose", subject="a")],
        ),
    ),
    "refused, and yet born": (
        "yet an order was born",
        dataclasses.replace(
            history([picture(), picture(PENDING)], [asked("propose", status=409)]), commits=[Commit(0, 1)]
        ),
    ),
    "a token that falls": (
        "rises by one", history([picture("", (LEASE, "2")), picture("", (LEASE, "1"))], [asked("take_over")]),
    ),
    "a token that jumps": (
        "rises by one", history([picture("", (LEASE, "2")), picture("", (LEASE, "4"))], [asked("take_over")]),
    ),
    "a halt reset by an operator": (
        "is no lead", history([picture("", HALT), picture()], [asked("reset", arguments={"who": "operator"})]),
    ),
    "a grant by an operator": (
        "is no lead",
        history([picture(), picture("", (GRANT, "L3 grt_2"))], [asked("grant", subject="grt_2")]),
    ),
    "a grant nobody asked for": (
        "not its doing", history([picture(), picture("", (GRANT, "L3 grt_2"))], [asked("approve", order_id="")]),
    ),
    "told granted, and no grant": (
        "no grant was made",
        history([picture()], [asked("grant", until=0, subject="grt_2", arguments={"who": "lead"})]),
    ),
    "sent twice": (
        "sent twice",
        history([picture("EXECUTING")], [], [Sent(ORDER, 0, 1, False), Sent(ORDER, 0, 1, False)]),
    ),
    "sent without an execution": (
        "sent while APPROVED", history([picture("APPROVED")], [], [Sent(ORDER, 0, 1, False)]),
    ),
    "sent though called off": ("sent while ABORTED", history([picture("ABORTED")], [], [Sent(ORDER, 0, 1, False)])),
    "sent after STOP": ("after STOP", history([picture("EXECUTING")], [], [Sent(ORDER, 0, 1, True)])),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_sound_history_passes(name: str) -> None:
    assert judge(GOOD[name]) == []


@pytest.mark.parametrize("name", BAD)
def test_a_history_that_could_not_be_is_told(name: str) -> None:
    word, bad = BAD[name]
    told = judge(bad)
    assert told, f"{name} passed"
    assert any(word in each for each in told), told
