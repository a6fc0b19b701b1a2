"""A packed roast loses nothing, has one digest, and after thinning nobody can tell."""

from __future__ import annotations

import datetime as dt
import io
import json
import zlib
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel import clock
from kernel.errors import Conflict
from kernel.models import AuditEntry, Organization, Site
from roasts import services
from roasts.models import Machine, MachineReading, PackedRoast, Roast, Sample
from roasts.store import packing, services_packing, stored_curve
from roasts.store.packing import COLUMNS, CorruptPack, PackedContent, pack, unpack
from roasts.tests.test_recorder import roast as readings_of_roast
from roasts.tests.test_services import filings

AT = dt.datetime(2026, 11, 21, 8, 0, tzinfo=dt.UTC)
_numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False, width=64)
_wholes = st.none() | st.integers(-(2**31), 2**31)
_values = {
    "whole": _wholes,
    "number": _numbers,
    "word": st.sampled_from(["roasting", "cooling"]),
    "json": st.none() | st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=2),
    "time": st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2090, 1, 1), timezones=st.just(dt.UTC)),
}


@st.composite
def contents(draw: Any) -> PackedContent:
    rows = draw(st.integers(1, 12))
    columns = {name: draw(st.lists(_values[kind], min_size=rows, max_size=rows)) for name, kind in COLUMNS.items()}
    return PackedContent({"id": "rst_1"}, columns, [{"kind": "drop"}], [{"from_ms": 1}], {"envelopes": []})


@settings(max_examples=80, deadline=None)
@given(contents())
def test_whatever_is_packed_comes_back_to_the_bit(content: PackedContent) -> None:
    made = pack(content)
    back = unpack(made.payload, made.digest)
    assert {k: list(v) for k, v in back.columns.items()} == {k: list(v) for k, v in content.columns.items()}
    assert [repr(v) for v in back.columns["bean_temp_c"]] == [repr(v) for v in content.columns["bean_temp_c"]]
    assert (back.roast, back.events, back.gaps) == (content.roast, content.events, content.gaps)
    assert pack(back) == made, "the same content, the same bytes"


def plain(rows: int = 5, **columns: Any) -> PackedContent:
    made: dict[str, list[Any]] = {name: [None] * rows for name in COLUMNS}
    made |= {"elapsed_ms": list(range(rows)), "at": [AT] * rows, "state": ["roasting"] * rows}
    return PackedContent({}, made | columns)


def test_one_value_changed_is_another_digest() -> None:
    assert pack(plain(bean_temp_c=[1.0] * 5)).digest != pack(plain(bean_temp_c=[1.0] * 4 + [1.0000001])).digest


@pytest.mark.parametrize("columns", [{"elapsed_ms": [1]}, {"colour": [1] * 5}], ids=["lengths", "unknown"])
def test_columns_that_do_not_fit_are_not_packed(columns: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="every column"):
        pack(plain(**columns))


def test_a_missing_column_is_not_packed() -> None:
    content = plain()
    with pytest.raises(ValueError, match="every column"):
        pack(PackedContent({}, {name: values for name, values in content.columns.items() if name != "extras"}))


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_a_changed_pack_is_found_out(data: Any) -> None:
    made = pack(plain(bean_temp_c=[1.5, 2.5, None, 4.0, 5.0]))
    raw = bytearray(made.payload)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert unpack(bytes(raw), made.digest) == unpack(made.payload, made.digest)  # zlib headers have free bits
    except CorruptPack as error:
        assert str(error)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"x",
        pack(plain()).payload[:-5],
        pack(plain()).payload + b"x",
        zlib.compress(b"{}"),
        zlib.compress(b"[]"),
        zlib.compress(b'{"format":"roast/9"}'),
        zlib.compress(b"[" * 100_000),
        zlib.compress(json.dumps({"format": "roast/1", "columns": {}}).encode()),
    ],
    ids=lambda raw: repr(raw[:12]),
)
def test_what_is_no_pack_is_refused_in_one_way(raw: bytes) -> None:
    with pytest.raises(CorruptPack):
        unpack(raw)


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(CorruptPack, match="cut, or holds more"):
        unpack(zlib.compress(b" " * 1_000_000))


# --- in the store


@pytest.fixture
def closed(organization: Organization, site: Site) -> Roast:
    machine = Machine.objects.create(
        organization=organization, site=site, name="B", driver_kind="bullet-r1", created_at=clock.now()
    )
    MachineReading.objects.create(machine=machine)
    services.file_decisions(machine, filings(readings_of_roast())[0], now=clock.now())
    return Roast.objects.get()


def test_after_thinning_nobody_can_tell(closed: Roast, signed_in: Any, people: Any) -> None:
    client, paths = (
        signed_in(people.operator),
        [
            f"/v1/roasts/{closed.pk}/samples",
            f"/v1/roasts/{closed.pk}/samples?from_ms=5000&to_ms=60000&step=7&fields=bean_temp_c,state",
            f"/v1/roasts/{closed.pk}",
        ],
    )
    before = [client.get(path).content for path in paths]
    curve = stored_curve.load_curve(closed)
    packed = services_packing.pack_roast(closed, now=clock.now())
    assert services_packing.thin_roast(closed, now=clock.now()) == packed.samples > 1500
    assert not Sample.objects.exists()
    assert [client.get(path).content for path in paths] == before
    after = stored_curve.load_curve(closed)
    assert after.state == curve.state
    for name in ("elapsed_s", "bean_temp_c", "infrared_temp_c", "heater_step"):
        assert list(getattr(after, name)) == list(getattr(curve, name)), name


def test_packing_twice_and_thinning_twice_is_once(closed: Roast) -> None:
    first = services_packing.pack_roast(closed, now=clock.now())
    assert services_packing.pack_roast(closed, now=clock.now()).pk == first.pk
    services_packing.thin_roast(closed, now=clock.now())
    assert services_packing.thin_roast(closed, now=clock.now()) == 0
    assert AuditEntry.objects.filter(verb="roast_packed").count() == 1


@pytest.mark.django_db
def test_rows_that_the_pack_does_not_hold_are_not_deleted(closed: Roast) -> None:
    content = services_packing.gather(closed)
    columns = {name: list(values) for name, values in content.columns.items()}
    columns["bean_temp_c"][7] += 0.001
    made = pack(PackedContent(content.roast, columns))
    PackedRoast.objects.create(
        roast=closed, format=made.format, payload=made.payload, digest=made.digest, samples=1, packed_at=clock.now()
    )
    with pytest.raises(Conflict, match="does not hold what the rows say"):
        services_packing.thin_roast(closed, now=clock.now())
    assert Sample.objects.count() > 1500 and PackedRoast.objects.get().thinned_at is None


def test_a_pack_that_cannot_be_read_back_thins_nothing(closed: Roast) -> None:
    services_packing.pack_roast(closed, now=clock.now())
    PackedRoast.objects.update(digest="0" * 64)
    with pytest.raises(Conflict, match="cannot be read back"):
        services_packing.thin_roast(closed, now=clock.now())
    assert Sample.objects.exists()


def test_an_open_roast_and_an_unpacked_one_are_refused(closed: Roast) -> None:
    with pytest.raises(Conflict, match="not packed"):
        services_packing.thin_roast(closed, now=clock.now())
    open_roast = Roast.objects.create(
        organization=closed.organization, machine=closed.machine, started_at=AT, device_start_ms=0
    )
    with pytest.raises(Conflict, match="not closed"):
        services_packing.pack_roast(open_roast, now=clock.now())


@pytest.mark.parametrize(("seconds", "count"), [(-1, 0), (0, 1)])
def test_a_roast_is_due_when_late_points_had_their_time(closed: Roast, seconds: int, count: int) -> None:
    ended_at = closed.ended_at or AT
    now = ended_at + services_packing.PACK_AFTER + dt.timedelta(seconds=seconds)
    assert services_packing.pack_due(now=now) == count
    assert services_packing.pack_due(now=now) == 0


def test_the_command_packs_thins_and_names_the_digest(closed: Roast) -> None:
    said = io.StringIO()
    call_command("packroasts", closed.pk, "--thin-after-days", "0", stdout=said)
    digest = PackedRoast.objects.get().digest
    assert digest in said.getvalue() and "1 packed, 1 thinned" in said.getvalue()
    call_command("verifyroast", closed.pk, stdout=said)
    with pytest.raises(CommandError, match="no roast"):
        call_command("packroasts", "rst_nobody")
