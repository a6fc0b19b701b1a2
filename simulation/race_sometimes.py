"""What must be seen sometimes: a run that never approved, refused or stopped has proved nothing. Pure."""

from __future__ import annotations

from collections.abc import Mapping

#: Even the shortest run sees each of these once.
ALWAYS = ("approve ok", "approve refused", "stop ok", "propose ok", "order APPROVED > EXECUTING")
ENOUGH_OK, ENOUGH_REFUSED = 20, 5
#: From this many episodes on, all of the list is asked for.
FULL_FROM = 2_000
#: Verbs that can be refused, and those that only succeed (a sweeper, a loop).
REFUSABLE = (
    "propose",
    "approve",
    "reject",
    "abort",
    "adopt",
    "veto",
    "grant",
    "revoke",
    "suspend",
    "reset",
    "resolve",
    "resume_orders",
)
UNREFUSABLE = (
    "expire", "release", "void", "stop", "resume", "pause_orders", "tick", "take_over", "renew", "give_up", "reconcile",
    "seal",
    "beat", "work", "claim_again",
)  # fmt: skip
#: Those whose refusals need a rarer coincidence than five in two thousand.
SELDOM_REFUSED = frozenset({"suspend", "revoke", "resume_orders", "reset"})
#: Done less often: a loop that reads is mostly first where a person would have settled a doubt.
SELDOM_DONE, SELDOM_ENOUGH = frozenset({"resolve"}), 5
MOVES = (
    "> PENDING_APPROVAL", "> APPROVED", "> REJECTED", "PENDING_APPROVAL > APPROVED", "PENDING_APPROVAL > REJECTED",
    "PENDING_APPROVAL > ABORTED", "PENDING_APPROVAL > TIMEOUT", "APPROVED > EXECUTING", "APPROVED > REJECTED",
    "APPROVED > ABORTED", "APPROVED > TIMEOUT", "EXECUTING > COMPLETED", "EXECUTING > FAILED", "EXECUTING > IN_DOUBT",
    "IN_DOUBT > COMPLETED", "IN_DOUBT > FAILED",
)  # fmt: skip
FAULTS = (
    "kill at statement", "kill at commit", "kill at committed", "kill at wire", "kill at wired",
    "lost_before_commit at commit", "lost_after_commit at commit", "deadlock at statement",
    "serialization at statement", "statement_timeout at statement", "duplicate of a message", "delay of a message",
    "reorder of a message", "lose of a message",
)  # fmt: skip


def missing(met: Mapping[str, int], episodes: int) -> list[str]:
    """What a run of so many episodes should have met and did not."""
    found = [f"never: {what}" for what in ALWAYS if not met.get(what)]
    if not met.get("waits"):
        found.append("never: somebody waits for somebody's lock")
    if episodes < FULL_FROM:
        return found
    for verb in (*REFUSABLE, *UNREFUSABLE):
        enough = SELDOM_ENOUGH if verb in SELDOM_DONE else ENOUGH_OK
        if met.get(f"{verb} ok", 0) < enough:
            found.append(f"{verb}: {met.get(f'{verb} ok', 0)} times done, {enough} asked for")
    for verb in REFUSABLE:
        if verb not in SELDOM_REFUSED and met.get(f"{verb} refused", 0) < ENOUGH_REFUSED:
            found.append(f"{verb}: {met.get(f'{verb} refused', 0)} times refused, {ENOUGH_REFUSED} asked for")
    found += [f"never: order {move}" for move in MOVES if not met.get(f"order {move}")]
    found += [f"never: fault {fault}" for fault in FAULTS if not met.get(f"fault {fault}")]
    return found
