"""What the database itself refuses about a roast that is closed and counted, for both databases (triggers).

A roast is *settled* once it is finished or aborted and its summary stands (`roasts.store.summaries`). From then on:

- what it was (machine, times, source, status) never changes, and nobody deletes it;
- what people say of it (bean, weights, …) changes only to what a correction, filed before, says (RoastCorrection);
- its samples are not changed; they are deleted only once the packed roast is marked as thinned (the one door,
  `packed.thinned_at`), and none are added once it is packed;
- a mark is withdrawn at most once, never rewritten or deleted.
"""

from __future__ import annotations

from kernel.append_only import Trigger

PREFIX = "closed_roast_"
ROAST, SAMPLE, EVENT, PACKED, CORRECTION = (
    "roasts_roast", "roasts_sample", "roasts_roastevent", "roasts_packedroast", "roasts_roastcorrection",
)  # fmt: skip
#: Never changed once settled.
FROZEN = (
    "id", "organization_id", "machine_id", "status", "source", "source_digest", "started_at", "device_start_ms",
    "ended_at", "connection_id",
)  # fmt: skip
#: Changed by a correction alone.
CORRECTABLE = (
    "title", "bean", "origin", "process", "variety", "lot", "weight_in_g", "weight_out_g", "moisture_in_percent",
    "moisture_out_percent", "colour_whole", "colour_ground", "profile_version_id",
)  # fmt: skip
MARK = ("id", "roast_id", "kind", "elapsed_ms", "source", "confidence", "marked_by_id", "text", "at")
_SETTLED = "{row}.summary IS NOT NULL AND {row}.status IN ('finished', 'aborted')"


def _differs(column: str, vendor: str) -> str:
    return f"NEW.{column} {'IS NOT' if vendor == 'sqlite' else 'IS DISTINCT FROM'} OLD.{column}"


def _is_settled(roast_id: str) -> str:
    return f"EXISTS (SELECT 1 FROM {ROAST} r WHERE r.id = {roast_id} AND {_SETTLED.format(row='r')})"


def _uncorrected(column: str, vendor: str) -> str:
    """The column changes, and the newest correction of it does not say to what."""
    said = "json_extract(c.new_value, '$')" if vendor == "sqlite" else "c.new_value"
    now = f"NEW.{column}" if vendor == "sqlite" else f"to_jsonb(NEW.{column})"
    same = "IS" if vendor == "sqlite" else "IS NOT DISTINCT FROM"
    newest = f"SELECT max(n.at) FROM {CORRECTION} n WHERE n.roast_id = OLD.id AND n.field = '{column}'"
    return (
        f"({_differs(column, vendor)} AND NOT EXISTS (SELECT 1 FROM {CORRECTION} c WHERE c.roast_id = OLD.id "
        f"AND c.field = '{column}' AND c.at = ({newest}) AND {said} {same} {now}))"
    )


def triggers(vendor: str) -> list[Trigger]:
    """Every guard of settled roasts."""
    settled = _SETTLED.format(row="OLD")
    frozen = " OR ".join(_differs(column, vendor) for column in FROZEN)
    corrected = " OR ".join(_uncorrected(column, vendor) for column in CORRECTABLE)
    mark = " OR ".join(_differs(column, vendor) for column in MARK)
    again = f"OLD.withdrawn_at IS NOT NULL AND {_differs('withdrawn_at', vendor)}"
    thinned = f"EXISTS (SELECT 1 FROM {PACKED} p WHERE p.roast_id = OLD.roast_id AND p.thinned_at IS NOT NULL)"
    of_settled = _is_settled("OLD.roast_id")
    rewritten, unpacked = f"{settled} AND ({frozen} OR NEW.summary IS NULL)", f"{of_settled} AND NOT {thinned}"
    remarked = f"{of_settled} AND ({mark} OR ({again}))"
    return [
        _row("frozen", ROAST, "UPDATE", rewritten, "a closed roast stays", vendor),
        _row("corrected", ROAST, "UPDATE", f"{settled} AND ({corrected})", "correct it with a reason", vendor),
        _row("kept", ROAST, "DELETE", settled, "a closed roast is not deleted", vendor),
        _row("sample_kept", SAMPLE, "UPDATE", of_settled, "samples of a closed roast stay", vendor),
        _row("sample_thinned", SAMPLE, "DELETE", unpacked, "pack it first, then thin it", vendor),
        _row("mark_kept", EVENT, "UPDATE", remarked, "a mark is only withdrawn", vendor),
        _row("mark_stays", EVENT, "DELETE", of_settled, "a mark of a closed roast stays", vendor),
        _packed(vendor),
        *(_replaced() if vendor == "sqlite" else []),
    ]  # fmt: skip


def _row(name: str, table: str, event: str, refused: str, message: str, vendor: str) -> Trigger:
    name = f"{PREFIX}{name}"
    if vendor == "sqlite":
        body = f"BEGIN SELECT RAISE(ABORT, '{name}: {message}'); END"
        made = (f"CREATE TRIGGER {name} BEFORE {event} ON {table} WHEN {refused} {body}",)
        return Trigger(name, table, (f"DROP TRIGGER IF EXISTS {name}", *made))
    returned = "OLD" if event == "DELETE" else "NEW"
    function = (
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF {refused} THEN "
        f"RAISE EXCEPTION '{name}: {message}' USING ERRCODE = 'check_violation'; END IF; RETURN {returned}; END $$"
    )
    return Trigger(
        name,
        table,
        (
            function,
            f"DROP TRIGGER IF EXISTS {name} ON {table}",
            f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()",
        ),
    )


def _packed(vendor: str) -> Trigger:
    """No sample joins a packed roast. Seen after the insert: what a conflict left out was no insert.

    On PostgreSQL once a statement, over its new rows: filing thousands a second must not look up each.
    """
    name, message = f"{PREFIX}sample_late", "a packed roast takes no more samples"
    if vendor == "sqlite":
        refused = f"EXISTS (SELECT 1 FROM {PACKED} p WHERE p.roast_id = NEW.roast_id)"
        body = f"BEGIN SELECT RAISE(ABORT, '{name}: {message}'); END"
        made = f"CREATE TRIGGER {name} AFTER INSERT ON {SAMPLE} WHEN {refused} {body}"
        return Trigger(name, SAMPLE, (f"DROP TRIGGER IF EXISTS {name}", made))
    function = (
        f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF EXISTS (SELECT 1 FROM {PACKED} p WHERE p.roast_id IN (SELECT roast_id FROM added)) THEN "
        f"RAISE EXCEPTION '{name}: {message}' USING ERRCODE = 'check_violation'; END IF; RETURN NULL; END $$"
    )
    made = (
        f"CREATE TRIGGER {name} AFTER INSERT ON {SAMPLE} REFERENCING NEW TABLE AS added "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
    )
    return Trigger(name, SAMPLE, (function, f"DROP TRIGGER IF EXISTS {name} ON {SAMPLE}", made))


def _replaced() -> list[Trigger]:
    """SQLite's REPLACE deletes what it collides with, and no delete trigger sees it: so nothing may collide.

    A sample of a moment that a closed roast has is left out, as ON CONFLICT DO NOTHING leaves it out; the rest is
    refused.
    """
    moment = f"SELECT 1 FROM {SAMPLE} s WHERE s.roast_id = NEW.roast_id AND s.elapsed_ms = NEW.elapsed_ms"
    sample = f"EXISTS ({moment}) AND {_is_settled('NEW.roast_id')}"
    mark = f"EXISTS (SELECT 1 FROM {EVENT} e WHERE e.id = NEW.id AND {_is_settled('e.roast_id')})"
    same_digest = "r.source_digest <> '' AND r.source_digest = NEW.source_digest"
    same_file = f"r.organization_id = NEW.organization_id AND {same_digest}"
    settled = _SETTLED.format(row="r")
    roast = f"EXISTS (SELECT 1 FROM {ROAST} r WHERE (r.id = NEW.id OR ({same_file})) AND {settled})"
    other = f"EXISTS (SELECT 1 FROM {ROAST} r WHERE r.id <> OLD.id AND (r.id = NEW.id OR ({same_file})) AND {settled})"
    is_moved = "(NEW.roast_id <> OLD.roast_id OR NEW.elapsed_ms <> OLD.elapsed_ms)"
    ignored = f"{PREFIX}sample_replaced"
    ignoring = f"CREATE TRIGGER {ignored} BEFORE INSERT ON {SAMPLE} WHEN {sample} BEGIN SELECT RAISE(IGNORE); END"
    return [
        Trigger(ignored, SAMPLE, (f"DROP TRIGGER IF EXISTS {ignored}", ignoring)),
        _row("sample_moved", SAMPLE, "UPDATE", f"{is_moved} AND {sample}", "samples of a closed roast stay", "sqlite"),
        _row("mark_replaced", EVENT, "INSERT", mark, "a mark of a closed roast stays", "sqlite"),
        _row("mark_moved", EVENT, "UPDATE", f"NEW.id <> OLD.id AND {mark}", "a mark of a closed roast stays", "sqlite"),
        _row("replaced", ROAST, "INSERT", roast, "a closed roast stays", "sqlite"),
        _row("moved", ROAST, "UPDATE", other, "a closed roast stays", "sqlite"),
    ]
