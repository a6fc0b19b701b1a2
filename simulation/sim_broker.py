"""In place of Celery's broker: messages go through JSON into a queue of virtual time, and get lost like real ones.

It takes what `kernel.work` would send. A message that a worker took and did not acknowledge (it was killed) comes
back after VISIBLE_AGAIN_MS. Nudges (`kernel.live.wake`) are noted with whether a transaction was still open: what is
told before it is committed is told too early.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from kernel import live, work
from simulation.scheduler import Scheduler

VISIBLE_AGAIN_MS = 5_000.0
DELAY_MS = 700.0
MAX_QUEUED = 200
#: What may befall a message when it is published (site `message`).
FAULTS = ("duplicate", "delay", "reorder", "lose")


@dataclasses.dataclass(slots=True)
class Message:
    """One message on its way. ``text`` is what crossed the wire."""

    number: int
    text: str
    due_ms: float
    deliveries: int = 0

    @property
    def name(self) -> str:
        return str(json.loads(self.text)["name"])

    @property
    def args(self) -> list[Any]:
        return list(json.loads(self.text)["args"])


class _Nudges(live.Waiter):
    """Listens to one topic and notes who was told what inside a transaction."""

    def __init__(self, topic: str, broker: SimBroker) -> None:
        super().__init__(topic)
        self._broker = broker

    def nudge(self) -> None:
        self._broker.hear(self.topic)
        super().nudge()


class SimBroker:
    """Installed once per world; :meth:`begin` empties it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._hand_over_before = work._hand_over
        work._hand_over = self._take_in  # type: ignore[assignment]
        self._nudges: list[_Nudges] = []
        self.faults: dict[int, str] = {}
        self.begin()

    def begin(self) -> None:
        """An empty broker; ``faults`` (nth message published -> kind) are for the caller to set."""
        self.waiting: list[Message] = []
        self.taken: list[Message] = []
        self.published = self.lost = 0
        self.nudged: list[str] = []
        self.told_early: list[str] = []
        self.faults = {}
        self.met: list[str] = []

    def close(self) -> None:
        """Give the real way to the broker back."""
        work._hand_over = self._hand_over_before
        self.stop_listening()

    def listen(self, *topics: str) -> None:
        """Note nudges on these topics."""
        self.stop_listening()
        for topic in topics:
            sleeper = _Nudges(topic, self)
            live._waiters.setdefault(topic, set()).add(sleeper)
            self._nudges.append(sleeper)

    def stop_listening(self) -> None:
        for sleeper in self._nudges:
            sleeper.close()
        self._nudges = []

    def hear(self, topic: str) -> None:
        """Somebody nudged ``topic``."""
        self.nudged.append(topic)
        if self._is_in_transaction():
            self.told_early.append(f"nudge {topic}")

    def _is_in_transaction(self) -> bool:
        actor = self._scheduler.running
        return actor is not None and actor.connection is not None and actor.connection.in_atomic_block

    def _take_in(self, message: dict[str, Any]) -> None:
        self.published += 1
        if self._is_in_transaction():
            self.told_early.append(f"message {message['name']}")
        kind = self.faults.get(self.published, "")
        now_ms = self._scheduler.clock.elapsed_ms
        text = json.dumps(message, sort_keys=True)
        self._scheduler.note(f"publishes {text}" + (f" ({kind})" if kind else ""))
        if kind:
            self.met.append(kind)
        if kind == "lose":
            self.lost += 1
            return
        made = Message(self.published, text, now_ms + (DELAY_MS if kind == "delay" else 0.0))
        if len(self.waiting) < MAX_QUEUED:
            self.waiting.insert(0, made) if kind == "reorder" else self.waiting.append(made)
            if kind == "duplicate":
                self.waiting.append(dataclasses.replace(made))

    def take(self) -> Message | None:
        """The next message that is due; it stays taken until acknowledged, and comes back when that never happens."""
        now_ms = self._scheduler.clock.elapsed_ms
        for message in [each for each in self.taken if each.due_ms <= now_ms]:
            self.taken.remove(message)
            self.waiting.append(message)
        for message in self.waiting:
            if message.due_ms <= now_ms:
                self.waiting.remove(message)
                message.deliveries += 1
                message.due_ms = now_ms + VISIBLE_AGAIN_MS
                self.taken.append(message)
                return message
        return None

    def acknowledge(self, message: Message) -> None:
        """The work is done."""
        if message in self.taken:
            self.taken.remove(message)
