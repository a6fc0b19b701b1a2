"""What an actor can do in an episode: one function per verb, straight on the product's services, as its caller would.

Orders are named symbolically: ``order: k`` is the k-th order of the machine, counted round.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from commands import services, tasks
from commands.execution import Executor
from commands.loop import lease, order_aborts, reconcile, tending
from commands.models import Execution, Grant, Halt, Proposal
from commands.records import doubts
from drivers.keeper_client import KeeperRefused
from kernel import clock, errors
from kernel.models import Agent
from kernel.principals import Principal, system_principal
from kernel.sealer import Sealer
from simulation.beginning import FIRST_LOOP
from simulation.plan import Operation
from simulation.scheduler import Killed
from simulation.sim_keeper import LoopClient
from simulation.world import World

LOOP_TICKS = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What the caller was told: HTTP's status, the code, and what was made or moved."""

    status: int
    code: str = ""
    subject: str = ""
    is_unknown: bool = False  # the connection was lost or the process killed: it may or may not have happened
    surprise: str = ""  # an exception nobody foresaw


@dataclasses.dataclass(slots=True)
class Call:
    """One operation under way. ``now`` is read once, as every caller does."""

    world: World
    actor: str
    operation: Operation
    now: dt.datetime
    #: The order the operation names, as it stood before: its id.
    order_id: str = ""

    def argument(self, name: str, default: Any = None) -> Any:
        return self.operation.arguments.get(name, default)

    @property
    def who(self) -> Principal:
        return self.world.cast.principals[self.argument("who", "operator")]

    def order(self) -> Proposal:
        """As the caller names it: by id. (Every service reads the row anew.)"""
        return Proposal(pk=self.order_id)


Verb = Callable[[Call], str]


def perform(world: World, actor: str, operation: Operation) -> tuple[Call, Answer]:
    """Carry out one operation and say what its caller was told."""
    call = Call(world, actor, operation, clock.now())
    number = call.argument("order")
    if number is not None and world.orders:
        call.order_id = world.orders[int(number) % len(world.orders)]
    try:
        return call, Answer(200, subject=VERBS[operation.verb](call))
    except Killed:
        return call, Answer(0, "killed", is_unknown=True)
    except Exception as error:
        return call, _answer(error)


def _answer(error: Exception) -> Answer:
    """As the API answers it; what it has no answer for is a surprise."""
    if isinstance(error, KeeperRefused):
        return Answer(409, error.code)
    response = errors.answer_exception(error, {})
    if response is None:
        return Answer(500, type(error).__name__, surprise=f"{type(error).__name__}: {error}"[:300])
    code = str(response.data.get("error", ""))
    return Answer(response.status_code, code, is_unknown=response.status_code == 503)


def _propose(call: Call) -> str:
    call.world.show_reading()
    proposal = services.propose_order(
        call.who, machine=call.world.machine, order_type=call.argument("order_type"),
        target_value=float(call.argument("target")), target_unit="step", reasoning="It rises too fast.", now=call.now,
    )  # fmt: skip
    call.world.remember(proposal)
    return proposal.pk


def _approve(call: Call) -> str:
    digest = call.world.digests.get(call.order_id, "") if call.argument("is_right", True) else "0" * 64
    return services.approve_proposal(call.who, call.order(), digest=digest, now=call.now).pk


def _reject(call: Call) -> str:
    return services.reject_proposal(call.who, call.order(), code="WRONG_TIMING", text="", now=call.now).pk


def _veto(call: Call) -> str:
    return services.veto_proposal(call.who, call.order(), now=call.now).pk


def _release(call: Call) -> str:
    """The sweeper's other half: veto windows that ended."""
    call.world.show_reading()
    return str(services.release_due(now=call.now))


def _abort(call: Call) -> str:
    return services.abort_proposal(call.who, call.order(), now=call.now).pk


def _adopt(call: Call) -> str:
    call.world.show_reading()
    made = services.adopt_proposal(call.who, call.order(), now=call.now)
    call.world.remember(made)
    return made.pk


def _resolve(call: Call) -> str:
    """A person at the machine says what it reads."""
    call.world.show_reading()
    return doubts.resolve_doubt(
        call.who, call.order(), reads_step=call.argument("reads"), reads_state=None, evidence="Read it off the panel.",
        now=call.now,
    ).pk  # fmt: skip


def _expire(call: Call) -> str:
    return str(tasks.sweep())


def _void(call: Call) -> str:
    """The loop sees that somebody turned a knob by hand."""
    reading = dataclasses.replace(
        call.world.keeper.read(call.now, clock.monotonic()), fan_step=call.world.keeper.steps["fan"] + 1
    )
    return ",".join(order.pk for order in services.void_held(call.world.machine, reading=reading, now=call.now))


def _stop(call: Call) -> str:
    """STOP by a person, or an interlock: the wire first, the record after."""
    if call.argument("is_wired", True):
        call.world.keeper.make_safe(f"stop-{call.actor}")
    kind = call.argument("kind", Halt.Kind.STOP.value)
    by = call.who if kind == Halt.Kind.STOP else system_principal("machine loop", call.world.machine.organization)
    return services.open_halt(call.world.machine, kind=kind, by=by, stop_id=f"stop-{call.actor}", now=call.now).pk


def _reset(call: Call) -> str:
    halt = Halt.objects.filter(machine=call.world.machine, closed_at__isnull=True).order_by("id").first()
    if halt is None:
        return ""
    services.reset_halt(call.who, halt, reason="Looked at it.", now=call.now)
    call.world.keeper.release()
    return halt.pk


def _suspend(call: Call) -> str:
    return services.suspend_agents(call.who, call.world.machine, now=call.now).pk


def _resume(call: Call) -> str:
    given_back = services.resume_agents(call.who, call.world.machine, now=call.now)
    return given_back.pk if given_back is not None else ""


def _pause_orders(call: Call) -> str:
    return str(services.pause_orders(call.world.machine, code="link_lost", now=call.now))


def _resume_orders(call: Call) -> str:
    call.world.show_reading()
    return str(services.resume_orders(call.who, call.world.machine, now=call.now))


def _agent(call: Call) -> Agent:
    return call.world.cast.agents[call.argument("agent", "agent_a")]


def _grant(call: Call) -> str:
    return services.grant_autonomy(
        call.who, agent=_agent(call), machine=call.world.machine, level=call.argument("level", "L3"), now=call.now
    ).pk


def _revoke(call: Call) -> str:
    grant = Grant.objects.filter(agent=_agent(call), machine=call.world.machine, revoked_at__isnull=True).first()
    return services.revoke_grant(call.who, grant, now=call.now).pk if grant is not None else ""


class _Side:
    """What an executor sees of its keeper's side."""

    is_fenced = False
    is_machine_known = True

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def view(self) -> Any:
        return self._world.view()


def executor(world: World, token: int) -> Executor:
    """The product's executor on the simulated keeper."""
    config: Any = SimpleNamespace(socket="")
    side: Any = _Side(world)
    made = Executor(
        world.machine, config, token=token, keeper_side=side, shows=lambda _reading: True,
        heed=order_aborts.heeding_nobody,
    )  # fmt: skip
    made._client = LoopClient(world.keeper)  # type: ignore[assignment]
    return made


def _tick(call: Call) -> str:
    """The loop that holds the machine since before the episode carries out what is ready."""
    worker = executor(call.world, int(call.argument("token", 1)))
    count = 0
    for _ in range(int(call.argument("times", 1))):
        count += bool(worker.tick(clock.now()))
    return str(count)


def _take_over(call: Call) -> str:
    """Another process takes the machine when its lease has run out, and works it."""
    token = lease.take_lease(call.world.machine.pk, owner=call.actor, now=call.now)
    if token is None:
        return ""
    LoopClient(call.world.keeper).hello(token)
    worker = executor(call.world, token)
    for _ in range(int(call.argument("times", 1))):
        worker.tick(clock.now())
    return str(token)


def _renew(call: Call) -> str:
    return str(lease.renew_lease(call.world.machine.pk, owner=FIRST_LOOP, token=1, now=call.now))


def _give_up(call: Call) -> str:
    return str(lease.give_up_lease(call.world.machine.pk, owner=FIRST_LOOP, token=1, now=call.now))


def _reconcile(call: Call) -> str:
    """A loop's first act after a crash: mark what was on the wire, resolve it by reading."""
    marked = reconcile.mark_orphans(call.world.machine, now=call.now)
    client: Any = LoopClient(call.world.keeper)
    resolved = reconcile.resolve_doubts(
        call.world.machine, client, call.world.view(), await_shown=lambda _reading: None, now=clock.now(),
        now_s=clock.monotonic(),
    )  # fmt: skip
    return f"{marked}/{resolved}"


def _seal(call: Call) -> str:
    """One candidate for the sealer's lease."""
    sealer = Sealer(call.argument("owner", call.actor))
    count = 0
    for _ in range(LOOP_TICKS):
        count += bool(sealer.tick(clock.now()))
    return str(count)


def _beat(call: Call) -> str:
    """The beat's task: wake a loop for every machine nobody tends."""
    return str(tending.ensure_machines_tended())


def _work(call: Call) -> str:
    """A worker takes messages and does what they say; a message only wakes."""
    done = []
    for _ in range(LOOP_TICKS):
        message = call.world.broker.take()
        if message is None:
            break
        if message.name == tending.TEND and message.args == [call.world.machine.pk]:
            done.append(_take_over(call))
        call.world.broker.acknowledge(message)
    return ",".join(done)


def _claim_again(call: Call) -> str:
    """A loop that was asleep holds an order it read long ago and claims it now."""
    worker = executor(call.world, int(call.argument("token", 1)))
    order = Proposal.objects.select_related("organization", "proposer_agent", "proposer_user").get(pk=call.order_id)
    call.world.scheduler.sleep(float(call.argument("slept_s", 0)))
    return str(worker.execute(order))


def executions_of(order_id: str) -> int:
    """How many attempts an order has."""
    return Execution.objects.filter(proposal_id=order_id).count()


VERBS: Mapping[str, Verb] = {
    "propose": _propose, "approve": _approve, "reject": _reject, "abort": _abort, "adopt": _adopt, "veto": _veto,
    "release": _release, "expire": _expire, "resolve": _resolve,
    "void": _void, "stop": _stop, "reset": _reset, "suspend": _suspend, "resume": _resume,
    "pause_orders": _pause_orders, "resume_orders": _resume_orders, "grant": _grant, "revoke": _revoke, "tick": _tick,
    "take_over": _take_over, "renew": _renew, "give_up": _give_up, "reconcile": _reconcile, "seal": _seal,
    "beat": _beat, "work": _work, "claim_again": _claim_again,
}  # fmt: skip
