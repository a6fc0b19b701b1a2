"""What the console's scripts say, so that a page can hand them its translation (`<body data-words="…">`).

`static/src/*.js` ask for their words by the English ones, `t("Live")`; gaps are `{name}`. Tests hold this list to
the scripts. An English page carries no table.
"""

from __future__ import annotations

import json

from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _

from commands.known_sentences import BY_HAND

SAID_BY_SCRIPTS = (
    _("STOP not confirmed: use the panel or the mains."),
    _("I have read this"),
    _("Heat off, proved in {ms} ms. Heat off is not cold."),
    _("Heat off, proved. Heat off is not cold."),
    _("NOT PROVED"),
    _("STOP sent, heat off NOT PROVED."),
    _("If in doubt: the panel or the mains."),
    _("the answer made no sense"),
    _("STOP sent…"),
    _("STOP sent; no proof yet. Be ready at the panel."),
    _("the server answered {status}"),
    _("the server did not answer"),
    _("Machine"),
    _("Close this message"),
    _("The server answered {status}."),
    _("The server did not answer. Nothing is known to have changed."),
    _("Refused:"),
    _("Done."),
    _("Signed out"),
    _("Sign in again"),
    _("You are signed out; what you see is getting old. STOP still works for a few minutes."),
    _("expired"),
    _("No data yet"),
    _("data {age} s old"),
    _("DATA IS OLD:"),
    _("Do not trust these figures."),
    _("New order waiting: {title}, from {name}."),
    _("Off"),
    _("Preheating"),
    _("Stabilising"),
    _("Ready for beans"),
    _("Roasting"),
    _("Cooling"),
    _("Shutting down"),
    _("State unknown"),
    _("Live"),
    _("Not live"),
    _("No order to approve."),
    _("This order has only just appeared. Read it, then press A again."),
    _("No order to reject."),
    _("Colours: follow the system"),
    _("Colours: light"),
    _("Colours: dark"),
    _("Drying and Maillard (dry end not marked)"),
    _("Drying"),
    _("Nothing to mark: no roast is under way."),
    _("{mark} marked at {time}."),
    _("Set back to {time}."),
    _("{mark} withdrawn."),
    _("Charged now: the roast is open."),
    _("The roast is closed."),
    _("No reading of this control yet: nothing was asked."),
    _("{from} → {to} sent"),
    _("You have it. No agent may act on this machine."),
    _("Given back. Agents may act as far as they are trusted."),
    _("Give it back"),
    _("I have it"),
    _("Golden: {name} v{version}"),
    _("now"),
    _("in {time}"),
    _("plan: {plan}"),
    _("Twin, in {time}: {with_it} with it, {without} without (±{spread}), extrapolating: {why}."),
    _("Twin, in {time}: {with_it} with it, {without} without (±{spread})."),
    _("The last seconds before the drop."),
    _("after {time} of development"),
    _("no plan"),
    _("at {temperature}"),
    _("dropped"),
    _("→ {step} in {time}"),
    _("nothing planned"),
    _("First crack is not marked."),
    _("First crack at {time}."),
    _("Dropped."),
    _("Orders wait until after the drop."),
    _("No orders in the last {seconds} seconds."),
    _("No order waits."),
    _("from {name}"),
    _("Approve"),
    _("Reject"),
    _("Noted: the beans are out."),
    _("Write the temperature as a number and the time as m:ss."),
    _("Planned."),
    _("Drum"),
    _("Fan"),
    _("Heater"),
    _("At {time} after charge: bean temperature {bt} {unit}"),
    _("up {change} {unit} in the last minute"),
    _("down {change} {unit} in the last minute"),
    _("rate of rise {ror} {unit}/min, ET {et} {unit}."),
    _("{mark} at {time}"),
)


def table_json() -> str:
    """English words → those of the active language, as JSON; empty where every word would be the same."""
    said = {words: gettext(words) for words in (*SAID_BY_SCRIPTS, *BY_HAND)}
    changed = {words: worded for words, worded in said.items() if worded != words}
    return json.dumps(changed, ensure_ascii=False) if changed else ""
