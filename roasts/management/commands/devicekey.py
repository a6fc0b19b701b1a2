"""`manage.py devicekey new|list|revoke|rotate`: keys that bridges sign with. The private half is written once."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from kernel import clock, ids
from kernel.errors import ApiError
from kernel.models import Organization, Site
from kernel.principals import Principal, system_principal
from kernel.serializers import nearest_hint
from roasts import machines
from roasts.models import DeviceKey, Machine
from roasts.telemetry import device_keys, signing


class Command(BaseCommand):
    help = "Device keys of remote machines. The private half goes into --out (mode 0600), and nowhere else."

    def add_arguments(self, parser: CommandParser) -> None:
        acts = parser.add_subparsers(dest="act", required=True, metavar="new|list|revoke|rotate")
        new = acts.add_parser("new", help="make a pair of keys; the public half is kept here")
        new.add_argument("--org", required=True, help="the organisation's slug")
        new.add_argument("--machine", required=True, help="name or id of a remote machine")
        new.add_argument("--new-machine", action="store_true", help="make the remote machine if there is none")
        new.add_argument("--driver", default="bullet-r1", help="kind of driver of a new machine")
        new.add_argument("--out", required=True, type=Path, help="file for the bridge; must not exist")
        new.add_argument("--note", default="")
        new.add_argument("--valid-days", type=int, help="1 to 3650; without end when left out")
        listed = acts.add_parser("list", help="the keys of an organisation")
        listed.add_argument("--org", required=True)
        revoked = acts.add_parser("revoke", help="nothing this key signs is believed from now on")
        revoked.add_argument("kid")
        revoked.add_argument("--reason", required=True)
        rotated = acts.add_parser("rotate", help="a new pair in the place of an old one, which lives on for a while")
        rotated.add_argument("kid")
        rotated.add_argument("--out", required=True, type=Path)
        rotated.add_argument("--overlap-hours", type=float, default=device_keys.OVERLAP.total_seconds() / 3600)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            getattr(self, f"_{options['act']}")(options)
        except ApiError as error:
            raise CommandError(f"{error.message} {error.how_to_fix}".strip()) from error

    def _new(self, options: dict[str, Any]) -> None:
        days = options["valid_days"]
        if days is not None and not 1 <= days <= 3650:
            raise CommandError("--valid-days must be from 1 to 3650")
        organization = _organization(options["org"])
        house, now = system_principal("devicekey", organization), clock.now()
        with transaction.atomic(), _KeyFile(options["out"]) as file:
            machine = _machine(organization, options, house, now)
            key = device_keys.add_key(
                house,
                machine,
                public_key=file.public_key,
                note=options["note"],
                valid_until=now + dt.timedelta(days=days) if days else None,
                now=now,
            )
            file.write(key)
        self.stdout.write(key.pk)

    def _list(self, options: dict[str, Any]) -> None:
        keys = DeviceKey.objects.filter(organization=_organization(options["org"])).select_related("machine")
        for key in keys:
            until = key.valid_until.isoformat(timespec="seconds") if key.valid_until else "further notice"
            state = "revoked" if key.revoked_at else f"valid until {until}"
            self.stdout.write(f"{key.pk}  {key.machine.name}  {state}  {key.note}".rstrip())

    def _revoke(self, options: dict[str, Any]) -> None:
        key = _key(options["kid"])
        house = system_principal("devicekey", key.organization)
        device_keys.revoke_key(house, key, reason=options["reason"], now=clock.now())
        self.stdout.write(f"{key.pk} is revoked")

    def _rotate(self, options: dict[str, Any]) -> None:
        key = _key(options["kid"])
        overlap = dt.timedelta(hours=options["overlap_hours"])
        if not dt.timedelta(0) <= overlap <= dt.timedelta(days=30):
            raise CommandError("--overlap-hours must be from 0 to 720")
        house = system_principal("devicekey", key.organization)
        with transaction.atomic(), _KeyFile(options["out"]) as file:
            new = device_keys.rotate_key(house, key, public_key=file.public_key, overlap=overlap, now=clock.now())
            file.write(new)
        self.stdout.write(new.pk)


class _KeyFile:
    """A new pair, and the file its private half goes to: there before the key is, gone again if anything fails."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._private_key = ids.random_bytes(32)
        self.public_key = signing.public_half(self._private_key)

    def __enter__(self) -> _KeyFile:
        try:
            self._handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise CommandError(f"{self._path} cannot be made: {error.strerror}.") from error
        return self

    def write(self, key: DeviceKey) -> None:
        text = json.dumps(
            {
                "kid": key.pk,
                "machine_id": key.machine_id,
                "organization_id": key.organization_id,
                "private_key": self._private_key.hex(),
            }
        )
        os.write(self._handle, text.encode() + b"\n")
        os.fsync(self._handle)

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        os.close(self._handle)
        if kind is not None:
            self._path.unlink(missing_ok=True)


def _organization(slug: str) -> Organization:
    found = Organization.objects.filter(slug=slug).first()
    if found is None:
        known = Organization.objects.values_list("slug", flat=True)
        raise CommandError(f"There is no organisation {slug!r}. {nearest_hint(slug, known)}")
    return found


def _key(kid: str) -> DeviceKey:
    found = DeviceKey.objects.select_related("machine", "organization").filter(pk=kid).first()
    if found is None:
        raise CommandError(f"There is no device key {kid!r}. List them with `devicekey list --org …`.")
    return found


def _machine(organization: Organization, options: dict[str, Any], house: Principal, now: dt.datetime) -> Machine:
    word = options["machine"]
    own = Machine.objects.filter(organization=organization, is_archived=False)
    found = own.filter(pk=word).first() or own.filter(name=word).first()
    if found is not None:
        return found
    if not options["new_machine"]:
        hint = nearest_hint(word, own.values_list("name", flat=True))
        raise CommandError(f"There is no machine {word!r}. {hint} --new-machine makes one.")
    kind = options["driver"]
    if kind not in machines.known_kinds():
        raise CommandError(f"There is no driver {kind!r}. {nearest_hint(kind, machines.known_kinds())}")
    site = Site.objects.filter(organization=organization).order_by("id").first()
    if site is None:
        raise CommandError("This organisation has no site yet.")
    made = Machine(organization=organization, site=site, name=word, driver_kind=kind)
    return device_keys.add_remote_machine(house, made, now=now)
