"""Device keys and what an organisation does with signatures: a lead's acts, each in the audit trail.

The private half is made where it is used, or printed once into a file for the bridge; here stands the public half.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import IntegrityError, transaction

from kernel import audit
from kernel.errors import Conflict, Forbidden, Unprocessable
from kernel.principals import Principal
from roasts.models import DeviceKey, Machine, TelemetryPolicy
from roasts.telemetry import signing

#: A device's clock may run this far behind ours when its key is new.
CLOCK_SLACK = dt.timedelta(minutes=10)
#: After a rotation the old key vouches for this much longer: what is on the way, or queued, is signed with it.
OVERLAP = dt.timedelta(hours=24)


def add_key(
    principal: Principal,
    machine: Machine,
    *,
    public_key: str,
    note: str = "",
    valid_from: dt.datetime | None = None,
    valid_until: dt.datetime | None = None,
    now: dt.datetime,
) -> DeviceKey:
    """Make a public key (32 bytes, hex) known as this machine's. Forbidden, Unprocessable, Conflict `key_known`."""
    _require_lead(principal)
    _check(machine, public_key, valid_from, valid_until)
    with transaction.atomic():
        key = _create(principal, machine, public_key, note, valid_from or now - CLOCK_SLACK, valid_until, now)
        _tell(principal, key, "device_key_added", {"note": note}, now)
    return key


def revoke_key(principal: Principal, key: DeviceKey, *, reason: str, now: dt.datetime) -> DeviceKey:
    """From now on the key vouches for nothing that comes in; what came before stays verified. Conflict: revoked."""
    _require_lead(principal)
    with transaction.atomic():
        if DeviceKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(revoked_at=now) != 1:
            raise Conflict("key_revoked", "This key was revoked already.", "Nothing is left to do.")
        key.revoked_at = now
        _tell(principal, key, "device_key_revoked", {"reason": reason}, now)
    return key


def rotate_key(
    principal: Principal, key: DeviceKey, *, public_key: str, overlap: dt.timedelta = OVERLAP, now: dt.datetime
) -> DeviceKey:
    """A new key in the place of ``key``, which vouches for ``overlap`` longer; old roasts stay verifiable by it."""
    _require_lead(principal)
    if key.revoked_at is not None:
        raise Conflict("key_revoked", "This key was revoked.", "Add a new key instead.")
    _check(key.machine, public_key, None, None)
    with transaction.atomic():
        new = _create(principal, key.machine, public_key, key.note, now - CLOCK_SLACK, None, now)
        until = now + overlap if key.valid_until is None else min(key.valid_until, now + overlap)
        DeviceKey.objects.filter(pk=key.pk).update(valid_until=until)
        key.valid_until = until
        _tell(principal, new, "device_key_rotated", {"instead_of": key.pk, "old_valid_until": until}, now)
    return new


def set_policy(principal: Principal, signing_word: str, *, now: dt.datetime) -> TelemetryPolicy:
    """What the organisation does with signatures: off, record or require."""
    _require_lead(principal)
    organization = _organization(principal)
    with transaction.atomic():
        policy, _is_new = TelemetryPolicy.objects.update_or_create(
            organization=organization, defaults={"signing": signing_word}
        )
        payload = {"signing": signing_word}
        audit.record(
            organization, principal, "telemetry_policy_set", "telemetry_policy", organization.pk, payload, now=now
        )
    return policy


def policy_of(organization: Any) -> TelemetryPolicy:
    """The organisation's policy; the default where none was set."""
    return TelemetryPolicy.objects.filter(organization=organization).first() or TelemetryPolicy(
        organization=organization
    )


def as_public_half(key: DeviceKey) -> signing.PublicHalf:
    """What verifying needs of a key."""
    return signing.PublicHalf(
        key.pk,
        key.organization_id,
        key.machine_id,
        key.public_key,
        key.valid_from,
        key.valid_until,
        key.revoked_at,
    )


def add_remote_machine(principal: Principal, machine: Machine, *, now: dt.datetime) -> Machine:
    """File a machine that a bridge will feed. It has no envelope: no order reaches it. Forbidden: only a lead."""
    _require_lead(principal)
    organization = _organization(principal)
    with transaction.atomic():
        machine.organization, machine.is_remote, machine.created_at = organization, True, now
        machine.save(force_insert=True)
        payload = {"name": machine.name, "driver_kind": machine.driver_kind, "is_remote": True}
        audit.record(organization, principal, "machine_added", "machine", machine.pk, payload, now=now)
    return machine


def _create(
    principal: Principal,
    machine: Machine,
    public_key: str,
    note: str,
    valid_from: dt.datetime,
    valid_until: dt.datetime | None,
    now: dt.datetime,
) -> DeviceKey:
    try:
        with transaction.atomic():
            return DeviceKey.objects.create(
                organization_id=machine.organization_id,
                machine=machine,
                public_key=public_key,
                note=note,
                valid_from=valid_from,
                valid_until=valid_until,
                created_by=principal.user,  # type: ignore[misc]
                created_at=now,
            )
    except IntegrityError:
        raise Conflict("key_known", "This machine has that key already.", "Make a new pair of keys.") from None


def _check(machine: Machine, public_key: str, valid_from: dt.datetime | None, valid_until: dt.datetime | None) -> None:
    if not signing.is_public_key(public_key):
        raise Unprocessable("bad_public_key", "This is no Ed25519 public key.", "Send its 32 bytes as 64 hex digits.")
    if not machine.is_remote:
        raise Unprocessable(
            "machine_not_remote", "Only a machine fed by a bridge has device keys.", "Name a remote machine."
        )
    if valid_from is not None and valid_until is not None and valid_until <= valid_from:
        raise Unprocessable("bad_window", "The key would be valid at no time.", "End it after its begin.")


def _require_lead(principal: Principal) -> None:
    is_house = principal.kind == "system" and principal.via == "system"
    if not is_house and not (principal.is_person and principal.may("lead")):
        raise Forbidden("not_allowed", "Device keys and their policy are a lead's to set.", "Ask a lead.")


def _organization(principal: Principal) -> Any:
    if principal.organization is None:
        raise Forbidden("no_membership", "You belong to no organisation.", "Ask an admin.")
    return principal.organization


def _tell(principal: Principal, key: DeviceKey, verb: str, payload: dict[str, Any], now: dt.datetime) -> None:
    facts = {"machine_id": key.machine_id, "public_key": key.public_key, **payload}
    audit.record(key.organization, principal, verb, "device_key", key.pk, facts, now=now)
