"""Walking an audit chain offline: plain rows in, a report out. Pure but for the rows it is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from kernel import canonical, chain


@dataclasses.dataclass(frozen=True, slots=True)
class SealedEntry:
    """An entry beside its seal. ``None`` in the seal's fields: not sealed yet; in the entry's: the entry is gone."""

    link: chain.Link | None
    payload: str
    sequence: int | None
    previous_digest: str
    digest: str


@dataclasses.dataclass(frozen=True, slots=True)
class Checkpoint:
    sequence: int
    digest: str
    at: str
    public_key: str
    signature: str


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """The first thing that is wrong: a stable code, where, and in words."""

    code: str
    sequence: int | None
    entry_id: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What became of one organisation's chain."""

    organization_id: str
    sealed: int
    checkpoints: int
    unsealed: int
    fault: Fault | None

    @property
    def is_intact(self) -> bool:
        return self.fault is None


def verify_chain(
    organization_id: str,
    sealed: Iterable[SealedEntry],
    checkpoints: Iterable[Checkpoint],
    unsealed: int,
    *,
    trusted_key: str | None = None,
) -> Report:
    """Walk ``sealed`` in order of sequence, then the checkpoints; stops at the first fault.

    ``trusted_key`` (hex) is the public key checkpoints must be signed with; None takes the key each one names,
    which then only proves that the checkpoint is whole.
    """
    digests: dict[int, str] = {}
    count = 0
    fault = None
    previous = chain.GENESIS
    for expected, row in enumerate(sealed, start=1):
        fault = _fault_of(expected, previous, row)
        if fault is not None:
            break
        count, previous = expected, row.digest
        digests[expected] = row.digest
    seen = 0
    if fault is None:
        fault, seen = _checkpoint_fault(organization_id, digests, checkpoints, trusted_key)
    return Report(organization_id, count, seen, unsealed, fault)


def _fault_of(expected: int, previous: str, row: SealedEntry) -> Fault | None:
    link = row.link
    entry_id = link.entry_id if link else ""
    if row.sequence != expected:
        return Fault(
            "sequence_gap", row.sequence, entry_id, f"Seal {expected} is missing; {row.sequence} stands there."
        )
    if link is None:
        return Fault("entry_missing", expected, "", "A seal stands without its entry.")
    if canonical.digest_text(row.payload) != link.payload_digest:
        return Fault("payload_changed", expected, entry_id, "The payload is not what its digest says.")
    if row.previous_digest != previous:
        return Fault("chain_broken", expected, entry_id, "The seal does not name its predecessor's digest.")
    if chain.link_digest(expected, previous, link) != row.digest:
        return Fault("entry_changed", expected, entry_id, "The entry or its seal was changed.")
    return None


def _checkpoint_fault(
    organization_id: str, digests: dict[int, str], checkpoints: Iterable[Checkpoint], trusted_key: str | None
) -> tuple[Fault | None, int]:
    seen = 0
    last = 0
    for checkpoint in checkpoints:
        sequence = checkpoint.sequence
        statement = chain.checkpoint_statement(organization_id, sequence, checkpoint.digest, checkpoint.at)
        if not chain.is_signed(trusted_key or checkpoint.public_key, checkpoint.signature, statement):
            return Fault("bad_signature", sequence, "", f"The checkpoint at {sequence} is not signed by our key."), seen
        if trusted_key and checkpoint.public_key != trusted_key:
            return Fault("foreign_key", sequence, "", f"The checkpoint at {sequence} names another key."), seen
        if sequence not in digests:
            return Fault(
                "truncated", sequence, "", f"A checkpoint says the chain reached {sequence}; it ends before."
            ), seen
        if digests[sequence] != checkpoint.digest:
            return Fault("checkpoint_differs", sequence, "", f"The chain at {sequence} is not the signed one."), seen
        seen, last = seen + 1, max(last, sequence)
    if digests and last != max(digests):
        # Every batch is sealed together with its checkpoint: an end without one was not written by our sealer.
        return Fault(
            "checkpoint_missing", max(digests), "", f"No signed checkpoint covers seals {last + 1} and on."
        ), seen
    return None, seen
