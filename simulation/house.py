"""A whole house in one process and one thread: everything of the product but its threads, sockets and the real time.

Requests go through Django's handler over the real addresses; the machine loop, its executor and the keeper are the
product's own, ticked by hand; the roaster is the virtual R1 behind the real driver. Time passes only where somebody
sleeps or the house says so, and while somebody sleeps the others go on: `VirtualClock.on_sleep` leads back here.

    house = House(); house.build(); house.reset(seed=7)
    answer = house.post("operator", "/v1/proposals", {...}); house.pass_time(1.0)

A process may die (`Killed`, a BaseException) at a commit or at a byte on the wire: see :class:`Deaths`.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import pickle
import queue
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.db import connection

import drivers.virtual
from commands import tasks
from commands.loop import keeper_side, order_aborts
from commands.loop.machine_facts import config_of
from commands.loop.store_side import LeaseLost
from commands.machine_loop import MachineLoop
from commands.stop import asgi, wire
from drivers import keeper_client, keeper_config, keeper_process, keeper_record
from drivers.bullet import codec_r1
from drivers.keeper_config import KeeperConfig
from drivers.port import DriverError
from kernel import clock, draining, ids, live
from kernel.sealer import Sealer
from roasts.models import Machine
from simulation import house_people, planted
from simulation.house_http import Handler
from simulation.house_keeper import AtOnce, KeeperProcess, Line, events_after
from simulation.house_looks import Looks, has_json
from simulation.house_people import Names
from simulation.house_processes import Answer, Deaths, Killed, Process
from simulation.house_store import Store, clear_folder
from simulation.virtual_clock import Chance, VirtualClock, cpu_s

TURN_S = 0.25  # how often keeper and loop look, in virtual time
SWEEP_S = 2.0
COARSE_TURN_S, COARSE_FROM_S = 0.8, 4.0  # nothing of a long wait needs a look more often; more than 1 s is stale
LOOK_S = 2.0  # the loop looks around at least that often, whatever there is
WARM_UP_S = 40.0  # from the charge on: beans are proved in the drum by then
BEGIN_AGAIN_S = 3.1  # a dead worker's lease runs out, then the next one comes


_FOR_THE_EXECUTOR = ("APPROVED", "EXECUTING", "IN_DOUBT")


class _Waiting(queue.Queue):  # type: ignore[type-arg]
    """Events of the keeper for the loop: an empty queue is not waited for."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return super().get(block=False)


class HouseLoop(MachineLoop):
    """The product's loop. Reading back what a roast was costs what its samples cost: of one and the same store the
    answer is kept (``resumed``), until the house lets time pass."""

    resumed: Any = None  # of the store as it was kept
    is_fresh = False  # the store stands as it was kept

    def _resume(self) -> Any:
        if not HouseLoop.is_fresh:
            return super()._resume()
        if HouseLoop.resumed is None:
            HouseLoop.resumed = super()._resume()
        return HouseLoop.resumed


class House:
    """See the module. ``build`` once per process, ``reset`` before each example, ``close`` at the end."""

    def __init__(self, *, turn_s: float = TURN_S) -> None:
        self.clock = VirtualClock()
        self.store = Store()
        self.chance = Chance(lambda: "house")
        self.deaths = Deaths()
        self.names: Names
        self.machine: Any = None  # the virtual roaster
        self.keeper: KeeperProcess | None = None
        self.loop: HouseLoop | None = None
        self.trace: list[str] = []
        self.on_command: Callable[[bytes], None] = lambda data: None  # each as the machine takes it
        self.resets_ms: list[float] = []  # CPU time of each reset
        self.log_level = logging.CRITICAL
        self._turn_s = turn_s
        self._due_ms = self._sweep_ms = self._begin_loop_ms = 0.0
        self._looked_s = float("-inf")
        self._stack: list[Process] = []
        self._busy: set[str] = set()
        self._processes: dict[str, Process] = {}
        self._http = Handler()
        self._restores: list[Callable[[], Any]] = []
        self.looks = Looks(self.store)

    # -- building --

    def build(self) -> None:
        """Install clock, chance and store, make the rows, and roast until beans are proved; keep all that."""
        self.folder = Path(tempfile.mkdtemp(prefix="house-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        self._install()
        self.clock.on_sleep = self._sleep
        self.chance.restart(0)
        self.store.migrate()
        self.store.spoil(planted.statements())
        self.names = house_people.make(now=clock.now())
        self.config = config_of(Machine.objects.get(pk=self.names.machine_id), settings.RUN_DIR)
        keeper_config.ensure_stop_key(settings.RUN_DIR)
        self.backend = drivers.virtual.backend("bullet-r1", seed=1, initial_state="charge")
        self.machine = self.backend.machine
        self._begin_turns()
        self.pass_time(2.0)
        self.machine.act("charge_beans")
        self.pass_time(WARM_UP_S)
        self.machine.act("turn_knob", control="heater", step=5)
        self.machine.act("turn_knob", control="fan", step=4)
        self.pass_time(4.0)
        self.seal()
        if self.loop is not None:
            self.loop._leave("leaving")
            self.loop._hand_over()
        self._end_processes()
        self._keep()

    def _keep(self) -> None:
        self.store.keep()
        HouseLoop.resumed = None
        firmware, effects = self.machine.firmware, self.machine.effects
        firmware.note = None
        self._kept = (pickle.dumps((firmware, effects)), self.machine._ticks, self.clock.elapsed_ms)

    def reset(self, seed: int) -> None:
        """The same house as after building, with another seed's ids; nothing of the last example is left."""
        begun_s = cpu_s()
        self._put_back(seed)
        self.resets_ms.append((cpu_s() - begun_s) * 1000)

    def _put_back(self, seed: int) -> None:
        self._end_processes()
        self._busy.clear()
        self._stack.clear()
        self.deaths = Deaths()
        self.trace = []
        self.store.restore()
        live.forget_readings()
        draining.reset()
        cache.clear()
        clear_folder(self.folder, settings.RUN_DIR, keeper_config.STOP_KEY_NAME)
        self.clock.restart()
        self.clock.advance_to_ms(self._kept[2])
        self.chance.restart(seed)
        self._restore_machine()
        self._begin_turns()
        HouseLoop.is_fresh = True
        self.turn()
        HouseLoop.is_fresh = False

    def close(self) -> None:
        """Take everything out again."""
        self._end_processes()
        self.store.remove()
        for restore in reversed(self._restores):
            restore()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _install(self) -> None:
        """Every seam of the product that leads out of this thread leads here."""
        was = (settings.DATA_DIR, settings.RUN_DIR)
        settings.DATA_DIR, settings.RUN_DIR = self.folder, self.folder / "run"
        settings.RUN_DIR.mkdir(mode=0o700)

        def put_back() -> None:
            settings.DATA_DIR, settings.RUN_DIR = was

        self._restores.append(put_back)
        before_clock, before_ids = clock.install(self.clock), ids.install(self.chance.random_bytes)
        self._restores += [lambda: clock.install(before_clock), lambda: ids.install(before_ids)]
        before_dial = keeper_client.install_dial(self._dial)
        self._restores.append(lambda: keeper_client.install_dial(before_dial))
        self._replace(keeper_record, "Later", AtOnce)
        self._replace(keeper_process, "ensure_keeper", self._ensure_keeper)
        self._replace(keeper_process, "living_keeper", self._living_keeper)
        self._replace(asgi, "stop_machine", self._stop_machine)
        self.store.install()
        self.store.watcher = self._at_commit
        before_level = logging.root.manager.disable
        logging.disable(self.log_level)
        self._restores.append(lambda: logging.disable(before_level))

    def _replace(self, module: Any, name: str, value: Any) -> None:
        before = getattr(module, name)
        setattr(module, name, value)
        self._restores.append(lambda: setattr(module, name, before))

    def _restore_machine(self) -> None:
        kept, ticks, _ = self._kept
        fresh = drivers.virtual.backend("bullet-r1", seed=1, initial_state="off")
        machine = fresh.machine
        machine.firmware, machine.effects = pickle.loads(kept)  # a copy, and quicker than `copy` makes it
        machine.firmware.note = machine._note
        machine._ticks = ticks
        machine._started_s = self.clock.monotonic() - ticks / 10
        self.backend, self.machine = fresh, machine
        self._watch_wire()

    def _watch_wire(self) -> None:
        """Commands (not polls) on their way to the machine: where a keeper may die."""
        port: Any = self.backend.port
        take = port._take

        def taking(handle: int, data: bytes) -> None:
            is_command = data not in codec_r1.REQUESTS
            if is_command:
                self._at("wire_before")
            take(handle, data)
            if is_command:
                self.trace.append(f"wire {data.hex()}")
                self.on_command(data)
                self._at("wire_after")

        port._take = taking

    def disarm(self) -> None:
        """A fault of the next step that met no step strikes nobody later, when nobody knows of it."""
        faulty = self.machine.firmware.faulty
        faulty.steps_to_drop = faulty.steps_to_double = 0

    # -- time --

    def pass_time(self, duration_s: float) -> None:
        """Let virtual seconds pass; keeper, loop and sweeper do their work meanwhile."""
        fine_s, self._turn_s = self._turn_s, COARSE_TURN_S if duration_s >= COARSE_FROM_S else self._turn_s
        try:
            self._sleep(duration_s)
        finally:
            self._turn_s = fine_s

    def _sleep(self, duration_s: float) -> bool:
        if connection.in_atomic_block:
            raise AssertionError("somebody sleeps inside a transaction")
        until_ms = self.clock.elapsed_ms + max(0.0, duration_s) * 1000
        while self._due_ms <= until_ms:
            self.clock.advance_to_ms(self._due_ms)
            self._due_ms += self._turn_s * 1000
            self.turn()
        self.clock.advance_to_ms(until_ms)
        if self._stack and not self._stack[-1].is_alive:
            raise Killed(self._stack[-1])
        return True

    def turn(self) -> None:
        """One look of everybody."""
        self._turn_of("keeper", self._keeper_turn)
        if self.loop is None:
            self._turn_of("begin", self._begin_turn)
        for part, act in (("side", self._tick_sides), ("executor", self._tick_executor)):
            if self.loop is not None:
                self._turn_of(part, functools.partial(self._as, "worker", act))
        if self.clock.elapsed_ms >= self._sweep_ms and not self._is_in("worker"):
            self._sweep_ms = self.clock.elapsed_ms + SWEEP_S * 1000
            if self.has_orders("PENDING_APPROVAL", "APPROVED"):  # with none it finds nothing
                self._turn_of("sweep", lambda: self._as("worker", tasks.sweep))
            if self.looks.has_new_incidents():
                self._turn_of("breakers", lambda: self._as("worker", tasks.trip_breakers))

    def _turn_of(self, what: str, act: Callable[[], Any]) -> None:
        if what in self._busy:
            return
        self._busy.add(what)
        try:
            act()
        finally:
            self._busy.discard(what)

    def _begin_turns(self) -> None:
        self._due_ms = self.clock.elapsed_ms + self._turn_s * 1000
        self._sweep_ms = self.clock.elapsed_ms
        self._begin_loop_ms = 0.0
        self._looked_s = float("-inf")
        self._sealer: Sealer | None = None
        self._processes = {"web": Process("web"), "worker": Process("worker")}
        self._start_keeper()
        self._turn_of("keeper", self._keeper_turn)

    # -- processes, and how they die --

    def _is_in(self, name: str) -> bool:
        return any(process.name == name for process in self._stack)

    @contextmanager
    def _frame(self, process: Process) -> Iterator[None]:
        self._stack.append(process)
        try:
            yield
        finally:
            self._stack.pop()

    def _as(self, name: str, act: Callable[[], Any]) -> Any:
        """Run ``act`` in the process of that name; None where it died over it."""
        process = self._processes[name]
        try:
            with self._frame(process):
                return act()
        except Killed as killed:
            if killed.victim is not process:
                raise
            self._buried(process)
            return None

    def _at(self, site: str) -> None:
        """A point at which somebody may die."""
        if self._stack and self.deaths.is_due(site, self._stack[-1].name):
            victim = self._stack[-1]
            victim.is_alive = False
            self.trace.append(f"killed {victim.name} {site}")
            raise Killed(victim)

    def _at_commit(self, when: str) -> None:
        self._at(f"commit_{when}")

    def _buried(self, process: Process) -> None:
        """What the operating system, and the database, do for the dead."""
        if connection.in_atomic_block or connection.needs_rollback:
            connection.rollback()
            connection.in_atomic_block, connection.needs_rollback = False, False
            connection.savepoint_ids = []
            connection.set_autocommit(True)
        connection.run_on_commit = []
        self._processes[process.name] = Process(process.name)
        if process.name == "worker":
            self.loop = None
            self._sealer = None
            self._begin_loop_ms = self.clock.elapsed_ms + BEGIN_AGAIN_S * 1000
        elif process.name == "keeper" and self.keeper is not None:
            self._kill_keeper()

    def kill(self, name: str) -> None:
        """kill -9 from outside, between two steps."""
        self._processes[name].is_alive = False
        self.trace.append(f"killed {name}")
        self._buried(self._processes[name])

    def _kill_keeper(self) -> None:
        process, self.keeper = self.keeper, None
        if process is not None:
            process.die()
            self.machine.close_owner("local")

    def _end_processes(self) -> None:
        self.loop = None
        self._kill_keeper()

    # -- the keeper --

    def _start_keeper(self) -> None:
        self._processes["keeper"] = Process("keeper")
        self.keeper = KeeperProcess(self.config, self.backend)

    def _keeper_turn(self) -> None:
        keeper = self.keeper
        if keeper is not None:
            self._as("keeper", keeper.turn)

    def _serve(self, process: KeeperProcess, act: Callable[[], Any]) -> bool:
        """A request at the keeper; False where it died over it."""
        self._as("keeper", act)
        is_alive = process is self.keeper
        if is_alive and self._stack and self._stack[-1].name == "worker":
            self._at("apply_answered")
        if self._stack and not self._stack[-1].is_alive:
            raise Killed(self._stack[-1])
        return is_alive

    def _dial(self, path: str, timeout_s: float) -> Line:
        if self.keeper is None or path != self.config.socket:
            raise ConnectionRefusedError(path)
        return Line(self.keeper, self._serve)

    def _ensure_keeper(self, config: KeeperConfig, wait_s: float = 5.0) -> int:
        if self.keeper is None:
            self._start_keeper()
            self._turn_of("keeper", self._keeper_turn)
        return 1

    def _living_keeper(self, config: KeeperConfig) -> int | None:
        return 1 if self.keeper is not None else None

    # -- the worker --

    def _begin_turn(self) -> None:
        if self.clock.elapsed_ms >= self._begin_loop_ms and not self._is_in("worker"):
            self._as("worker", self._begin_loop)

    def _begin_loop(self) -> None:
        if self.keeper is None:
            self._ensure_keeper(self.config)
        loop = HouseLoop.begin(self.names.machine_id)
        if loop is None:
            self._begin_loop_ms = self.clock.elapsed_ms + 500
            return
        side = loop.keeper_side
        side._events = _Waiting()
        side._make_safe = lambda code, stop_id, *, is_new: self._make_safe(side, code, stop_id, is_new)  # type: ignore[method-assign]
        loop.executor._heed = order_aborts.heeding_nobody
        self.loop = loop  # type: ignore[assignment]
        self._followed: KeeperProcess | None = None

    def _make_safe(self, side: keeper_side.KeeperSide, code: str, stop_id: str, is_new: bool) -> None:
        self._turn_of("safe", lambda: side._stop_at_keeper(code, stop_id, is_new))

    def _tick_sides(self) -> None:
        """What follower, keeper side and store side do in their threads."""
        loop = self.loop
        if loop is None:
            return
        self._follow(loop.keeper_side)
        loop.keeper_side.tick()
        while loop.keeper_side._events.qsize():
            loop.keeper_side.tick()
        self._spare_the_look(loop)
        try:
            while loop.store_side.tick(clock.now()):
                continue
        except LeaseLost:
            self._let_go(loop, "lease_lost")
            return
        if loop.keeper_side.is_fenced:
            self._let_go(loop, "fenced")

    def _tick_executor(self) -> None:
        """Only where an order is approved, on the wire or in doubt: with none it would look and find nothing."""
        if self.loop is not None and self.has_orders(*_FOR_THE_EXECUTOR):
            self.loop.executor.tick(clock.now())

    def has_orders(self, *statuses: str) -> bool:
        return self.looks.has_orders(self.names.machine_id, *statuses)

    def _spare_the_look(self, loop: MachineLoop) -> None:
        """With nothing held, nothing halted and no latch, its look around finds nothing either: put it off."""
        side, store = loop.keeper_side, loop.store_side
        is_quiet = side.view.latch is None and not side.notes and clock.monotonic() - self._looked_s < LOOK_S
        if is_quiet and not self.has_orders("PENDING_APPROVAL", "APPROVED") and not self._has_halts():
            store._halts_at_s = clock.monotonic()
        else:
            self._looked_s = clock.monotonic()

    def _has_halts(self) -> bool:
        return self.looks.has_halts(self.names.machine_id) or has_json(self.folder / "journal" / "halts")

    def _let_go(self, loop: MachineLoop, why: str) -> None:
        loop._leave(why)
        loop._hand_over()
        self.trace.append(f"let go {why}")
        self.loop = None
        self._begin_loop_ms = self.clock.elapsed_ms + BEGIN_AGAIN_S * 1000

    def _follow(self, side: keeper_side.KeeperSide) -> None:
        """What `KeeperSide.follow` does in its thread: revive, say hello, hand events on."""
        if self.keeper is None:
            if self._followed is not None:
                self._followed = None
                side._events.put({"event": "keeper_gone", "message": "killed"})
                return
            self._ensure_keeper(self.config)
        process = self.keeper
        if process is None:
            return
        keeper = process.keeper
        if process is not self._followed:
            self._followed = process
            latch, reading = keeper.latches.latch, keeper.reading
            is_same = side.view.boot_id in ("", keeper.boot_id)
            self._index = keeper.events.start_after(side.view.processed_sequence if is_same else -1)
            side._events.put({
                "event": "hello", "boot_id": keeper.boot_id, "newest_sequence": reading.sequence if reading else 0,
                "latched": latch.to_json() if latch else None,
                "link": {"state": keeper.link_state, "code": keeper.link_code, "message": keeper.link_message},
            })  # fmt: skip
            self._ask_who(side)
        found, self._index = events_after(process, self._index)
        for event in found:
            side._events.put(event)
            if event["event"] == "link" and event.get("state") == "up":
                self._ask_who(side)

    def _ask_who(self, side: keeper_side.KeeperSide) -> None:
        """Who the machine is, as the follower asks whenever it may be another one."""
        client = side._make_client(side.config)
        try:
            side._events.put(keeper_side._identity_event(client.status()))
        except (DriverError, OSError) as error:
            side._events.put({"event": "keeper_gone", "message": str(error)})
        finally:
            client.close()

    # -- STOP --

    def _stop_machine(
        self, machine_id: str, principal: Any, config: KeeperConfig | None, *, begun_s: float
    ) -> Coroutine[Any, Any, dict[str, Any]]:
        """`stopping.stop_machine` without its thread pools: the wire, then the journal, then the store. All is done
        when this returns; what it gives only has to be awaited."""
        note = asgi._new_note(machine_id, principal)
        if config is None:
            ended = note.ended(**asgi._failed("no_keeper_configured"))
        else:
            by = f"{principal.name} ({principal.id})"
            try:
                answer = wire.stop_through_keeper(config, by=by, reason="STOP", stop_id=note.stop_id)
                ended = note.ended(**asgi._outcome(answer, begun_s))
            except (DriverError, OSError):
                ended = asgi._revive(note, config, by, begun_s)
        halt_id = asgi._keep_and_file(ended)
        body = {
            "result": ended.result, "halt_id": halt_id or note.stop_id, "first_byte_ms": ended.first_byte_ms,
            "proved_ms": ended.proved_ms, "by_hand": ended.by_hand, "proof": ended.proof, "recorded": bool(halt_id),
        }  # fmt: skip

        async def done() -> dict[str, Any]:
            return body

        return done()

    # -- requests --

    def request(self, method: str, who: str, path: str, body: Any = None, *, key: str = "") -> Answer:
        """One request with that person's or agent's API key ("" is nobody)."""
        headers = {"HTTP_AUTHORIZATION": f"Bearer {self.names.keys[who]}"} if who else {}
        if key:
            headers["HTTP_IDEMPOTENCY_KEY"] = key
        data = json.dumps(body).encode() if body is not None else b""

        def send() -> Answer:
            response = self._http.ask(method, path, data, headers)
            is_json = response.get("Content-Type", "").startswith("application/json")
            return Answer(response.status_code, json.loads(response.content) if is_json else {})

        answer = self._as("web", send) or Answer(0, {})
        self.trace.append(f"{method} {who} {path} {answer.status} {answer.code}")
        return answer

    def post(self, who: str, path: str, body: Any = None, *, key: str = "") -> Answer:
        return self.request("POST", who, path, {} if body is None else body, key=key)

    def get(self, who: str, path: str) -> Answer:
        return self.request("GET", who, path)

    # -- two workers --

    def rival(self) -> HouseLoop | None:
        """Another worker tries to take the machine now; None where it may not."""
        found: list[HouseLoop | None] = []
        self._as("worker", lambda: found.append(HouseLoop.begin(self.names.machine_id)))  # type: ignore[arg-type]
        return found[0] if found else None

    def wake_sleeper(self, sleeper: MachineLoop) -> str:
        """A worker that slept while another took its machine goes on where it was; how it let go, or ""."""

        def go_on() -> str:
            sleeper.executor.tick(clock.now())
            try:
                sleeper.store_side.tick(clock.now())
            except LeaseLost:
                return "lease_lost"
            sleeper.keeper_side._beat()
            return "fenced" if sleeper.keeper_side.is_fenced else ""

        return str(self._as("worker", go_on) or "")

    # -- the audit trail --

    def seal(self) -> None:
        """What the sealer does within 200 ms."""
        if self._sealer is None:
            self._sealer = Sealer("house")
        while self._sealer.tick(clock.now()):
            continue
