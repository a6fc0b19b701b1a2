"""Who vouches for telemetry: an Ed25519 signature over one canonical statement per envelope. Pure.

The statement binds organisation, machine, sequence, time, the digests of points and events, and the digest of the
statement before it; so a signature fits one payload of one machine at one place in its row, and nothing else.
Checking needs the public key alone. Times decide by the envelope's own time, so that what a key signed while it was
valid stays verifiable after it was rotated out; a revoked key vouches for nothing that came in after its revocation.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from kernel import canonical
from roasts.telemetry.envelope import SCHEMA

VERIFIED, UNSIGNED, FAILED = "verified", "unsigned", "failed"
PUBLIC_KEY_HEX = 64
SIGNATURE_HEX = 128


@dataclass(frozen=True, slots=True)
class Statement:
    """What a signature is over. Digests are SHA-256 in hex; ``previous_digest`` is "" at the beginning."""

    organization_id: str
    machine_id: str
    sequence: int
    at: dt.datetime
    points_digest: str
    events_digest: str
    previous_digest: str = ""

    def as_bytes(self) -> bytes:
        """The canonical bytes that are signed."""
        return canonical.dumps(
            {
                "schema": SCHEMA,
                "organization_id": self.organization_id,
                "machine_id": self.machine_id,
                "sequence": self.sequence,
                "at": self.at,
                "points_digest": self.points_digest,
                "events_digest": self.events_digest,
                "previous_digest": self.previous_digest,
            }
        ).encode()

    def digest(self) -> str:
        """SHA-256 of the canonical bytes, hex: the next statement's ``previous_digest``."""
        return hashlib.sha256(self.as_bytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class PublicHalf:
    """A device key as the verifier knows it. ``valid_until`` None: until further notice."""

    kid: str
    organization_id: str
    machine_id: str
    public_key: str  # 32 bytes, hex
    valid_from: dt.datetime
    valid_until: dt.datetime | None = None
    revoked_at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """verified, unsigned or failed, and a stable reason where it is not verified."""

    verdict: str
    reason: str = ""

    @property
    def is_verified(self) -> bool:
        return self.verdict == VERIFIED


def sign(private_key: bytes, statement: Statement) -> str:
    """The signature in hex. ``private_key``: 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(private_key).sign(statement.as_bytes()).hex()


def public_half(private_key: bytes) -> str:
    """The public key of a private one, hex."""
    return Ed25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw().hex()


def is_public_key(text: str) -> bool:
    """Whether this is 32 bytes in hex that Ed25519 can take."""
    try:
        raw = bytes.fromhex(text)
        Ed25519PublicKey.from_public_bytes(raw)
    except ValueError:
        return False
    return len(text) == PUBLIC_KEY_HEX and text == text.lower()


def verify(
    statement: Statement, signature: str, kid: str, key: PublicHalf | None, *, received_at: dt.datetime
) -> Verdict:
    """Whether ``signature`` (hex) is that key's word on this statement. ``key`` None: we know none by that ``kid``."""
    if not signature and not kid:
        return Verdict(UNSIGNED, "no_signature")
    if not signature or not kid:
        return Verdict(FAILED, "signature_without_key" if signature else "key_without_signature")
    if key is None or key.kid != kid:
        return Verdict(FAILED, "unknown_key")
    reason = _unfit(key, statement, received_at)
    if reason:
        return Verdict(FAILED, reason)
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key.public_key))
        public.verify(bytes.fromhex(signature), statement.as_bytes())
    except (InvalidSignature, ValueError):
        return Verdict(FAILED, "signature_mismatch")
    return Verdict(VERIFIED)


def _unfit(key: PublicHalf, statement: Statement, received_at: dt.datetime) -> str:
    """Why this key cannot vouch for this statement; "" where it can."""
    if key.organization_id != statement.organization_id or key.machine_id != statement.machine_id:
        return "key_of_another_machine"
    if key.revoked_at is not None and received_at >= key.revoked_at:
        return "key_revoked"
    if statement.at < key.valid_from:
        return "key_not_valid_yet"
    if key.valid_until is not None and statement.at >= key.valid_until:
        return "key_expired"
    return ""


def check_chain(verdict: Verdict, previous_digest: str, known_digest: str | None) -> Verdict:
    """A signed statement must follow the one we have before it. ``known_digest`` None: we do not have that one."""
    if not verdict.is_verified or known_digest is None or previous_digest == known_digest:
        return verdict
    return Verdict(FAILED, "chain_broken")
