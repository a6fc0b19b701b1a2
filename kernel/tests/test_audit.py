"""The trail: written with what it records, chained after, changed by nobody."""

import datetime as dt
import io
import json
import sqlite3

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction

from kernel import append_only, audit, canonical, chain, clock, ids, leases, principals, sealer, verification
from kernel.checks import append_only_stands
from kernel.management.commands import verifyaudit
from kernel.models import AuditCheckpoint, AuditEntry, AuditSeal, Organization, StreamEvent, WorkLease


def record(organization, number=1, now=None):
    with transaction.atomic():
        return audit.record(
            organization,
            principals.system_principal("test", organization),
            "thing_done",
            "thing",
            f"thg_{number}",
            {"number": number, "text": "größer"},
            now=now or clock.now(),
        )


def seal():
    one = sealer.Sealer("me")
    while one.tick(clock.now()):
        pass
    return one


def verify(*arguments):
    """Exit code and report of `verifyaudit --json`."""
    words = io.StringIO()
    try:
        call_command("verifyaudit", "--json", *arguments, stdout=words)
    except CommandError as error:
        return error.returncode, json.loads(words.getvalue())
    return 0, json.loads(words.getvalue())


@pytest.mark.django_db(transaction=True)
def test_entry_outside_a_transaction_is_refused(organization):
    with pytest.raises(audit.OutsideTransaction):
        audit.record(organization, principals.system_principal("x"), "v", "k", "i", {}, now=clock.now())
    assert not AuditEntry.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_entry_falls_with_what_it_records(organization):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        audit.record(organization, principals.system_principal("x"), "v", "k", "i", {}, now=clock.now())
        raise ZeroDivisionError
    assert not AuditEntry.objects.exists()


def test_sealer_chains_each_organisation_without_gaps(organization, people):
    for number in range(5):
        record(organization, number)
        record(people.stranger_organization, number)
    seal()
    for house in (organization, people.stranger_organization):
        seals = list(AuditSeal.objects.filter(organization=house).order_by("sequence"))
        assert [one.sequence for one in seals] == [1, 2, 3, 4, 5]
        assert seals[0].previous_digest == chain.GENESIS
        assert all(b.previous_digest == a.digest for a, b in zip(seals, seals[1:], strict=False))
    assert verify()[0] == 0


def test_later_batches_go_on_from_the_earlier_ones(organization):
    for number in range(3):
        record(organization, number)
        seal()
    assert AuditCheckpoint.objects.count() == 3
    code, body = verify()
    assert (code, body["organizations"][0]["sealed"], body["organizations"][0]["checkpoints"]) == (0, 3, 3)


def test_old_entry_that_was_committed_late_is_still_sealed(organization):
    """A sealer that takes over looks through everything, not only at what is recent."""
    record(organization, now=clock.now() - dt.timedelta(days=3))
    seal()
    assert AuditSeal.objects.count() == 1


def test_an_entry_born_a_while_before_its_commit_is_sealed_too(organization):
    """Its id is older than what every turn looks at; once a second more is looked at."""
    one = seal()
    AuditEntry.objects.create(
        id=ids.first("aud", clock.now() - sealer.LOOK_BACK / 2), organization=organization, at=clock.now(),
        actor_kind="system", actor_id="slow", actor_name="slow", verb="v", subject_kind="k", subject_id="i",
        payload="{}", payload_digest=canonical.digest_text("{}"),
    )  # fmt: skip
    assert one.tick(clock.now())
    assert AuditSeal.objects.count() == 1
    assert verify()[0] == 0


def test_who_lacks_the_lease_does_not_ask_for_it_at_every_nudge(organization, django_assert_num_queries):
    first, second, now = sealer.Sealer("first"), sealer.Sealer("second"), clock.now()
    first.tick(now)
    assert not second.tick(now)
    with django_assert_num_queries(0):
        assert not second.tick(now + sealer.ASK_AGAIN - dt.timedelta(milliseconds=1))
    first.let_go(now)
    record(organization)
    assert second.tick(now + sealer.ASK_AGAIN)


def test_unsealed_tail_is_reported_and_is_no_fault(organization):
    record(organization)
    seal()
    record(organization, 2)
    code, body = verify()
    assert (code, body["organizations"][0]["unsealed"]) == (0, 1)


def test_only_the_holder_of_the_lease_seals(organization):
    record(organization)
    first, second = sealer.Sealer("first"), sealer.Sealer("second")
    now = clock.now()
    assert first.tick(now)
    record(organization, 2)
    assert not second.tick(now)
    assert AuditSeal.objects.count() == 1
    assert second.tick(now + dt.timedelta(seconds=sealer.LEASE_S + 0.1))
    assert AuditSeal.objects.count() == 2


def test_sealer_that_lost_its_lease_without_knowing_writes_nothing(organization):
    """It slept through its lease: the guarded row, not its memory, decides."""
    first = sealer.Sealer("first")
    first.tick(clock.now())
    WorkLease.objects.update(owner="second", token=99)
    record(organization)
    assert not first.tick(clock.now())
    assert not AuditSeal.objects.exists()


def test_lease_token_only_rises(db):
    now = clock.now()
    first = leases.take("x", "a", now=now, length_s=1)
    assert leases.take("x", "b", now=now, length_s=1) is None
    second = leases.take("x", "b", now=now + dt.timedelta(seconds=2), length_s=1)
    assert second > first


def test_stream_events_are_numbered_per_organisation_in_order(organization, people):
    from kernel import live

    for number in range(3):
        for house in (organization, people.stranger_organization):
            with transaction.atomic():
                live.publish_decision(house, "proposal", f"p{number}", "mch_1", {}, now=clock.now())
    seal()
    for house in (organization, people.stranger_organization):
        rows = StreamEvent.objects.filter(organization=house).order_by("number").values_list("number", "subject_id")
        assert list(rows) == [(1, "p0"), (2, "p1"), (3, "p2")]


def test_signing_key_is_private(tmp_path):
    path = tmp_path / "audit.key"
    first = sealer.signing_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert chain.public_key_of(sealer.signing_key(path)) == chain.public_key_of(first)


@pytest.mark.parametrize("table", ["kernel_auditentry", "kernel_auditseal", "kernel_auditcheckpoint"])
@pytest.mark.parametrize("statement", ["UPDATE {t} SET organization_id = organization_id", "DELETE FROM {t}"])
def test_database_refuses_to_change_the_trail(organization, table, statement):
    record(organization)
    seal()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement.format(t=table))


@pytest.mark.skipif("sqlite" not in settings.DATABASES["default"]["ENGINE"], reason="SQLite's own way round")
def test_sqlite_replace_is_refused(organization):
    entry = record(organization)
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "INSERT OR REPLACE INTO kernel_auditentry SELECT * FROM kernel_auditentry WHERE id = %s", [entry.pk]
        )


@pytest.mark.skipif("postgresql" not in settings.DATABASES["default"]["ENGINE"], reason="PostgreSQL's own way round")
def test_postgresql_truncate_is_refused(organization):
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("TRUNCATE kernel_auditcheckpoint")


def test_orm_cannot_change_the_trail_either(organization):
    entry = record(organization)
    with pytest.raises(DatabaseError), transaction.atomic():
        AuditEntry.objects.filter(pk=entry.pk).update(verb="x")
    with pytest.raises(DatabaseError), transaction.atomic():
        entry.delete()


@pytest.mark.django_db(transaction=True)
def test_system_check_misses_a_lifted_trigger(organization):
    assert append_only_stands(databases=["default"]) == []
    name = sorted(append_only.trigger_names(connection.vendor, "kernel_auditentry"))[0]
    on = " ON kernel_auditentry" if connection.vendor == "postgresql" else ""
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TRIGGER {name}{on}")
    try:
        assert [error.id for error in append_only_stands(databases=["default"])] == ["kernel.E001"]
    finally:
        with append_only.lifted("test_runner"):
            pass
    assert append_only_stands(databases=["default"]) == []


def test_protection_is_lifted_by_name_only_and_never_in_production(organization, settings):
    with pytest.raises(append_only.NotLiftable), append_only.lifted("me"):
        pass
    settings.IS_PRODUCTION = True
    with pytest.raises(append_only.NotLiftable), append_only.lifted("demo_reset"):
        pass
    settings.IS_PRODUCTION, settings.IS_TEST = False, False
    with pytest.raises(append_only.NotLiftable), append_only.lifted("test_runner"):
        pass
    with append_only.lifted("demo_reset"):
        assert append_only.missing_triggers()
    assert not append_only.missing_triggers()


# A changed trail is found. The rows are changed with the triggers down, as somebody with the file would.


def tampered(sql, *arguments):
    with append_only.lifted("test_runner"), connection.cursor() as cursor:
        cursor.execute(sql, arguments)


CHANGES = [
    ("UPDATE kernel_auditentry SET payload = '{}' WHERE subject_id = 'thg_2'", "payload_changed", 3),
    ("UPDATE kernel_auditentry SET payload_digest = %s WHERE subject_id = 'thg_2'", "payload_changed", 3),
    ("UPDATE kernel_auditentry SET actor_name = 'tesT' WHERE subject_id = 'thg_2'", "entry_changed", 3),
    ("UPDATE kernel_auditentry SET verb = 'thing_dome' WHERE subject_id = 'thg_2'", "entry_changed", 3),
    ("UPDATE kernel_auditentry SET at = '2020-01-01 00:00:00' WHERE subject_id = 'thg_2'", "entry_changed", 3),
    ("UPDATE kernel_auditseal SET digest = %s WHERE sequence = 3", "entry_changed", 3),
    ("UPDATE kernel_auditseal SET previous_digest = %s WHERE sequence = 3", "chain_broken", 3),
    ("DELETE FROM kernel_auditseal WHERE sequence = 3", "sequence_gap", 4),
    ("DELETE FROM kernel_auditseal WHERE sequence = 5", "truncated", 5),
    ("DELETE FROM kernel_auditcheckpoint", "checkpoint_missing", 5),
    ("UPDATE kernel_auditcheckpoint SET digest = %s", "bad_signature", 5),
    ("UPDATE kernel_auditcheckpoint SET sequence = 4", "bad_signature", 4),
    ("UPDATE kernel_auditcheckpoint SET signature = upper(signature)", "bad_signature", 5),
]


@pytest.mark.parametrize(
    ("sql", "code", "sequence"), CHANGES, ids=[change[1] + str(i) for i, change in enumerate(CHANGES)]
)
def test_changed_trail_names_its_first_bad_entry(organization, sql, code, sequence):
    for number in range(5):
        record(organization, number, now=clock.now())
    seal()
    assert verify()[0] == 0
    tampered(sql, *(["f" * 64] if "%s" in sql else []))
    exit_code, body = verify()
    fault = body["organizations"][0]["fault"]
    assert (exit_code, fault["code"], fault["sequence"]) == (1, code, sequence)


def test_chain_forged_whole_with_another_key_is_found(organization, tmp_path):
    """Somebody with the file recomputes every digest and signs with a key of theirs."""
    for number in range(3):
        record(organization, number)
    seal()
    tampered("DELETE FROM kernel_auditcheckpoint")
    tampered("DELETE FROM kernel_auditseal")
    tampered("UPDATE kernel_auditentry SET actor_name = 'nobody'")
    sealer.seal_entries(list(AuditEntry.objects.all()), now=clock.now(), key=sealer.signing_key(tmp_path / "theirs"))
    code, body = verify()
    assert (code, body["organizations"][0]["fault"]["code"]) == (1, "bad_signature")


def test_seal_without_its_entry_is_a_fault():
    """The database's foreign key forbids it; a file edited by hand does not care."""
    row = verification.SealedEntry(None, "", 1, chain.GENESIS, "0" * 64)
    assert verification.verify_chain("org", [row], [], 0).fault.code == "entry_missing"


@pytest.mark.skipif("sqlite" not in settings.DATABASES["default"]["ENGINE"], reason="copies of a SQLite file")
@pytest.mark.django_db(transaction=True)
def test_every_flipped_byte_of_the_trail_in_a_copy_is_found(organization, tmp_path):
    """Each text of entries, seals and checkpoints, one byte flipped in the file: found every time."""
    for number in range(4):
        record(organization, number)
    seal()
    path = tmp_path / "copy.sqlite3"
    with sqlite3.connect(connection.settings_dict["NAME"]) as source, sqlite3.connect(path) as target:
        source.backup(target)
    whole = path.read_bytes()
    assert verify("--database", str(path))[0] == 0
    needles = set()
    for table, columns in {
        "kernel_auditentry": "id, payload, payload_digest, actor_name, actor_id, subject_id, verb, at",
        "kernel_auditseal": "digest, previous_digest",
        "kernel_auditcheckpoint": "digest, signature, at",
    }.items():
        with sqlite3.connect(path) as copy:
            for row in copy.execute(f"SELECT {columns} FROM {table}"):
                needles.update(str(value).encode() for value in row)
    places = sorted({_rfind(whole, needle) + len(needle) // 2 for needle in needles if _rfind(whole, needle) >= 0})
    assert len(places) > 25
    missed = []
    for place in places:
        for bit in (0x01, 0x20):
            changed = bytearray(whole)
            changed[place] ^= bit
            path.write_bytes(bytes(changed))
            if verify("--database", str(path))[0] == 0:
                missed.append((place, bit, whole[place - 20 : place + 20]))
    assert not missed


def _rfind(whole, needle):
    return whole.rfind(needle)


def test_file_that_is_no_database_is_unreadable(tmp_path):
    path = tmp_path / "x.sqlite3"
    path.write_bytes(b"not a database" * 100)
    code, body = verify("--database", str(path))
    assert (code, body["intact"]) == (2, False)
    assert verify("--database", str(tmp_path / "none"))[0] == 2


def test_time_that_django_would_not_have_written_does_not_pass():
    """The same instant spelt otherwise is another byte in the file."""
    assert verifyaudit._time("2026-01-02 03:04:05.600000") == "2026-01-02T03:04:05.600000Z"
    assert verifyaudit._time("2026-01-02T03:04:05.600000") == "2026-01-02T03:04:05.600000"


def test_flush_is_for_the_test_runner_alone(organization, settings):
    settings.IS_TEST = False
    with pytest.raises(CommandError, match="append-only"):
        call_command("flush", interactive=False)
    assert Organization.objects.filter(pk=organization.pk).exists()
