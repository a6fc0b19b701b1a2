"""One machine, tended: lease, keeper side, store side and executor, each in its thread, until told to go.

``MachineLoop.run`` is what the Celery task ``tend_machine`` calls. Every part is a ``tick`` of its own, so that
a test can step it without threads. If the store cannot be reached the loop is *unreachable*, not *lost*: it
goes on reading, journals, makes safe by its interlocks, and executes nothing. If another token appears, or the
keeper says *fenced*, it lets go at once.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, connection

from commands.execution import Executor
from commands.loop import lease
from commands.loop.keeper_side import KeeperSide, Resume
from commands.loop.machine_facts import config_of, facts_of
from commands.loop.store_side import LeaseLost, NotOurs, StoreSide
from drivers import keeper_config
from drivers.keeper_client import KeeperClient
from drivers.keeper_config import KeeperConfig
from drivers.keeper_record import LatchFile
from drivers.port import DriverError
from kernel import clock, ids, live
from kernel.log_lines import add_log_ids
from kernel.prepared import Prepared, PreparedObjects
from roasts import services as roast_services
from roasts.models import Machine, MachineReading
from roasts.recording import services_planned
from roasts.recording.backlog import Backlog

logger = logging.getLogger(__name__)
STORE_EVERY_S = 0.1
EXECUTE_EVERY_S = 0.1
#: Where every approval is heard of at once and nothing waits, looking is only the net below.
LISTEN_EVERY_S = 0.4
#: How often it is asked whether this process is leaving.
LEAVE_EVERY_S = 0.25
BACKOFF_S = 0.5


_MACHINE = PreparedObjects(
    lambda machine: Machine.objects.select_related("organization").filter(pk=machine, is_archived=False).order_by(),
    "machine",
)
_READING = Prepared(
    lambda machine: MachineReading.objects.filter(pk=machine).order_by().values_list("connection_id", "filed_sequence"),
    "machine",
)


class MachineLoop:
    """All that tends one machine. Make it with :meth:`begin`."""

    def __init__(self, machine: Machine, config: KeeperConfig, *, owner: str, token: int, data_dir: Path) -> None:
        self.machine = machine
        self.owner = owner
        self.token = token
        self.stop = threading.Event()
        self.why = ""
        self.backlog = Backlog(data_dir / "journal" / f"{machine.pk}.readings.ndjson")
        self.keeper_side = KeeperSide(
            facts_of(machine),
            config,
            token=token,
            data_dir=data_dir,
            backlog=self.backlog,
            resume=self._resume(),
        )
        self.store_side = StoreSide(
            machine, owner=owner, token=token, keeper_side=self.keeper_side, backlog=self.backlog, data_dir=data_dir
        )
        self.executor = Executor(
            machine, config, token=token, keeper_side=self.keeper_side, shows=self.store_side.shows
        )

    @classmethod
    def begin(cls, machine_id: str) -> MachineLoop | None:
        """Take the machine's lease and get ready; None where somebody else tends it or it is gone."""
        machine = _MACHINE.first(machine=machine_id)
        if machine is None or machine.is_remote:
            return None
        owner = f"{settings.HOST_NAME}:{os.getpid()}:{ids.new('own')[-6:]}"
        token = lease.take_lease(machine_id, owner=owner, now=clock.now())
        if token is None:
            return None
        config = config_of(machine, settings.RUN_DIR)
        keeper_config.write(settings.RUN_DIR, config)
        token = _token_above(config, machine_id, owner, token)
        if _READING.first(machine=machine_id) is None:
            MachineReading.objects.get_or_create(machine=machine)
        loop = cls(machine, config, owner=owner, token=token, data_dir=settings.DATA_DIR)
        # Reading back took its time of the lease: begin with a whole one, or not at all.
        return loop if lease.renew_lease(machine_id, owner=owner, token=token, now=clock.now()) else None

    def _resume(self) -> Resume:
        """File what an earlier loop journalled, then read back where it left off."""
        while batch := self.backlog.take(500):
            roast_services.file_decisions(self.machine, batch, now=clock.now())
            self.backlog.done()
        roast_id, recording = roast_services.resume_state(self.machine.pk)
        ((connection_id, filed_sequence),) = _READING.rows(machine=self.machine.pk)
        planned = services_planned.planned_batch(self.machine.pk)
        return Resume(roast_id, recording, connection_id, filed_sequence, planned)

    def run(self, is_leaving: Callable[[], bool]) -> str:
        """Tend until told to go; says why it ended. Hands the lease over in order where it can."""
        threads = [
            threading.Thread(target=self._run_follower, name=self._name("follow"), daemon=True),
            threading.Thread(target=self._run_keeper_side, name=self._name("keeper"), daemon=True),
            threading.Thread(target=self._run_store_side, name=self._name("store"), daemon=True),
            threading.Thread(target=self._run_executor, name=self._name("execute"), daemon=True),
        ]
        for thread in threads:
            thread.start()
        while not self.stop.is_set():
            if is_leaving():
                self._leave("leaving")
            clock.wait(self.stop, LEAVE_EVERY_S)
        for thread in threads:
            thread.join(timeout=4.0)
        self._hand_over()
        return self.why

    def _leave(self, why: str) -> None:
        self.why = self.why or why
        self.stop.set()

    def _name(self, part: str) -> str:
        return f"{part}-{self.machine.pk[-6:]}"

    def _note_ids(self) -> None:
        """What this thread logs from here on is about this machine, and the roast in it now."""
        add_log_ids(machine_id=self.machine.pk, roast_id=self.keeper_side.view.roast_id)

    def _run_follower(self) -> None:
        self._note_ids()
        self.keeper_side.follow(self.stop)

    def _run_keeper_side(self) -> None:
        while not self.stop.is_set():
            self._note_ids()
            try:
                self.keeper_side.tick()
                if self.keeper_side.is_fenced:
                    self._leave("fenced")
            except Exception:  # the outermost loop: interlocks and heartbeat must survive one bad event
                logger.exception("the keeper side of %s stumbled", self.machine.pk)
        self.keeper_side.close()

    def _run_store_side(self) -> None:
        """The store's thread: an outage is waited out, never mistaken for a lost lease."""
        while not self.stop.is_set():
            self._note_ids()
            try:
                if not self.store_side.tick(clock.now()):
                    clock.wait(self.store_side.asked, STORE_EVERY_S)
            except LeaseLost:
                logger.warning("%s: another loop has the lease; letting go", self.machine.pk)
                self._leave("lease_lost")
            except NotOurs:
                logger.warning("%s: archived, or fed by a bridge now; letting go", self.machine.pk)
                self._leave("not_ours")
            except DatabaseError as error:
                logger.warning("%s: the store is unreachable: %s", self.machine.pk, error)
                connection.close()
                clock.wait(self.stop, BACKOFF_S)
            except Exception:  # the outermost loop
                logger.exception("the store side of %s stumbled", self.machine.pk)
                clock.wait(self.stop, BACKOFF_S)
        connection.close()

    def _run_executor(self) -> None:
        with live.waiter(f"machine:{self.machine.pk}") as waiter:
            while not self.stop.is_set():
                self._note_ids()
                try:
                    if not self.executor.tick(clock.now()):
                        is_quiet = live.is_heard() and not self.executor.has_more_to_do
                        waiter.wait(LISTEN_EVERY_S if is_quiet else EXECUTE_EVERY_S)
                except DatabaseError as error:
                    logger.warning("%s: nothing is executed, the store is unreachable: %s", self.machine.pk, error)
                    connection.close()
                    clock.wait(self.stop, BACKOFF_S)
                except Exception:  # the outermost loop
                    logger.exception("the executor of %s stumbled", self.machine.pk)
                    clock.wait(self.stop, BACKOFF_S)
        self.executor.close()
        connection.close()

    def _hand_over(self) -> None:
        """File what is left, else keep it on disk; then let the next one have the lease at once."""
        try:
            if self.why in ("leaving", "not_ours"):
                self.store_side.file_rest(clock.now())
                lease.give_up_lease(self.machine.pk, owner=self.owner, token=self.token, now=clock.now())
        except DatabaseError as error:
            logger.warning("%s: handed over without the store: %s", self.machine.pk, error)
        finally:
            if self.why in ("leaving", "not_ours"):
                self.backlog.spill()


def _token_above(config: KeeperConfig, machine_id: str, owner: str, token: int) -> int:
    """Our lease is good, but the keeper has seen a higher token (a store that was reset): rise above it."""
    client = KeeperClient(config.socket, 0.5)
    try:
        seen = int(client.status()["token"])
    except DriverError:
        seen = _token_on_disk(config)
    finally:
        client.close()
    if seen < token:
        return token
    raised = lease.raise_token(machine_id, owner=owner, token=token, to=seen + 1)
    return seen + 1 if raised else token


def _token_on_disk(config: KeeperConfig) -> int:
    return LatchFile(config.latch_file).token
