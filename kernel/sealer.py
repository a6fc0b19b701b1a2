"""Chains audit entries and numbers stream events after the commit: one process at a time, within 200 ms.

A decision never waits for the chain. What is unsealed is found by looking, so a lost nudge costs a poll.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import threading
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection, transaction
from django.db.models import OuterRef, QuerySet, Subquery

from kernel import canonical, chain, clock, ids, leases, live, metrics, prepared, secret_files
from kernel.loaded_rows import loaded
from kernel.models import AuditCheckpoint, AuditEntry, AuditSeal, StreamEvent

logger = logging.getLogger(__name__)
LEASE = "sealer"
LEASE_S = 3.0
ASK_AGAIN = dt.timedelta(seconds=0.2)
POLL_S = 0.2
#: After a nudge: what is decided together is sealed together, and the request that nudged answers first.
GATHER_S = 0.02
#: Where there is much, it rests so many times as long as it worked, at most so long: it takes a fifth of one core.
REST, MAX_REST_S = 4.0, 0.1
BATCH = 500
# Entries are looked for among those born so lately (their ids sort by birth, so that a long trail costs nothing): at
# every turn what is new, each second what a slow transaction may have committed late, and what is older than any
# transaction when a sealer takes over and now and then.
LOOK_NEAR, LOOK_BACK = dt.timedelta(seconds=1.5), dt.timedelta(minutes=1)
WIDE_LOOK_EVERY_S = 1.0
FULL_LOOK_EVERY_S = 300.0


def signing_key(path: Path) -> Ed25519PrivateKey:
    """The key that signs checkpoints; made once, kept with mode 0600."""
    return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret_files.read_or_create(path)))


class Sealer:
    """One candidate for the sealer's lease. Call ``tick`` as often as you like; it says whether it found work."""

    def __init__(self, owner: str | None = None) -> None:
        self.owner = owner or f"{settings.HOST_NAME}:{os.getpid()}:{ids.random_bytes(4).hex()}"
        self.token: int | None = None
        self._next_full_look_s = 0.0
        self._next_wide_look_s = 0.0
        self._lease_due_s = 0.0
        self._ask_again_at: dt.datetime | None = None

    def tick(self, now: dt.datetime) -> bool:
        """Seal and number one batch if the lease is ours; True when there was something to do."""
        if not self._has_lease(now):
            return False
        events, entries = _UNNUMBERED.rows(), self._unsealed(now)
        if not events and not entries:
            return False
        with transaction.atomic():
            if self.token is None or not leases.hold(LEASE, self.owner, self.token):
                self.token = None
                return False
            number_events(events)
            seal_entries(entries, now=now, key=signing_key(settings.AUDIT_KEY_FILE))
        metrics.SEALED.inc(len(entries))
        if events:
            live.wake(live.DECISIONS_TOPIC)
        return True

    def let_go(self, now: dt.datetime) -> None:
        """Hand the lease to whoever comes next."""
        if self.token is not None:
            leases.give_up(LEASE, self.owner, now=now)
            self.token = None

    def _has_lease(self, now: dt.datetime) -> bool:
        if self.token is not None and clock.monotonic() < self._lease_due_s:
            return True
        if self.token is None and self._ask_again_at is not None and now < self._ask_again_at:
            return False  # somebody else had it a moment ago: every nudge would ask the database
        before, self.token = self.token, leases.take(LEASE, self.owner, now=now, length_s=LEASE_S)
        self._lease_due_s = clock.monotonic() + LEASE_S / 3
        self._ask_again_at = now + ASK_AGAIN if self.token is None else None
        if self.token is not None and self.token != before:
            self._next_full_look_s = 0.0
        return self.token is not None

    def _unsealed(self, now: dt.datetime) -> list[AuditEntry]:
        at_s = clock.monotonic()
        if at_s >= self._next_full_look_s:
            entries = _entries(_UNSEALED.rows())
            if len(entries) < BATCH:
                self._next_full_look_s = at_s + FULL_LOOK_EVERY_S
            return entries
        look_back = LOOK_NEAR
        if at_s >= self._next_wide_look_s:
            look_back, self._next_wide_look_s = LOOK_BACK, at_s + WIDE_LOOK_EVERY_S
        return _entries(_UNSEALED_SINCE.rows(first=ids.first("aud", now - look_back)))


#: What a seal is over: payloads stay where they are, their digests come.
_LINKED = tuple(field.attname for field in AuditEntry._meta.concrete_fields if field.attname != "payload")


def _unsealed_since(first: str) -> QuerySet[AuditEntry, tuple[Any, ...]]:
    """Entries born since without a seal. Each is looked up by itself: few are new, and the trail is long."""
    seal = AuditSeal.objects.filter(entry_id=OuterRef("pk")).values("sequence")[:1]
    born = AuditEntry.objects.filter(pk__gte=first).annotate(sealed_as=Subquery(seal)).filter(sealed_as__isnull=True)
    return born.order_by("at", "id").values_list(*_LINKED)[:BATCH]


_UNSEALED_SINCE = prepared.Prepared(_unsealed_since, "first")
_UNSEALED = prepared.Prepared(
    lambda: AuditEntry.objects.filter(seal__isnull=True).order_by("at", "id").values_list(*_LINKED)[:BATCH]
)
_UNNUMBERED = prepared.Prepared(
    lambda: StreamEvent.objects.filter(number__isnull=True).order_by("id").values_list("organization_id", "pk")[:BATCH]
)


def _entries(rows: Sequence[Sequence[Any]]) -> list[AuditEntry]:
    return [loaded(AuditEntry, _LINKED, row) for row in rows]


#: Where an organisation's numbers, and its chain, end now.
_NEWEST_NUMBER = prepared.Prepared(
    lambda organization: (
        StreamEvent.objects.filter(organization_id=organization, number__isnull=False)
        .order_by("-number")
        .values_list("number")[:1]
    ),
    "organization",
)
_NEWEST_SEAL = prepared.Prepared(
    lambda organization: (
        AuditSeal.objects.filter(organization_id=organization)
        .order_by("-sequence")
        .values_list("sequence", "digest")[:1]
    ),
    "organization",
)


def number_events(events: Sequence[tuple[Any, ...]]) -> None:
    """Give each event (organisation, key) its organisation's next number, in the order of writing. Call with the
    lease's row locked."""
    numbered: list[tuple[int, int]] = []
    for organization_id, group in groupby(sorted(events), key=lambda event: event[0]):
        (newest,) = _NEWEST_NUMBER.first(organization=organization_id) or (0,)
        numbered += [(key, number) for number, (_, key) in enumerate(group, start=newest + 1)]
    prepared.update_each(StreamEvent, "number", numbered)


def seal_entries(entries: list[AuditEntry], *, now: dt.datetime, key: Ed25519PrivateKey) -> None:
    """Append the entries to their organisations' chains and sign where each chain ends now."""
    for organization_id, group in groupby(sorted(entries, key=_entry_order), key=lambda e: e.organization_id):
        sequence, digest = _NEWEST_SEAL.first(organization=organization_id) or (0, chain.GENESIS)
        seals = []
        for entry in group:
            sequence, previous = sequence + 1, digest
            digest = chain.link_digest(sequence, previous, link_of(entry))
            seals.append(
                AuditSeal(
                    entry=entry,
                    organization_id=organization_id,
                    sequence=sequence,
                    previous_digest=previous,
                    digest=digest,
                )
            )
        prepared.insert_many(seals)
        statement = chain.checkpoint_statement(organization_id, sequence, digest, canonical.utc_text(now))
        prepared.insert(
            AuditCheckpoint(
                organization_id=organization_id,
                sequence=sequence,
                digest=digest,
                at=now,
                public_key=chain.public_key_of(key),
                signature=key.sign(statement).hex(),
            )
        )


def _entry_order(entry: AuditEntry) -> tuple[str, dt.datetime, str]:
    return (entry.organization_id, entry.at, entry.pk)


def link_of(entry: AuditEntry) -> chain.Link:
    """The entry as the chain sees it."""
    return chain.Link(
        organization_id=entry.organization_id,
        entry_id=entry.pk,
        at=canonical.utc_text(entry.at),
        actor_kind=entry.actor_kind,
        actor_id=entry.actor_id,
        actor_name=entry.actor_name,
        verb=entry.verb,
        subject_kind=entry.subject_kind,
        subject_id=entry.subject_id,
        payload_digest=entry.payload_digest,
    )


def wake() -> None:
    """Something was committed."""
    live.wake_sealer()


class SealerThread:
    """The sealer's loop: wakes on a nudge or every POLL_S, and outlives a database that is away."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sealer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """Seal what is left, hand over the lease, end."""
        self._stop.set()
        live.wake_sealer()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        sealer = Sealer()
        with live.waiter(live.SEALER_TOPIC) as sleeper:
            while True:
                is_last, begun_s = self._stop.is_set(), clock.monotonic()
                has_worked = self._tick(sealer)
                took_s = clock.monotonic() - begun_s
                if is_last:
                    break
                if has_worked:
                    clock.wait(self._stop, min(MAX_REST_S, max(GATHER_S, REST * took_s)))
                elif sleeper.wait(POLL_S):
                    clock.wait(self._stop, GATHER_S)
        try:
            sealer.let_go(clock.now())
        except DatabaseError as error:
            logger.warning("sealer: lease not handed over: %s", error)
        connection.close()

    def _tick(self, sealer: Sealer) -> bool:
        try:
            return sealer.tick(clock.now())
        except DatabaseError as error:
            logger.warning("sealer: the database does not answer: %s", error)
        except Exception:
            logger.exception("sealer: tick failed")
        sealer.token = None
        close_old_connections()
        clock.wait(self._stop, 1.0)
        return False
