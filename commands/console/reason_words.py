"""A verdict's reasons in the page's language: from their codes and numbers, not from the English that was stored.

In English a page shows what was stored. Elsewhere a reason's sentence is made anew from its code, its value and bound,
and the order it judged. A code without a sentence here falls back on the stored words (`sentence_words`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from commands.console import code_words, sentence_words
from commands.console.order_words import is_english, proposer_name, reasons_of, shown_value
from commands.models import Proposal
from commands.reasons import Code, Decision


@dataclass(frozen=True, slots=True)
class Said:
    """A reason's sentence and its cure, with gaps in braces."""

    message: str
    how_to_fix: str = ""


_LEAD = _("A lead may grant more.")
_ADOPT = _("A person may adopt this advice; a lead may sign a grant.")
_PERSON = _("A person may order.")
_DECIDE = _("An operator approves or rejects.")
_CARD = _("Connect the machine; see its card for the cause.")
_ANEW = _("Propose again from what stands now.")
_ENVELOPE = _("A lead sets the machine's envelope.")
#: Code → what it says. Gaps: value, bound (as a person writes them), value_h, bound_h (seconds as hours), left_s (bound
#: less value), name (who proposed), machine, control, order.
SENTENCES: dict[str, Said] = {
    Code.OWN_ORDER: Said(_("{name} gives this order by their own authority.")),
    Code.APPROVAL_REQUIRED: Said(_("{name} is granted {value}: it acts with approval."), _DECIDE),
    Code.VETO_WINDOW: Said(
        _("{name} acts with veto (L4): it runs {bound} s after it was proposed."),
        _("Any operator may veto it until then, or approve it now."),
    ),
    Code.ACTS_WITH_AUDIT: Said(
        _("{name} acts with audit (L5): it runs now and is reviewed after."), _("A person reviews it afterwards.")
    ),
    Code.NOT_ATTENDED: Said(
        _("Nobody confirmed in the last {bound} s that they are at {machine}: treated as L3, with approval."),
        _("The operator at the machine presses “I am here”, or approves this order."),
    ),
    Code.VETO_WINDOW_TOO_LONG: Said(
        _("It runs out in {value} s, before its veto window of {bound} s ends: it needs approval."), _DECIDE
    ),
    Code.VETO_WINDOW_OPEN: Said(_("Its veto window has not ended."), _("Wait for it, or an operator approves.")),
    Code.NOT_COMMISSIONED: Said(
        _("{machine} is not commissioned: no agent acts on it."),
        _("Walk through its commissioning; a person may order meanwhile."),
    ),
    Code.NO_STOP_DRILL: Said(
        _("{machine} has no STOP drill that counts: no agent acts on it."),
        _("Press the STOP drill at the machine; one counts for {bound_h} h."),
    ),
    Code.SIGNIFICANCE: Said(_("At {bound}, what is this grave ({value}) is: {decision}."), _("An operator decides.")),
    Code.NO_SIGNIFICANCE: Said(
        _("No row of the significance table fits this order ({order})."),
        _("A lead adds a row to the governor's policy."),
    ),
    Code.SECOND_PERSON: Said(
        _("Orders that matter this much ({bound} or more) need a second person here."),
        _("Another operator approves it."),
    ),
    Code.POLICY_UNREADABLE: Said(
        _("The governor's policy cannot be read, so no agent acts."), _("A lead writes a new version of the policy.")
    ),
    Code.OTHER_RELEASE: Said(
        _("The grant is for release {bound} of {name}; this order comes from {value}."),
        _("A person may adopt this advice; a lead may sign a grant for the new release."),
    ),
    Code.RAMP_TOO_STEEP: Said(
        _("This change comes too fast after the last agent's order on this control ({control}): {value} steps per s."),
        _("At most {bound} steps per second: wait, or ask for less."),
    ),
    Code.LEVEL_TOO_LOW: Said(_("{name} is granted {value} (assist): it may not order."), _LEAD),
    Code.LEVEL_RECOMMENDS_ONLY: Said(
        _("{name} is granted {value} (recommend): its orders are advice."),
        _("A person may adopt this advice; a lead may grant more."),
    ),
    Code.UNKNOWN_LEVEL: Said(_("There is no level {value}."), _("A lead signs the grant again.")),
    Code.NO_GRANT: Said(_("{name} has no grant for this ({order}) on {machine}: it may only recommend."), _ADOPT),
    Code.HAND_ACT: Said(
        _("This ({order}) is done by hand at this machine: shown as advice for {value} s."),
        _("The person at the machine decides."),
    ),
    Code.PROPOSER_INACTIVE: Said(_("{name} is not active here."), _("An admin may activate it again.")),
    Code.MACHINE_ARCHIVED: Said(_("{machine} is archived."), _("Order on a machine in use.")),
    Code.TARGET_MISSING: Said(_("This order ({order}) needs a target."), _("Say the step or the share.")),
    Code.TARGET_NOT_SUPPORTED: Said(
        _("This order ({order}) takes no target on this machine."), _("The preheat temperature is set at the panel.")
    ),
    Code.UNIT_DOES_NOT_FIT: Said(
        _("This order ({order}) cannot be given in that unit."), _("Give it in steps or percent.")
    ),
    Code.NO_ENVELOPE: Said(_("{machine} has no limits for this control ({control})."), _ENVELOPE),
    Code.ABOVE_CEILING: Said(_("{control} {value} is above the ceiling of {bound}."), _("Ask for at most {bound}.")),
    Code.BELOW_FLOOR: Said(_("{control} {value} is below the floor of {bound}."), _("Ask for at least {bound}.")),
    Code.CHANGE_TOO_LARGE: Said(_("A move of {value} steps is too long."), _("Move at most {bound} steps at once.")),
    Code.TOO_SOON: Said(
        _("The last agent's order on this control ({control}) was {value} s ago."), _("Wait {left_s} s more.")
    ),
    Code.DAILY_COUNT: Said(
        _("{value} agents' orders moved this control ({control}) in 24 hours; {bound} are allowed."), _PERSON
    ),
    Code.ROAST_COUNT: Said(
        _("{value} agents' orders moved this control ({control}) in this roast; {bound} are allowed."), _PERSON
    ),
    Code.WRONG_STATE: Said(
        _("This ({order}) is not possible while the machine is in this state: {value}."), _("Possible in: {bound}.")
    ),
    Code.FIRMWARE_OWNS_HEAT: Said(
        _("In this state ({value}) the machine's firmware holds the heater."),
        _("Wait until it roasts; to stop the heat now use STOP and the panel."),
    ),
    Code.NOT_BY_WIRE: Said(
        _("{machine} cannot be asked for this ({order})."), _("Do it by hand at the machine.")
    ),
    Code.PREHEAT_OUT_OF_RANGE: Said(
        _("{value} °C is no preheat temperature of this machine (lowest and highest: {bound} °C)."),
        _("Ask for a temperature between them; a lead sets the highest in the machine's envelope."),
    ),
    Code.BEANS_NOT_PROVED: Said(
        _("No beans are proved in the drum: an agent may not add heat."),
        _("The probe must fall at least 25 °C within 20 s of the charge; else a person orders."),
    ),
    Code.READING_UNKNOWN: Said(_("There is no reading of {machine}."), _CARD),
    Code.STALE_READING: Said(
        _("The newest reading is {value} s old; this needs one of at most {bound} s."),
        _("Wait for a fresh reading, then propose again."),
    ),
    Code.POOR_QUALITY: Said(
        _("What this order rests on is read badly: {value}."), _("Check the sensor, wait for a good reading.")
    ),
    Code.LINK_DOWN: Said(_("The link to {machine}: {value}."), _CARD),
    Code.HALTED: Said(
        _("{machine} is halted ({value})."),
        _("A lead resets the halt when the machine is safe; a lost link is cleared by the operator who looked."),
    ),
    Code.SUSPENDED: Said(_("{value} has {machine}: agents are suspended here."), _("A person gives it back.")),
    Code.ORDERS_PAUSED: Said(
        _("Orders to {machine} are paused since its link was lost."),
        _("An operator looks at the machine and resumes orders."),
    ),
    Code.STORE_UNREACHABLE: Said(
        _("The store cannot be reached."), _("Wait until it answers; STOP works without it.")
    ),
    Code.FAILURE_RATE: Said(
        _("{value_percent} % of its last settled orders failed; {bound_percent} % are allowed."),
        _("Find out why they fail; the window moves on."),
    ),
    Code.SESSION_LIMIT: Said(
        _("Agents have given {value} orders in this roast; {bound} are allowed."), _PERSON
    ),
    Code.CONFLICT: Said(_("Another order on this control ({control}) is not settled."), _("Wait until it is settled.")),
    Code.EXPIRED: Said(_("The order's time has run out."), _("Propose it again if it is still right.")),
    Code.CONTROL_MOVED: Said(_("{control} was at {bound} when this was proposed and is at {value} now."), _ANEW),
    Code.LEFT_PREDICTION: Said(
        _("The beans are {value} °C from what was expected by now; {bound} °C are allowed."), _ANEW
    ),
    Code.NOT_APPROVED: Said(
        _("Nobody approved this order."), _("An operator approves it before its time runs out.")
    ),
    Code.RULE_ERROR: Said(
        _("The rule `{value}` could not judge this order, so it is refused."),
        _("Report it: the log has the traceback."),
    ),
    Code.NO_RULES: Said(
        _("The governor has no rules, so it permits nothing."), _("Restore the rule table.")
    ),
}  # fmt: skip
#: Codes of whose reasons the value tells which of several things was missing.
_SETTING_UNKNOWN = Said(_("Where the control stands is not known ({value})."), _("Wait for a reading that has it."))
_BEANS_UNKNOWN = Said(_("The bean temperature is not known: no more heat."), _("Check the probe."))
_STATE_RULED_OUT = Said(_("The proposer ruled out this state: {value}."), _("Wait, or propose without that."))
_RELEASE_UNNAMED = Said(
    _("The grant is for release {bound} of {name}; this order names no release."),
    _("A person may adopt this advice; a lead may sign a grant for the new release."),
)
_SEEN_UNKNOWN = Said(_("What the machine read when this was proposed is not known."), _ANEW)
_NO_TIME = Said(
    _("This change comes at once after the last agent's order on this control ({control})."),
    _("At most {bound} steps per second: wait, or ask for less."),
)
_WORDED_VALUES: dict[str, Callable[[object], str]] = {
    Code.WRONG_STATE: code_words.state_word,
    Code.FIRMWARE_OWNS_HEAT: code_words.state_word,
    Code.SIGNIFICANCE: code_words.significance_word,
    Code.SECOND_PERSON: code_words.significance_word,
    Code.READING_UNKNOWN: code_words.control_word,
    Code.POOR_QUALITY: code_words.spoken,
    Code.LINK_DOWN: code_words.spoken,
}


def said_of(reason: dict[str, Any]) -> Said | None:
    """The sentence for a stored reason; None where its code has none."""
    code, value, bound = str(reason.get("code", "")), reason.get("value"), reason.get("bound")
    if code == Code.READING_UNKNOWN and value is not None:
        return _BEANS_UNKNOWN if value == "bean_temp_c" else _SETTING_UNKNOWN
    if code == Code.WRONG_STATE and isinstance(bound, list) and value in bound:
        return _STATE_RULED_OUT
    if code == Code.OTHER_RELEASE and not value:
        return _RELEASE_UNNAMED
    if code == Code.CONTROL_MOVED and bound is None:
        return _SEEN_UNKNOWN
    if code == Code.RAMP_TOO_STEEP and value is None:
        return _NO_TIME
    return SENTENCES.get(code)


def reason_words(reason: dict[str, Any], order: Proposal) -> Said:
    """A stored reason and its cure in the page's language; ``order`` with its machine and proposer loaded."""
    stored = Said(str(reason.get("message") or reason.get("code") or ""), str(reason.get("how_to_fix") or ""))
    if is_english():
        return stored
    said = said_of(reason)
    if said is None:
        return Said(sentence_words.worded(stored.message), sentence_words.worded(stored.how_to_fix))
    gaps = _gaps(reason, order)
    return Said(*(gettext(text).format_map(gaps) if text else "" for text in (said.message, said.how_to_fix)))


def turned_down(order: Proposal) -> str:
    """Why an order was turned down, in the page's language: by the governor's reason, or in a person's own words."""
    reason = next((each for each in reasons_of(order) if each.get("code") == order.rejection_code), None)
    if order.decision != "REFUSE" or reason is None or is_english():
        return order.rejection_text
    return reason_words(reason, order).message


def _gaps(reason: dict[str, Any], order: Proposal) -> dict[str, str]:
    code, value, bound = str(reason.get("code", "")), reason.get("value"), reason.get("bound")
    word = _WORDED_VALUES.get(code, _shown)
    if code == Code.HALTED:
        word = _halts
    return {
        "value": word(value),
        "bound": _bounds(word, bound) if code != Code.SIGNIFICANCE else _shown(bound),
        "value_percent": shown_value(_times(value, 100)),
        "bound_percent": shown_value(_times(bound, 100)),
        "bound_h": shown_value(_times(bound, 1 / 3600)),
        "left_s": shown_value(_less(bound, value)),
        "name": proposer_name(order),
        "machine": order.machine.name,
        "control": code_words.control_word(order.control),
        "order": code_words.order_type_word(order.order_type),
        "decision": code_words.spoken(reason.get("decision", Decision.REFUSE)),
    }


def _shown(value: object) -> str:
    return "?" if value is None else shown_value(value)


def _bounds(word: Callable[[object], str], bound: object) -> str:
    return ", ".join(word(each) for each in bound) if isinstance(bound, list) else word(bound)


def _halts(value: object) -> str:
    return ", ".join(code_words.spoken(part) for part in str(value).split(", "))


def _times(value: object, factor: float) -> float | str:
    return value * factor if isinstance(value, int | float) and not isinstance(value, bool) else "?"


def _less(value: object, other: object) -> float | str:
    return value - other if isinstance(value, int | float) and isinstance(other, int | float) else "?"
