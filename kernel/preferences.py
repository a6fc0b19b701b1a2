"""How a person wants to be shown figures and times. What is stored, sent and decided on stays °C, g and UTC."""

from __future__ import annotations

import datetime as dt
import functools
import zoneinfo

from django.contrib.auth.models import User
from django.db import DatabaseError
from django.http import HttpRequest
from django.utils import translation

from kernel.models import Preferences


class UnknownTimeZone(ValueError):
    """Not a name of the IANA time zone database."""


@functools.cache
def known_time_zones() -> frozenset[str]:
    """Every IANA name this computer knows."""
    return frozenset(zoneinfo.available_timezones())


@functools.cache
def offered_time_zones() -> tuple[str, ...]:
    """Those a person may pick from a list: places, and UTC; older aliases are taken when given, but not offered."""
    places = (name for name in known_time_zones() if "/" in name and not name.startswith(("Etc/", "SystemV/")))
    return ("UTC", *sorted(places))


def preferences_of(user: User | None) -> Preferences:
    """The person's preferences, or the defaults (an unsaved row)."""
    found = Preferences.objects.filter(user=user).first() if user is not None else None
    return found or Preferences(user=user)


def of_request(request: HttpRequest) -> Preferences | None:
    """Of the person who asks; None for a stranger, and where the database cannot say (the page that says so needs it
    not)."""
    chosen, principal = getattr(request, "preferences", None), getattr(request, "principal", None)
    if chosen is not None or principal is None or principal.user is None:
        return chosen
    try:
        return preferences_of(principal.user)
    except DatabaseError:
        return None


def language_of(request: HttpRequest) -> str:
    """For pages: the person's own choice where they are known, else what the browser asks for."""
    chosen = of_request(request)
    return chosen.language if chosen is not None else translation.get_language_from_request(request)


def save_preferences(
    user: User, *, temperature_unit: str, mass_unit: str, time_zone: str, language: str
) -> Preferences:
    """Keep the person's choices; UnknownTimeZone, or the database's refusal of a unit or language it does not know."""
    if time_zone and time_zone not in known_time_zones():
        raise UnknownTimeZone(time_zone)
    row, _ = Preferences.objects.update_or_create(
        user=user,
        defaults={
            "temperature_unit": temperature_unit,
            "mass_unit": mass_unit,
            "time_zone": time_zone,
            "language": language,
        },
    )
    return row


def zone_of(preferences: Preferences) -> dt.tzinfo:
    """The zone in which the server writes times for this person: theirs, else UTC (the page's script then puts
    them in the device's own)."""
    if not preferences.time_zone:
        return dt.UTC
    try:
        return zoneinfo.ZoneInfo(preferences.time_zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # this computer's database lacks it
        return dt.UTC
