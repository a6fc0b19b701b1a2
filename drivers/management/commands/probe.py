"""`manage.py probe`: is the roaster there, may we have it, and what does it say? Reads only; moves nothing."""

from __future__ import annotations

import contextlib
import json
import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from drivers import keeper_config
from drivers.bullet.usb import UDEV_RULE_PATH, UDEV_RULES
from drivers.keeper import take_lock
from drivers.keeper_client import KeeperClient, KeeperRefused, KeeperUnreachable
from drivers.keeper_config import KeeperConfig
from drivers.port import Busy, Driver, DriverError, Identity, Reading
from drivers.registry import KINDS, make_driver
from kernel import clock

SECONDS_MAX = 3600.0
PRINT_EVERY_S = 0.5
_COUNTERS = ("counters", "parse_errors", "last_error")


class Command(BaseCommand):
    help = (
        "Open a roaster by hand and print who it is and what it reads; each failure with its cure. A Bullet needs no "
        "option; a line machine is named: --kind tcp-line --option port=5025, --kind tc4-serial --option "
        "device=/dev/ttyACM0, --kind tc4-tcp --option host=10.0.0.7 --option port=8888 (docs/line-protocols.md)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--machine", metavar="ID", help="a configured machine (its kind and options)")
        parser.add_argument("--kind", default="bullet-r1", help=f"driver kind: {', '.join(KINDS)}")
        parser.add_argument("--option", action="append", default=[], metavar="K=V",
                            help="driver option, the value as JSON or plain text; may be repeated")
        parser.add_argument("--seconds", type=float, default=5.0, help="how long to print readings")
        parser.add_argument("--udev", choices=("print", "install"), help="print or install the udev rule, and end")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["udev"]:
            self._udev(options["udev"])
            return
        seconds = options["seconds"]
        if not 0 <= seconds <= SECONDS_MAX:
            raise CommandError(f"--seconds is between 0 and {SECONDS_MAX:.0f}")
        try:
            if options["machine"]:
                self._probe_machine(options["machine"], seconds)
            else:
                given = _options(options["option"])
                driver = make_driver(options["kind"], given)
                self._refuse_where_held(options["kind"], given)
                self._probe(driver, seconds)
        except DriverError as error:
            raise CommandError(f"{error.code}: {error.message}\n  {error.how_to_fix}".rstrip()) from error

    def _probe_machine(self, machine_id: str, seconds: float) -> None:
        """A configured machine, with its keeper's lock held while we look."""
        path = keeper_config.config_path(Path(settings.DATA_DIR) / "run", machine_id)
        if not path.exists():
            raise CommandError(f"No machine {machine_id!r} is known here. Known: {', '.join(_known()) or 'none'}.")
        config = keeper_config.read(path)
        try:
            handle = take_lock(config)
        except Busy as busy:
            self._tell_held(config)
            raise busy
        try:
            self._probe(make_driver(config.driver_kind, config.driver_options), seconds)
        finally:
            os.close(handle)

    def _refuse_where_held(self, kind: str, given: dict[str, Any]) -> None:
        """A keeper that holds the device would only show as `busy` in the system's words: name it first."""
        for path in sorted((Path(settings.DATA_DIR) / "run").glob("*.json")):
            try:
                config = keeper_config.read(path)
            except keeper_config.BadConfig:
                continue  # a latch file lies there too
            if is_same_device(kind, given, config):
                os.close(take_lock(config))

    def _tell_held(self, config: KeeperConfig) -> None:
        """What the keeper that holds it says."""
        client = KeeperClient(config.socket, timeout_s=2.0)
        try:
            status = client.status()
        except (KeeperUnreachable, KeeperRefused) as error:
            self.stderr.write(f"its keeper does not answer: {error.message}")
            return
        finally:
            client.close()
        link = status["link"]
        self.stdout.write(f"{config.name} is held by keeper process {status['pid']}: link {link['state']}"
                          + (f" ({link['code']}: {link['message']} {link['how_to_fix']})" if link["code"] else ""))
        if status["latched"]:
            self.stdout.write(f"  halted by {status['latched']['by']}: {status['latched']['reason']}")
        if status["reading"]:
            self.stdout.write(f"  newest reading, {status['reading_age_s'] * 1000:.0f} ms old: "
                              + json.dumps(status["reading"]))

    def _probe(self, driver: Driver, seconds: float) -> None:
        driver.open()
        try:
            for line in identity_lines(driver.identity):
                self.stdout.write(line)
            self._print_readings(driver, seconds)
            for line in counter_lines(driver.identity):
                self.stdout.write(line)
        finally:
            driver.close()

    def _print_readings(self, driver: Driver, seconds: float) -> None:
        until_s = clock.monotonic() + seconds
        next_s = 0.0
        while True:
            try:
                reading = driver.read()
            except DriverError as error:
                if error.code == "unplugged":
                    raise
                self.stdout.write(f"{error.code}: {error.message}")
            else:
                if clock.monotonic() >= next_s:
                    self.stdout.write(reading_line(reading))
                    next_s = clock.monotonic() + PRINT_EVERY_S
            if clock.monotonic() >= until_s:
                return
            clock.sleep(driver.capabilities.poll_interval_s)

    def _udev(self, act: str) -> None:
        if act == "print":
            self.stdout.write(UDEV_RULES, ending="")
            return
        try:
            Path(UDEV_RULE_PATH).write_text(UDEV_RULES)
        except OSError as error:
            raise CommandError(f"{UDEV_RULE_PATH} cannot be written ({error.strerror}): run it as root, or\n"
                               f"  manage.py probe --udev print | sudo tee {UDEV_RULE_PATH}") from error
        self.stdout.write(f"wrote {UDEV_RULE_PATH}; now: udevadm control --reload && udevadm trigger, add the user "
                          "to the group plugdev, log in again, replug the cable")


def identity_lines(identity: Identity) -> list[str]:
    """Who the machine says it is."""
    lines = [f"{identity.model}, serial {identity.serial or 'unknown'}, firmware {identity.firmware or 'unknown'}, "
             f"{identity.hours_on if identity.hours_on is not None else '?'} h on, "
             f"{identity.roast_count if identity.roast_count is not None else '?'} roasts"]
    lines += [f"  {name}: {value}" for name, value in identity.extras.items() if name not in _COUNTERS]
    return lines


def counter_lines(identity: Identity) -> list[str]:
    """What a line machine's driver counted while we looked: lines, and what of them was refused and why."""
    return [f"  {name}: {json.dumps(identity.extras[name])}" for name in _COUNTERS if identity.extras.get(name)]


def is_same_device(kind: str, given: dict[str, Any], config: KeeperConfig) -> bool:
    """Would opening ``kind`` with these options reach for what this machine's keeper may hold?"""
    theirs = config.driver_options
    if kind.startswith("bullet"):
        return config.driver_kind.startswith("bullet") and theirs.get("backend") is None
    if config.driver_kind != kind:
        return False
    same = ("device",) if kind == "tc4-serial" else ("host", "port")
    return all(str(given.get(name, "127.0.0.1")) == str(theirs.get(name, "127.0.0.1")) for name in same)


def reading_line(reading: Reading) -> str:
    """One line for a person."""
    def shown(value: float | None, unit: str) -> str:
        return "absent" if value is None else f"{value:.1f} {unit}"

    parts = [
        f"{reading.state.value} ({reading.state_code})", f"bean {shown(reading.bean_temp_c, '°C')}",
        f"infrared {shown(reading.infrared_temp_c, '°C')}", f"exhaust {shown(reading.exhaust_temp_c, '°C')}",
        f"rise {shown(reading.rate_of_rise_c_per_min, '°C/min')}",
        f"heater {reading.heater_step} fan {reading.fan_step} drum {reading.drum_step}",
        f"{reading.fan_rpm} rpm {reading.voltage_v} V",
    ]
    if reading.environment_temp_c is not None:
        parts.insert(2, f"environment {shown(reading.environment_temp_c, '°C')}")
    if reading.error_codes:
        parts.append(f"errors {', '.join(map(str, reading.error_codes))}")
    return f"#{reading.sequence} " + " | ".join(parts)


def _known() -> list[str]:
    """Every machine with a readable run file, by id and name."""
    found = []
    for path in sorted((Path(settings.DATA_DIR) / "run").glob("*.json")):
        with contextlib.suppress(keeper_config.BadConfig):  # a latch file lies there too
            config = keeper_config.read(path)
            found.append(f"{config.machine_id} ({config.name})")
    return found


def _options(pairs: list[str]) -> dict[str, Any]:
    """``k=v`` pairs; a value that is JSON is taken as such."""
    given: dict[str, Any] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise CommandError(f"--option {pair!r} has no value: write NAME=VALUE")
        try:
            given[name] = json.loads(value)
        except ValueError:
            given[name] = value
    return given
