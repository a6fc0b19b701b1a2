"""The page about the governor: by which numbers and tables agents are judged here, who set them, and why.

A lead writes the next version in the same form, without a script; what is wrong with it is said beside its place.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_http_methods

from commands import services
from commands.console.pages import page_context
from commands.console.sentence_words import worded
from commands.models import GovernorPolicy
from commands.records.policy_versions import differences
from commands.rules import policies, policy
from commands.rules.significance import LEVELS, is_at_least
from commands.rules.values import Level
from kernel import clock
from kernel.errors import ApiError
from kernel.member_pages import members_only
from kernel.principals import Principal

VERSIONS_SHOWN = 50
MAX_LINE = 600
DECISIONS = {"allow": _("run"), "veto": _("run unless vetoed"), "hold": _("held for a person"), "refuse": _("refused")}
FROM_WORDS = {
    "confirm_from": _("Approving asks for a tick from"),
    "two_person_from": _("A held agent's order needs two people from"),
    "own_second_from": _("A person's own order needs a second person from"),
}
LEVEL_WORDS = {
    "L1": _("assist"),
    "L2": _("recommend"),
    "L3": _("act with approval"),
    "L4": _("act with veto"),
    "L5": _("act with audit"),
}
GROUPS = (
    (_("Trust and presence"), ("veto_window_s", "attendance_max_age_s", "drill_max_age_s", "session_limit")),
    (_("Failing agents"), (
        "failure_threshold", "failure_min_settled", "failure_window_s", "breaker_error_rate", "breaker_min_settled",
        "breaker_window_s", "breaker_failures_of_type",
    )),
    (_("Readings"), ("max_age_heat_up_s", "max_age_s", "max_clock_skew_s", "prediction_tolerance_c")),
    (_("How long an order waits"), (
        "expires_off_roast_s", "expires_in_roast_s", "expires_after_first_crack_s", "expires_own_order_s",
    )),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NumberView:
    """One number, its bounds, and what is wrong with what was typed."""

    name: str
    what: str
    value: Any
    standing: Any
    least: float
    most: float
    is_whole: bool
    fault: str

    @property
    def unit(self) -> str:
        return "s" if self.name.endswith("_s") else "°C" if self.name.endswith("_c") else ""

    @property
    def long_words(self) -> str:
        """`24 h` of 86400 s, `5 min` of 300 s; nothing of what is read as it stands."""
        if self.unit != "s" or not isinstance(self.standing, int | float) or self.standing < 120:
            return ""
        for length_s, word in ((3600, "h"), (60, "min")):
            if self.standing % length_s == 0:
                return f"{self.standing / length_s:g} {word}"
        return ""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the matrix."""

    name: str
    decision: str
    fault: str
    is_changed: bool

    @property
    def significance(self) -> str:
        return self.name.partition(".")[2]


@require_http_methods(["GET", "HEAD", "POST"])
@members_only
def governor(request: HttpRequest, principal: Principal) -> HttpResponse:
    """By which numbers and tables are agents judged here?"""
    organization_id = principal.organization.pk if principal.organization is not None else ""
    newest = policies.newest(organization_id)
    standing = newest.document if newest is not None else policy.DEFAULT_DOCUMENT
    if request.method != "POST":
        return _shown(request, principal, newest, standing, standing)
    document = typed_document(request.POST, standing)
    try:
        row = services.set_policy(
            principal, document=document, reason=request.POST.get("reason", "").replace("\0", "")[:500],
            based_on=_whole(request.POST.get("based_on", "")), now=clock.now(),
        )  # fmt: skip
    except ApiError as error:
        base = _base_of(principal, _whole(request.POST.get("based_on", "")))
        if error.code != "policy_moved_on" or base is None:
            return _shown(request, principal, newest, standing, document, error)
        mine = policy.carried_over(document, base, standing)
        return _shown(request, principal, newest, standing, mine, error, differences(base, standing))
    return redirect(f"{reverse('console:governor')}?saved={row.version}")


def _base_of(principal: Principal, version: int | None) -> Any:
    """The document that a lead had before them when they began to write; None where there is none of that version."""
    if version == 0:
        return policy.DEFAULT_DOCUMENT
    row = GovernorPolicy.objects.for_principal(principal).filter(version=version).first()
    return row.document if row is not None else None


def _shown(
    request: HttpRequest, principal: Principal, newest: GovernorPolicy | None, standing: Any, typed: Any,
    error: ApiError | None = None, meanwhile: list[str] | None = None,
) -> HttpResponse:  # fmt: skip
    """``meanwhile``: what another lead's version changed since this one's form was opened."""
    faults = _faults_told(error.context.get("faults", [])) if error else {}
    versions = list(
        GovernorPolicy.objects.for_principal(principal)
        .select_related("signed_by")
        .order_by("-version")[:VERSIONS_SHOWN]
    )
    context = {
        **page_context(request, principal, "governor", []),
        "newest": newest,
        "version": newest.version if newest is not None else 0,
        "groups": [(title, [number_view(name, typed, standing, faults) for name in names]) for title, names in GROUPS],
        "froms": [from_view(name, str(word), typed, faults) for name, word in FROM_WORDS.items()],
        "lines": lines_of(typed.get("table", [])),
        "table_faults": [(place, message) for place, message in faults.items() if place.startswith("table")],
        "table": [{**row, "share": spelled(row.get("up_to_share"))} for row in standing.get("table", [])],
        "matrix": matrix_view(typed, standing, faults),
        "standing_matrix": matrix_view(standing, standing, {}),
        "significances": [level.value for level in LEVELS],
        "decisions": DECISIONS,
        "history": [(row, changes_of(row, versions)) for row in versions],
        "error": error,
        "meanwhile": meanwhile or [],
        "faults": list(faults.items()),
        "reason": request.POST.get("reason", "") if error else "",
        "saved": _whole(request.GET.get("saved", "")),
        "is_editing": error is not None or request.GET.get("edit") == "1",
    }
    status = 200 if error is None else {403: 403, 409: 409}.get(error.status, 400)
    return render(request, "governor/governor.html", context, status=status)


def _faults_told(faults: list[dict[str, str]]) -> dict[str, str]:
    """Place → all that is wrong there, in the page's language; the codes that a row of the table is written in stay
    what has to be typed there."""
    told: dict[str, list[str]] = {}
    for fault in faults:
        words = worded(fault["message"], keeps_codes=fault["place"].startswith("table"))
        told.setdefault(fault["place"], []).append(words)
    return {place: " ".join(words) for place, words in told.items()}


def changes_of(row: GovernorPolicy, versions: list[GovernorPolicy]) -> list[str]:
    """What this version changed in the one before it, as far as that is shown; [] where it is not."""
    former = next((each for each in versions if each.version == row.version - 1), None)
    if former is None and row.version != 1:
        return []
    return differences(former.document if former is not None else policy.DEFAULT_DOCUMENT, row.document)


def number_view(name: str, typed: Any, standing: Any, faults: dict[str, str]) -> NumberView:
    least, most, is_whole, what = policy.NUMBERS[name]
    return NumberView(
        name, what, spelled(typed.get("numbers", {}).get(name)), spelled(standing.get("numbers", {}).get(name)), least,
        most, is_whole, faults.get(f"numbers.{name}", ""),
    )  # fmt: skip


def from_view(name: str, word: str, typed: Any, faults: dict[str, str]) -> dict[str, Any]:
    levels = [each.value for each in LEVELS if is_at_least(each, policy.FROM[name])]
    return {
        "name": name, "word": word, "value": typed.get(name) or "", "levels": levels, "fault": faults.get(name, ""),
    }  # fmt: skip


def lines_of(table: list[Any]) -> str:
    """The significance table as lines a person edits: order | direction | up to | states | significance | why."""
    return "\n".join(
        " | ".join((
            str(row.get("order_type", "")), str(row.get("direction", "")), spelled(row.get("up_to_share")),
            ", ".join(map(str, row.get("states") or [])) or "any", str(row.get("significance", "")),
            str(row.get("reason", "")),
        ))
        for row in table
    )  # fmt: skip


def matrix_view(typed: Any, standing: Any, faults: dict[str, str]) -> list[tuple[str, str, list[Cell]]]:
    """Level, its words, and its cells by significance."""
    found = []
    for level in Level:
        across, before = (source.get("matrix", {}).get(level.value, {}) for source in (typed, standing))
        cells = [
            Cell(
                f"{level.value}.{each.value}", across.get(each.value, ""),
                faults.get(f"matrix.{level.value}.{each.value}", ""), across.get(each.value) != before.get(each.value),
            )
            for each in LEVELS
        ]  # fmt: skip
        found.append((level.value, str(LEVEL_WORDS[level.value]), cells))
    return found


def plain(value: Any) -> Any:
    """A number as a person writes it: 15 for 15.0; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else value


def spelled(value: Any) -> str:
    """The same in every language, so that a form takes back what it showed."""
    return "" if value is None else str(plain(value))


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def typed_document(form: Any, standing: Any) -> dict[str, Any]:
    """What the form says, as a policy's document: nothing is mended, so that every fault is told."""
    document: dict[str, Any] = copy.deepcopy(policy.DEFAULT_DOCUMENT)
    document["numbers"] = {name: _number(form.get(f"n.{name}", "")) for name in policy.NUMBERS}
    for name in policy.FROM:
        document[name] = form.get(name, "")[:20] or None
    document["matrix"] = {
        level.value: {each.value: form.get(f"m.{level.value}.{each.value}", "")[:20] for each in LEVELS}
        for level in Level
    }
    document["table"] = _typed_rows(form.get("table", ""))
    return document


def _number(text: str) -> Any:
    """The number typed; the text itself where it is none: then that is its fault."""
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        return text[:40]
    return plain(value) if math.isfinite(value) else text[:40]


def _typed_rows(text: str) -> list[dict[str, Any]]:
    """The lines, from the top, as rows; what a line lacks is left empty, so that it is told."""
    rows = []
    for line in text.splitlines()[: policy.MAX_ROWS + 1]:
        if not line.strip():
            continue
        words = [word.strip() for word in line[:MAX_LINE].split("|", 5)]
        order_type, direction, share, states, significance, reason = words + [""] * (6 - len(words))
        rows.append({
            "order_type": order_type,
            "direction": direction,
            "up_to_share": _number(share),
            "states": [] if states == "any" else [state.strip() for state in states.split(",")],
            "significance": significance,
            "reason": reason,
        })  # fmt: skip
    return rows
