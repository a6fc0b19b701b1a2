"""The fields of an Artisan log and their types: facts of the format (reference/bullet-and-alog.md §4). Pure.

Kinds: ``text, whole, number, yes_no``, a list of one of them, or a list of lists of numbers. As in Artisan's own check,
whole numbers count as numbers, text that spells a number converts, a fraction is no whole number, and unknown keys
fall away.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from roasts.alog.literal import Literal

MAX_TEXT_CHARS = 20_000
MAX_LIST = 100_000
#: Beyond this no temperature, time, weight or count of a roast lies (milliseconds since 1970 do not reach it either).
MAX_NUMBER = 1e15

FIELDS: dict[str, str] = {}


def _declare(kind: str, names: str) -> None:
    FIELDS.update(dict.fromkeys(names.split(), kind))


_declare(
    "text",
    """recording_version recording_revision recording_build version revision build signature artisan_os
    artisan_os_version artisan_os_arch mode title locale plus_store plus_store_label plus_coffee
    plus_coffee_label plus_blend_label beans roastertype machinesetup operator organization drumspeed
    color_system volumeCalcWeightIn volumeCalcWeightOut roastdate roastisodate roasttime roastbatchprefix
    roastUUID scheduleID scheduleDate beansize beansize_min beansize_max cuppingnotes roastingnotes
    externalprogram externaloutprogram alarmsetlabel backgroundpath backgroundUUID svLabel
    plus_sync_record_hash bbp_begin hash""",
)
_declare(
    "number",
    """flavors_total_correction flavorstartangle flavoraspect defects_weight roastersize whole_color
    ground_color xmin xmax ambientTemp ambient_humidity ambient_pressure moisture_greens greens_temp
    moisture_roasted samplinginterval pidKp pidKi pidKd pidPsetpointWeight pidDsetpointWeight pidKp1
    pidKi1 pidKd1 pidKp2 pidKi2 pidKd2 pidSchedule0 pidSchedule1 pidSchedule2 biogas_co2_reduction
    bbp_time_added_from_prev bbp_dropbt bbp_dropet bbp_drop_to_end""",
)
_declare(
    "whole",
    """end_weight_est roasterheating roastepoch roasttzoffset roastbatchnr roastbatchpos zmax zmin ymax ymin
    pidSource svLookahead ramp_lookahead elevation preheatDuration betweenbatchDuration coolingDuration
    electricEnergyMix gasMix bbp_endroast_epoch_msec""",
)
_declare(
    "yes_no",
    """viewerMode heavyFC lowFC lightCut darkCut drops oily uneven tipping scorching divots gain_scheduling
    gain_scheduling_on_SV gain_scheduling_quadratic betweenbatch_after_preheat""",
)
_declare(
    "list of text",
    """flavorlabels plus_blend_spec_labels specialeventsStrings etypes extraname1 extraname2
    extramathexpression1 extramathexpression2 extradevicecolor1 extradevicecolor2 extramarkers1
    extramarkers2 extralinestyles1 extralinestyles2 extradrawstyles1 extradrawstyles2 alarmstrings
    svDescriptions devices loadlabels meterlabels""",
)
_declare(
    "list of number",
    """flavors specialeventsvalue timex temp1 temp2 extramarkersizes1 extramarkersizes2 extralinewidths1
    extralinewidths2 alarmtemperature svValues legendloc_pos loadratings co2kg_per_btu preheatenergies
    betweenbatchenergies coolingenergies""",
)
_declare(
    "list of whole",
    """timeindex specialevents specialeventstype default_etypes_set phases extradevices extraFill1 extraFill2
    alarmflag alarmguard alarmnegguard alarmtime alarmoffset alarmcond alarmsource alarmaction alarmbeep
    svRamps svSoaks svActions ratingunits sourcetypes load_etypes loadevent_zeropcts loadevent_hundpcts
    meterunits metersources meterfuels""",
)
_declare(
    "list of yes_no",
    """default_etypes extraLCDvisibility1 extraLCDvisibility2 extraCurveVisibility1 extraCurveVisibility2
    extraDelta1 extraDelta2 extraNoneTempHint1 extraNoneTempHint2 svBeeps presssure_percents""",
)
_declare("list of number or text", "weight volume density density_roasted")
_declare("list of list of number", "extratimex extratemp1 extratemp2 anno_positions flag_positions meterreads")
_declare("list of list of number or none", "bbp_endevents bbp_dropevents")
_declare("summary", "computed")

#: Counts among `computed`; everything else there is a number, `AUCbegin` is text.
COMPUTED_WHOLE = frozenset(
    """TP_idx total_ts total_ts_ET total_ts_BT AUC AUCfromeventflag dry_phase_AUC mid_phase_AUC
    finish_phase_AUC""".split()
)
#: They name programs, files or orders: never read, never kept, never written.
NEVER_HONOURED: dict[str, str] = {
    "externalprogram": "a program to run",
    "externaloutprogram": "a program to run",
    "backgroundpath": "a path on somebody's disk",
    "alarmaction": "what an alarm would do",
    "alarmstrings": "what an alarm would do",
}
#: The rest of an alarm means nothing without its action.
ALARM_FIELDS = frozenset(
    """alarmsetlabel alarmflag alarmguard alarmnegguard alarmtime alarmoffset alarmcond alarmsource
    alarmtemperature alarmbeep""".split()
)
#: True of the file that Artisan wrote, and of no other.
SIGNED_FIELDS = frozenset({"signature", "hash"})


class WrongType(ValueError):
    """A field does not hold what the format says."""


def checked(name: str, value: Literal) -> Any:
    """The value in the type of the field, or WrongType. Sizes are bounded."""
    return _READERS[FIELDS[name]](value)


def is_of_kind(name: str, value: Any) -> bool:
    """Whether a value may stand in a file under this name."""
    try:
        checked(name, value)
    except WrongType:
        return False
    return True


def text_of(value: Literal) -> str:
    """Bounded text without the control characters that no store or page can hold."""
    if not isinstance(value, str):
        raise WrongType("not text")
    if len(value) > MAX_TEXT_CHARS:
        raise WrongType(f"more than {MAX_TEXT_CHARS} characters")
    return "".join(letter for letter in value if letter in "\n\t" or letter.isprintable() or ord(letter) > 0x9F)


def number_of(value: Literal) -> float:
    """A finite number; text that spells one converts."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise WrongType("not a number")
    try:
        number = float(value[:64] if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        raise WrongType("not a number") from None
    if not math.isfinite(number) or abs(number) > MAX_NUMBER:
        raise WrongType("a number out of range")
    return number


def whole_of(value: Literal) -> int:
    number = number_of(value)
    if number != int(number):
        raise WrongType("not a whole number")
    return int(number)


def _yes_no(value: Literal) -> bool:
    if value in (True, False, 0, 1):
        return bool(value)
    raise WrongType("neither true nor false")


def _number_or_none(value: Literal) -> float | None:
    return None if value is None else number_of(value)


def _number_or_text(value: Literal) -> float | str:
    return text_of(value) if isinstance(value, str) else number_of(value)


def _list_of(reader: Callable[[Literal], Any]) -> Callable[[Literal], list[Any]]:
    def read(value: Literal) -> list[Any]:
        if not isinstance(value, list):
            raise WrongType("not a list")
        if len(value) > MAX_LIST:
            raise WrongType(f"more than {MAX_LIST} entries")
        return [reader(item) for item in value]

    return read


def _summary(value: Literal) -> dict[str, float | int | str]:
    """Artisan's own summary: what is of the right type in it."""
    if not isinstance(value, dict):
        raise WrongType("not a dictionary")
    found: dict[str, float | int | str] = {}
    for name, item in list(value.items())[:200]:
        reader: Callable[[Literal], Any] = whole_of if name in COMPUTED_WHOLE else _number_or_text
        try:
            found[name] = reader(item)
        except WrongType:
            continue
    return found


_READERS: dict[str, Callable[[Literal], Any]] = {
    "text": text_of,
    "number": number_of,
    "whole": whole_of,
    "yes_no": _yes_no,
    "list of text": _list_of(text_of),
    "list of number": _list_of(number_of),
    "list of whole": _list_of(whole_of),
    "list of yes_no": _list_of(_yes_no),
    "list of number or text": _list_of(_number_or_text),
    "list of list of number": _list_of(_list_of(number_of)),
    "list of list of number or none": _list_of(_list_of(_number_or_none)),
    "summary": _summary,
}
