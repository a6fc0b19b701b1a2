"""Signed telemetry in the store: policies, keys that come and go, and a roast that is verified from what is stored."""

from __future__ import annotations

import datetime as dt
import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from kernel import clock
from kernel.models import AuditEntry, Organization, Site
from roasts.models import DeviceKey, Machine, Roast, Sample, TelemetryBatch, TelemetryPolicy
from roasts.store import services_packing
from roasts.telemetry import device_keys, signing
from roasts.tests.telemetry_senders import BEGUN, COOLED_S, PRIVATE_KEY, envelope, signed, span, text
from roasts.tests.test_telemetry_filing import Send, SetClock, machine, other, send, told, wall

__all__ = ["machine", "other", "send", "wall"]  # fixtures
pytestmark = pytest.mark.django_db
OTHER_KEY = bytes(range(1, 33))


@pytest.fixture
def key(machine: Machine, people: Any, wall: SetClock) -> DeviceKey:
    lead = people.principal("lead")
    return device_keys.add_key(lead, machine, public_key=signing.public_half(PRIVATE_KEY), now=wall.now())


class Signer:
    """A bridge that signs, and chains."""

    def __init__(self, send: Send, machine: Machine, kid: str, private_key: bytes = PRIVATE_KEY) -> None:
        self.send, self.machine, self.kid, self.private_key = send, machine, kid, private_key
        self.sequence, self.digest = 0, ""

    def __call__(self, points: list[dict[str, Any]], /, **change: Any) -> Any:
        self.sequence += 1
        body = envelope(self.machine.pk, self.sequence, points, previous_digest=self.digest)
        body = signed(self.machine.organization_id, body, self.kid, self.private_key) | change
        answer = self.send(body.pop("sequence"), body.pop("points"), **{k: body[k] for k in _SENT if k in body})
        if answer.status_code == 201:
            self.digest = answer.json()["digest"]
        return answer


_SENT = ("at", "previous_digest", "kid", "signature", "events")


@pytest.fixture
def signer(send: Send, machine: Machine, key: DeviceKey) -> Signer:
    return Signer(send, machine, key.pk)


def require(organization: Organization, word: str = "require") -> None:
    TelemetryPolicy.objects.update_or_create(organization=organization, defaults={"signing": word})


def test_a_signed_roast_counts_its_verified_points(signer: Signer) -> None:
    for begin_s in range(0, 100, 10):
        assert told(signer(span(begin_s, begin_s + 10)))["verdict"] == "verified"
    roast = Roast.objects.get()
    assert (roast.verified_points, roast.unsigned_points, roast.failed_points) == (90, 0, 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"points": span(0, 11)}, "signature_mismatch"),
        ({"signature": "0" * 128}, "signature_mismatch"),
        ({"previous_digest": "1" * 64}, "signature_mismatch"),
        ({"kid": "dvk_none"}, "unknown_key"),
        ({"sequence": 2}, "signature_mismatch"),
        ({"at": text(BEGUN + dt.timedelta(seconds=10))}, "signature_mismatch"),
        ({"events": [{"kind": "drop", "at": text(BEGUN)}]}, "signature_mismatch"),
    ],
    ids=lambda value: str(next(iter(value)) if isinstance(value, dict) else value),
)
@pytest.mark.parametrize("policy", ["record", "require", "off"])
def test_what_was_not_signed_does_not_verify_and_the_policy_decides(
    signer: Signer, machine: Machine, change: dict[str, Any], reason: str, policy: str
) -> None:
    require(machine.organization, policy)
    answer = signer(span(0, 10), **change)
    if policy == "require":
        assert told(answer, 422)["error"] == "signature_failed" and answer.json()["reason"] == reason
        assert not TelemetryBatch.objects.exists()
    elif policy == "record":
        assert (told(answer)["verdict"], answer.json()["verdict_reason"]) == ("failed", reason)
    else:
        assert (told(answer)["verdict"], answer.json()["verdict_reason"]) == ("unsigned", "policy_off")


@pytest.mark.parametrize(("policy", "status"), [("off", 201), ("record", 201), ("require", 422)])
def test_unsigned_telemetry_by_policy(send: Send, machine: Machine, policy: str, status: int) -> None:
    require(machine.organization, policy)
    answer = send(1, span(0, 10))
    assert answer.status_code == status
    if status == 422:
        assert answer.json()["error"] == "signature_required"


def test_a_signature_of_one_machine_does_not_verify_on_another(
    signer: Signer, machine: Machine, other: Machine, key: DeviceKey, send: Send, people: Any, wall: SetClock
) -> None:
    body = signed(machine.organization_id, envelope(machine.pk, 1, span(0, 10)), key.pk)
    sent = {name: body[name] for name in _SENT if name in body}
    assert told(send(1, body["points"], to=other, **sent))["verdict_reason"] == "key_of_another_machine"
    theirs = device_keys.add_key(
        people.principal("lead"), other, public_key=signing.public_half(PRIVATE_KEY), now=wall.now()
    )
    again = told(send(2, body["points"], to=other, **(sent | {"kid": theirs.pk})))
    assert again["verdict_reason"] == "signature_mismatch"
    assert not TelemetryBatch.objects.filter(verdict="verified").exists()


def test_a_broken_chain_is_found(signer: Signer) -> None:
    told(signer(span(0, 10)))
    signer.digest = "1" * 64
    assert told(signer(span(10, 20)))["verdict_reason"] == "chain_broken"


def test_a_key_revoked_meanwhile_is_found_though_the_stream_is_known(signer: Signer, key: DeviceKey, wall: Any) -> None:
    told(signer(span(0, 20)))
    assert told(signer(span(20, 30)))["verdict"] == "verified"
    DeviceKey.objects.filter(pk=key.pk).update(revoked_at=wall.now())
    assert told(signer(span(30, 40)))["verdict_reason"] == "key_revoked"


def test_rotation_keeps_old_roasts_verifiable(
    signer: Signer, send: Send, machine: Machine, key: DeviceKey, people: Any, wall: SetClock
) -> None:
    for begin_s in range(0, int(COOLED_S) + 10, 10):
        told(signer(span(begin_s, begin_s + 10)))
    new = device_keys.rotate_key(
        people.principal("lead"),
        key,
        public_key=signing.public_half(OTHER_KEY),
        overlap=dt.timedelta(0),
        now=wall.now(),
    )
    wall.at += dt.timedelta(seconds=60)
    old = told(signer(span(500, 505)))
    assert old["verdict_reason"] == "key_expired"
    signer.kid, signer.private_key, signer.digest = new.pk, OTHER_KEY, old["digest"]
    assert told(signer(span(505, 510)))["verdict"] == "verified"
    said = io.StringIO()
    call_command("verifyroast", Roast.objects.get().pk, stdout=said)
    assert "verified 36, unsigned 0, failed 0" in said.getvalue()


def whole(signer: Signer) -> Roast:
    for begin_s in range(0, int(COOLED_S) + 10, 10):
        points = span(begin_s, begin_s + 10, roast_clock_s=7, extras={"bean hopper": 1.5, "note": "é"})
        told(signer(points))
    return Roast.objects.get()


def verified(roast: Roast) -> str:
    said = io.StringIO()
    call_command("verifyroast", roast.pk, stdout=said)
    return said.getvalue()


def test_a_roast_is_verified_from_what_is_stored(signer: Signer) -> None:
    roast = whole(signer)
    assert "envelopes: 36, verified 36, unsigned 0, failed 0; rows agree with 35, not comparable 1" in verified(roast)


def test_a_packed_and_thinned_roast_is_verified_too(signer: Signer) -> None:
    roast = whole(signer)
    services_packing.pack_roast(roast, now=clock.now())
    services_packing.thin_roast(roast, now=clock.now())
    assert not Sample.objects.exists()
    said = verified(roast)
    assert "verified 36" in said and "rows agree with 35" in said and "sha256:" in said


@pytest.mark.parametrize(
    "change",
    [{"bean_temp_c": 200.0}, {"heater_step": 9}, {"at": BEGUN}, {"extras": {}}, {"quality": {"fan_step": "stale"}}],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_row_is_found(signer: Signer, change: dict[str, Any]) -> None:
    for begin_s in range(0, 100, 10):
        told(signer(span(begin_s, begin_s + 10, roast_clock_s=7, extras={"a": 1})))
    roast = Roast.objects.get()
    assert "WRONG" not in verified(roast)
    Sample.objects.filter(elapsed_ms=33_000).update(**change)
    with pytest.raises(CommandError, match="1 things are wrong"):
        verified(roast)


def test_a_changed_batch_is_found(signer: Signer) -> None:
    for begin_s in range(0, 60, 10):
        told(signer(span(begin_s, begin_s + 10)))
    batch = TelemetryBatch.objects.get(sequence=4)
    TelemetryBatch.objects.filter(pk=batch.pk).update(at=batch.at + dt.timedelta(seconds=1))
    with pytest.raises(CommandError):
        verified(Roast.objects.get())


# --- keys by people


def test_a_lead_adds_revokes_and_rotates_over_rest(machine: Machine, signed_in: Any, people: Any) -> None:
    lead, public_key = signed_in(people.lead), signing.public_half(PRIVATE_KEY)
    made = told(lead.post("/v1/device-keys", {"machine_id": machine.pk, "public_key": public_key, "note": "bench"}))
    assert told(lead.post("/v1/device-keys", {"machine_id": machine.pk, "public_key": public_key}), 409)["error"]
    new = told(
        lead.post(f"/v1/device-keys/{made['device_key_id']}/rotate", {"public_key": signing.public_half(OTHER_KEY)})
    )
    listed = told(lead.get(f"/v1/device-keys?machine={machine.pk}"), 200)["results"]
    assert [each["device_key_id"] for each in listed] == [new["device_key_id"], made["device_key_id"]]
    assert listed[1]["valid_until"] is not None and listed[0]["valid_until"] is None
    path = f"/v1/device-keys/{new['device_key_id']}/revoke"
    assert told(lead.post(path, {"reason": "stolen"}), 200)["revoked_at"]
    assert told(lead.post(path, {"reason": "stolen"}), 409)["error"] == "key_revoked"
    verbs = set(AuditEntry.objects.values_list("verb", flat=True))
    assert {"device_key_added", "device_key_rotated", "device_key_revoked"} <= verbs
    assert "private" not in json.dumps(list(DeviceKey.objects.values()), default=str)


@pytest.mark.parametrize("bad", ["", "zz" * 32, "00" * 31, signing.public_half(PRIVATE_KEY).upper()])
def test_what_is_no_key_is_refused(machine: Machine, signed_in: Any, people: Any, bad: str) -> None:
    answer = signed_in(people.lead).post("/v1/device-keys", {"machine_id": machine.pk, "public_key": bad})
    assert answer.status_code in (400, 422)


def test_others_look_and_strangers_see_nothing(machine: Machine, key: DeviceKey, signed_in: Any, people: Any) -> None:
    body = {"machine_id": machine.pk, "public_key": signing.public_half(OTHER_KEY)}
    assert signed_in(people.operator).post("/v1/device-keys", body).status_code == 403
    assert signed_in(people.viewer).get("/v1/device-keys").json()["results"][0]["device_key_id"] == key.pk
    stranger = signed_in(people.stranger)
    assert stranger.get("/v1/device-keys").json()["results"] == []
    assert stranger.post("/v1/device-keys", body).status_code == 404
    assert stranger.post(f"/v1/device-keys/{key.pk}/revoke", {"reason": "x"}).status_code == 404


def test_the_policy_is_a_leads(signed_in: Any, people: Any) -> None:
    lead = signed_in(people.lead)
    assert told(lead.get("/v1/telemetry-policy"), 200) == {"signing": "record"}
    assert told(lead.put("/v1/telemetry-policy", {"signing": "require"}), 200) == {"signing": "require"}
    assert signed_in(people.operator).put("/v1/telemetry-policy", {"signing": "off"}).status_code == 403
    assert lead.put("/v1/telemetry-policy", {"signing": "never"}).status_code == 400
    assert told(signed_in(people.stranger).get("/v1/telemetry-policy"), 200) == {"signing": "record"}


def test_the_command_writes_the_private_half_once_for_its_owner_alone(
    organization: Organization, site: Site, tmp_path: Path
) -> None:
    out, said = tmp_path / "device.json", io.StringIO()
    new = ("devicekey", "new", "--org", "demo", "--machine", "Far", "--out", str(out))
    with pytest.raises(CommandError, match="--new-machine makes one"):
        call_command(*new)
    assert not out.exists()
    call_command(*new, "--new-machine", stdout=said)
    kept = json.loads(out.read_text())
    stored = DeviceKey.objects.get(pk=said.getvalue().strip())
    assert out.stat().st_mode & 0o777 == 0o600 and kept["kid"] == stored.pk
    assert signing.public_half(bytes.fromhex(kept["private_key"])) == stored.public_key
    assert stored.machine.is_remote and kept["private_key"] not in str(DeviceKey.objects.values())
    with pytest.raises(CommandError, match="cannot be made"):
        call_command(*new)
    call_command("devicekey", "rotate", stored.pk, "--out", str(tmp_path / "next.json"), stdout=said)
    call_command("devicekey", "revoke", stored.pk, "--reason", "lost", stdout=said)
    call_command("devicekey", "list", "--org", "demo", stdout=said)
    assert "revoked" in said.getvalue() and DeviceKey.objects.count() == 2
