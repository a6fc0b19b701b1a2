"""The audit chain as arithmetic: digests over length-prefixed fields, and signed checkpoints. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
import operator

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

GENESIS = "0" * 64


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """One entry as the chain sees it; ``at`` is canonical UTC text."""

    organization_id: str
    entry_id: str
    at: str
    actor_kind: str
    actor_id: str
    actor_name: str
    verb: str
    subject_kind: str
    subject_id: str
    payload_digest: str


#: A link's fields in their order. (``dataclasses.astuple`` copies each, which costs ten times as much.)
_fields_of = operator.attrgetter(*(field.name for field in dataclasses.fields(Link)))


def _prefixed(fields: tuple[str, ...]) -> bytes:
    """Every field with its length in front, so that no two lists of fields look alike."""
    parts = []
    for field in fields:
        raw = field.encode("utf-8", "surrogatepass")
        parts.append(len(raw).to_bytes(8, "big") + raw)
    return b"".join(parts)


def link_digest(sequence: int, previous_digest: str, link: Link) -> str:
    """SHA-256, in hex, of the entry's place, its predecessor and all it says."""
    return hashlib.sha256(_prefixed((str(sequence), previous_digest, *_fields_of(link)))).hexdigest()


def checkpoint_statement(organization_id: str, sequence: int, digest: str, at: str) -> bytes:
    """What is signed: this organisation's chain reached ``sequence`` with ``digest``."""
    return _prefixed(("roastops-audit-checkpoint-1", organization_id, str(sequence), digest, at))


def public_key_of(key: Ed25519PrivateKey) -> str:
    """The public half, in hex."""
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def is_signed(public_key: str, signature: str, statement: bytes) -> bool:
    """Whether ``signature`` (hex) is this key's over the statement; nonsense, and hex spelt otherwise, is not."""
    try:
        if bytes.fromhex(public_key).hex() != public_key or bytes.fromhex(signature).hex() != signature:
            return False
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(bytes.fromhex(signature), statement)
    except (ValueError, InvalidSignature):
        return False
    return True
