"""Ask a virtual machine that is served, and watched, to play a recorded roast. No Django.

The machine is found by what its keeper is told (``DATA_DIR/run/*.json``); it is asked at its own socket.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from drivers import keeper_config
from drivers.keeper_client import KeeperClient
from drivers.keeper_config import KeeperConfig
from drivers.port import DriverError
from drivers.virtual.firmware import ROASTING
from drivers.virtual.machine import checked_speed
from drivers.virtual.panel import Panel
from drivers.virtual.replay import expected_rows
from drivers.virtual.socket_wire import connect
from kernel import clock

ADDRESS_NAME = "console.address"  # in the run folder: where the running house shows its console
WATCHABLE_SPEED = 10.0  # the machine is read ten times a second, and a log has a row a second
HELD_WITHIN_S = 5.0
KEEPER_TIMEOUT_S = 1.0


class CannotPlay(Exception):
    """Nothing was asked of any machine; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Played:
    """What has been asked. ``log_s`` in the log's own seconds, ``charge_at_s`` None without a roast in it."""

    machine_id: str
    machine: str
    log_s: float
    charge_at_s: float | None
    speed: float
    is_halted: bool


def play(
    run_dir: Path, log: Path, *, machine_id: str = "", speed: float | None = None, held_within_s: float = HELD_WITHIN_S
) -> Played:
    """Let the one virtual machine that runs (or ``machine_id``) play ``log`` now. CannotPlay."""
    try:
        rows = expected_rows(log)
        if speed is not None:
            checked_speed(speed)
    except ValueError as error:
        raise CannotPlay(str(error)) from error
    config = find_machine(run_dir, machine_id)
    with Panel(socket_of(config)) as panel:
        _await_holder(panel, config, held_within_s)
        try:
            status = panel.replay(log, speed)
        except (OSError, ValueError) as error:
            raise CannotPlay(f"{config.name} does not play it: {error}") from error
    return Played(
        machine_id=config.machine_id,
        machine=config.name,
        log_s=rows[-1].at_s,
        charge_at_s=next((row.at_s for row in rows if row.state == ROASTING), None),
        speed=float(status["speed"]) if speed is None else speed,
        is_halted=_is_halted(config),
    )


def find_machine(run_dir: Path, machine_id: str = "") -> KeeperConfig:
    """The served virtual machine. CannotPlay where there is none, or several and none is named."""
    known = _virtual_machines(run_dir)
    served = [config for config in known if _is_served(config)]
    if machine_id:
        found = next((config for config in known if config.machine_id == machine_id), None)
        if found is None:
            raise CannotPlay(f"No virtual machine {machine_id!r} is known in {run_dir}. There: {_named(known)}.")
        if found not in served:
            raise CannotPlay(f"The virtual machine {_named([found])} is not running. Start the house: `make run`.")
        return found
    if not served:
        raise CannotPlay(
            f"No virtual machine runs that is known in {run_dir}. Start the house (`make run`) with the same"
            " ROASTOPS_DATA_DIR, or serve one of your own with --serve SOCKET."
        )
    if len(served) > 1:
        raise CannotPlay(f"Several virtual machines run: {_named(served)}. Choose one with --machine ID.")
    return served[0]


def socket_of(config: KeeperConfig) -> Path:
    """Where the virtual machine itself is served."""
    return Path(config.driver_options["backend"]["path"])


def _virtual_machines(run_dir: Path) -> list[KeeperConfig]:
    found = []
    for path in sorted(run_dir.glob("*.json")):
        try:
            config = keeper_config.read(path)
            backend = config.driver_options.get("backend")
        except (keeper_config.BadConfig, AttributeError):
            continue  # not a machine of ours; whoever needs that file will say what is wrong with it
        if isinstance(backend, dict) and backend.get("kind") == "virtual-socket" and backend.get("path"):
            found.append(config)
    return found


def _is_served(config: KeeperConfig) -> bool:
    try:
        connect(socket_of(config), 1.0).close()
    except (OSError, ValueError):
        return False
    return True


def _named(configs: list[KeeperConfig]) -> str:
    return ", ".join(f"{config.machine_id} ({config.name})" for config in configs) or "none"


def _await_holder(panel: Panel, config: KeeperConfig, within_s: float) -> None:
    """A roast that nobody watches is not recorded: wait for the keeper's claim."""
    deadline_s = clock.monotonic() + within_s
    try:
        while not panel.status()["claimed_by"]:
            if clock.monotonic() > deadline_s:
                raise CannotPlay(f"{config.name} runs, but nobody holds it: is the house up, and the cable in?")
            clock.sleep(0.1)
    except (OSError, ValueError) as error:
        raise CannotPlay(f"{config.name} does not answer: {error}") from error


def _is_halted(config: KeeperConfig) -> bool:
    """Whether a STOP stands: the log plays all the same, but the console will try to take its heat off."""
    client = KeeperClient(config.socket, timeout_s=KEEPER_TIMEOUT_S)
    try:
        return client.status().get("latched") is not None
    except DriverError:
        return False
    finally:
        client.close()


def told(played: Played, name: str, address: str) -> str:
    """For the person who asked: what plays, how long, and where to watch it."""
    wall_s = played.log_s / played.speed
    lines = [
        f"{played.machine} plays {name}: {_minutes(played.log_s)} of log at {played.speed:g} times its pace,"
        f" over in about {_minutes(wall_s)}.",
        f"Watch it: {address}/machines/{played.machine_id}/",
    ]
    if played.speed > WATCHABLE_SPEED:
        lines.append(f"Above {WATCHABLE_SPEED:g} times its pace rows are passed over and the live curve has breaks.")
    if played.charge_at_s is None:
        lines.append("There is no roast in this log: nothing will be recorded.")
    if played.is_halted:
        lines.append("A halt stands on this machine. Let a lead take it back first: a log cannot be stopped.")
    return "\n".join(lines)


def _minutes(duration_s: float) -> str:
    return f"{int(duration_s) // 60}:{int(duration_s) % 60:02d} min"
