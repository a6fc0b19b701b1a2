"""The same request twice has one effect."""

import datetime as dt
import threading

import pytest
from django.db import connection

from kernel import clock
from kernel.models import AuditEntry, IdempotencyRecord, Site

pytestmark = pytest.mark.urls("kernel.tests.echo_urls")


@pytest.fixture
def operator(people, signed_in):
    return signed_in(people.operator)


def post(client, name, key="k-1", **extra):
    return client.post("/v1/sites", {"name": name, **extra}, HTTP_IDEMPOTENCY_KEY=key)


def test_second_time_replays_the_first_answer(operator):
    first, second = post(operator, "a"), post(operator, "a")
    assert first.status_code == second.status_code == 201
    assert first.json() == second.json()
    assert "Idempotent-Replay" not in first
    assert second["Idempotent-Replay"] == "true"
    assert Site.objects.count() == 1


def test_other_body_under_the_key_is_422(operator):
    post(operator, "a")
    answer = post(operator, "b")
    assert (answer.status_code, answer.json()["error"]) == (422, "idempotency_key_reused")


def test_other_person_has_keys_of_their_own(operator, people, signed_in):
    post(operator, "a")
    assert post(signed_in(people.lead), "b").status_code == 201
    assert Site.objects.count() == 2


def test_refusal_is_replayed_and_what_it_committed_stays(operator):
    first, second = post(operator, "refused"), post(operator, "refused")
    assert first.status_code == second.status_code == 409
    assert second["Idempotent-Replay"] == "true"
    assert Site.objects.count() == 1


def test_failure_keeps_nothing_and_may_be_repeated(operator):
    assert post(operator, "broken").status_code == 503
    assert not Site.objects.exists()
    assert not IdempotencyRecord.objects.exists()
    assert not AuditEntry.objects.exists()


def test_malformed_key_is_400(operator):
    assert post(operator, "a", key="x" * 201).json()["error"] == "bad_idempotency_key"


def test_key_is_forgotten_after_a_day(operator):
    post(operator, "a")
    IdempotencyRecord.objects.update(created_at=clock.now() - dt.timedelta(hours=24, seconds=1))
    assert post(operator, "b").status_code == 201


@pytest.mark.django_db(transaction=True)
def test_concurrent_twins_have_one_effect(operator, people, signed_in):
    """Ten at once: one effect; each is answered with it, or told that it is being worked on."""
    clients = [signed_in(people.operator) for _ in range(10)]
    answers = []
    gate = threading.Barrier(len(clients))

    def send(client):
        gate.wait()
        try:
            answers.append(post(client, "a", key="twin"))
        finally:
            connection.close()

    threads = [threading.Thread(target=send, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert Site.objects.count() == 1
    assert len(answers) == 10
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert sum("Idempotent-Replay" not in answer for answer in answers if answer.status_code == 201) == 1
