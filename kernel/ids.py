"""The only source of identity and randomness in the house (no Django here).

Ids are ``<prefix>_<26 characters>``: 48 bits of milliseconds, then 80 random bits, in Crockford's
base 32, so that they sort by time of birth. The simulation installs its own source of bytes.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable

from kernel import clock

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_random_bytes: Callable[[int], bytes] = os.urandom


def install(random_bytes: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """Replace the source of randomness; returns the one that was there."""
    global _random_bytes
    previous, _random_bytes = _random_bytes, random_bytes
    return previous


def random_bytes(count: int) -> bytes:
    """``count`` bytes nobody can guess (or, in the simulation, the seed's)."""
    return _random_bytes(count)


_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)


def _base32(number: int, length: int) -> str:
    """An even number of digits, two at a time."""
    pairs = []
    for _ in range(length // 2):
        number, pair = divmod(number, 1024)
        pairs.append(_PAIRS[pair])
    return "".join(reversed(pairs))


def new(prefix: str) -> str:
    """A fresh id such as ``prp_01jd…``; sortable by creation time to the millisecond."""
    return f"{_born(prefix, clock.now())}{_base32(int.from_bytes(_random_bytes(10), 'big'), 16)}"


def first(prefix: str, at: dt.datetime) -> str:
    """The lowest id that can be born from the millisecond of ``at`` on: a bound for those that are newer."""
    return _born(prefix, at) + "0" * 16


def _born(prefix: str, at: dt.datetime) -> str:
    return f"{prefix}_{_base32(int(at.timestamp() * 1000) & ((1 << 48) - 1), 10)}"


def secret() -> str:
    """256 random bits as 52 characters, for keys that are shown once."""
    return _base32(int.from_bytes(_random_bytes(32), "big"), 52)
