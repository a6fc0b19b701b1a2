"""Bugs planted to be found: each a race the product guards against, with its guard taken away.

`SIMULATION_PLANTED_RACE=<name>` makes `manage.py simulate` install one before it plays. None is in the product:
a planted bug replaces a function or drops a constraint of the simulation's own database, at import time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from django.db import transaction
from django.db.models import F, QuerySet

from commands import services
from commands.loop import lease
from commands.models import Execution, Grant, Halt, MachineLease, Proposal, Suspension
from commands.plans import services_plan_moves
from commands.records import executions, grants, halts, moves, order_guards
from kernel import audit, leases, live, prepared, sealer, standing
from kernel.models import AuditSeal, StreamEvent, WorkLease

VARIABLE = "SIMULATION_PLANTED_RACE"
#: The shortest time a database knows: what lies between < and <=.
MOMENT = dt.timedelta(microseconds=1)
Install = Callable[[psycopg.Connection[Any]], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Planted:
    """One bug: what is wrong with it, how it is installed, and by how many seeds at most it must be found."""

    name: str
    what: str
    install: Install
    within: int = 200


PLANTED: dict[str, Planted] = {}


def planted(name: str, what: str, within: int = 200) -> Callable[[Install], Install]:
    """Registers a bug."""

    def register(install: Install) -> Install:
        def install_anew(control: psycopg.Connection[Any]) -> None:
            install(control)
            prepared.forget_plans()  # what was compiled while the house was made knows nothing of the bug

        PLANTED[name] = Planted(name, what, install_anew, within)
        return install

    return register


def _guardless(model: Any) -> None:
    """The guarded update of a row of this model forgets what it is guarded by."""
    plain = prepared.update

    def update(found: Any, key: str, values: Any, *, where: Any = None) -> int:
        return plain(found, key, values, where=None if found is model else where)

    prepared.update = update  # type: ignore[assignment]


def _drop_guards(control: psycopg.Connection[Any]) -> None:
    """The database's own second guard is taken away, too: else it would catch what the code no longer does."""
    for guard in order_guards.guards("postgresql"):
        name = f"{order_guards.PREFIX}{guard.table}_{guard.name}"
        control.execute(f"DROP TRIGGER IF EXISTS {name} ON {guard.table}")  # type: ignore[arg-type]


def _drop_unique(control: psycopg.Connection[Any], model: Any, name: str) -> None:
    control.execute(f"ALTER TABLE {model._meta.db_table} DROP CONSTRAINT IF EXISTS {name}")  # type: ignore[arg-type]
    control.execute(f"DROP INDEX IF EXISTS {name}")  # type: ignore[arg-type]


def _replace_everywhere(function: Any, by: Any) -> None:
    """Every module of ours that imported the function by name gets the other one."""
    import sys

    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").split(".")[0] in ("commands", "kernel", "roasts", "simulation"):
            for name, value in list(vars(module).items()):
                if value is function:
                    setattr(module, name, by)


def _find(name: str) -> tuple[types.ModuleType, Any]:
    """The function of that name where the orders' room defines it, wherever it was moved to. LookupError."""
    import sys

    for key, module in sorted(sys.modules.items()):
        found = vars(module).get(name) if key.startswith("commands.") and module is not None else None
        if found is not None and getattr(found, "__module__", "") == key:
            return module, found
    raise LookupError(f"nothing in commands defines {name}")


def _wrap(name: str, wrapped: Callable[[Any], Any]) -> None:
    """Put ``wrapped(plain)`` in place of the function of that name, wherever it was imported to."""
    _module, plain = _find(name)
    _replace_everywhere(plain, wrapped(plain))


# -- the mover --------------------------------------------------------------------------------------------------------


@planted("lost_update", "the mover's guarded update forgets the status it read", within=10)
def _lost_update(control: psycopg.Connection[Any]) -> None:
    _drop_guards(control)
    _guardless(Proposal)


@planted("read_then_write", "the mover looks at the status first, and writes without it")
def _read_then_write(control: psycopg.Connection[Any]) -> None:
    _drop_guards(control)
    plain = prepared.update

    def update(model: Any, key: str, values: Any, *, where: Any = None) -> int:
        if where and not model.objects.filter(pk=key, **where).exists():
            return 0
        return plain(model, key, values)

    prepared.update = update


@planted("lost_race_swallowed", "the mover does not notice that it moved nothing")
def _lost_race_swallowed(control: psycopg.Connection[Any]) -> None:
    plain = moves.move

    def move(proposal: Proposal, to: Any, actor: Any, **more: Any) -> Proposal:
        try:
            return plain(proposal, to, actor, **more)
        except moves.LostRace:
            return proposal

    _replace_everywhere(plain, move)


@planted("tracks_outside", "transition, audit and event are written after the move has been committed")
def _tracks_outside(control: psycopg.Connection[Any]) -> None:
    plain = moves._leave_tracks

    def later(*arguments: Any) -> None:
        def write() -> None:
            with transaction.atomic():
                plain(*arguments)

        transaction.on_commit(write)

    moves._leave_tracks = later  # type: ignore[assignment]


@planted("no_atomic_in_move", "move and tracks are not one transaction")
def _no_atomic_in_move(control: psycopg.Connection[Any]) -> None:
    _without_atomic(moves)
    _unguarded_audit()


@planted("no_atomic_in_file", "a new order and its tracks are not one transaction")
def _no_atomic_in_file(control: psycopg.Connection[Any]) -> None:
    _without_atomic(services)
    _unguarded_audit()


@planted("no_atomic_in_claim", "execution and move are not one transaction")
def _no_atomic_in_claim(control: psycopg.Connection[Any]) -> None:
    _drop_guards(control)
    _without_atomic(executions)
    _unguarded_audit()
    executions.hold_claims = _let_go_at_once(executions.hold_claims)
    services_plan_moves.hold = _let_go_at_once(services_plan_moves.hold)


def _let_go_at_once(lock: Callable[..., Any]) -> Callable[..., Any]:
    """A row's lock, in a transaction of its own: nobody is refused it, and nobody holds it."""

    def locked(key: str) -> Any:
        with transaction.atomic():
            return lock(key)

    return locked


def _without_atomic(module: types.ModuleType) -> None:
    """In one module `transaction.atomic` does nothing; the rest of `transaction` is as it was."""
    names = {name: getattr(transaction, name) for name in ("on_commit", "get_connection", "set_rollback")}
    module.transaction = types.SimpleNamespace(  # type: ignore[attr-defined]
        atomic=lambda *_a, **_k: contextlib.nullcontext(), **names
    )


def _unguarded_audit() -> None:
    """`audit.record` refuses to be called outside a transaction; the planted bug took that guard, too."""

    class _Always:
        in_atomic_block = True

    audit.connection = _Always()  # type: ignore[assignment]


@planted("nudged_inside", "the loop is nudged inside the transaction, not after its commit")
def _nudged_inside(control: psycopg.Connection[Any]) -> None:
    _at_once(moves)


@planted("sealer_nudged_inside", "the sealer is nudged inside the transaction, not after its commit")
def _sealer_nudged_inside(control: psycopg.Connection[Any]) -> None:
    _at_once(live)
    _at_once(audit)


def _at_once(module: types.ModuleType) -> None:
    names = {name: getattr(transaction, name) for name in ("atomic", "get_connection", "set_rollback")}
    module.transaction = types.SimpleNamespace(on_commit=lambda act: act(), **names)  # type: ignore[attr-defined]


@planted("no_transition", "a move leaves no transition behind")
def _no_transition(control: psycopg.Connection[Any]) -> None:
    plain = prepared.insert

    def insert(*rows: Any) -> None:
        if type(rows[0]).__name__ != "ProposalTransition" or len(rows) > 1:
            plain(*rows)

    prepared.insert = insert  # type: ignore[assignment]


# -- approvals and expiry ------------------------------------------------------------------------------------------


@planted("approved_late", "the deadline is looked at by the sweeper only")
def _approved_late(control: psycopg.Connection[Any]) -> None:
    _other_look(lambda found: dataclasses.replace(found, now=found.expires_at.replace(year=2000)))


def _other_look(change: Callable[[Any], Any]) -> None:
    """What the approver rules are shown of an approval is changed."""
    _wrap("_approval_look", lambda plain: lambda *arguments, **named: change(plain(*arguments, **named)))


@planted("expired_early", "< and <= swapped: an order is timed out a moment before its deadline")
def _expired_early(control: psycopg.Connection[Any]) -> None:
    plain = services.expire_due

    def expire_due(*, now: dt.datetime) -> int:
        return plain(now=now + dt.timedelta(milliseconds=2))

    services.expire_due = expire_due


@planted("expired_late", "<= and < swapped: the sweep leaves an order whose time ends at that very moment")
def _expired_late(control: psycopg.Connection[Any]) -> None:
    plain = services.expire_due
    services.expire_due = lambda *, now: plain(now=now - MOMENT)


@planted("approved_at_the_end", "< and <= swapped: an order may be approved at its very deadline")
def _approved_at_the_end(control: psycopg.Connection[Any]) -> None:
    _other_look(lambda found: dataclasses.replace(found, now=found.now - MOMENT))


@planted("tenant_unfiltered", "an order of another organisation is found, too (dropped tenant filter)")
def _tenant_unfiltered(control: psycopg.Connection[Any]) -> None:
    _drop_guards(control)
    moves._OWN = types.SimpleNamespace(  # type: ignore[assignment]
        first=lambda *, order, organization: moves.found_with_names(order)
    )


@planted("owner_approves", "the owner of the proposing agent may approve")
def _owner_approves(control: psycopg.Connection[Any]) -> None:
    _drop_guards(control)
    _other_look(lambda found: dataclasses.replace(found, is_owner_of_proposer=False))


@planted("digest_unread", "an approval's digest is not looked at")
def _digest_unread(control: psycopg.Connection[Any]) -> None:
    _other_look(lambda found: dataclasses.replace(found, given_digest=found.digest))


@planted("released_early", "< and <= swapped and a moment added: a veto window ends before its time")
def _released_early(control: psycopg.Connection[Any]) -> None:
    _module, plain = _find("release_due")

    def release_due(*, now: dt.datetime, **more: Any) -> int:
        return int(plain(now=now + dt.timedelta(milliseconds=2), **more))

    _replace_everywhere(plain, release_due)


@planted("one_yes_is_enough", "an order that needs two people goes with one")
def _one_yes_is_enough(control: psycopg.Connection[Any]) -> None:
    _drop_guards(control)
    _wrap("standing_approvals", lambda plain: lambda proposal: 9)


# -- the claim -----------------------------------------------------------------------------------------------------


@planted("token_unread", "the claim does not look at the lease's token")
def _token_unread(control: psycopg.Connection[Any]) -> None:
    def hold(machine_id: str) -> None:
        plain(machine_id)

    plain = executions.hold_claims
    executions.hold_claims = hold  # type: ignore[assignment]


@planted("token_swapped", "> and >= swapped: the claim refuses the newest token too")
def _token_swapped(control: psycopg.Connection[Any]) -> None:
    plain = executions._claim

    def claim(proposal_id: str, lease_token: int, *more: Any) -> Execution | None:
        is_newest = MachineLease.objects.filter(token__gte=lease_token, machine__proposals=proposal_id).exists()
        return None if is_newest else plain(proposal_id, lease_token, *more)

    executions._claim = claim  # type: ignore[assignment]


@planted("claim_unlocked", "the claim looks at the lease without locking its row (dropped select_for_update)")
def _claim_unlocked(control: psycopg.Connection[Any]) -> None:
    _unlocked(MachineLease)


@planted("approval_unlocked", "two people say yes without waiting for each other (dropped select_for_update)")
def _approval_unlocked(control: psycopg.Connection[Any]) -> None:
    _unlocked(Proposal)


def _unlocked(model: Any) -> None:
    """`select_for_update` locks nothing of this model."""
    plain = QuerySet.select_for_update

    def select_for_update(self: QuerySet[Any], *arguments: Any, **named: Any) -> Any:
        return self.all() if self.model is model else plain(self, *arguments, **named)

    QuerySet.select_for_update = select_for_update  # type: ignore[method-assign,assignment]


@planted("claimed_unreviewed", "the governor is not asked again just before the wire")
def _claimed_unreviewed(control: psycopg.Connection[Any]) -> None:
    executions._is_refused = lambda *_arguments: False  # type: ignore[assignment]


@planted("claimed_twice", "no unique index on the execution, and the claim does not move the order")
def _claimed_twice(control: psycopg.Connection[Any]) -> None:
    _drop_guards(control)
    for (name,) in control.execute(
        "SELECT conname FROM pg_constraint WHERE contype = 'u' AND conrelid = %s::regclass",
        [Execution._meta.db_table],
    ).fetchall():
        _drop_unique(control, Execution, name)
    _guardless(Proposal)


@planted("integrity_unhandled", "a second execution's unique violation is nobody's to answer")
def _integrity_unhandled(control: psycopg.Connection[Any]) -> None:
    for module in (services, standing, grants):
        module.IntegrityError = _Never  # type: ignore[attr-defined]


class _Never(Exception):
    """Raised by nobody."""


@planted("sent_before_claim", "the wire first, the claim after")
def _sent_before_claim(control: psycopg.Connection[Any]) -> None:
    from commands.execution import Executor
    from commands.loop.orders_out import order_of

    plain = Executor.execute

    def execute(self: Executor, proposal: Proposal) -> bool:
        self._apply(order_of(proposal, self._keeper_side.view))
        return plain(self, proposal)

    Executor.execute = execute  # type: ignore[method-assign]


@planted("sent_again", "what is in doubt is sent again instead of read back")
def _sent_again(control: psycopg.Connection[Any]) -> None:
    from commands.loop import reconcile
    from drivers.port import Control, SettingOrder

    plain = reconcile._resolve

    def resolve(proposal: Proposal, client: Any, view: Any, **more: Any) -> bool:
        if proposal.target_step is not None:
            client.apply(SettingOrder(proposal.pk, Control(proposal.control), proposal.target_step), token=10**6)
        return plain(proposal, client, view, **more)

    reconcile._resolve = resolve


@planted("settled_too_early", "a doubt is settled while its bytes may still be leaving")
def _settled_too_early(control: psycopg.Connection[Any]) -> None:
    from commands.loop import reconcile

    reconcile.SETTLED_AFTER_S = 0.0


# -- halts, suspensions, pauses ------------------------------------------------------------------------------------


@planted("halt_looks_once", "a halt does not look again for what was approved while it looked")
def _halt_looks_once(control: psycopg.Connection[Any]) -> None:
    halts.MAX_LOOKS = 1


@planted("halt_calls_nothing_off", "a halt leaves what waits where it is")
def _halt_calls_nothing_off(control: psycopg.Connection[Any]) -> None:
    halts._call_off_orders = lambda *_a, **_k: None  # type: ignore[assignment]


@planted("halt_twice", "no unique index on open halts")
def _halt_twice(control: psycopg.Connection[Any]) -> None:
    _drop_unique(control, Halt, "one_open_halt_of_a_kind")


@planted("suspended_twice", "no unique index on open suspensions")
def _suspended_twice(control: psycopg.Connection[Any]) -> None:
    _drop_unique(control, Suspension, "one_open_suspension")


@planted("halt_unseen", "the governor does not see halts")
def _halt_unseen(control: psycopg.Connection[Any]) -> None:
    from commands import situation

    plain = situation.order_look
    situation.order_look = lambda *asked: dataclasses.replace(plain(*asked), halts=())


# -- grants, proposals ---------------------------------------------------------------------------------------------


@planted("granted_twice", "no unique index on live grants")
def _granted_twice(control: psycopg.Connection[Any]) -> None:
    _drop_unique(control, Grant, "one_live_grant")


@planted("revoked_twice", "a revocation is told whether or not there was something to revoke")
def _revoked_twice(control: psycopg.Connection[Any]) -> None:
    def revoke(principal: Any, grant: Grant, now: Any, *_more: Any) -> None:
        Grant.objects.filter(pk=grant.pk).update(revoked_at=now)
        grant.revoked_at = now
        grants._tell(principal, grant, "grant_revoked", now)

    _drop_guards(control)
    grants._revoke = revoke  # type: ignore[assignment]


@planted("two_on_a_control", "no unique index on unsettled agents' orders")
def _two_on_a_control(control: psycopg.Connection[Any]) -> None:
    _drop_unique(control, Proposal, "one_unsettled_agent_order")


@planted("adopted_twice", "no unique index on adoption")
def _adopted_twice(control: psycopg.Connection[Any]) -> None:
    _drop_unique(control, Proposal, "adopted_once")


# -- leases and the sealer -----------------------------------------------------------------------------------------


@planted("lease_unguarded", "the lease is taken by whoever looked, not by whoever was first")
def _lease_unguarded(control: psycopg.Connection[Any]) -> None:
    def take_lease(machine_id: str, *, owner: str, now: Any) -> int | None:
        found = MachineLease.objects.get(pk=machine_id)
        if found.expires_at > now:
            return None
        MachineLease.objects.filter(pk=machine_id).update(
            owner=owner, token=found.token + 1, expires_at=now + lease.EXPIRY, heartbeat_at=now
        )
        return found.token + 1

    lease.take_lease = take_lease


@planted("token_stands", "a taken-over lease keeps its token")
def _token_stands(control: psycopg.Connection[Any]) -> None:
    def take_lease(machine_id: str, *, owner: str, now: Any) -> int | None:
        taken = MachineLease.objects.filter(pk=machine_id, expires_at__lte=now).update(
            owner=owner, expires_at=now + lease.EXPIRY, heartbeat_at=now
        )
        return MachineLease.objects.get(pk=machine_id).token if taken else None

    lease.take_lease = take_lease


@planted("lease_taken_early", "< and <= swapped and a moment added: a lease is taken over before its end")
def _lease_taken_early(control: psycopg.Connection[Any]) -> None:
    plain = lease.take_lease

    def take_lease(machine_id: str, *, owner: str, now: dt.datetime) -> int | None:
        return plain(machine_id, owner=owner, now=now + dt.timedelta(milliseconds=2))

    lease.take_lease = take_lease


@planted("renewed_by_anybody", "a loop renews a lease that is another's by now (dropped guard)")
def _renewed_by_anybody(control: psycopg.Connection[Any]) -> None:
    def renew_lease(machine_id: str, *, owner: str, token: int, now: dt.datetime) -> bool:
        return MachineLease.objects.filter(pk=machine_id).update(expires_at=now + lease.EXPIRY) == 1

    lease.renew_lease = renew_lease


@planted("sealer_unfenced", "the sealer does not hold its lease's row while it seals")
def _sealer_unfenced(control: psycopg.Connection[Any]) -> None:
    leases.hold = lambda *_arguments: True  # type: ignore[assignment]
    leases.take = functools.partial(_taken_by_all)  # type: ignore[assignment]
    _drop_numbers_own(control, AuditSeal, StreamEvent)


def _drop_numbers_own(control: psycopg.Connection[Any], *found: Any) -> None:
    """The database refuses a number, or an entry's seal, twice: its second guard goes, too."""
    for model in found:
        kinds = ["u", "p"] if model is AuditSeal else ["u"]  # a seal's key is its entry
        for (name,) in control.execute(
            "SELECT conname FROM pg_constraint WHERE contype = ANY(%s) AND conrelid = %s::regclass",
            [kinds, model._meta.db_table],
        ).fetchall():
            _drop_unique(control, model, name)


def _taken_by_all(name: str, owner: str, *, now: Any, length_s: float) -> int | None:
    WorkLease.objects.filter(name=name).update(owner=owner, token=F("token") + 1)
    return 1


@planted("numbered_twice", "stream events are numbered without the sealer's lease")
def _numbered_twice(control: psycopg.Connection[Any]) -> None:
    plain = sealer.Sealer._has_lease

    def has_lease(self: sealer.Sealer, now: Any) -> bool:
        plain(self, now)
        self.token = 1
        return True

    sealer.Sealer._has_lease = has_lease  # type: ignore[method-assign]
    leases.hold = lambda *_arguments: True  # type: ignore[assignment]
    _drop_numbers_own(control, AuditSeal, StreamEvent)


@contextlib.contextmanager
def installed(name: str, control: psycopg.Connection[Any]) -> Iterator[Planted]:
    """The named bug, for the rest of this process: nothing is taken back. KeyError: no such bug."""
    bug = PLANTED[name]
    bug.install(control)
    yield bug
