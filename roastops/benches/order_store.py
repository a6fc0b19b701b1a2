"""A store full of orders, and its analytics asked for in one process: what `bench analytics` runs.

`python -m roastops.benches.order_store ROWS ROUNDS`, with the environment of a fleet (PostgreSQL). Prints one line
`MEASURED {…}`: lists of milliseconds by name. Times are the server's own: the whole of Django from request to rendered
answer, without a network. The newest tenth of the orders is stored and asked first, then all of them.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from typing import Any

import django

from kernel import clock
from roastops.benches.library_store import spent

DAYS, DAYS_SHORT, SHORT_BELOW = 90, 30, 100_000
MACHINES, AGENTS = 20, 4
MAX_SUMMING = 2000
NOW = dt.timedelta(minutes=-1)  # the newest order is a minute old

#: Pseudo-random but the same each time: a hash of the order's number, modulo.
_HASH = "abs(hashint8(n::bigint * 7919 + {salt})::bigint)"


def _share(salt: int, modulo: int) -> str:
    return f"({_HASH.format(salt=salt)} %% {modulo})"


def prepare() -> tuple[Any, Any]:
    """Migrate; a house with people, machines and agents. The signed-in client and the organisation."""
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.test import Client

    from kernel.models import Agent, Membership, Organization, Site
    from roasts.models import Machine

    call_command("migrate", verbosity=0)
    now = clock.now()
    house = Organization.objects.create(slug="bench", name="Bench", created_at=now)
    site = Site.objects.create(organization=house, name="Everywhere")
    lead = User.objects.create_user("lead", password=None)
    Membership.objects.create(organization=house, user=lead, role="lead")
    for number in range(MACHINES):
        Machine.objects.create(
            id=f"mch_{number}", organization=house, site=site, name=f"m{number}", driver_kind="bullet-r1",
            created_at=now,
        )  # fmt: skip
    for number in range(AGENTS):
        Agent.objects.create(id=f"agt_{number}", organization=house, name=f"a{number}", owner=lead, created_at=now)
    client = Client()
    client.force_login(lead, backend="kernel.sign_in.ThrottledBackend")
    return client, house


def _literal(field: Any) -> str:
    """What a column of no interest holds, as SQL."""
    if field.null:
        return "NULL"
    kind = field.get_internal_type()
    if kind == "JSONField":
        return "'{}'::jsonb"
    return {"IntegerField": "1", "BigIntegerField": "1", "BooleanField": "false"}.get(kind, "''")


def _insert(model: Any, given: dict[str, str], source: str) -> str:
    """`INSERT … SELECT` of every column: those given, the rest empty."""
    fields = [field for field in model._meta.concrete_fields if field.column in given or not field.primary_key]
    columns = ", ".join(f'"{field.column}"' for field in fields)
    values = ", ".join(given.get(field.column) or _literal(field) for field in fields)
    return f'INSERT INTO "{model._meta.db_table}" ({columns}) SELECT {values} FROM {source}'


_KIND = _share(1, 100)  # what became of an order
_IS_PERSONS = f"{_share(2, 5)} = 0"
_WAITED = f"interval '1 ms' * (800 + {_share(4, 43_000)})"
_STATUS = (
    f"CASE WHEN {_KIND} < 29 THEN 'REJECTED' WHEN {_KIND} < 33 THEN 'TIMEOUT' "
    f"WHEN {_KIND} < 37 THEN 'ABORTED' WHEN {_KIND} < 39 THEN 'FAILED' ELSE 'COMPLETED' END"
)
_MACHINE = f"'mch_' || {_share(5, MACHINES)}"
_TYPE = f"(ARRAY['SET_POWER','SET_FAN','SET_DRUM','SET_POWER','SET_FAN','COOL','DROP'])[1 + {_share(6, 7)}]"
_CODE = f"(ARRAY['above_ceiling','too_soon','stale_reading','not_attended','wrong_state'])[1 + {_share(3, 5)}]"


def _proposal(at: str) -> dict[str, str]:
    """A quarter refused, most of the rest approved by a person and completed; a fifth are people's own."""
    is_approved = f"({_KIND} >= 37 AND NOT {_IS_PERSONS})"
    reasons = (
        f"jsonb_build_array(jsonb_build_object('code', {_CODE}, 'decision', 'REFUSE', "
        "'message', repeat('because ', 12), 'how_to_fix', 'later'))"
    )
    return {
        "id": "'prp_' || n",
        "organization_id": "%(house)s",
        "machine_id": _MACHINE,
        "order_type": _TYPE,
        "proposer_agent_id": f"CASE WHEN {_IS_PERSONS} THEN NULL ELSE 'agt_' || {_share(7, AGENTS)} END",
        "proposer_user_id": f"CASE WHEN {_IS_PERSONS} THEN %(lead)s END",
        "status": _STATUS,
        "decision": f"CASE WHEN {_KIND} < 25 THEN 'REFUSE' WHEN {_IS_PERSONS} THEN 'ALLOW' ELSE 'HOLD' END",
        "reasons": f"CASE WHEN {_KIND} < 25 THEN {reasons} ELSE '[]'::jsonb END",
        "rejection_code": f"CASE WHEN {_KIND} < 25 THEN {_CODE} WHEN {_KIND} < 29 THEN 'WRONG_TIMING' ELSE '' END",
        "digest": "repeat('d', 64)",
        "reasoning": "repeat('It rises too fast. ', 5)",
        "proposed_at": at,
        "expires_at": f"{at} + interval '45 s'",
        "settled_at": f"{at} + {_WAITED} + interval '1 s'",
        "decided_at": f"CASE WHEN {is_approved} THEN {at} + {_WAITED} END",
        "approver_id": f"CASE WHEN {is_approved} THEN %(lead)s END",
        "approved_digest": f"CASE WHEN {is_approved} THEN repeat('d', 64) ELSE '' END",
    }


def store_orders(house: Any, lead: Any, rows: int, first: int, newest: dt.datetime, days: int) -> None:
    """Orders number ``first`` up to ``rows`` of a history of so many days, by generate_series. Constraints and
    triggers are aside: this is a store, not a shift."""
    from django.db import connection

    from commands.models import Execution, Proposal, ProposalTransition

    at = f"(%(oldest)s::timestamptz + n * (interval '1 day' * {days} / {rows}))"
    begun = f"{at} + {_WAITED}"
    execution = {
        "id": "'exe_' || n",
        "proposal_id": "'prp_' || n",
        "machine_id": _MACHINE,
        "claimed_at": begun,
        "concluded_at": f"{begun} + interval '1 ms' * (180 + {_share(8, 2400)})",
        "outcome": "'proved'",
    }
    transition = {
        "proposal_id": "'prp_' || n",
        "from_status": "'PENDING_APPROVAL'",
        "to_status": _STATUS,
        "actor_kind": f"CASE WHEN {_share(9, 2)} = 0 THEN 'person' ELSE 'system' END",
        "at": at,
    }
    numbers = f"generate_series(%(first)s, {rows}) AS n"
    values = {"house": house.pk, "lead": lead, "first": first, "oldest": newest - dt.timedelta(days=days)}
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")  # filling a store takes longer than any question may
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(_insert(Proposal, _proposal(at), numbers), values)
        cursor.execute(_insert(Execution, execution, f"{numbers} WHERE {_KIND} >= 37"), values)
        cursor.execute(_insert(ProposalTransition, transition, f"{numbers} WHERE {_KIND} BETWEEN 25 AND 36"), values)
        cursor.execute("SET session_replication_role = origin")
        cursor.execute("VACUUM ANALYZE")
        cursor.execute("RESET statement_timeout")


def store_alerts(house: Any, count: int) -> None:
    """Alerts, one in fifty of them standing."""
    from commands.models import Alert

    now = clock.now()
    Alert.objects.bulk_create(
        Alert(
            id=f"alt_{n}",
            organization=house,
            kind="EXECUTION_FAILURE",
            severity="medium",
            subject=f"order:prp_{n}",
            message="failed",
            raised_at=now - dt.timedelta(minutes=n),
            last_seen_at=now,
            resolved_at=None if n % 50 == 0 else now,
        )
        for n in range(count)
    )


def sum_all() -> float:
    """Sum every closed hour as the sweeper does; seconds."""
    from commands.history import questions as order_history

    begun_s, now = clock.monotonic(), clock.now()
    for _ in range(MAX_SUMMING):
        if not order_history.sum_due(now=now):
            return clock.monotonic() - begun_s
    raise SystemExit("the history was not summed")


def questions(now: dt.datetime, days: int) -> dict[str, str]:
    """Name → address."""
    from urllib.parse import urlencode

    def since(path: str, window: dt.timedelta, **more: Any) -> str:
        # Not on the hour, as people ask.
        query = {"from": (now - window).isoformat(), "to": now.isoformat(), **more}
        return f"/v1/analytics/{path}?{urlencode(query)}"

    day, week, long = dt.timedelta(days=1), dt.timedelta(days=7), dt.timedelta(days=days - 1, minutes=13)
    return {
        "metrics, 24 h": since("metrics", day),
        "metrics, 7 d (exact)": since("metrics", week),
        "metrics, 7 d, one machine": since("metrics", week, machine="mch_3"),
        "metrics, 30 d": since("metrics", dt.timedelta(days=min(days, 30) - 1, minutes=7)),
        f"metrics, {days} d": since("metrics", long),
        f"metrics, {days} d, one agent": since("metrics", long, agent="a2"),
        f"metrics, {days} d, one machine": since("metrics", long, machine="mch_3"),
        "timeseries, 24 h by 5 min": since("metrics/timeseries", day, bucket_s=300),
        "timeseries, 7 d by hour": since("metrics/timeseries", week, bucket_s=3600),
        f"timeseries, {days} d by day": since("metrics/timeseries", long, bucket_s=86_400),
        "summary": "/v1/analytics/summary",
        "alerts": "/v1/analytics/alerts",
    }


def timed(call: Any, rounds: int) -> list[float]:
    """Milliseconds of each round, after one that is not counted."""
    call()
    found = []
    for _ in range(rounds):
        begun_s = clock.monotonic()
        call()
        found.append((clock.monotonic() - begun_s) * 1000)
    return found


def measure(rows: int, rounds: int) -> dict[str, list[float]]:
    """Everything, first over the newest tenth of the history, then over all of it."""
    from django.contrib.auth.models import User

    from commands.history import services_alerts, services_breakers
    from commands.models import OrderHour

    client, house = prepare()
    days = DAYS if rows >= SHORT_BELOW else DAYS_SHORT
    lead, newest = User.objects.get().pk, clock.now() + NOW
    first = rows - rows // 10

    def opened(path: str) -> Any:
        answer = client.get(path)
        if answer.status_code != 200:
            raise SystemExit(f"{path} answered {answer.status_code}: {answer.content[:300]!r}")
        return answer

    store_orders(house, lead, rows, first, newest, days)
    sum_all()
    asked = questions(newest, days)
    short = ("metrics, 24 h", "metrics, 7 d (exact)", "summary")
    before = {f"young history: {name}": timed(lambda name=name: opened(asked[name]), rounds) for name in short}  # type: ignore[misc]
    OrderHour.objects.all().delete()
    _store_all(house, lead, rows, newest, days)
    store_alerts(house, 2000)
    summing_s = sum_all()
    _check(opened(asked[f"metrics, {days} d"]).json(), rows)
    found = {name: timed(lambda path=path: opened(path), rounds) for name, path in asked.items()}  # type: ignore[misc]
    cpu = {f"cpu: {name}": spent(lambda path=path: opened(path), rounds) for name, path in asked.items()}  # type: ignore[misc]
    now = clock.now()
    found["alerts' watch, one turn"] = timed(lambda: services_alerts.watch_orders(house, now=now), rounds)
    found["breakers' watch, one turn"] = timed(lambda: services_breakers.trip_due(now=now), rounds)
    found["yardstick"] = timed(lambda: _count(house, newest - dt.timedelta(days=7), newest), rounds)
    return found | before | cpu | {"summing, s": [summing_s]}


def _store_all(house: Any, lead: Any, rows: int, newest: dt.datetime, days: int) -> None:
    """All of it anew: the same numbers, so the same history."""
    from django.db import connection

    from commands.models import Execution, Proposal, ProposalTransition

    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        for model in (ProposalTransition, Execution, Proposal):
            cursor.execute(f'TRUNCATE "{model._meta.db_table}" CASCADE')
        cursor.execute("SET session_replication_role = origin")
    store_orders(house, lead, rows, 1, newest, days)


def _check(answer: dict[str, Any], rows: int) -> None:
    """What is asked quickly must also be right."""
    if not rows * 0.9 < answer["orders"] <= rows or answer["latency_method"] != "histogram":
        raise SystemExit(f"{answer['orders']} orders of {rows} were counted")
    if answer["orders"] != sum(row["orders"] for row in answer["by_machine"]):
        raise SystemExit("the machines do not add up")


def _count(house: Any, begin: dt.datetime, end: dt.datetime) -> int:
    """The bare `select count(*)` of a week."""
    from commands.models import Proposal

    return Proposal.objects.filter(organization=house, proposed_at__gte=begin, proposed_at__lt=end).count()


def main() -> None:
    """What the arguments ask for, measured and printed."""
    django.setup()
    print("MEASURED " + json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))


if __name__ == "__main__":
    main()
