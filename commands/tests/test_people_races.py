"""Many PINs tried at once from one stolen session: no more than five are looked at."""

from __future__ import annotations

import collections
import threading

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, connections
from django.test import Client

from commands.tests import console_scene
from kernel import clock, operator_pins, principals
from kernel.models import AuditEntry, Membership

pytestmark = pytest.mark.django_db(transaction=True)
THREADS = 8
TRIES = 3  # per thread


def test_wrong_pins_at_once_are_counted_one_by_one(scene: console_scene.Scene) -> None:
    second = get_user_model().objects.create_user("second", password=console_scene.PASSWORD)
    Membership.objects.create(organization=scene.organization, user=second, role="operator")
    operator_pins.set_pin(principals.for_user(second), "420917", now=clock.now())
    client = Client()
    client.post("/sign-in/", {"username": "operator", "password": console_scene.PASSWORD})
    session = client.cookies["sessionid"].value
    gate, ends, lock = threading.Barrier(THREADS), collections.Counter[int](), threading.Lock()

    def work(number: int) -> None:
        thief = Client(raise_request_exception=False)
        thief.cookies["sessionid"] = session
        gate.wait(timeout=30)
        for turn in range(TRIES):
            answer = thief.post("/switch/", {"person": str(second.pk), "pin": f"{number}0000{turn}"})
            with lock:
                ends[answer.status_code] += 1
        connections.close_all()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=90)
    assert sum(ends.values()) == THREADS * TRIES
    busy = ends.pop(500, 0) + ends.pop(503, 0)  # SQLite may be too busy; nothing was looked at then
    assert ends[403] <= operator_pins.MAX_WRONG
    assert AuditEntry.objects.filter(verb="operator_switch_refused").count() <= operator_pins.MAX_WRONG
    assert set(ends) == {403, 429}, (ends, busy, connection.vendor)
