"""Approved orders onto the wire, one at a time, at most once each, and what came of them.

claim (commit) → keeper.apply with our fencing token → echo in a later reading → conclude. Nothing is sent twice:
what is not known is IN_DOUBT and resolved by reading (:mod:`commands.loop.reconcile`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
from collections.abc import Callable
from dataclasses import replace

from commands import services, situation
from commands.loop import order_aborts, reconcile, waiting
from commands.loop.keeper_side import KeeperSide
from commands.loop.notes import View
from commands.loop.orders_out import order_of
from commands.models import Execution, Proposal, Status
from commands.plans import services_plans
from drivers.keeper_client import KeeperClient, KeeperRefused, KeeperUnreachable
from drivers.keeper_config import KeeperConfig
from drivers.port import Control, Outcome, Reading, Receipt, SettingOrder, StateOrder
from kernel import clock
from kernel.log_lines import log_context
from kernel.prepared import PreparedObjects
from roasts.models import Machine

logger = logging.getLogger(__name__)
APPLY_DEADLINE_S = 4.0
STATE_DEADLINE_S = 4.0
VERIFY_WITHIN_S = 3.0
#: The store's side may be busy: so long an order's end waits until the store shows what it moved.
SHOWN_WITHIN_S = 0.5
SHOWN_EVERY_S = 0.005
CLIENT_TIMEOUT_S = 2.0
RESOLVE_EVERY_S = 0.3
#: Nothing is on the wire while we look: who carried out what is EXECUTING is gone.
UNCLEAR = frozenset({Status.EXECUTING.value, Status.IN_DOUBT.value})
#: A situation gathered longer ago than this (a store that hung) is gathered again.
DECIDE_WITHIN_S = 0.5
#: A claim whose commit took longer than this is not sent.
SEND_WITHIN_S = 2.0
#: The control may stand elsewhere than before, and it is known where.
_READ_BACK = frozenset({Outcome.PROVED, Outcome.DECLINED})
#: One order of a plan may wait for its distance to the last; others need not wait with it.
READY_LOOKED_AT = 20
#: Looked at several times a second while an order waits.
_READY: PreparedObjects[Proposal] = PreparedObjects(
    lambda machine: (
        Proposal.objects.ready_to_claim()
        .filter(machine_id=machine)
        .select_related("proposer_agent", "proposer_user", "organization")[:READY_LOOKED_AT]
    ),
    "machine",
)


class Executor:
    """One thread calls :meth:`tick`."""

    def __init__(
        self, machine: Machine, config: KeeperConfig, *, token: int, keeper_side: KeeperSide,
        shows: Callable[[Reading], bool], heed: order_aborts.Heed = order_aborts.heeding,
    ) -> None:
        self.machine = machine
        self._config = config
        self._token = token
        self._heed = heed
        self._shows = shows
        self._keeper_side = keeper_side
        self._client = KeeperClient(config.socket, CLIENT_TIMEOUT_S)
        self._resolve_at_s = float("-inf")
        self.has_more_to_do = False  # an order waits for its turn, or a doubt for a reading

    def tick(self, now: dt.datetime) -> bool:
        """Resolve what is in doubt, then carry out the oldest approved order. DatabaseError."""
        now_s = clock.monotonic()
        standing = waiting.orders_to_carry_out(self.machine.pk)
        self.has_more_to_do = bool(standing)
        if standing & UNCLEAR and now_s - self._resolve_at_s >= RESOLVE_EVERY_S:
            self._resolve_at_s = now_s
            self._resolve(now, now_s)
        if Status.APPROVED.value not in standing or not self._may_execute():
            return False
        ready = _READY.rows(machine=self.machine.pk)
        proposal = next((each for each in ready if self._is_for_now(each, now)), None)
        if proposal is None:
            return False
        with log_context(order_id=proposal.pk, roast_id=proposal.roast_id or ""):
            return self.execute(proposal)

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def _resolve(self, now: dt.datetime, now_s: float) -> None:
        """This thread is the only one that executes: whatever is EXECUTING here has lost its executor."""
        reconcile.mark_orphans(self.machine, now=now)
        reconcile.resolve_doubts(
            self.machine, self._client, self._keeper_side.view, await_shown=self._await_shown, now=now, now_s=now_s
        )

    def _may_execute(self) -> bool:
        """Only with a keeper that hears us and a reading; the rest is the governor's to say, with reasons."""
        view = self._keeper_side.view
        return view.is_heard and view.reading is not None and not self._keeper_side.is_fenced

    def _is_for_now(self, proposal: Proposal, now: dt.datetime) -> bool:
        """Its turn has come; an agent's waits until it is known which machine answers."""
        is_known = proposal.proposer_agent_id is None or self._keeper_side.is_machine_known
        return is_known and services_plans.is_due(proposal, now)

    def execute(self, proposal: Proposal) -> bool:
        """One order: last review and claim in one commit, then the wire. False when it was not ours to send."""
        begun_s = clock.monotonic()
        execution, view = self._claim(proposal)
        if execution is None:
            return True
        order = order_of(proposal, view)
        with self._heed(proposal, self._config, self._token):
            receipt = self._hindrance(order, view, begun_s) or self._apply(order)
        services.record_stage(execution, "sent", _sent_detail(receipt), now=clock.now())
        if receipt.outcome is Outcome.PROVED and isinstance(order, SettingOrder):
            receipt = self._verified(execution, order, receipt)
        if receipt.outcome in _READ_BACK:
            self._await_shown(receipt.proof)
        services.conclude_execution(execution, receipt, now=clock.now())
        return True

    def _claim(self, proposal: Proposal) -> tuple[Execution | None, View]:
        """Review with the keeper's own reading, younger than DECIDE_WITHIN_S at the claim, and no older than a halt."""
        for _ in range(3):
            now, now_s, view = clock.now(), clock.monotonic(), self._keeper_side.view
            gathered = situation.gather(
                self.machine.pk, proposal, None, now, reading=view.reading, keeper_latched=view.latch is not None
            )
            if clock.monotonic() - now_s <= DECIDE_WITHIN_S:
                with contextlib.suppress(services.OutOfDate):
                    made = services.claim_execution(proposal.pk, lease_token=self._token, situation=gathered, now=now)
                    return made, view
        return None, self._keeper_side.view

    def _hindrance(self, order: SettingOrder | StateOrder, view: View, begun_s: float) -> Receipt | None:
        """What forbids the wire after the claim: a store that hung meanwhile, an interlock that stands."""
        blank = Receipt(order.order_id, Outcome.NOT_SENT, started_monotonic_s=clock.monotonic())
        if clock.monotonic() - begun_s > SEND_WITHIN_S:
            message = "The store hung between the decision and the wire; what was decided is too old."
            return replace(blank, reason="store_unreachable", message=message)
        now = self._keeper_side.view
        is_heater = isinstance(order, SettingOrder) and order.control is Control.HEATER
        step = view.reading.heater_step if view.reading is not None else None
        is_heat_up = is_heater and (step is None or order.target_step > step)  # type: ignore[union-attr]
        if is_heat_up and not now.is_heat_up_allowed:
            codes = ", ".join(sorted(now.standing)) or "the reading is not fresh"
            return replace(blank, reason="interlock", message=f"An interlock forbids more heat: {codes}.")
        return None

    def _apply(self, order: SettingOrder | StateOrder) -> Receipt:
        """The keeper's receipt. Its refusal is NOT_SENT; its silence is IN_DOUBT."""
        begun_s = clock.monotonic()
        deadline_s = APPLY_DEADLINE_S if isinstance(order, SettingOrder) else STATE_DEADLINE_S
        blank = Receipt(order.order_id, Outcome.IN_DOUBT, started_monotonic_s=begun_s)
        try:
            return self._client.apply(order, token=self._token, deadline_s=deadline_s)
        except KeeperRefused as error:
            return replace(blank, outcome=Outcome.NOT_SENT, reason=error.code, message=error.message)
        except KeeperUnreachable as error:
            return replace(blank, reason="keeper_unreachable", message=error.message)

    def _verified(self, execution: Execution, order: SettingOrder, receipt: Receipt) -> Receipt:
        """The driver read it back; now the echo in a reading of the loop's own, within VERIFY_WITHIN_S."""
        proof_sequence = receipt.proof.sequence if receipt.proof is not None else 0
        until_s = clock.monotonic() + VERIFY_WITHIN_S
        boot_id = self._keeper_side.view.boot_id
        while clock.monotonic() < until_s:
            view = self._keeper_side.view
            if view.boot_id != boot_id or view.latch is not None:
                break  # another keeper counts anew; a STOP moves the heater rightly: the driver's proof stands
            reading = view.reading
            if reading is not None and reading.sequence > proof_sequence:
                step = reading.step_of(order.control)
                echo = {"sequence": reading.sequence, "step": step, "driver_read": receipt.value_after}
                if step == order.target_step:
                    services.record_stage(execution, "read_back", echo, now=clock.now())
                    return receipt
                if step is not None:
                    services.record_stage(execution, "read_back", echo, now=clock.now())
                    return replace(
                        receipt,
                        outcome=Outcome.DECLINED,
                        reason="contradicted",
                        message=f"{order.control.value} was read back at {order.target_step}, then read {step}.",
                        value_after=step,
                    )
            clock.sleep(0.02)
        services.record_stage(execution, "read_back", {"driver_read": receipt.value_after}, now=clock.now())
        return receipt

    def _await_shown(self, proof: Reading | None) -> None:
        """Until the store shows a reading as new as ``proof``: whoever hears what came of the order proposes from where
        the controls stand now. After SHOWN_WITHIN_S nobody waits any more: an order from an older one is void."""
        until_s = clock.monotonic() + SHOWN_WITHIN_S
        wanted: Reading | None = None
        while clock.monotonic() < until_s:
            newest = self._keeper_side.view.reading
            if wanted is None and newest is not None and (proof is None or newest.monotonic_s >= proof.monotonic_s):
                wanted = newest
            if wanted is not None and self._shows(wanted):
                return
            clock.sleep(SHOWN_EVERY_S)
        logger.warning("the store did not show in %s s what an order moved", SHOWN_WITHIN_S)


def _sent_detail(receipt: Receipt) -> dict:
    return {
        "outcome": receipt.outcome.value,
        "reason": receipt.reason,
        "message": receipt.message,
        "writes": [{"data_hex": write.data_hex, "meaning": write.meaning} for write in receipt.writes],
        "value_before": receipt.value_before,
        "value_after": receipt.value_after,
        "took_ms": None
        if receipt.first_byte_monotonic_s is None
        else round((receipt.first_byte_monotonic_s - receipt.started_monotonic_s) * 1000, 1),
    }
