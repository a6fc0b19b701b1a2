"""A store full of roasts, and its pages asked for in one process: what `bench curve` and `bench library` run.

`python -m roastops.benches.library_store curve|library ROASTS ROUNDS`, with the environment of a fleet. Prints one
line `MEASURED {…}`: lists of milliseconds by name. Times are the server's own: the whole of Django from request to
rendered answer, without a network.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import django
import numpy as np

SEED = 7
LONG_S, EVERY_S = 600.0, 0.1  # 6,000 points
BEANS = ("Gigesa", "Gotiti", "Sidamo", "Tulise", "Suica", "Kenya AA", "Chiroso", "Ombligon", "Mewa", "Elsa")
ORIGINS = ("Ethiopia Guji", "Ethiopia Yirgacheffe", "Kenya Nyeri", "Colombia Huila", "Brazil Cerrado")
BATCH = 2000
DEEP_PAGES = 40


def prepare() -> Any:
    """Migrate, and a house with a lead and machines; returns the signed-in client."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.test import Client

    from kernel import clock
    from kernel.models import Membership, Organization, Site
    from roasts.models import Machine

    call_command("migrate", verbosity=0)
    settings.STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    house = Organization.objects.create(slug="bench", name="Bench", created_at=clock.now())
    site = Site.objects.create(organization=house, name="Everywhere")
    for number in range(10):
        Machine.objects.create(
            organization=house, site=site, name=f"m{number}", driver_kind="bullet-r1", created_at=clock.now()
        )
    lead = User.objects.create_user("lead", password=None)
    Membership.objects.create(organization=house, user=lead, role="lead")
    client = Client()
    client.force_login(lead, backend="kernel.sign_in.ThrottledBackend")
    return client


def long_curve() -> Any:
    """Ten minutes at 10 Hz that turn, rise and fall off as a roast does, with a little noise."""
    from roasts.curve import Curve

    at_s = np.round(np.arange(0, LONG_S, EVERY_S), 3)
    noise = np.random.default_rng(SEED).normal(0, 0.05, len(at_s))
    risen_s = np.maximum(0.0, at_s - 60)
    bean_c = np.where(at_s < 60, 170 - at_s * 1.17, 100 + 110 * (1 - np.exp(-risen_s / 300))) + noise
    return Curve(
        at_s,
        bean_c,
        infrared_temp_c=bean_c + 12,
        heater_step=np.maximum(3, 8 - at_s // 100),
        fan_step=2 + at_s // 200,
        drum_step=np.full(len(at_s), 9.0),
        voltage_v=np.full(len(at_s), 230.0),
    )


def store_long_roast() -> Any:
    """One closed roast of 6,000 samples, with its marks and summary."""
    from kernel import clock
    from roasts.models import Machine, Roast, RoastEvent, Sample
    from roasts.store import summaries

    machine, curve, begun = Machine.objects.select_related("organization").earliest("name"), long_curve(), clock.now()
    roast = Roast.objects.create(
        organization=machine.organization, machine=machine, started_at=begun, device_start_ms=0, bean="Gigesa"
    )
    names = ("bean_temp_c", "infrared_temp_c", "heater_step", "fan_step", "drum_step", "voltage_v")
    rows = (
        Sample(
            roast=roast,
            elapsed_ms=round(at_s * 1000),
            sequence=number + 1,
            at=begun + dt.timedelta(seconds=at_s),
            state="roasting",
            **{name: float(getattr(curve, name)[number]) for name in names},
        )
        for number, at_s in enumerate(curve.elapsed_s.tolist())
    )
    Sample.objects.bulk_create(rows, batch_size=BATCH)
    for kind, at_s in (("charge", 0), ("first_crack_start", 480), ("drop", 580)):
        RoastEvent.objects.create(roast=roast, kind=kind, elapsed_ms=at_s * 1000, source="device", at=begun)
    finished(roast, begun + dt.timedelta(seconds=LONG_S))
    summaries.summarise_roast(roast, now=begun)
    return roast


def finished(roast: Any, ended_at: dt.datetime) -> None:
    """Close it as the services do, without the loop that would."""
    from django.db import transaction

    from roasts.services import close_roast

    with transaction.atomic():
        close_roast(roast.machine, roast.pk, status="finished", ended_at=ended_at, now=ended_at)
    roast.refresh_from_db()


def store_many(count: int) -> None:
    """``count`` closed roasts as the library lists them: described, counted, without samples."""
    from django.db import connection

    from kernel import clock
    from roasts.curve import Mark, summarise
    from roasts.models import Machine, Roast
    from roasts.store import summaries

    draw = random.Random(SEED)
    machines = list(Machine.objects.all())
    marks = (Mark("first_crack_start", 480.0), Mark("drop", 580.0))
    summary = summaries.summary_to_json(summarise(long_curve(), marks))
    newest = clock.now()

    def made() -> Iterator[Roast]:
        for number in range(count):
            ratio, total_ms = draw.uniform(0.1, 0.3), draw.randrange(400_000, 700_000)
            machine = draw.choice(machines)
            yield Roast(
                organization_id=machine.organization_id,
                machine=machine,
                status="finished",
                title=f"Batch {number}",
                bean=draw.choice(BEANS),
                origin=draw.choice(ORIGINS),
                lot=f"L{draw.randrange(2000):04d}",
                weight_in_g=400.0,
                weight_out_g=draw.uniform(335, 360),
                started_at=newest - dt.timedelta(minutes=20 * number),
                ended_at=newest - dt.timedelta(minutes=20 * number - 10),
                device_start_ms=0,
                summary=summary,
                total_ms=total_ms,
                first_crack_ms=round(total_ms * (1 - ratio)),
                development_ratio=ratio,
                drop_bean_temp_c=draw.uniform(185, 215),
            )

    rows = made()
    while batch := list(itertools.islice(rows, BATCH)):
        Roast.objects.bulk_create(batch)
    with connection.cursor() as cursor:  # as the database does by itself some time after so many new rows
        cursor.execute(f"VACUUM ANALYZE {connection.ops.quote_name(Roast._meta.db_table)}")


def timed(act: Callable[[], Any], rounds: int) -> list[float]:
    """Milliseconds of each round; the first, that fills caches, is not counted."""
    from kernel import clock

    found = []
    for number in range(rounds + 1):
        began_s = clock.monotonic()
        act()
        if number:
            found.append((clock.monotonic() - began_s) * 1000)
    return found


def spent(act: Callable[[], Any], rounds: int) -> list[float]:
    """Milliseconds of this process's own CPU, on average of the rounds: hardly longer on a busy machine."""
    act()
    before = os.times()
    for _ in range(rounds):
        act()
    after = os.times()
    return [(after.user + after.system - before.user - before.system) / rounds * 1000]


def opened(client: Any, path: str, words: str = "") -> Any:
    """A page, which must be there and hold the words."""
    answer = client.get(path)
    if answer.status_code != 200 or words not in answer.content.decode():
        raise SystemExit(f"{path} answered {answer.status_code} without {words!r}: {answer.content[:300]!r}")
    return answer


def measure_curve(rounds: int) -> dict[str, list[float]]:
    """The roast's page, its curve, both together; and what counting it costs against one pass of the causal rate."""
    from roasts import curve_rates
    from roasts.curve import Mark, summarise

    client = prepare()
    roast, curve = store_long_roast(), long_curve()
    page, columns = f"/roasts/{roast.pk}/", f"/v1/roasts/{roast.pk}/curve"
    if len(opened(client, columns).json()["elapsed_s"]) != round(LONG_S / EVERY_S):
        raise SystemExit("the curve does not have the points it was stored with")

    def both() -> None:
        opened(client, page, "Development")
        opened(client, columns)

    marks = (Mark("first_crack_start", 480.0), Mark("drop", 580.0))
    return {
        "page": timed(lambda: opened(client, page, "Development"), rounds),
        "curve": timed(lambda: opened(client, columns), rounds),
        "both": timed(both, rounds),
        "cpu of both": spent(both, rounds),
        "summarise": timed(lambda: summarise(curve, marks), rounds),
        "one pass of the causal rate": timed(
            lambda: curve_rates.causal_rate(curve.elapsed_s, curve.bean_temp_c), rounds
        ),
        "me": timed(lambda: opened(client, "/v1/me"), rounds),
    }


def measure_library(count: int, rounds: int) -> dict[str, list[float]]:
    """Pages and searches of the library, near and deep, common and rare, and the yardstick."""
    from roasts.models import Machine

    client = prepare()
    store_many(count)
    machine_id = Machine.objects.earliest("name").pk
    deep = "/roasts/"
    for _ in range(min(DEEP_PAGES, count // 50 - 1)):
        deep = "/roasts/?" + next_page(opened(client, deep))
    narrowed = f"/roasts/?machine={machine_id}&dtr_from=14&dtr_to=16&q=guji"
    asked = {
        "first page": "/roasts/",
        "a deep page": deep,
        "search: a common word": "/roasts/?q=gigesa",
        "search: two words": "/roasts/?q=kenya+huila",
        "search: two words never together": "/roasts/?q=guji+huila",
        "search: a rare word": f"/roasts/?q=batch+{count - 3}",
        "search: no such word": "/roasts/?q=nowhere",
        "machine, DTR and a word": narrowed,
        "by DTR": "/roasts/?order=ratio",
        "by DTR, a common word": "/roasts/?order=ratio&q=ethiopia",
        "by bean": "/roasts/?order=bean",
    }
    found = {name: timed(lambda path=path: opened(client, path), rounds) for name, path in asked.items()}  # type: ignore[misc]
    worst = max(asked, key=lambda name: middle(found[name]))
    found["cpu of the slowest"] = spent(lambda: opened(client, asked[worst]), rounds)
    return found | {"me": timed(lambda: opened(client, "/v1/me"), rounds)}


def middle(values_ms: list[float]) -> float:
    """The median, which a busy moment hardly moves."""
    return sorted(values_ms)[len(values_ms) // 2]


def next_page(answer: Any) -> str:
    """The query of the page after this one."""
    import html
    import re

    more = re.search(r'rel="next" href="\?([^"]*)"', answer.content.decode())
    if more is None:
        raise SystemExit("there is no next page")
    return html.unescape(more.group(1))


def main() -> None:
    """What the arguments ask for, measured and printed."""
    what, count, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    django.setup()
    found = measure_curve(rounds) if what == "curve" else measure_library(count, rounds)
    print("MEASURED " + json.dumps(found))


if __name__ == "__main__":
    main()
