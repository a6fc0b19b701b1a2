"""What a statement writes, and whether it may wait for a lock, is read off its text."""

from __future__ import annotations

import pytest

from simulation.scheduler import classify

NONE: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("sql", "verb", "may_block", "written"),
    [
        ('SELECT "a"."id" FROM "a" WHERE x = %s', "SELECT", False, NONE),
        ('SELECT "a"."id" FROM "a" WHERE x = %s FOR UPDATE OF "a"', "SELECT", True, NONE),
        ('INSERT INTO "a" ("x") VALUES (%s) ON CONFLICT DO NOTHING', "INSERT", True, {"a"}),
        ("UPDATE a SET x = %s WHERE id = %s RETURNING 1", "UPDATE", True, {"a"}),
        ('DELETE FROM "a" WHERE id IN (SELECT id FROM "b")', "DELETE", True, {"a"}),
        (
            'WITH part0 AS (INSERT INTO "a" ("x") VALUES (%s)), part1 AS (INSERT INTO "b" ("y") VALUES (%s)) '
            'INSERT INTO "c" ("z") VALUES (%s)',
            "INSERT", True, {"a", "b", "c"},
        ),
        ('WITH newest AS (SELECT 1 FROM "a") UPDATE b SET x = 1', "UPDATE", True, {"b"}),
        ('SAVEPOINT "s1"', "SAVEPOINT", False, NONE),
    ],
)  # fmt: skip
def test_a_statement_is_read(sql: str, verb: str, may_block: bool, written: set[str]) -> None:
    found = classify(sql)
    assert (found.verb, found.may_block, set(found.written)) == (verb, may_block, set(written))
