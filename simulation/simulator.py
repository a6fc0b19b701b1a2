"""One plan, played: actors interleaved, faults struck, everything looked at after each commit, healed, and judged."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable

from commands import services
from commands.loop import lease
from commands.models import Proposal
from kernel import clock, live
from kernel.models import AuditEntry, StreamEvent
from simulation import race_oracle, verbs
from simulation.plan import Operation, Plan
from simulation.race_oracle import Asked, Commit, History, Sent
from simulation.race_picture import Picture
from simulation.scheduler import Actor, Livelock
from simulation.world import World

HEALED_AFTER_MS = 120_000.0
HEAL_ROUNDS, LOOP_TICKS = 12, 4
MESSAGE_FAULTS = ("duplicate", "delay", "reorder", "lose")


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one plan. ``failures`` is empty for a sound one; ``digest`` is of the trace (and of all rows,
    where asked for); ``met``: what was really seen, for the list of things that must be seen sometimes."""

    plan: Plan
    failures: tuple[str, ...]
    digest: str
    trace: tuple[str, ...]
    met: Counter[str]
    decisions: int
    commits: int


class Episode:
    """A plan under way."""

    def __init__(self, world: World, plan: Plan) -> None:
        self.world, self.plan = world, plan
        self.pictures: list[Picture] = []
        self.commits: list[Commit] = []
        self.asked: list[Asked] = []
        self.broken: list[str] = []
        self.met: Counter[str] = Counter()
        self._now_doing: dict[str, int] = {}  # actor -> number of its operation
        self._count = 0

    # -- the actors ---------------------------------------------------------------------------------------------

    def play(self) -> None:
        """All actors to their end."""
        scheduler = self.world.scheduler
        self._look()
        scheduler.on_commit = self._on_commit
        jobs = {name: self._job(name, operations) for name, operations in self.plan.actors.items()}
        faults = [fault for fault in self.plan.faults if fault.kind not in MESSAGE_FAULTS]
        scheduler.run(jobs, self.plan.schedule, faults)
        if scheduler.is_stuck:
            self.broken.append("the episode did not end")

    def _job(self, name: str, operations: tuple[Operation, ...]) -> Callable[[], None]:
        def job() -> None:
            for operation in operations:
                self._do(name, operation)

        return job

    def _do(self, name: str, operation: Operation) -> None:
        scheduler = self.world.scheduler
        scheduler.sleep_until_ms(operation.at_ms)
        self._count += 1
        number = self._now_doing[name] = self._count
        since, struck, deadlocks = len(self.commits), len(scheduler.met), scheduler.deadlocks
        scheduler.note(f"{operation.verb} {dict(sorted(operation.arguments.items()))}")
        call, answer = verbs.perform(self.world, name, operation)
        actor = scheduler.running
        if actor is not None and actor.is_killed:
            actor.come_back()
        scheduler.note(f"{operation.verb} is told {answer.status} {answer.code} {answer.subject}")
        is_struck = len(scheduler.met) > struck or scheduler.deadlocks > deadlocks
        self.asked.append(
            Asked(
                number, name, operation.verb, operation.arguments, call.order_id, call.now.timestamp(), since,
                len(self.commits), answer.status, answer.code, answer.subject, answer.is_unknown, is_struck,
                (self.world.clock.now() - call.now).total_seconds(),
            )
        )  # fmt: skip
        if answer.surprise:
            self.broken.append(f"{name} {operation.verb}: {answer.surprise}")
        told = "ok" if answer.status == 200 else "unknown" if answer.is_unknown else "refused"
        self.met[f"{operation.verb} {told}"] += 1

    def _on_commit(self, actor: Actor, tables: frozenset[str]) -> None:
        self.commits.append(Commit(len(self.commits), self._now_doing[actor.name]))
        self._look(tables)

    def _look(self, written: frozenset[str] | None = None) -> None:
        picture, broken = self.world.look(written)
        at = len(self.commits)
        self.broken += [f"after commit {at}: not so: {sentence} ({what})" for sentence, what in broken]
        if self.pictures:
            for change in self.pictures[-1].changes_to(picture):
                words = [change.kind, change.before, ">", change.after] if change.kind == "order" else [change.kind]
                self.met[" ".join(word for word in words if word)] += 1
        self.pictures.append(picture)

    # -- afterwards ---------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """No more faults: time passes, sweeper, loop and sealer go round; then nothing may be left undone."""
        world = self.world
        world.clock.advance_to_ms(HEALED_AFTER_MS)
        waiting = Proposal.objects.unsettled().filter(machine=world.machine)
        for _ in range(HEAL_ROUNDS):
            if not waiting.exists():
                break
            if services.expire_due(now=clock.now()) == 0:
                self._tend()
            world.clock.advance(4.0)
        else:
            left = ", ".join(f"{order.pk} {order.status}" for order in waiting.order_by("id"))
            self.broken.append(f"healed, and not settled: {left}")
        if self.plan.is_sealed:
            self._seal()
        _picture, broken = world.look()
        self.broken += [f"after healing: not so: {sentence} ({what})" for sentence, what in broken]

    def _tend(self) -> None:
        token = lease.take_lease(self.world.machine.pk, owner="loop-heal", now=clock.now())
        if token is None:
            return
        self.world.keeper.hello(token)
        worker = verbs.executor(self.world, token)
        for _ in range(LOOP_TICKS):
            if not worker.tick(clock.now()):
                break
        lease.give_up_lease(self.world.machine.pk, owner="loop-heal", token=token, now=clock.now())

    def _seal(self) -> None:
        sealer = verbs.Sealer("sealer-heal")
        for _ in range(HEAL_ROUNDS):
            self.world.clock.advance(4.0)
            if not sealer.tick(clock.now()):
                break
        if AuditEntry.objects.filter(seal__isnull=True).exists():
            self.broken.append("healed, and entries are not sealed")
        if StreamEvent.objects.filter(number__isnull=True).exists():
            self.broken.append("healed, and events have no number")

    def history(self) -> History:
        """What the oracle is shown."""
        cast = self.world.cast
        names = {agent.pk: name for name, agent in cast.agents.items()}
        names |= {principal.id: name for name, principal in cast.principals.items() if principal.is_person}
        sent = [
            Sent(write.order_id, min(write.index, len(self.pictures) - 1), write.token, write.is_after_latch)
            for write in self.world.keeper.writes
        ]
        return History(self.pictures, self.commits, self.asked, sent, names)


def run(world: World, plan: Plan, *, is_digested: bool = False) -> Outcome:
    """Play a plan from the beginning to its verdict. ``is_digested``: the digest covers every row written, too."""
    scheduler, broker = world.scheduler, world.broker
    world.begin(plan.seed, plan.machine, is_wired=plan.seed % 2 == 0)
    broker.faults = {fault.nth: fault.kind for fault in plan.faults if fault.kind in MESSAGE_FAULTS}
    broker.listen(live.SEALER_TOPIC, f"machine:{world.machine.pk}")
    episode = Episode(world, plan)
    dirty: dict[str, bool] = {}
    try:
        with world.noting_home_writes(dirty):
            episode.play()
            sent_before = len(world.keeper.writes)
            judged = race_oracle.judge(episode.history())
            if plan.is_healed:
                episode.heal()
        episode.broken += [f"told before it was committed: {what}" for what in broker.told_early]
        failures = [*judged, *episode.broken, *_sent_twice(world)]
        lines = [*scheduler.trace, f"healed; {len(world.keeper.writes) - sent_before} sent", *failures]
        if is_digested:
            lines.append(world.digest({**dirty, **scheduler.dirty}))
        met = episode.met
        met.update(f"fault {fault.kind} at {fault.site}" for fault in scheduler.met)
        met.update(f"fault {kind} of a message" for kind in broker.met)
        met.update(
            {"waits": sum(1 for line in scheduler.trace if line.endswith(" waits")), "deadlock": scheduler.deadlocks}
        )
        digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
        return Outcome(plan, tuple(failures), digest, tuple(lines), met, scheduler.decisions, len(episode.commits))
    finally:
        world.reset({**dirty, **{t: m or dirty.get(t, False) for t, m in scheduler.dirty.items()}})


def _sent_twice(world: World) -> list[str]:
    counts = Counter(write.order_id for write in world.keeper.writes)
    return [f"order {order_id} was sent {count} times" for order_id, count in sorted(counts.items()) if count > 1]


__all__ = ["Episode", "Livelock", "Outcome", "run"]
