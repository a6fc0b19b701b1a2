"""Health, readiness, metrics, and what is forgotten in time."""

import datetime as dt
import re

import pytest
from django.conf import settings
from django.db import OperationalError, connection

from kernel import clock, draining, health, sign_in, tasks
from kernel.models import Heartbeat, IdempotencyRecord, StreamEvent


def test_live_while_draining_and_not_ready(client, db):
    assert client.get("/readyz").status_code == 200
    draining.begin()
    assert client.get("/livez").status_code == 200
    answer = client.get("/ready")
    assert (answer.status_code, answer.json()["reasons"]) == (503, ["draining"])


def test_not_ready_without_database(client, db, monkeypatch):
    def away():
        raise OperationalError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(connection, "cursor", away)
        assert client.get("/readyz").json()["reasons"] == ["database_unavailable"]
        assert client.get("/livez").status_code == 200


def test_draining_house_takes_nothing_new_but_stop(people, signed_in):
    caller = signed_in(people.operator)
    draining.begin()
    answer = caller.post("/v1/proposals", {})
    assert (answer.status_code, answer.json()["error"], answer["Retry-After"]) == (503, "draining", "2")
    assert caller.get("/v1/me").status_code == 200
    assert caller.post("/v1/machines/mch_none/stop").json()["error"] != "draining"


def test_detail_is_for_members(client, api, people, signed_in):
    assert api.get("/healthz").status_code == 401
    body = signed_in(people.viewer).get("/healthz").json()
    assert {"database", "broker", "beat", "disk", "audit_tail", "machine_links", "machine_leases"} <= set(
        body["checks"]
    )


def test_late_beat_is_a_warning_and_no_outage(organization):
    now = clock.now()
    tasks.note_beat()
    assert health._beat_check(now).status == "pass"
    Heartbeat.objects.update(at=now - dt.timedelta(seconds=health.BEAT_LATE_S + 1))
    assert health._beat_check(now).status == "warn"


def test_every_metric_is_exported_and_documented(client, db):
    text = client.get("/metrics").content.decode()
    exported = set(re.findall(r"^# TYPE (roastops_\w+) ", text, re.MULTILINE))
    exported = {name for name in exported if not name.endswith("_created")}
    page = (settings.BASE_DIR / "docs" / "metrics.md").read_text()
    documented = set(re.findall(r"^\| `(roastops_\w+)`", page, re.MULTILINE))
    assert len(exported) > 10
    assert exported == documented


def test_metrics_name_nobody(client, demo_world):
    text = client.get("/metrics").content.decode()
    for secret in (demo_world["machine_id"], demo_world["organization_id"], demo_world["ids"]["proposal_id"]):
        assert secret not in text
    assert 'roastops_machines{link="never"} 1.0' in text


def test_old_rows_are_forgotten_and_numbers_go_on(organization):
    now = clock.now()
    old = now - tasks.STREAM_KEPT - dt.timedelta(seconds=1)
    for number, at in ((1, old), (2, old), (3, now)):
        live_event(organization, number, at)
    for age, key in ((dt.timedelta(hours=25), "old"), (dt.timedelta(hours=23), "young")):
        IdempotencyRecord.objects.create(principal="p", route="r", key=key, request_digest="d", created_at=now - age)
    tasks.forget_old(now)
    assert list(StreamEvent.objects.values_list("number", flat=True)) == [3]
    assert [record.key for record in IdempotencyRecord.objects.all()] == ["young"]
    tasks.forget_old(now + dt.timedelta(days=30))
    assert StreamEvent.objects.get().number == 3


def live_event(organization, number, at):
    return StreamEvent.objects.create(organization=organization, kind="halt", subject_id="h", at=at, number=number)


def test_door_closes_after_ten_wrong_passwords_for_that_name_alone(people, client):
    from django.contrib.auth import authenticate

    def attempt(name, password):
        return authenticate(None, username=name, password=password)

    for _ in range(sign_in.MAX_FAILURES - 1):
        assert attempt("operator", "wrong") is None
    assert attempt("operator", "operator-password") == people.operator  # nine are forgiven
    for _ in range(sign_in.MAX_FAILURES):
        attempt("operator", "wrong")
    assert attempt("operator", "operator-password") is None
    assert attempt("lead", "lead-password") == people.lead


@pytest.mark.parametrize("path", ["/v1/me", "/sign-in/", "/v1/docs"])
def test_headers_that_keep_a_browser_safe(path, client, db):
    answer = client.get(path)
    policy = answer["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Request-ID"].startswith("req_")
