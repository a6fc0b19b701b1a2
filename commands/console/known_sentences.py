"""Fixed sentences that other modules write into the record in English, and that pages show translated.

The record, the API and the audit keep the English words; a sentence that is not here is shown as it was written.
A test finds each of them in the source it comes from.
"""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

#: What hands must still do after a stop (drivers, commands/stop/wire.py, the machine loop).
BY_HAND = (
    _("Beans still hot: drop them by hand."),
    _("Beans may still be hot: drop them by hand."),
    _("Use the machine's panel, or cut the mains: nothing here could reach it."),
    _("Heat off is not cold: drop the beans by hand if they are in the drum."),
    _("Use the machine's panel, or cut the mains."),
    _("Use the machine's panel or the mains if heat must go."),
    _("Use the machine's panel or the mains: its keeper does not answer."),
    _("Look at the machine: heat off could not be proved."),
    _("Look at the machine: is its heat off? Turn it off there, or cut the mains or the gas."),
    _("Look at the machine's panel: is the heater at 0? Turn it down there, or cut the mains."),
    _("The machine's own program holds the heater in this state: press its button until it cools, or cut the mains."),
    _("The machine's own program holds the heat in this state: end it at the machine, or cut the mains or the gas."),
    _("This machine is only read from here: turn its heat off at the machine itself, or cut the mains or the gas."),
    _("Look at the roaster. Use its panel, or the mains, if heat must go."),
    _("Use the panel. Check cable and power; resume orders here once it answers again."),
    _("Use the panel. It is being restarted."),
)
#: Of the link (commands/console/machine_state.py).
LINK = (
    _("Nobody has spoken to this machine yet."),
    _("No machine loop tends this machine: unproved, use the panel."),
    _("The newest reading is old."),
    _("The bridge of this machine is silent."),
)
#: What follows and what to do, of an alarm (commands/loop/interlocks.py). Its cause carries figures and stays English.
ALARMS = (
    _("Agents are halted; nothing but making safe reaches the machine."),
    _("Heat is being turned off and stays off until a lead resets the halt."),
    _("Unproved: it goes on with its last settings. Orders are paused."),
    _("Unproved: nothing can be read or sent just now."),
    _("Drop the beans by hand. Watch for smoke."),
    _("Look at the drum. Drop by hand if it smokes."),
    _("Check the bean probe and the drum before resetting."),
    _("Drop the beans or use the panel."),
    _("Look at the machine, then clear this halt."),
    _("Heat is being turned off again."),
    _("Keep hands off the heater, or use the panel."),
    _("Heat cannot be turned up; marks are not drawn."),
    _("Roast by eye and ear, or drop."),
    _("Roast by eye and ear; look at the probe."),
    _("Look at the sensor's window."),
    _("Heat may be on in an empty drum. Agents may not heat up."),
    _("Look into the drum. Turn the heat down if it is empty."),
    _("Look at the panel."),
    _("Beans left in a hot drum go on roasting and can burn."),
    _("Open the door and get the beans out by hand."),
    _("Its commissioning has ended: no agent acts on it any more."),
    _("Look at what is plugged in. Walk through the commissioning of this machine before agents act on it."),
    _("Beans may lie in a hot drum without heat, air or turning, where they can burn."),
    _("Look into the drum and get the beans out by hand."),
)
#: Refusals of a PIN (kernel/operator_pins.py), which the room below cannot translate itself.
PINS = (
    _("A PIN is six digits."),
    _("That PIN is among the first anybody tries. Choose another."),
    _("Only a person of an organisation has a PIN."),
    _("Nobody has signed in here with a password in the last 12 hours. Sign out, and sign in with yours."),
    _("That PIN does not open this. Nothing has changed."),
    _("Too many wrong PINs. For five minutes only a password opens this: sign out and sign in."),
)
