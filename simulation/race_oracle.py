"""Commit-order replay: may this history be? An independent model of who may change what, and of what callers are told.

A history is a list of commits, each with the state before and after it and the operation that made it, and a list of
answers, each with the span of commits that lay between question and answer. A change must be one its operation may
make in the state before it; a refusal must have been true at some moment of its span. Pure; knows nothing of how the
product decides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from simulation.beginning import FIRST_LOOP
from simulation.race_picture import Change, Picture

HELD, APPROVED, REJECTED, EXECUTING = "PENDING_APPROVAL", "APPROVED", "REJECTED", "EXECUTING"
COMPLETED, FAILED, ABORTED, TIMEOUT, IN_DOUBT = "COMPLETED", "FAILED", "ABORTED", "TIMEOUT", "IN_DOUBT"
WAITING = (HELD, APPROVED)
#: Who may approve an order of which agent: operators and leads here, never the agent's owner.
APPROVERS = {
    "agent_a": frozenset({"operator", "second", "third", "other_lead"}),
    "agent_b": frozenset({"operator", "third", "lead", "other_lead"}),
}
OPERATORS = frozenset({"operator", "second", "third", "lead", "other_lead"})
LEADS = frozenset({"lead", "other_lead"})

_OFF = {(HELD, ABORTED), (APPROVED, ABORTED)}
_LOOP = {
    (APPROVED, EXECUTING), (APPROVED, REJECTED), (APPROVED, TIMEOUT), (EXECUTING, COMPLETED), (EXECUTING, FAILED),
    (EXECUTING, IN_DOUBT), (IN_DOUBT, COMPLETED), (IN_DOUBT, FAILED),
}  # fmt: skip
#: verb -> moves of an order it may make. Those of OWN only on the order it names.
MOVES: Mapping[str, frozenset[tuple[str, str]]] = {
    "propose": frozenset({("", HELD), ("", APPROVED), ("", REJECTED), *_OFF}),
    "adopt": frozenset({("", APPROVED), ("", REJECTED), *_OFF}),
    "approve": frozenset({(HELD, APPROVED), (HELD, TIMEOUT)}),
    "reject": frozenset({(HELD, REJECTED), (HELD, TIMEOUT)}),
    "abort": frozenset(_OFF),
    "veto": frozenset({(HELD, REJECTED), (APPROVED, ABORTED)}),
    "release": frozenset({(HELD, APPROVED), (HELD, ABORTED)}),
    "expire": frozenset({(HELD, TIMEOUT), (APPROVED, TIMEOUT)}),
    "void": frozenset({(HELD, ABORTED)}),
    "stop": frozenset(_OFF),
    "suspend": frozenset(_OFF),
    "pause_orders": frozenset(_OFF),
    "resolve": frozenset({(IN_DOUBT, COMPLETED), (IN_DOUBT, FAILED)}),
    "reconcile": frozenset({(EXECUTING, IN_DOUBT), (IN_DOUBT, COMPLETED), (IN_DOUBT, FAILED)}),
    **dict.fromkeys(("tick", "take_over", "work", "claim_again", "heal"), frozenset(_LOOP | {(HELD, TIMEOUT)})),
}
OWN = frozenset({"approve", "reject", "abort", "veto", "resolve"})
#: A loop that took longer was kept waiting (a clock that jumped, a store that hung).
PATIENCE_S = 0.4
#: No byte of an order leaves so long after its claim.
LEAVING_S = 9.5
#: Who has said that they are at the machine.
PRESENT = frozenset({"lead"})
#: kind of fact -> verbs that may change it.
MAKERS = {
    "halt": frozenset({"stop", "reset"}),
    "approval": frozenset({"approve"}),
    "grant": frozenset({"grant", "revoke"}),
    "suspension": frozenset({"suspend", "resume"}),
    "paused": frozenset({"pause_orders", "resume_orders"}),
    "execution": frozenset({"tick", "take_over", "work", "claim_again", "heal"}),
    "lease": frozenset({"take_over", "work", "heal"}),
    "owner": frozenset({"take_over", "work", "give_up", "heal"}),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """One operation as its caller knows it: who asked for what, when, and what the answer was.

    ``since`` and ``until`` are indices into the history's pictures: the state when it was asked and answered.
    """

    number: int
    actor: str
    verb: str
    arguments: Mapping[str, Any]
    order_id: str
    now_s: float
    since: int
    until: int
    status: int
    code: str = ""
    subject: str = ""
    is_unknown: bool = False
    is_struck: bool = False  # a fault or a deadlock befell its actor: 503 is an honest answer
    took_s: float = 0.0  # in virtual time


@dataclasses.dataclass(frozen=True, slots=True)
class Commit:
    """One transaction that wrote: by which operation (its number), from ``pictures[index]`` to the next."""

    index: int
    number: int


@dataclasses.dataclass(frozen=True, slots=True)
class Sent:
    """Bytes on the wire of an order: after how many commits, and whether the keeper was latched already."""

    order_id: str
    index: int
    token: int
    is_after_latch: bool


@dataclasses.dataclass(frozen=True, slots=True)
class History:
    """All of an episode. ``names``: agent's or person's id -> name in the cast."""

    pictures: Sequence[Picture]
    commits: Sequence[Commit]
    asked: Sequence[Asked]
    sent: Sequence[Sent]
    names: Mapping[str, str]


def judge(history: History) -> list[str]:
    """Everything that could not be. Empty: the history is sound."""
    return [*_commits(history), *_answers(history), *_wire(history)]


def _commits(history: History) -> Iterator[str]:
    by_number = {each.number: each for each in history.asked}
    for commit in history.commits:
        asked = by_number[commit.number]
        before, after = history.pictures[commit.index], history.pictures[commit.index + 1]
        for change in before.changes_to(after):
            if change.kind == "order":
                wrong = _wrong_move(history, asked, change, before, after) or _too_early(history, asked, commit, change)
            else:
                wrong = _wrong_fact(history, asked, change, before, after)
            if wrong:
                yield f"commit {commit.index} by {asked.actor} {asked.verb}: {change}: {wrong}"
        yield from _left_over(history, asked, commit, before, after)


def _wrong_move(history: History, asked: Asked, change: Change, before: Picture, after: Picture) -> str:
    """Why this operation may not move this order so; "" when it may."""
    if (change.before, change.after) not in MOVES.get(asked.verb, frozenset()):
        return "not its move"
    if asked.verb in OWN and change.key != asked.order_id:
        return "not the order it named"
    order = after.orders_by_id[change.key]
    if change.after == REJECTED and asked.verb in ("reject", "veto") and _who(asked) not in OPERATORS:
        return f"{_who(asked)} may not"
    if change.after == TIMEOUT and asked.now_s < order.expires_s and asked.verb in ("approve", "reject", "expire"):
        return "its time had not run out"
    proposer = history.names.get(order.proposer, order.proposer)
    if (change.before, change.after) == (HELD, APPROVED) and asked.verb == "release":
        return "released before its window ended" if not 0 < order.runs_s <= asked.now_s else ""
    if (change.before, change.after) == (HELD, APPROVED):
        return _wrong_approval(asked, proposer, order.expires_s)
    if change.after == REJECTED and asked.verb == "reject" and asked.now_s >= order.expires_s:
        return "rejected after its time"
    if change.after == EXECUTING:
        return _wrong_claim(change.key, proposer, before, after)
    if change.before == "" and change.after == APPROVED and proposer in APPROVERS:
        return "an agent's order was born approved"
    if change.before == "" and change.after in WAITING:
        return _wrong_birth(history, asked, proposer)
    return ""


def _too_early(history: History, asked: Asked, commit: Commit, change: Change) -> str:
    """Who reads what came of an order waits until no byte of it can be leaving any more, or some have left."""
    is_settled = change.before == IN_DOUBT and change.after in (COMPLETED, FAILED)
    if not is_settled or asked.verb not in ("reconcile", "resolve"):
        return ""
    claimed_s = history.pictures[commit.index].claimed_s.get(change.key, 0.0)
    has_left = any(sent.order_id == change.key and sent.index <= commit.index for sent in history.sent)
    is_over = asked.now_s + asked.took_s - claimed_s >= LEAVING_S
    return "" if has_left or is_over else "settled while its bytes could still be leaving"


def _who(asked: Asked) -> str:
    """Who acts, where the operation names a person or an agent."""
    return str(asked.arguments.get("who", "operator"))


def _wrong_approval(asked: Asked, proposer: str, expires_s: float) -> str:
    who = _who(asked)
    if who not in APPROVERS.get(proposer, OPERATORS - {proposer}):
        return f"{who} may not approve an order of {proposer}"
    if not asked.arguments.get("is_right", True):
        return "approved by another digest"
    return "approved after its time" if asked.now_s >= expires_s else ""


def _wrong_claim(order_id: str, proposer: str, before: Picture, after: Picture) -> str:
    token = int(after.facts.get(("execution", order_id), "0") or 0)
    if token < before.token:
        return f"claimed with token {token} though the lease is at {before.token}"
    if before.has("suspension") and proposer in APPROVERS:
        return "an agent's order was claimed while agents are suspended"
    if proposer not in APPROVERS and _is_less_heat(order_id, after):
        return ""  # a person's less heat goes whatever stands
    if before.is_halted:
        return "claimed while halted"
    return "claimed while orders are paused" if before.has("paused") else ""


def _is_less_heat(order_id: str, picture: Picture) -> bool:
    """Whether the order was claimed from a higher step of the heater than its target."""
    order, from_step = picture.orders_by_id[order_id], picture.from_step.get(order_id)
    if order.control != "heater" or order.target is None or from_step is None:
        return False
    return order.target < from_step


def _wrong_birth(history: History, asked: Asked, proposer: str) -> str:
    """An order waits or is let through only if at some moment while it was judged nothing refused it."""
    agent_id = next((key for key, name in history.names.items() if name == proposer), "")
    for picture in _span(history, asked):
        level = picture.facts.get(("grant", agent_id), "").split(" ")[0]
        is_trusted = proposer not in APPROVERS or (level >= "L3" and not picture.has("suspension"))
        if is_trusted and not picture.is_halted and not picture.has("paused"):
            return ""
    return "filed though it was refused all along (halt, suspension, pause or grant)"


def _wrong_fact(history: History, asked: Asked, change: Change, before: Picture, after: Picture) -> str:
    if asked.verb not in MAKERS.get(change.kind, frozenset()):
        return "not its doing"
    who = _who(asked)
    if change.kind == "lease" and int(change.after or 0) != int(change.before or 0) + 1:
        return "a token rises by one"
    if change.kind == "lease" and before.lease_ends_s > asked.now_s:
        return "taken over before the lease had run out"
    if change.kind == "approval":
        order = after.orders_by_id[change.key.split(" ")[0]]
        return _wrong_approval(asked, history.names.get(order.proposer, order.proposer), order.expires_s)
    if change.kind == "execution" and change.before:
        return "an attempt was taken back or made twice"
    if asked.verb in ("grant", "revoke") and who not in LEADS:
        return f"{who} is no lead"
    if asked.verb == "reset" and who not in LEADS and change.before != "link_lost":
        return f"{who} is no lead"
    return ""


def _left_over(history: History, asked: Asked, commit: Commit, before: Picture, after: Picture) -> Iterator[str]:
    """A stop and a pause call off whatever waited when they were asked for; a suspension, agents' orders."""
    opens = {"stop": "halt", "suspend": "suspension", "pause_orders": "paused"}.get(asked.verb)
    if opens is None or not any(c.kind == opens and c.after for c in before.changes_to(after)):
        return
    waited = set(history.pictures[asked.since].orders(*WAITING))
    for order_id in after.orders(*WAITING):
        is_persons_own = after.orders_by_id[order_id].proposer.startswith("usr_")
        if order_id in waited and not (is_persons_own and asked.verb == "suspend"):
            yield f"commit {commit.index} by {asked.actor} {asked.verb}: {order_id} still waits"


# -- what callers were told ----------------------------------------------------------------------------------------


def _answers(history: History) -> Iterator[str]:
    for asked in history.asked:
        if asked.is_unknown:
            if asked.status == 503 and not asked.is_struck:
                yield f"{asked.actor} {asked.verb}: 503 though nothing befell it"
            continue
        if asked.status >= 500:
            yield f"{asked.actor} {asked.verb}: {asked.status} {asked.code}"
        elif asked.status >= 400 and not asked.code:
            yield f"{asked.actor} {asked.verb}: {asked.status} without a code"
        else:
            wrong = _CHECKS.get(asked.verb, _no_check)(history, asked)
            if wrong:
                yield f"{asked.actor} {asked.verb} {asked.status} {asked.code}: {wrong}"


def _own_changes(history: History, asked: Asked) -> list[Change]:
    return [
        change
        for commit in history.commits
        if commit.number == asked.number
        for change in history.pictures[commit.index].changes_to(history.pictures[commit.index + 1])
    ]


def _span(history: History, asked: Asked) -> Sequence[Picture]:
    """Every state that stood between question and answer."""
    return history.pictures[asked.since : asked.until + 1]


def _statuses(history: History, asked: Asked) -> set[str]:
    """Where the named order stood at any moment between question and answer."""
    return {picture.status(asked.order_id) for picture in _span(history, asked)}


def _moved(history: History, asked: Asked, to: str) -> bool:
    return any(c.kind == "order" and c.key == asked.order_id and c.after == to for c in _own_changes(history, asked))


def _no_check(_history: History, _asked: Asked) -> str:
    return ""


def _decided(to: str) -> Any:
    """A check of approve and reject: done means moved by this call; refused means not there to be moved."""

    def check(history: History, asked: Asked) -> str:
        if asked.status == 200:
            is_done = _moved(history, asked, to) or (to == APPROVED and _said_yes(history, asked))
            return "" if is_done else f"told done, but it did not move to {to}"
        order = history.pictures[asked.since].orders_by_id.get(asked.order_id)
        who = _who(asked)
        if asked.status == 404:
            return "" if who == "stranger" or order is None else "not found, though it is there"
        if asked.status == 403:
            proposer = history.names.get(order.proposer, order.proposer) if order else ""
            may = who in (APPROVERS.get(proposer, OPERATORS - {proposer}) if to == APPROVED else OPERATORS)
            return "forbidden, though this person may" if may else ""
        if asked.status == 412:
            return "" if not asked.arguments.get("is_right", True) else "stale, though the digest was right"
        if asked.status == 409:
            is_late = order is not None and asked.now_s >= order.expires_s
            is_late = is_late or (to == APPROVED and _has_said_yes(history, asked, who))
            return "" if is_late or _statuses(history, asked) - {HELD} else "refused, though it was held all along"
        return "an answer nobody foresaw"

    return check


def _said_yes(history: History, asked: Asked) -> bool:
    """One of several yeses: noted, and the order waits on."""
    changes = _own_changes(history, asked)
    return any(c.kind == "approval" and c.key.startswith(asked.order_id) for c in changes)


def _has_said_yes(history: History, asked: Asked, who: str) -> bool:
    """This person's yes to this order stood already at some moment between question and answer."""
    person = next((key.removeprefix("usr_") for key, name in history.names.items() if name == who), "")
    return any(("approval", f"{asked.order_id} {person}") in picture.facts for picture in _span(history, asked))


def _vetoed(history: History, asked: Asked) -> str:
    if asked.status == 200:
        is_done = _moved(history, asked, REJECTED) or _moved(history, asked, ABORTED)
        return "" if is_done else "told vetoed, but nothing moved"
    order = history.pictures[asked.since].orders_by_id.get(asked.order_id)
    if asked.status == 409:
        is_open = order is not None and order.runs_s > 0
        return "" if not is_open or _statuses(history, asked) - {HELD} else "too late, though it was held all along"
    return "" if asked.status in (403, 404) else "an answer nobody foresaw"


def _aborted(history: History, asked: Asked) -> str:
    if asked.status == 200:  # on the wire already: the keeper is asked to call it off
        is_done = _moved(history, asked, ABORTED) or _statuses(history, asked) & {EXECUTING, IN_DOUBT}
        return "" if is_done else "told done, but nothing was called off"
    if asked.status == 409:
        return "" if _statuses(history, asked) - {HELD} else "refused, though it was held all along"
    return "" if asked.status in (403, 404) else "an answer nobody foresaw"


def _proposed(history: History, asked: Asked) -> str:
    changes = _own_changes(history, asked)
    births = [c for c in changes if c.kind == "order" and c.before == ""]
    if asked.status == 200:
        is_own = len(births) == 1 and births[0].key == asked.subject
        return "" if is_own else f"told filed, and {len(births)} orders were born"
    if births:
        return "refused, and yet an order was born"
    return "" if asked.status in (403, 404, 409, 422) else "an answer nobody foresaw"


def _stopped(history: History, asked: Asked) -> str:
    if asked.status == 200:
        is_so = any(("halt", asked.subject) in each.facts for each in _span(history, asked))
        return "" if is_so else "told halted, and no halt stood"
    return "a stop was refused"


def _granted(history: History, asked: Asked) -> str:
    changes = [c for c in _own_changes(history, asked) if c.kind == "grant"]
    if asked.status == 200:
        is_made = any(c.after.endswith(f" {asked.subject}") for c in changes)
        return "" if is_made else "told granted, and no grant was made"
    return "" if asked.status in (403, 404, 409) and not changes else "an answer nobody foresaw"


def _is_done(history: History, asked: Asked) -> bool:
    """What the answer says was so at some moment between question and answer, or is this call's own doing."""
    spans, changes = _span(history, asked), _own_changes(history, asked)
    if asked.verb == "suspend":
        return any(each.has("suspension") for each in spans)
    if asked.verb == "resume":
        return any(not each.has("suspension") for each in spans)
    if asked.verb == "reset":
        return any(("halt", asked.subject) not in each.facts for each in spans)
    if asked.verb == "revoke":
        ids = [{value.split(" ")[1] for (kind, _), value in each.facts.items() if kind == "grant"} for each in spans]
        return any(asked.subject not in each for each in ids)
    to = "yes" if asked.verb == "pause_orders" else ""  # pause_orders, resume_orders: told whether it was this call
    if asked.subject == "True":
        return any(c.kind == "paused" and c.after == to for c in changes)
    return any(each.has("paused") == bool(to) for each in spans)


def _switched(roles: frozenset[str]) -> Any:
    """A check of what switches something on or off: refused only to who may not; told done, and so it was."""

    def check(history: History, asked: Asked) -> str:
        who = _who(asked)
        if asked.status in (403, 404):
            return "refused, though this person may" if who in roles else ""
        if asked.status != 200:
            return "an answer nobody foresaw"
        return "" if _is_done(history, asked) else f"told {asked.subject or 'done'}, and it was not so"

    return check


def _took(history: History, asked: Asked) -> str:
    """Who is told a token got it: by this call, and nobody else was told the same one. (Fenced: a newer one is out.)"""
    if asked.status != 200:
        return "" if (asked.status, asked.code) == (409, "fenced") else "an answer nobody foresaw"
    won = {change.after for change in _own_changes(history, asked) if change.kind == "lease"}
    told = {token for token in asked.subject.split(",") if token}
    return "" if told <= won else f"told token {', '.join(sorted(told - won))}, and did not win it"


def _kept(history: History, asked: Asked) -> str:
    """The first loop renews or gives up its lease: told whether it was still its own."""
    own = [
        any(kind == "owner" and owner == FIRST_LOOP for (kind, _), owner in each.facts.items()) and each.token == 1
        for each in _span(history, asked)
    ]
    if asked.status != 200 or asked.subject not in ("True", "False"):
        return "an answer nobody foresaw"
    return "" if (asked.subject == "True") in own else f"told {asked.subject}, and that was never so"


def _resolved(history: History, asked: Asked) -> str:
    who = _who(asked)
    if asked.status == 200:
        is_done = _moved(history, asked, COMPLETED) or _moved(history, asked, FAILED)
        return ("" if who in PRESENT else "resolved from afar") if is_done else "told resolved, and nothing moved"
    if asked.status in (403, 404):
        return "forbidden, though this person may" if who in OPERATORS else ""
    if asked.status != 409:
        return "an answer nobody foresaw"
    if asked.code == "not_in_doubt":
        return "" if _statuses(history, asked) - {IN_DOUBT} else "told settled, and it was in doubt all along"
    if asked.code == "not_attended":
        return "told not to be there, and is" if who in PRESENT else ""
    return "" if asked.code in ("still_under_way", "disagrees_with_reading") else "an answer nobody foresaw"


def _worked(_history: History, asked: Asked) -> str:
    return "" if asked.status == 200 else "a sweeper's or a loop's own work was refused"


def _swept(history: History, asked: Asked) -> str:
    """A sweep leaves no order waiting whose time was over when it began."""
    if asked.status != 200:
        return _worked(history, asked)
    spans = _span(history, asked)
    for order_id in spans[0].orders(*WAITING):
        order, status = spans[0].orders_by_id[order_id], spans[0].status(order_id)
        if order.expires_s <= asked.now_s and all(each.status(order_id) == status for each in spans):
            return f"{order_id} waits on, and its time is over"
    return ""


def _ticked(history: History, asked: Asked) -> str:
    """The loop that has the machine leaves nothing lying that was approved all along: it takes it, or turns it away.
    (One that was kept waiting by the store looks anew, a few times: then it may go without.)"""
    if asked.status != 200:
        return _worked(history, asked)
    spans = _span(history, asked)
    own = int(asked.arguments.get("token", 1))
    if asked.is_struck or asked.took_s > PATIENCE_S or any(each.token != own for each in spans):
        return ""
    ready = {tuple(each.orders(APPROVED)) for each in spans}
    if asked.order_id:
        ready = {tuple(order for order in each if order == asked.order_id) for each in ready}
    is_lying = len(ready) == 1 and ready != {()}
    has_moved = any(change.kind == "order" for change in _own_changes(history, asked))
    return "what was approved was left lying" if is_lying and not has_moved else ""


_CHECKS: Mapping[str, Any] = {
    "approve": _decided(APPROVED), "reject": _decided(REJECTED), "abort": _aborted, "propose": _proposed,
    "adopt": _proposed, "veto": _vetoed, "stop": _stopped, "grant": _granted, "resolve": _resolved,
    **dict.fromkeys(("suspend", "resume", "pause_orders", "resume_orders"), _switched(OPERATORS)),
    **dict.fromkeys(("reset", "revoke"), _switched(LEADS)),
    **dict.fromkeys(("take_over", "work"), _took), **dict.fromkeys(("renew", "give_up"), _kept),
    "expire": _swept, **dict.fromkeys(("tick", "claim_again"), _ticked),
    **dict.fromkeys(("seal", "release", "void", "beat", "reconcile"), _worked),
}  # fmt: skip


# -- the wire ------------------------------------------------------------------------------------------------------


def _wire(history: History) -> Iterator[str]:
    """Bytes only of an order whose execution is committed and open, once each, and never after the latch."""
    seen: set[str] = set()
    for sent in history.sent:
        if sent.order_id in seen:
            yield f"order {sent.order_id} was sent twice"
        seen.add(sent.order_id)
        if sent.is_after_latch:
            yield f"order {sent.order_id} was sent after STOP"
        if sent.index < 0:
            continue  # it was on the wire before the episode began
        status = history.pictures[sent.index].status(sent.order_id)
        if status not in (EXECUTING, IN_DOUBT):
            yield f"order {sent.order_id} was sent while {status or 'not there'}"
