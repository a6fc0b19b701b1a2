"""Roast files into the record, rows a second, against a bare binary COPY of the same rows into the same table.

Turn about in one process: files are imported as anybody's are (read, checked, known by digest, filed with marks, file,
summary and audit, one transaction each); then the very bytes that those imports copied go into the table by themselves,
under roasts that are nothing but a row, in one transaction.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from kernel import clock
from roastops.benches.figures import Figure, Outcome
from roastops.benches.house import NotReady
from roastops.testing import servers
from roastops.testing.processes import Fleet

#: A roast of ten minutes at 10 Hz.
ROWS = 6_000
SHORT, USUAL = (1, 10), (3, 40)  # rounds, files each
WAIT_S = 300.0


def run(*, is_short: bool) -> Outcome:
    """The ratio's bar: at least half of the bare COPY."""
    rounds, files = SHORT if is_short else USUAL
    with (
        tempfile.TemporaryDirectory(prefix="roastops-bench-") as name,
        servers.running(servers.start_postgres) as postgres,
        Fleet(Path(name), database_url=postgres.url, redis_url="") as fleet,
    ):
        running = fleet.start("import", sys.executable, "-m", "roastops.benches.imports", str(rounds), str(files))
        if running.process.wait(WAIT_S):
            raise NotReady(f"the import could not be measured:\n{running.log()[-2000:]}")
        line = next(line for line in running.log().splitlines() if line.startswith("FOUND "))
    found = json.loads(line[6:])
    figures = (
        Figure("imported", found["import_per_s"], "rows/s"),
        Figure("yardstick", found["copy_per_s"], "rows/s"),
        Figure("ratio", found["import_per_s"] / found["copy_per_s"], "×", at_least=0.5),
        Figure("one file of 6,000 readings", found["file_ms"], "ms"),
        Figure("of it reading the file", found["read_ms"], "ms"),
        Figure("rows lost or doubled", float(found["off_by"]), "rows", at_most=0.0),
    )
    remark = f"{rounds} rounds of {files} Artisan logs of {ROWS} readings at 10 Hz"
    return Outcome("import", figures, "bare binary COPY of the same rows into the same table", is_short, (remark,))


def log_of(number: int) -> bytes:
    """One Artisan log of a Bullet at 10 Hz, different by its number."""
    times = [row / 10 + 0.004 for row in range(ROWS)]
    bean = [round(95 + 110 * (row / ROWS) ** 0.7 + (number * 7 + row * 13) % 10 / 10, 1) for row in range(ROWS)]
    infrared = [round(value + 12.3, 1) for value in bean]
    log: dict[str, Any] = {
        "version": "3.4.0", "mode": "C", "title": f"bench {number}", "roastepoch": 1_700_000_000 + 900 * number,
        "timeindex": [5, 0, 4_500, 0, 0, 0, 5_600, 0], "timex": times, "temp1": infrared, "temp2": bean,
        "devices": ["Aillio Bullet R1 IBTS/BT"], "roastertype": "Aillio Bullet R1 IBTS", "weight": [400.0, 344.0, "g"],
        "extradevices": [84, 85, 86, 87], "extratimex": [times] * 4, "extraname1": ["a"] * 4, "extraname2": ["b"] * 4,
        "extratemp1": [[70.0] * ROWS, [9.5] * ROWS, [201.0] * ROWS, [6.0] * ROWS],
        "extratemp2": [[20.0] * ROWS, [90.0] * ROWS, [-52.2] * ROWS, [915.0] * ROWS],
    }  # fmt: skip
    return repr(log).encode()


def measure(rounds: int, files: int) -> dict[str, float]:
    """In a process of its own, with Django set up and an empty database."""
    from kernel.errors import ApiError
    from kernel.models import Organization
    from kernel.principals import system_principal
    from roasts.files import importing
    from roasts.models import Machine, Roast, Sample

    now = clock.now()
    house = Organization.objects.create(slug="bench", name="Bench", created_at=now)
    principal = system_principal("bench", house)
    importing.import_file(principal, log_of(-1), file_name="warm", now=now)
    machine = Machine.objects.get(name="Imported")
    import_s = copy_s = read_s = 0.0
    for number in range(rounds):
        batch = [log_of(number * files + place) for place in range(files)]
        begun_s = clock.monotonic()
        filed = list(importing.import_files(principal, [("bench.alog", data) for data in batch], now=now))
        import_s += clock.monotonic() - begun_s
        begun_s = clock.monotonic()
        for data in batch:
            importing.read_file(data)
        read_s += clock.monotonic() - begun_s
        copy_s += _copied_s(machine, [each.roast.pk for each in filed if not isinstance(each, ApiError)])
    total = rounds * files
    expected = (2 * total + 1) * ROWS
    return {
        "import_per_s": total * ROWS / import_s,
        "copy_per_s": total * ROWS / copy_s,
        "file_ms": 1000 * import_s / total,
        "read_ms": 1000 * read_s / total,
        "off_by": abs(expected - Sample.objects.count()) + abs(2 * total + 1 - Roast.objects.count()),
    }


def _copied_s(machine: Any, roast_ids: list[str]) -> float:
    """Seconds to COPY those roasts' rows once more, under roasts that are nothing but a row."""
    from django.db import connection, transaction

    from kernel import ids
    from roasts.models import Roast, Sample

    table = connection.ops.quote_name(Sample._meta.db_table)
    fields = [str(field.column) for field in Sample._meta.concrete_fields]
    listed = ", ".join(connection.ops.quote_name(name) for name in fields)
    chunks: list[bytes] = []
    for roast_id in roast_ids:
        bare = Roast.objects.get(pk=roast_id)
        bare.pk, bare.source_digest, bare.summary, bare.machine = ids.new("rst"), "", None, machine
        Roast.objects.bulk_create([bare])
        selected = ", ".join("%s" if name == "roast_id" else connection.ops.quote_name(name) for name in fields)
        query = f"COPY (SELECT {selected} FROM {table} WHERE roast_id = %s) TO STDOUT (FORMAT BINARY)"
        with connection.cursor() as cursor, cursor.copy(query, [bare.pk, roast_id]) as copy:
            chunks.append(b"".join(bytes(part) for part in copy))
    header, trailer = 19, 2
    payload = chunks[0][:-trailer] + b"".join(chunk[header:-trailer] for chunk in chunks[1:]) + chunks[0][-trailer:]
    begun_s = clock.monotonic()
    with transaction.atomic(), connection.cursor() as cursor:
        with cursor.copy(f"COPY {table} ({listed}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(payload)
    return clock.monotonic() - begun_s


if __name__ == "__main__":
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    sys.stdout.write("FOUND " + json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))) + "\n")
