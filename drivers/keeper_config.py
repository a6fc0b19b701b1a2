"""What a keeper must know, on disk: all that passes between the rooms with a database and the one without."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from drivers.port import DriverError
from kernel import ids

SOCKET_PATH_BYTES_MAX = 100  # the kernel's limit is 107
STOP_KEY_NAME = "stop.key"
CONFIG_BYTES_MAX = 65_536


class BadConfig(DriverError):
    """A config file that cannot be used."""

    code = "bad_keeper_config"


@dataclass(frozen=True, slots=True)
class Limits:
    """The keeper's own interlocks; None: that one is not armed. Temperatures hold while roasting."""

    max_bean_temp_c: float | None = None
    max_infrared_temp_c: float | None = None
    max_heat_time_s: float | None = None
    max_exhaust_temp_c: float | None = None


@dataclass(frozen=True, slots=True)
class KeeperConfig:
    """One machine's keeper. Paths are absolute."""

    machine_id: str
    name: str
    driver_kind: str
    driver_options: dict[str, Any]
    socket: str
    key_file: str
    wire_log: str
    lock_file: str
    silence_policy: str = "hold_and_alarm"  # or "heat_off"
    limits: Limits = field(default_factory=Limits)
    organization_id: str = ""

    @property
    def latch_file(self) -> Path:
        """Where the latch and the highest token seen survive a restart."""
        return Path(self.lock_file).with_suffix(".latch.json")

    @property
    def output_file(self) -> Path:
        """Where a detached keeper's own words go."""
        return Path(self.lock_file).with_suffix(".keeper.log")

    def stop_key(self) -> bytes:
        """The STOP key, read now (it may have been replaced). OSError, BadConfig."""
        return read_stop_key(Path(self.key_file))


def make(
    run_dir: Path, *, machine_id: str, name: str, driver_kind: str, driver_options: dict[str, Any],
    silence_policy: str = "hold_and_alarm", limits: Limits | None = None, organization_id: str = "",
) -> KeeperConfig:
    """A config with the usual paths under ``run_dir``."""
    return KeeperConfig(
        machine_id=machine_id, name=name, driver_kind=driver_kind, driver_options=driver_options,
        socket=str(socket_path(run_dir, machine_id)), key_file=str(run_dir / STOP_KEY_NAME),
        wire_log=str(run_dir / f"{machine_id}.wire.jsonl"), lock_file=str(run_dir / f"{machine_id}.lock"),
        silence_policy=silence_policy, limits=limits or Limits(), organization_id=organization_id,
    )


def write(run_dir: Path, config: KeeperConfig) -> Path:
    """Write ``<machine_id>.json`` atomically, readable by its owner only; makes the STOP key if there is none."""
    run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    ensure_stop_key(run_dir)
    path = config_path(run_dir, config.machine_id)
    write_private(path, json.dumps(asdict(config), indent=1, sort_keys=True).encode() + b"\n")
    return path


def read(path: Path | str) -> KeeperConfig:
    """The config in a file. BadConfig names what is wrong with it."""
    try:
        raw = Path(path).read_bytes()
        if len(raw) > CONFIG_BYTES_MAX:
            raise BadConfig(f"{path} is too big to be a keeper's config")
        data = json.loads(raw)
        limits = Limits(**data.pop("limits", {}))
        config = replace(KeeperConfig(**data), limits=limits)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BadConfig(f"{path}: {error}", "Write it again: `manage.py up` or `manage.py demo` do.") from error
    if config.silence_policy not in ("hold_and_alarm", "heat_off"):
        raise BadConfig(f"{path}: silence_policy is hold_and_alarm or heat_off, not {config.silence_policy!r}")
    return config


def config_path(run_dir: Path, machine_id: str) -> Path:
    """Where a machine's config lies."""
    if not machine_id or "/" in machine_id or machine_id.startswith("."):
        raise BadConfig(f"{machine_id!r} cannot be a machine's id")
    return run_dir / f"{machine_id}.json"


def socket_path(run_dir: Path, machine_id: str) -> Path:
    """A socket path short enough for the kernel: in ``run_dir``, else in a private folder under the temp folder."""
    path = run_dir / f"{machine_id}.sock"
    if len(os.fsencode(path)) < SOCKET_PATH_BYTES_MAX:
        return path
    digest = hashlib.sha256(os.fsencode(run_dir.absolute())).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"roastops-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if folder.is_symlink() or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise BadConfig(f"{folder} is not ours alone", f"Remove {folder}; somebody else may have put it there.")
    return folder / f"{machine_id[-40:]}.sock"


def ensure_stop_key(run_dir: Path) -> bytes:
    """The STOP key of this data folder; made (32 random bytes, hex, mode 0600) where there is none."""
    run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = run_dir / STOP_KEY_NAME
    if not path.exists():
        temporary = path.with_name(f".{STOP_KEY_NAME}.{os.getpid()}.{ids.random_bytes(4).hex()}")
        _write_new(temporary, ids.random_bytes(32).hex().encode())
        try:
            os.link(temporary, path)  # two makers: the first one's key stands
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    return read_stop_key(path)


def read_stop_key(path: Path) -> bytes:
    """OSError where there is none; BadConfig where it is no key."""
    text = path.read_text().strip()
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise BadConfig(f"{path} is no STOP key", "Remove it and start again: a new one is made.")
    return key


def write_private(path: Path, data: bytes) -> None:
    """Replace a file's content at once or not at all; mode 0600. OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{ids.random_bytes(4).hex()}")
    try:
        _write_new(temporary, data)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _write_new(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)
