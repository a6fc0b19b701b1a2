"""What the database itself refuses about orders, for both databases: triggers, installed by migrations 0002 to 0006.

The pure code says the same (`commands.lifecycle`, `commands.governor`); here it stands for whoever goes around it.
SQLite drops a table's triggers when a migration rebuilds the table: such a migration calls ``install`` again,
and the system check ``commands.E001`` sees when one is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PREFIX = "order_guard_"
APPROVAL, POLICY, ATTENDANCE = "commands_approval", "commands_governorpolicy", "commands_attendance"
PROPOSAL, EXECUTION, GRANT, PLAN, MEMBERSHIP, AGENT, MACHINE = (
    "commands_proposal", "commands_execution", "commands_grant", "commands_plan", "kernel_membership", "kernel_agent",
    "roasts_machine",
)  # fmt: skip
#: The order itself: what the digest names and the constraints lean on. Never changed after birth.
SUBSTANCE = (
    "id", "organization_id", "machine_id", "roast_id", "order_type", "control", "asked_value", "asked_unit",
    "target_step", "from_step", "proposer_agent_id", "proposer_user_id", "adopted_from_id", "decision", "digest",
    "proposed_at", "expires_at", "plan_id", "plan_position", "rolls_back_id", "significance",
    "significance_reason", "approvals_needed", "runs_at",
)  # fmt: skip
#: As the table stood when this was written; a test holds it to `commands.lifecycle.moves()`.
MOVES = (
    ("APPROVED", "ABORTED"), ("APPROVED", "EXECUTING"), ("APPROVED", "REJECTED"), ("APPROVED", "TIMEOUT"),
    ("EXECUTING", "ABORTED"), ("EXECUTING", "COMPLETED"), ("EXECUTING", "FAILED"), ("EXECUTING", "IN_DOUBT"),
    ("IN_DOUBT", "COMPLETED"), ("IN_DOUBT", "FAILED"),
    ("PENDING_APPROVAL", "ABORTED"), ("PENDING_APPROVAL", "APPROVED"), ("PENDING_APPROVAL", "REJECTED"),
    ("PENDING_APPROVAL", "TIMEOUT"),
    ("PROPOSED", "APPROVED"), ("PROPOSED", "PENDING_APPROVAL"), ("PROPOSED", "REJECTED"),
)  # fmt: skip
#: Statuses an order may be born in: they move nothing.
BIRTHS = ("PROPOSED", "PENDING_APPROVAL", "REJECTED")
EXECUTED = ("EXECUTING", "COMPLETED", "FAILED", "IN_DOUBT")
OPERATING = ("operator", "lead", "admin")
LEADING = ("lead", "admin")


@dataclass(frozen=True, slots=True)
class Guard:
    """One trigger: ``refused`` is an SQL condition over NEW (and OLD) that must never hold."""

    name: str
    table: str
    event: str  # INSERT | UPDATE
    refused: str
    message: str
    column: str = ""  # that the table has only since a later migration: until then there is no such guard


def _listed(words: tuple[str, ...]) -> str:
    return "(" + ", ".join(f"'{word}'" for word in words) + ")"


def _changed(columns: tuple[str, ...], differs: str) -> str:
    return " OR ".join(f"NEW.{column} {differs} OLD.{column}" for column in columns)


def _without_role(user: str, organization: str, roles: tuple[str, ...]) -> str:
    return (
        f"NOT EXISTS (SELECT 1 FROM {MEMBERSHIP} WHERE user_id = {user} "
        f"AND organization_id = {organization} AND role IN {_listed(roles)})"
    )


def guards(vendor: str) -> list[Guard]:
    """Every guard, in the database's own words for "differs, nulls counted"."""
    differs = "IS NOT" if vendor == "sqlite" else "IS DISTINCT FROM"
    legal = " OR ".join(f"(OLD.status = '{old}' AND NEW.status = '{new}')" for old, new in MOVES)
    unexecuted = f"NOT EXISTS (SELECT 1 FROM {EXECUTION} WHERE proposal_id = NEW.id)"
    owner = f"EXISTS (SELECT 1 FROM {AGENT} WHERE id = NEW.proposer_agent_id AND owner_id = NEW.approver_id)"
    roleless = _without_role("NEW.approver_id", "NEW.organization_id", OPERATING)
    elsewhere = f"(SELECT organization_id FROM {MACHINE} WHERE id = NEW.machine_id) {differs} NEW.organization_id"
    agent_elsewhere = f"(SELECT organization_id FROM {AGENT} WHERE id = NEW.agent_id) {differs} NEW.organization_id"
    grantless = _without_role("NEW.granted_by_id", "NEW.organization_id", LEADING)
    signed = (
        "organization_id", "agent_id", "machine_id", "level", "granted_by_id", "granted_at", "expires_at",
        "agent_release", "order_types", "evidence", "reason",
    )  # fmt: skip
    foreign = f"NOT EXISTS (SELECT 1 FROM {PLAN} WHERE id = NEW.plan_id AND machine_id = NEW.machine_id)"
    early = (
        f"EXISTS (SELECT 1 FROM {PROPOSAL} its JOIN {PROPOSAL} earlier ON earlier.plan_id = its.plan_id "
        "AND earlier.plan_position < its.plan_position "
        "WHERE its.id = NEW.proposal_id AND earlier.status <> 'COMPLETED')"
    )
    attempt = ("id", "proposal_id", "machine_id", "lease_token", "claimed_at")
    return [
        Guard("born", PROPOSAL, "INSERT", f"NEW.status NOT IN {_listed(BIRTHS)} OR NEW.approver_id IS NOT NULL",
              "an order is born unapproved and unmoved"),
        Guard("home", PROPOSAL, "INSERT", elsewhere, "an order belongs to the organisation of its machine"),
        Guard("substance", PROPOSAL, "UPDATE", _changed(SUBSTANCE, differs), "an order is never edited"),
        Guard("mission", PROPOSAL, "UPDATE", _changed(("mission",), differs), "an order is never edited", "mission"),
        Guard("move", PROPOSAL, "UPDATE", f"NEW.status {differs} OLD.status AND NOT ({legal})", "no such move"),
        Guard("approval", PROPOSAL, "UPDATE",
              f"NEW.approver_id {differs} OLD.approver_id AND NOT (OLD.approver_id IS NULL "
              "AND OLD.status = 'PENDING_APPROVAL' AND NEW.status = 'APPROVED')",
              "an approver is named once, by approving"),
        Guard("approved_digest", PROPOSAL, "UPDATE",
              "OLD.approver_id IS NOT NULL AND NEW.approved_digest <> OLD.approved_digest",
              "an approval is never edited"),
        Guard("unapproved", PROPOSAL, "UPDATE",
              "OLD.status = 'PENDING_APPROVAL' AND NEW.status = 'APPROVED' AND NEW.approver_id IS NULL AND NOT "
              "(NEW.decision = 'VETO' AND COALESCE(NEW.decided_at >= NEW.runs_at, FALSE))",
              "a held order needs an approver, or a veto window that has ended"),
        Guard("owner", PROPOSAL, "UPDATE",
              f"NEW.approver_id IS NOT NULL AND NEW.approver_id {differs} OLD.approver_id AND {owner}",
              "the owner of the proposing agent may not approve"),
        Guard("role", PROPOSAL, "UPDATE",
              f"NEW.approver_id IS NOT NULL AND NEW.approver_id {differs} OLD.approver_id AND {roleless}",
              "an approver is an operator of this organisation"),
        Guard("executed", PROPOSAL, "UPDATE",
              f"NEW.status {differs} OLD.status AND NEW.status IN {_listed(EXECUTED)} AND {unexecuted}",
              "no execution, no such status"),
        Guard("aborted", PROPOSAL, "UPDATE",
              "OLD.status = 'EXECUTING' AND NEW.status = 'ABORTED' AND NEW.abort_requested_at IS NULL",
              "an order on the wire is aborted where a person asked for it"),
        Guard("planned", PROPOSAL, "INSERT", f"NEW.plan_id IS NOT NULL AND (NEW.plan_position IS NULL OR {foreign})",
              "an order of a plan has its place in it, on the plan's machine"),
        Guard("in_turn", EXECUTION, "INSERT", early,
              "an order of a plan is executed once those before it are completed"),
        Guard("claim", EXECUTION, "INSERT",
              f"NOT EXISTS (SELECT 1 FROM {PROPOSAL} WHERE id = NEW.proposal_id AND status = 'APPROVED' "
              "AND machine_id = NEW.machine_id)",
              "only an approved order is executed, on its own machine"),
        Guard("attempt", EXECUTION, "UPDATE", _changed(attempt, differs), "an attempt is never edited"),
        Guard("signed", GRANT, "INSERT", f"{grantless} OR {elsewhere} OR {agent_elsewhere}",
              "a grant is signed by a lead of the organisation of agent and machine"),
        Guard("grant", GRANT, "UPDATE", f"{_changed(signed, differs)} OR (OLD.revoked_at IS NOT NULL "
              f"AND NEW.revoked_at {differs} OLD.revoked_at)", "a grant is revoked, never edited"),
        *_authority(differs),
    ]  # fmt: skip


def _authority(differs: str) -> list[Guard]:
    """By whose authority an order runs: yeses, veto windows, reviews, broken trust, presence, the policy."""
    may_say_yes = (
        f"p.id = NEW.proposal_id AND p.status = 'PENDING_APPROVAL' AND p.digest = NEW.digest "
        f"AND COALESCE(p.proposer_user_id <> NEW.user_id, TRUE) "
        f"AND EXISTS (SELECT 1 FROM {MEMBERSHIP} WHERE user_id = NEW.user_id "
        f"AND organization_id = p.organization_id AND role IN {_listed(OPERATING)}) "
        f"AND NOT EXISTS (SELECT 1 FROM {AGENT} WHERE id = p.proposer_agent_id AND owner_id = NEW.user_id)"
    )
    standing = (
        f"(SELECT COUNT(DISTINCT yes.user_id) FROM {APPROVAL} yes JOIN {MEMBERSHIP} his ON his.user_id = yes.user_id "
        f"AND his.organization_id = NEW.organization_id AND his.role IN {_listed(OPERATING)} "
        "WHERE yes.proposal_id = NEW.id AND yes.digest = NEW.digest)"
    )
    own = f"EXISTS (SELECT 1 FROM {APPROVAL} WHERE proposal_id = NEW.id AND user_id = NEW.approver_id)"
    review = ("reviewed_at", "reviewed_by_id", "review_finding", "review_text")
    owner = f"EXISTS (SELECT 1 FROM {AGENT} WHERE id = NEW.proposer_agent_id AND owner_id = NEW.reviewed_by_id)"
    away = f"(SELECT organization_id FROM {MACHINE} WHERE id = NEW.machine_id) {differs} NEW.organization_id"
    newest = f"(SELECT COALESCE(MAX(version), 0) FROM {POLICY} WHERE organization_id = NEW.organization_id)"
    return [
        Guard("window", PROPOSAL, "INSERT",
              "NEW.approvals_needed < 1 OR (NEW.decision = 'VETO' AND COALESCE(NEW.runs_at <= NEW.proposed_at, TRUE)) "
              "OR (NEW.decision <> 'VETO' AND NEW.runs_at IS NOT NULL)",
              "an order that may be vetoed has a window, and only such an order"),
        Guard("approvals", PROPOSAL, "UPDATE",
              "OLD.status = 'PENDING_APPROVAL' AND NEW.status = 'APPROVED' AND NEW.approver_id IS NOT NULL "
              f"AND ({standing} < NEW.approvals_needed OR NOT {own})",
              "an approved order has the yes of as many people as it needs"),
        Guard("review", PROPOSAL, "UPDATE",
              f"({_changed(review, differs)}) AND (OLD.reviewed_at IS NOT NULL OR NEW.approver_id IS NOT NULL "
              f"OR NEW.proposer_agent_id IS NULL OR {owner})",
              "an order that ran by itself is reviewed once, and not by its agent's owner"),
        Guard("yes", APPROVAL, "INSERT", f"NOT EXISTS (SELECT 1 FROM {PROPOSAL} p WHERE {may_say_yes})",
              "only another operator says yes, to exactly a held order"),
        Guard("lowered", GRANT, "UPDATE",
              f"NEW.lowered_to {differs} OLD.lowered_to AND NOT (NEW.lowered_to <> '' AND NEW.lowered_to < NEW.level "
              "AND (OLD.lowered_to = '' OR NEW.lowered_to < OLD.lowered_to))",
              "what a grant is worth only falls"),
        Guard("policy", POLICY, "INSERT",
              f"{_without_role('NEW.signed_by_id', 'NEW.organization_id', LEADING)} OR NEW.version <> {newest} + 1",
              "a policy is the next version, signed by a lead"),
        Guard("present", ATTENDANCE, "INSERT",
              f"{_without_role('NEW.user_id', 'NEW.organization_id', OPERATING)} OR {away}",
              "an operator is present at a machine of their organisation"),
    ]  # fmt: skip


def _name(guard: Guard) -> str:
    return f"{PREFIX}{guard.table}_{guard.name}"


def _quoted(message: str) -> str:
    """The message inside an SQL string."""
    return message.replace("'", "''")


def statements(
    vendor: str, tables: frozenset[str] | None = None, columns: frozenset[tuple[str, str]] | None = None
) -> list[str]:
    """DDL that puts every guard in place (of those ``tables``, and of later ``columns`` that are there), replacing one
    that stands."""
    found = []
    for guard in guards(vendor):
        if tables is not None and guard.table not in tables:
            continue
        if guard.column and columns is not None and (guard.table, guard.column) not in columns:
            continue
        name = _name(guard)
        if vendor == "sqlite":
            found.append(f"DROP TRIGGER IF EXISTS {name}")
            found.append(
                f"CREATE TRIGGER {name} BEFORE {guard.event} ON {guard.table} WHEN {guard.refused} "
                f"BEGIN SELECT RAISE(ABORT, '{name}: {_quoted(guard.message)}'); END"
            )
        elif vendor == "postgresql":
            found.append(
                f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF {guard.refused} THEN RAISE EXCEPTION '{name}: {_quoted(guard.message)}' "
                "USING ERRCODE = 'check_violation'; END IF; RETURN NEW; END $$"
            )
            found.append(f"DROP TRIGGER IF EXISTS {name} ON {guard.table}")
            found.append(
                f"CREATE TRIGGER {name} BEFORE {guard.event} ON {guard.table} FOR EACH ROW EXECUTE FUNCTION {name}()"
            )
        else:
            raise ValueError(f"no order guards for {vendor}")
    return found


def install(_apps: Any, schema_editor: Any) -> None:
    """For ``migrations.RunPython``: put the guards in place, of the tables that are there by now."""
    looked = schema_editor.connection.introspection
    tables = frozenset(looked.table_names())
    with schema_editor.connection.cursor() as cursor:
        of_orders = looked.get_table_description(cursor, PROPOSAL) if PROPOSAL in tables else []
    columns = frozenset((PROPOSAL, column.name) for column in of_orders)
    for statement in statements(schema_editor.connection.vendor, tables, columns):
        schema_editor.execute(statement, params=None)


def remove(_apps: Any, schema_editor: Any) -> None:
    """The way back."""
    vendor = schema_editor.connection.vendor
    for guard in guards(vendor):
        on = f" ON {guard.table}" if vendor == "postgresql" else ""
        schema_editor.execute(f"DROP TRIGGER IF EXISTS {_name(guard)}{on}", params=None)
        if vendor == "postgresql":
            schema_editor.execute(f"DROP FUNCTION IF EXISTS {_name(guard)}()", params=None)


def missing(connection: Any) -> set[str]:
    """Names of guards that should stand, enabled, and do not."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        else:
            cursor.execute("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgenabled = 'O'")
        standing = {row[0] for row in cursor.fetchall()}
    return {_name(guard) for guard in guards(connection.vendor)} - standing
