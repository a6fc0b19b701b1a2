"""Real PostgreSQL transactions, interleaved exactly: one actor runs at a time, and the plan says who is next.

Each actor is a thread with a connection of its own. It gives way before every statement, savepoint and COMMIT. Nobody
ever waits for a lock: a statement that would is tried under ``lock_timeout``, rolled back to a savepoint made just
before it, and its actor parked until somebody's transaction ends. When nobody can go on, a victim drawn by the plan
gets PostgreSQL's deadlock error. So the same plan gives the same interleaving, whatever the machine is busy with.
(What a retry hides: PostgreSQL itself would go on inside the statement and look at the changed row again.)
"""

from __future__ import annotations

import dataclasses
import functools
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.db import DatabaseError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import errors as pg_errors
from psycopg.pq import ExecStatus, TransactionStatus

from simulation.plan import Fault
from simulation.sandbox import keep_plans
from simulation.virtual_clock import VirtualClock

STEP_S = 0.0001
MAX_STEPS = 4000
#: Only one actor runs: whoever waits at all waits for a parked one. (Session setting of every actor's connection.)
LOCK_TIMEOUT_MS = 1
READY, BLOCKED, SLEEPING, DONE = "ready", "blocked", "sleeping", "done"
#: Errors PostgreSQL may answer any statement with: kind -> SQLSTATE.
ERRORS = {"deadlock": "40P01", "serialization": "40001", "statement_timeout": "57014"}
#: kind -> sites where it can strike.
FAULTS: dict[str, frozenset[str]] = {
    "kill": frozenset({"statement", "commit", "committed", "wire", "wired"}),
    "deadlock": frozenset({"statement"}),
    "serialization": frozenset({"statement"}),
    "statement_timeout": frozenset({"statement"}),
    "lost_before_commit": frozenset({"commit"}),
    "lost_after_commit": frozenset({"commit"}),
}


class StrangeThread(RuntimeError):
    """The product started a thread of its own: what it does is in no plan."""


class Killed(BaseException):
    """The process is gone at this very point: nothing of it runs on."""


class Livelock(BaseException):
    """The episode took MAX_STEPS steps and did not end."""


@dataclasses.dataclass(frozen=True, slots=True)
class Statement:
    """What the scheduler must know of a statement."""

    verb: str
    table: str
    may_block: bool
    written: frozenset[str]  # tables: one, or those of all parts of a statement in several

    @property
    def is_write(self) -> bool:
        return bool(self.written)


_TABLE = re.compile(r'\b(?:INTO|FROM|UPDATE)\s+"?([a-z_0-9]+)"?')
_WRITTEN = re.compile(r'\b(?:INSERT INTO|UPDATE|DELETE FROM)\s+"?([a-z_0-9]+)"?')


@functools.cache
def classify(sql: str) -> Statement:
    """Verb and table of a statement, and whether another's lock can hold it up."""
    words = sql.split(None, 1)
    verb = words[0].upper() if words else ""
    if verb == "WITH":  # told by the part that can do most
        parts = ("DELETE", "UPDATE", "INSERT")
        verb = next((each for each in parts if f"({each} " in sql or f") {each} " in sql), "SELECT")
    found = _TABLE.search(sql)
    is_write = verb in ("INSERT", "UPDATE", "DELETE")
    is_locking = verb == "SELECT" and (" FOR UPDATE" in sql or " FOR NO KEY UPDATE" in sql or " FOR SHARE" in sql)
    written = frozenset(_WRITTEN.findall(sql)) if is_write else frozenset()
    return Statement(verb, found.group(1) if found else "", is_write or is_locking, written)


class Actor:
    """One thread with its own connection; it lives as long as the scheduler and takes one job per episode."""

    def __init__(self, index: int, scheduler: Scheduler) -> None:
        self.index = index
        self.name = ""
        self.state = DONE
        self.wake_ms = 0.0
        self.is_victim = self.is_killed = self.may_hold_locks = False
        self.written: set[str] = set()  # tables, by the transaction under way
        self.counts: dict[str, int] = {}
        self.job: Callable[[], None] | None = None
        self.broken: BaseException | None = None
        self.connection: Any = None
        self.turn = threading.Lock()
        self.turn.acquire()
        self._scheduler = scheduler
        self.thread = threading.Thread(target=self._live, name=f"actor-{index}", daemon=True)
        self.thread.start()

    def _live(self) -> None:
        self.turn.acquire()
        self.connection = self._scheduler.connect()
        while self.job is not None:
            try:
                self.job()
            except Livelock:
                pass
            except BaseException as error:
                self.broken = error
            self._scheduler.finish(self)
            self.turn.acquire()
        self.connection.close()

    def begin(self, name: str, job: Callable[[], None]) -> None:
        """What this actor does in the coming episode."""
        self.name, self.job, self.state = name, job, READY
        self.wake_ms, self.counts, self.broken = 0.0, {}, None
        self.is_victim = self.is_killed = self.may_hold_locks = False
        self.written = set()

    def come_back(self) -> None:
        """The killed process is started anew: nothing that waited for its commit is left."""
        self.is_killed = False
        if self.connection is not None:
            self.connection.run_on_commit = []


class Scheduler:
    """Runs jobs as actors by a schedule. ``on_commit(actor, tables)`` is called after every transaction that wrote."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.running: Actor | None = None
        self.on_commit: Callable[[Actor, frozenset[str]], None] = lambda actor, tables: None
        self.trace: list[str] = []
        self.dirty: dict[str, bool] = {}  # table -> whether more than new rows were written
        self.met: list[Fault] = []
        self.decisions = self.steps = self.deadlocks = self.commits = 0
        self.is_stuck = False
        self._pool: list[Actor] = []
        self._actors: list[Actor] = []
        self._schedule: tuple[int, ...] = ()
        self._faults: dict[tuple[str, str, int], Fault] = {}
        self._known = {thread.name for thread in threading.enumerate()}
        self._over = threading.Lock()
        self._over.acquire()
        clock.on_sleep = self.sleep

    def whose(self) -> str:
        """Name of whoever runs now; "house" between episodes."""
        return self.running.name if self.running is not None else "house"

    # -- an episode ------------------------------------------------------------------------------------------------

    def run(self, jobs: Mapping[str, Callable[[], None]], schedule: tuple[int, ...], faults: Iterable[Fault]) -> None:
        """All jobs to their end. An actor that broke outside its job's own care raises here."""
        while len(self._pool) < len(jobs):
            self._pool.append(Actor(len(self._pool), self))
        self._actors = self._pool[: len(jobs)]
        self._schedule, self._faults = schedule, {(f.actor, f.site, f.nth): f for f in faults}
        self.trace, self.met, self.dirty = [], [], {}
        self.decisions = self.steps = self.deadlocks = self.commits = 0
        self.is_stuck = False
        for actor, (name, job) in zip(self._actors, jobs.items(), strict=True):
            actor.begin(name, job)
        if self._actors:
            first = self._choose(None)
            self.running = first
            first.turn.release()
            self._over.acquire()
        self.running = None
        for actor in self._actors:
            if actor.broken is not None:
                raise actor.broken
        if (
            strangers := {thread.name for thread in threading.enumerate()}
            - self._known
            - {a.thread.name for a in self._pool}
        ):
            raise StrangeThread(f"not by plan: {sorted(strangers)} were started and run beside the actors")

    def close(self) -> None:
        """End every actor's thread and connection."""
        for actor in self._pool:
            actor.job = None
            actor.turn.release()
            actor.thread.join(10)
        self._pool = []

    def finish(self, actor: Actor) -> None:
        """The actor's job is done; the next goes on, or the episode is over."""
        actor.state = DONE
        self._release_parked()
        if all(other.state == DONE for other in self._actors):
            self._over.release()
            return
        following = self._choose(None)
        self.running = following
        following.turn.release()

    # -- giving way ------------------------------------------------------------------------------------------------

    def pause(self, site: str) -> str:
        """A yield point. Returns the kind of fault that strikes here, or "". Killed."""
        actor = self.running
        if actor is None:
            return ""
        if actor.is_killed:
            raise Killed
        self.steps += 1
        self.clock.advance(STEP_S)
        if self.steps > MAX_STEPS or self.is_stuck:
            self.is_stuck = True
            raise Livelock
        number = actor.counts[site] = actor.counts.get(site, 0) + 1
        self._give_way(actor)
        fault = self._faults.get((actor.name, site, number))
        if fault is None or site not in FAULTS.get(fault.kind, ()):
            return ""
        self.met.append(fault)
        self.note(f"fault {fault.kind} at {site} {number}")
        if fault.kind == "kill":
            actor.is_killed = True
            raise Killed
        return fault.kind

    def note(self, what: str) -> None:
        """One line of the trace."""
        self.trace.append(f"{self.clock.elapsed_ms:.1f} {self.whose()} {what}")

    def sleep(self, duration_s: float) -> bool:
        """The running actor sleeps in virtual time; False when nobody runs."""
        return self.sleep_until_ms(self.clock.elapsed_ms + duration_s * 1000)

    def sleep_until_ms(self, at_ms: float) -> bool:
        """The running actor goes on at ``at_ms`` of the episode, or later. (A thread that is no actor never waits.)"""
        actor = self.running
        if actor is None or threading.current_thread() is not actor.thread:
            return False
        if at_ms > self.clock.elapsed_ms:
            self.steps += 1
            if self.steps > MAX_STEPS:
                self.is_stuck = True
                raise Livelock
            actor.state, actor.wake_ms = SLEEPING, at_ms
            self._give_way(actor)
        return True

    def _give_way(self, actor: Actor) -> None:
        following = self._choose(actor)
        if following is not actor:
            self.running = following
            following.turn.release()
            actor.turn.acquire()

    def _choose(self, current: Actor | None) -> Actor:
        """Who goes on, by the plan's next number. A sleeper may be chosen: then time jumps, and the rest is slow."""
        start = current.index if current is not None else 0
        count = len(self._actors)
        ring = [self._actors[(start + k) % count] for k in range(count)]
        able = [actor for actor in ring if actor.state in (READY, SLEEPING)]
        if not able:
            return self._victim([actor for actor in ring if actor.state == BLOCKED])
        chosen = able[0] if len(able) == 1 else able[self._decide() % len(able)]
        if chosen.state == SLEEPING:
            self.clock.advance_to_ms(chosen.wake_ms)
            chosen.state = READY
        return chosen

    def _decide(self) -> int:
        number = self._schedule[self.decisions] if self.decisions < len(self._schedule) else 0
        self.decisions += 1
        return number

    def _victim(self, parked: list[Actor]) -> Actor:
        """Everybody waits for somebody: PostgreSQL would end one of them."""
        chosen = parked[self._decide() % len(parked)]
        chosen.is_victim, chosen.state = True, READY
        self.deadlocks += 1
        return chosen

    def _park(self, actor: Actor) -> bool:
        """Wait until somebody's transaction ends; False when this actor was made the victim of a deadlock."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            self.is_stuck = True
            raise Livelock
        actor.state = BLOCKED
        self.note("waits")
        self._give_way(actor)
        is_victim, actor.is_victim = actor.is_victim, False
        return not is_victim

    def _release_parked(self) -> None:
        for actor in self._actors:
            if actor.state == BLOCKED:
                actor.state = READY

    # -- the connection --------------------------------------------------------------------------------------------

    def connect(self) -> Any:
        """This thread's connection, hooked: every statement, savepoint, COMMIT and ROLLBACK passes here."""
        connection: Any = connections["default"]
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = '{LOCK_TIMEOUT_MS}ms'")
        keep_plans(connection.connection)
        connection.execute_wrappers.append(self._statement)
        commit, rollback = connection._commit, connection._rollback
        connection._commit = functools.partial(self._commit, connection, commit)
        connection._rollback = functools.partial(self._rollback, rollback)
        return connection

    def _statement(self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        actor = self.running
        if actor is None or context["connection"] is not actor.connection:
            return execute(sql, params, many, context)
        statement = classify(sql)
        kind = self.pause("statement")
        if kind in ERRORS:
            return self._fail_in_database(kind, context)
        connection = context["connection"]
        try:
            if statement.may_block:
                outcome = self._try_until_free(actor, execute, sql, params, many, context)
            else:
                outcome = execute(sql, params, many, context)
        except DatabaseError as error:
            self.note(f"{statement.verb} {statement.table} -> {type(error).__name__}")
            raise
        rows = getattr(context["cursor"], "rowcount", "")
        self.note(f"{statement.verb} {statement.table} -> {rows}")
        if statement.is_write:
            is_more = statement.verb != "INSERT"
            for table in statement.written:
                self.dirty[table] = self.dirty.get(table, False) or is_more
            actor.written |= statement.written
            if not connection.in_atomic_block:
                self._ended(actor, is_committed=True)
                self.pause("committed")
        return outcome

    def _try_until_free(
        self, actor: Actor, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        connection = context["connection"]
        is_inside = connection.in_atomic_block
        actor.may_hold_locks = is_inside
        if not self._is_anybody_in_the_way_of(actor):
            return execute(sql, params, many, context)
        if is_inside:
            _raw(connection, b"SAVEPOINT sim")
        while True:
            try:
                return execute(sql, params, many, context)
            except OperationalError as error:
                if not isinstance(error.__cause__, pg_errors.LockNotAvailable):
                    raise
            if is_inside:
                _raw(connection, b"ROLLBACK TO SAVEPOINT sim")
            connection.errors_occurred = False
            if not self._park(actor):
                return self._fail_in_database("deadlock", context)

    def _is_anybody_in_the_way_of(self, actor: Actor) -> bool:
        """Whether a lock of somebody's open transaction can hold this actor up: else it need not go carefully."""
        return any(other.may_hold_locks for other in self._actors if other is not actor)

    def _fail_in_database(self, kind: str, context: dict[str, Any]) -> Any:
        """The error as PostgreSQL gives it: the transaction is really aborted by it. (Not by the statement's own way
        of executing, which may want rows of parameters.)"""
        failing = f"DO $$ BEGIN RAISE EXCEPTION 'simulated {kind}' USING ERRCODE = '{ERRORS[kind]}'; END $$"
        return context["cursor"]._execute(failing, None)

    def _commit(self, connection: BaseDatabaseWrapper, commit: Callable[[], None]) -> None:
        actor = self.running
        if actor is None:
            commit()
            return
        try:
            kind = self.pause("commit")
            if kind == "lost_before_commit":
                raise OperationalError("simulated: the connection was lost before COMMIT")
            if actor.written and self._is_anybody_in_the_way_of(actor):
                self._check_deferred(actor, connection)
        except (Killed, Livelock):  # Django would not roll back what failed to commit by no error of the database
            connection.rollback()
            raise
        commit()
        self.note("COMMIT")
        self._ended(actor, is_committed=True)
        if kind == "lost_after_commit":
            raise OperationalError("simulated: the connection was lost after COMMIT")
        self.pause("committed")

    def _check_deferred(self, actor: Actor, connection: BaseDatabaseWrapper) -> None:
        """What COMMIT would look at, and might wait for: deferred foreign keys."""
        with connection.wrap_database_errors:
            while True:
                try:
                    _raw(connection, b"SAVEPOINT sim; SET CONSTRAINTS ALL IMMEDIATE")
                    return
                except pg_errors.LockNotAvailable:
                    _raw(connection, b"ROLLBACK TO SAVEPOINT sim")
                if not self._park(actor):
                    raise pg_errors.DeadlockDetected("simulated deadlock")

    def _rollback(self, rollback: Callable[[], None]) -> None:
        rollback()
        if self.running is not None:
            self.note("ROLLBACK")
            self._ended(self.running, is_committed=False)

    def _ended(self, actor: Actor, *, is_committed: bool) -> None:
        tables, actor.written, actor.may_hold_locks = frozenset(actor.written), set(), False
        self._release_parked()
        if is_committed and tables:
            self.commits += 1
            self.on_commit(actor, tables)


def _raw(connection: BaseDatabaseWrapper, statement: bytes) -> None:
    """Run a statement of ours beside Django, in the transaction that stands."""
    wire = connection.connection.pgconn
    if wire.transaction_status == TransactionStatus.IDLE:
        statement = b"BEGIN; " + statement
    result = wire.exec_(statement)
    if result.status == ExecStatus.FATAL_ERROR:
        raise pg_errors.error_from_result(result)
