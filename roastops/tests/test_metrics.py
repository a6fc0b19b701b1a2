"""Every figure we declare moves when the thing it counts happens: with a real machine, order, approval and STOP."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from commands import services
from commands.history import services_breakers
from commands.history.breakers import Breaker, Trip
from commands.machine_loop import MachineLoop
from commands.models import Grant, Proposal
from commands.stop.authority import AUTHORITY
from commands.tests.real_machine import real_machine, wait_for
from commands.tests.rows import machine_row, organization_row, person_row
from commands.tests.test_stopping import post
from kernel import clock, keys, metrics, sealer, tasks
from kernel.models import Agent
from kernel.principals import for_key, for_user
from kernel.tests.test_stream import Listener, bearer, in_thread, run
from roastops.testing.processes import Fleet
from roastops.testing.servers import free_port
from roasts.models import Machine

DECLARED = {thing._name: thing for thing in vars(metrics).values() if isinstance(thing, Counter | Gauge | Histogram)}


class Scrapes:
    """What `/metrics` said, again and again."""

    def __init__(self) -> None:
        self.seen: dict[str, set[tuple[Any, ...]]] = {}
        self.last: dict[str, float] = {}

    def take(self) -> dict[str, float]:
        """Now: sample with labels → value."""
        text = Client().get("/metrics").content.decode()
        self.last = {}
        for family in text_string_to_metric_families(text):
            if family.name in DECLARED:
                samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
                told = tuple(sorted((s.name, tuple(sorted(s.labels.items())), s.value) for s in samples))
                self.seen.setdefault(family.name, set()).add(told)
                for sample in samples:
                    labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
                    self.last[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return self.last


@contextmanager
def tending(machine: Machine) -> Iterator[None]:
    loop = wait_for(lambda: MachineLoop.begin(machine.pk), what="the lease")
    thread = threading.Thread(target=loop.run, args=(lambda: False,), daemon=True)
    thread.start()
    try:
        wait_for(lambda: loop.keeper_side.view.is_heard and loop.keeper_side.view.reading, what="a reading")
        yield
    finally:
        loop._leave("leaving")
        thread.join(10)
        assert not thread.is_alive()


def completed(proposal: Proposal) -> None:
    def look() -> bool:
        proposal.refresh_from_db()
        return proposal.status not in ("PENDING_APPROVAL", "APPROVED", "EXECUTING", "IN_DOUBT")

    wait_for(look, 15, f"an end of {proposal.pk}")
    assert proposal.status == "COMPLETED", (proposal.status, proposal.outcome_code, proposal.rejection_code)


def order(principal: Any, target: int) -> Proposal:
    return services.propose_order(
        principal, machine=Machine.objects.get(), order_type="SET_FAN", target_value=target, target_unit="step",
        reasoning="test", now=clock.now(),
    )  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_every_declared_metric_moves(settings: Any) -> None:
    organization = organization_row()
    with real_machine(organization_id=organization.pk) as real:
        settings.DATA_DIR, settings.RUN_DIR = real.data_dir, real.data_dir / "run"
        settings.AUDIT_KEY_FILE = real.data_dir / "audit.key"
        machine = machine_row(pk="mch_test", driver_options=real.driver_options())
        anna, lead = person_row("anna", "operator"), person_row("lead", "lead")
        agent = Agent.objects.create(organization=organization, name="runner", owner=lead, created_at=clock.now())
        services.grant_autonomy(for_user(lead), agent=agent, machine=machine, level="L3", now=clock.now())
        scrapes = Scrapes()
        before = scrapes.take()
        with tending(machine):
            live_through(scrapes, anna, lead, agent, machine)
        seal_everything()
        after = scrapes.take()
    assert set(scrapes.seen) == set(DECLARED), "declared and exported differ"
    constant = sorted(name for name, told in scrapes.seen.items() if len(told) < 2)
    assert constant == []

    def rise(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert rise("roastops_orders_total{code=,order_type=SET_FAN,status=PROPOSED}") == 3
    assert rise("roastops_orders_total{code=,order_type=SET_FAN,status=COMPLETED}") == 2
    assert rise("roastops_orders_total{code=,order_type=SET_FAN,status=PENDING_APPROVAL}") == 1
    refusals = [name for name in after if "status=REJECTED" in name and "code=," not in name and rise(name) == 1]
    assert len(refusals) == 1, "a refusal is counted by its code"
    assert rise("roastops_proposal_seconds_count") == 3
    assert rise("roastops_approval_seconds_count") == 1
    assert rise("roastops_execution_seconds_count") == 2
    assert rise("roastops_stop_first_byte_seconds_count") == 1
    assert 0 < rise("roastops_stop_first_byte_seconds_sum") < 1
    assert rise("roastops_readings_total") > 10
    assert after["roastops_machines{link=up}"] == 1 and before["roastops_machines{link=never}"] == 1
    assert rise("roastops_breaker_trips_total{kind=error_rate}") == 1 and after["roastops_alerts{severity=high}"] == 1
    assert after["roastops_open_halts"] == 1 and after["roastops_audit_unsealed"] == 0


def live_through(scrapes: Scrapes, anna: Any, lead: Any, agent: Agent, machine: Machine) -> None:
    """A person's order, an agent's that is approved, one that is refused, a viewer, an alarm, a beat, a STOP."""
    fan = int(machine.latest.__class__.objects.get(pk=machine.pk).fan_step or 4)
    completed(order(for_user(anna), fan + 1))
    key, plain = keys.create_key(agent.organization, agent=agent, scopes=["propose"], now=clock.now())
    refused = order(for_key(key), 99)
    assert refused.status == "REJECTED"
    held = order(for_key(key), fan + 2)
    assert held.status == "PENDING_APPROVAL", held.reasons
    assert scrapes.take()["roastops_held_orders"] == 1
    assert scrapes.last["roastops_machine_leases"] == 1
    assert scrapes.last["roastops_oldest_held_order_seconds"] > 0
    services.approve_proposal(for_user(anna), held, digest=held.digest, now=clock.now())
    completed(held)
    with transaction.atomic():
        services.raise_alarm(
            machine, code="test", priority="low", cause="c", consequence="c", action="a", now=clock.now()
        )
    trip = Trip(Breaker.ERROR_RATE, "L2", "test", clock.now())
    assert services_breakers.lower_grant(Grant.objects.get(agent=agent), trip, now=clock.now()) is not None
    tasks.note_beat.apply()
    assert scrapes.take()["roastops_beat_age_seconds"] > 0

    async def view() -> None:
        async with Listener(headers=bearer(plain)) as viewer:
            await viewer.until(lambda: viewer.status == 200)
            assert (await in_thread(scrapes.take))["roastops_stream_viewers"] == 1

    run(view)
    stopper = keys.create_key(agent.organization, scopes=["stop"], user=anna, now=clock.now())[1]
    AUTHORITY.refresh()
    answer = post({"Authorization": f"Bearer {stopper}"}).json()
    assert answer["first_byte_ms"] is not None, answer
    wait_for(lambda: scrapes.take()["roastops_open_halts"], what="the halt counted")


def seal_everything() -> None:
    one = sealer.Sealer()
    while one.tick(clock.now()):
        continue


@pytest.mark.django_db(transaction=True)
def test_codes_do_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_codes", set())
    monkeypatch.setattr(metrics, "MAX_CODES", 2)
    for code in ("a_code", "b_code", "c_code", "d_code", 'x" 1\nroastops_evil 5'):
        metrics.count_order("SET_DRUM", "FAILED", code)
    codes = {sample.labels["code"] for sample in _samples("SET_DRUM", "FAILED")}
    assert codes == {"a_code", "b_code", "other"}


def _samples(order_type: str, status: str) -> list[Any]:
    (family,) = metrics.ORDERS.collect()
    wanted = {"order_type": order_type, "status": status}
    return [s for s in family.samples if s.name.endswith("_total") and wanted.items() <= s.labels.items()]


@pytest.mark.prove
@pytest.mark.timeout(90)
def test_a_worker_process_shows_its_figures_on_its_own_port_and_keeps_its_log(tmp_path: Any) -> None:
    """A real `celery worker` process (on SQLite, with nothing to do)."""
    with Fleet(tmp_path) as fleet:
        fleet.manage("migrate")
        port = free_port()
        fleet.environment["ROASTOPS_METRICS_PORT"] = str(port)
        worker = fleet.start_worker(threads=4)

        def text() -> str:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                    return answer.read().decode()
            except OSError:
                return ""

        shown = wait_for(text, 30, "the worker's figures")
        exported = {family.name for family in text_string_to_metric_families(shown)}
        assert set(DECLARED) <= exported
        assert "roastops_beat_age_seconds 0.0" in shown, "gauges are asked of the database at the scrape"
        rival = fleet.start_worker(threads=4)
        wait_for(lambda: f"no /metrics on port {port}" in rival.log(), 30, "the rival's complaint")
        assert rival.process.poll() is None, "a taken port ends no worker"
        kept = tmp_path / "logs" / "roastops.jsonl"
        wait_for(lambda: f"no /metrics on port {port}" in kept.read_text(), 5, "the same words on disk")
        assert worker.stop() == 0 and rival.stop() == 0
