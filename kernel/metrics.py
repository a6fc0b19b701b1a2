"""Metrics of the house, all prefixed `roastops_`; docs/metrics.md lists them, and a test holds it to that.

No label names a machine, an order or an organisation: `/metrics` is open, and label values must stay few.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from wsgiref.simple_server import WSGIServer

from django.db import DatabaseError, connection
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

logger = logging.getLogger(__name__)
QUICK_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5)
PATIENT_S = (0.1, 0.5, 1, 2, 5, 10, 20, 45, 90, 300)

ORDERS = Counter("roastops_orders", "Orders that reached a status.", ["order_type", "status", "code"])
PROPOSAL_SECONDS = Histogram("roastops_proposal_seconds", "From request to recorded verdict.", buckets=QUICK_S)
APPROVAL_SECONDS = Histogram("roastops_approval_seconds", "From held to decided by a person.", buckets=PATIENT_S)
EXECUTION_SECONDS = Histogram("roastops_execution_seconds", "From claimed to concluded.", buckets=QUICK_S)
STOP_FIRST_BYTE_SECONDS = Histogram(
    "roastops_stop_first_byte_seconds", "From STOP's arrival to the first heat-down byte.", buckets=QUICK_S
)
READINGS = Counter("roastops_readings", "Readings taken from keepers.")
READING_AGE_SECONDS = Gauge("roastops_reading_age_seconds", "Age of the oldest newest reading of a machine that is up.")
MACHINES = Gauge("roastops_machines", "Machines by link.", ["link"])
MACHINE_LEASES = Gauge("roastops_machine_leases", "Machines owned by a loop now.")
HELD_ORDERS = Gauge("roastops_held_orders", "Orders that wait for a person.")
OLDEST_HELD_SECONDS = Gauge("roastops_oldest_held_order_seconds", "Age of the oldest order that waits for a person.")
OPEN_HALTS = Gauge("roastops_open_halts", "Halts that stand.")
ALARMS = Gauge("roastops_alarms", "Alarms that stand.")
ALERTS = Gauge("roastops_alerts", "Alerts that are not resolved, by severity.", ["severity"])
BREAKER_TRIPS = Counter("roastops_breaker_trips", "Grants lowered by a circuit breaker.", ["kind"])
TASK_SECONDS = Histogram("roastops_task_seconds", "Celery tasks, by name.", ["task"], buckets=PATIENT_S)
STREAM_VIEWERS = Gauge("roastops_stream_viewers", "Open live streams of this process.")
STREAM_DROPPED = Counter("roastops_stream_dropped", "Viewers let go, by reason.", ["reason"])
SEALED = Counter("roastops_audit_sealed", "Audit entries sealed by this process.")
UNSEALED = Gauge("roastops_audit_unsealed", "Audit entries that wait for the sealer.")
BEAT_AGE_SECONDS = Gauge("roastops_beat_age_seconds", "Since a worker last took the beat's pulse.")

_CODE = re.compile(r"\w{1,40}", re.ASCII)
MAX_CODES = 200  # of refusals and failures together; what comes after them counts as "other"
_codes: set[str] = set()
_before_scrape: list[Callable[[], None]] = []


def before_scrape(measure: Callable[[], None]) -> None:
    """Call ``measure`` before every answer of `/metrics`, to set gauges from rows."""
    if measure not in _before_scrape:
        _before_scrape.append(measure)


def measure_now() -> None:
    """Bring the gauges up to date; a database that is away leaves them as they are."""
    for measure in _before_scrape:
        try:
            measure()
        except DatabaseError as error:
            logger.warning("metrics: the database does not answer: %s", error)


def count_order(order_type: str, status: str, code: str) -> None:
    """An order reached ``status``. Codes are ours and few; a driver's surprise does not grow the labels for ever."""
    if code and code not in _codes:
        if len(_codes) >= MAX_CODES or not _CODE.fullmatch(code):
            code = "other"
        else:
            _codes.add(code)
    ORDERS.labels(order_type=order_type, status=status, code=code).inc()


class _Measured(Collector):
    """Everything of this process, with the gauges brought up to date first."""

    def collect(self) -> Iterator[Metric]:
        measure_now()
        connection.close()  # every scrape has a thread of its own
        yield from REGISTRY.collect()


def serve(port: int, bind: str) -> WSGIServer:
    """`/metrics` of a process without a web server (a worker of the fleet). OSError where the port is taken."""
    server, _thread = start_http_server(port, bind, registry=_Measured())  # type: ignore[arg-type]
    return server
