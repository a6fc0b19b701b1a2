"""What every steered driver does alike: one order at a time with STOP beside it, and an order's way to its receipt."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass, field

from drivers.port import (
    ABORTS_REMEMBERED,
    DriverError,
    NotSent,
    Outcome,
    Reading,
    Receipt,
    SettingOrder,
    StateOrder,
    WireWrite,
)


@dataclass(slots=True)
class Attempt:
    """What has happened so far to one order; becomes its receipt."""

    order_id: str
    started_s: float
    value_before: int | None = None
    value_after: int | None = None
    writes: list[WireWrite] = field(default_factory=list)
    has_tried: bool = False  # a write was begun: something may have left

    def receipt(
        self, outcome: Outcome, reason: str = "", message: str = "", *, proof: Reading | None = None,
    ) -> Receipt:
        """The receipt, as of now."""
        return Receipt(
            order_id=self.order_id, outcome=outcome, reason=reason, message=message, writes=tuple(self.writes),
            value_before=self.value_before, value_after=self.value_after, proof=proof,
            started_monotonic_s=self.started_s,
            first_byte_monotonic_s=self.writes[0].monotonic_s if self.writes else None,
            proved_monotonic_s=self.proved_s(proof) if proof is not None and outcome is Outcome.PROVED else None,
        )

    def proved_s(self, proof: Reading) -> float:
        """The monotonic second of the proof: when its reading was taken."""
        return proof.monotonic_s

    def failed(self, error: DriverError) -> Receipt:
        """An error of the wire: nothing left, or in doubt."""
        is_unsent = not self.has_tried or (isinstance(error, NotSent) and not self.writes)
        outcome = Outcome.NOT_SENT if is_unsent else Outcome.IN_DOUBT
        return self.receipt(outcome, error.code, error.message)


class Steered(ABC):
    """Who may write, and whose order is called off. A kind of machine says how an order and a stop are carried out."""

    def __init__(self) -> None:
        self.generation = 0  # rises with every make_safe: an apply of an older one writes nothing more
        self.aborted: deque[str] = deque(maxlen=ABORTS_REMEMBERED)  # ids of orders that may write nothing more
        self.is_applying = False
        self.is_order_leaving = False  # a write of an order may be about to reach the wire
        self.apply_lock = threading.Lock()
        self.safe_lock = threading.Lock()

    def apply(self, order: SettingOrder | StateOrder, deadline_s: float) -> Receipt:
        """Carry out one order, at most once, within ``deadline_s``; everything that may happen is in the receipt."""
        with self.apply_lock:
            self.is_applying = True
            try:
                return self._carry_out(order, deadline_s)
            finally:
                self.is_applying = False

    def make_safe(self, deadline_s: float, order_id: str = "make_safe") -> Receipt:
        """Heat down, from any thread, before anything else, whether or not an order is being carried out."""
        self.generation += 1
        with self.safe_lock:
            return self._bring_down(deadline_s, order_id)

    def abort(self, order_id: str) -> None:
        """The order of this id writes nothing more, from any thread; its apply reads back what had left already."""
        self.aborted.append(order_id)

    @abstractmethod
    def _carry_out(self, order: SettingOrder | StateOrder, deadline_s: float) -> Receipt:
        """One order; no other is under way."""

    @abstractmethod
    def _bring_down(self, deadline_s: float, order_id: str) -> Receipt:
        """One stop; no other is under way, but an order may be."""
