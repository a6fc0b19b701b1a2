"""Every environment variable we read, with its bounds. Pure: a mapping in, a frozen value or a list of faults out."""

from __future__ import annotations

import dataclasses
import difflib
import re
import socket
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ENVIRONMENTS = ("development", "test", "production")
DEMO_MACHINES = ("bullet-r1", "bullet-r2")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
WEAK_SECRETS = {"secret", "changeme", "change-me", "password", "dev", "insecure"}

# Variables of ours that settings do not read, but which may stand in the environment of a command.
PASSED_THROUGH = {"ROASTOPS_URL", "ROASTOPS_KEY", "ROASTOPS_KEY_FILE"}


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One reason not to start: a stable id, what is wrong, what to do."""

    id: str
    message: str
    how_to_fix: str


class BadEnvironment(Exception):
    """The environment does not describe a system we may start; carries every fault found."""

    def __init__(self, faults: list[Fault]) -> None:
        lines = [f"({fault.id}) {fault.message} {fault.how_to_fix}" for fault in faults]
        super().__init__("RoastOps does not start:\n  " + "\n  ".join(lines))
        self.faults = faults


@dataclasses.dataclass(frozen=True, slots=True)
class Environment:
    """What the environment asked for, checked."""

    name: str
    data_dir: Path
    host_name: str
    speed: float
    port: int
    bind: str
    http_threads: int
    metrics_port: int  # of a worker process; 0: none
    worker_threads: int
    secret_key: str  # empty: generate one in the data folder (never in production)
    allowed_hosts: tuple[str, ...]
    trusted_origins: tuple[str, ...]
    behind_proxy: bool
    audit_key_file: Path | None
    log_level: str
    build: str
    load_demo: bool
    demo_machine: str  # kind of the demo's virtual roaster
    database_url: str
    redis_url: str
    requests_per_minute: int  # orders that a key may propose; reads and writes in proportion; 0: no limits


class _Reader:
    """Reads variables one by one and remembers what was wrong with each."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.variables = variables
        self.known: set[str] = set(PASSED_THROUGH)
        self.faults: list[Fault] = []

    def fault(self, fault_id: str, message: str, how_to_fix: str) -> None:
        self.faults.append(Fault(f"roastops.{fault_id}", message, how_to_fix))

    def text(self, name: str, default: str) -> str:
        self.known.add(name)
        return self.variables.get(name, "") or default

    def parsed(self, name: str, default: str, parse: Callable[[str], Any], expected: str) -> Any:
        """The variable through ``parse``; a ValueError becomes a fault and the default stands in."""
        raw = self.text(name, default)
        try:
            return parse(raw)
        except ValueError:
            self.fault("E002", f"{name}={raw!r} is not {expected}.", f"Set {name} to {expected}, or unset it.")
            return parse(default)

    def secret(self, name: str) -> str:
        """A secret from NAME, or from the file that NAME_FILE names."""
        self.known.update({name, f"{name}_FILE"})
        path = self.variables.get(f"{name}_FILE", "")
        if path and self.variables.get(name):
            self.fault("E003", f"Both {name} and {name}_FILE are set.", "Keep one of them.")
        if not path:
            return self.variables.get(name, "")
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self.fault("E004", f"{name}_FILE={path!r} cannot be read: {error}.", "Name a readable text file.")
            return ""


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(raw: str) -> int:
        number = int(raw)
        if not low <= number <= high:
            raise ValueError(raw)
        return number

    return parse


def _speed(raw: str) -> float:
    number = float(raw)
    if not 0.1 <= number <= 100:
        raise ValueError(raw)
    return number


def _one_of(allowed: tuple[str, ...]) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if raw not in allowed:
            raise ValueError(raw)
        return raw

    return parse


def _flag(raw: str) -> bool:
    if raw.lower() in {"1", "true", "yes"}:
        return True
    if raw.lower() in {"0", "false", "no"}:
        return False
    raise ValueError(raw)


def _matching(pattern: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if not re.fullmatch(pattern, raw):
            raise ValueError(raw)
        return raw

    return parse


def _listed(raw: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in raw.split(",") if part.strip())


def _url(schemes: tuple[str, ...]) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if raw and urllib.parse.urlsplit(raw).scheme not in schemes:
            raise ValueError(raw)
        return raw

    return parse


def _unknown_faults(reader: _Reader) -> None:
    for name in sorted(reader.variables):
        if name.startswith("ROASTOPS_") and name not in reader.known:
            nearest = difflib.get_close_matches(name, sorted(reader.known), n=1)
            hint = (
                f"Did you mean {nearest[0]}?" if nearest else "Unset it; the known ones are in docs/operator-guide.md."
            )
            reader.fault("E001", f"{name} is not a setting of RoastOps.", hint)


def _production_faults(reader: _Reader, environment: Environment) -> None:
    secret = environment.secret_key
    if len(secret) < 50 or len(set(secret)) < 10 or secret.lower() in WEAK_SECRETS:
        reader.fault(
            "E005",
            "Production needs a secret key of its own (at least 50 characters, not a default).",
            "Set ROASTOPS_SECRET_KEY or ROASTOPS_SECRET_KEY_FILE.",
        )
    if not environment.allowed_hosts or "*" in environment.allowed_hosts:
        reader.fault(
            "E006", "Production must name the hosts it answers for.", "Set ROASTOPS_ALLOWED_HOSTS=roast.example.org."
        )


def read(variables: Mapping[str, str], *, base_dir: Path) -> Environment:
    """Parse ``variables``; raises BadEnvironment naming every fault at once."""
    reader = _Reader(variables)
    audit_key_file = reader.text("ROASTOPS_AUDIT_KEY_FILE", "")
    environment = Environment(
        name=reader.parsed("ROASTOPS_ENV", "development", _one_of(ENVIRONMENTS), "one of " + ", ".join(ENVIRONMENTS)),
        data_dir=Path(reader.text("ROASTOPS_DATA_DIR", str(base_dir / ".data"))).expanduser().absolute(),
        host_name=reader.parsed(
            "ROASTOPS_HOST_NAME",
            re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:60] or "localhost",
            _matching(r"[A-Za-z0-9._-]{1,60}"),
            "1 to 60 letters, digits, dots or dashes",
        ),
        speed=reader.parsed("ROASTOPS_SPEED", "1", _speed, "a number from 0.1 to 100"),
        port=reader.parsed("PORT", "8000", _whole(1, 65535), "a port from 1 to 65535"),
        bind=reader.parsed("ROASTOPS_BIND", "127.0.0.1", _matching(r"[0-9a-zA-Z.:-]{1,64}"), "an address to listen on"),
        metrics_port=reader.parsed("ROASTOPS_METRICS_PORT", "0", _whole(0, 65535), "a port, or 0 for none"),
        http_threads=reader.parsed("ROASTOPS_HTTP_THREADS", "24", _whole(4, 256), "a whole number from 4 to 256"),
        worker_threads=reader.parsed("ROASTOPS_WORKER_THREADS", "16", _whole(4, 256), "a whole number from 4 to 256"),
        secret_key=reader.secret("ROASTOPS_SECRET_KEY"),
        allowed_hosts=_listed(reader.text("ROASTOPS_ALLOWED_HOSTS", "")),
        trusted_origins=_listed(reader.text("ROASTOPS_TRUSTED_ORIGINS", "")),
        behind_proxy=reader.parsed("ROASTOPS_BEHIND_PROXY", "0", _flag, "0 or 1"),
        audit_key_file=Path(audit_key_file) if audit_key_file else None,
        log_level=reader.parsed("ROASTOPS_LOG_LEVEL", "INFO", _one_of(LOG_LEVELS), "one of " + ", ".join(LOG_LEVELS)),
        build=reader.parsed("ROASTOPS_BUILD", "source", _matching(r"[A-Za-z0-9._+-]{1,80}"), "a build identity"),
        load_demo=reader.parsed("ROASTOPS_DEMO", "1", _flag, "0 or 1"),
        demo_machine=reader.parsed(
            "ROASTOPS_DEMO_MACHINE", DEMO_MACHINES[0], _one_of(DEMO_MACHINES), "one of " + ", ".join(DEMO_MACHINES)
        ),
        database_url=_with_secret_file(reader, "DATABASE_URL", ("postgresql", "postgres", "sqlite")),
        redis_url=_with_secret_file(reader, "REDIS_URL", ("redis", "rediss", "unix")),
        requests_per_minute=reader.parsed(
            "ROASTOPS_REQUESTS_PER_MINUTE", "600", _whole(0, 1_000_000), "a whole number from 0 (no limits) to 1000000"
        ),
    )
    if environment.name == "production":
        _production_faults(reader, environment)
    _unknown_faults(reader)
    if reader.faults:
        raise BadEnvironment(reader.faults)
    return environment


def _with_secret_file(reader: _Reader, name: str, schemes: tuple[str, ...]) -> str:
    url = reader.secret(name)
    try:
        return _url(schemes)(url)
    except ValueError:
        reader.fault("E002", f"{name} is not a URL of {', '.join(schemes)}.", f"Correct {name}, or unset it.")
        return ""


def database(url: str, data_dir: Path) -> dict[str, Any]:
    """Django's database settings for ``url`` (empty: SQLite in the data folder)."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme in ("", "sqlite"):
        return _sqlite(parts.path or str(data_dir / "roastops.sqlite3"))
    options = {key: values[-1] for key, values in urllib.parse.parse_qs(parts.query).items()}
    host = options.pop("host", None) or urllib.parse.unquote(parts.hostname or "")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": urllib.parse.unquote(parts.path.lstrip("/")),
        "USER": urllib.parse.unquote(parts.username or ""),
        "PASSWORD": urllib.parse.unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(parts.port or ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {
            "connect_timeout": 3,
            "application_name": "roastops",
            # Nothing of ours waits longer for a row: a request answers, a loop comes round again.
            "options": "-c statement_timeout=15000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=20000",
            "tcp_user_timeout": 10000,
            **options,
        },
    }


def _sqlite(path: str) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "CONN_MAX_AGE": 60,
        "OPTIONS": {
            # A transaction that will write says so at its start: no upgrade deadlock, and `timeout` really waits.
            "transaction_mode": "IMMEDIATE",
            "timeout": 5,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-8000;",
        },
    }
