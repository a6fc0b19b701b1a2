"""`manage.py probe`: tells who holds the machine, what is wrong and what cures it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from drivers import benches, keeper_config
from drivers.bullet.usb import UDEV_RULES
from drivers.keeper_process import stop_keeper
from drivers.management.commands.probe import is_same_device
from drivers.virtual.line_peer import LinePeer
from drivers.virtual.line_server import TcpDoor, served


def probe(*arguments: str) -> str:
    out = io.StringIO()
    call_command("probe", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def test_a_free_machine_is_read_and_a_held_one_is_busy(settings: Any) -> None:
    with benches.served_machine() as bench:
        settings.DATA_DIR = bench.folder
        out = io.StringIO()
        with pytest.raises(CommandError, match="busy: machine mch_bench is held by process"):
            call_command("probe", "--machine", "mch_bench", "--seconds", "0", stdout=out)
        assert "link up" in out.getvalue()
        option = f'backend={{"kind":"virtual-socket","path":"{bench.machine_socket}"}}'
        with pytest.raises(CommandError, match="busy: another program holds the roaster"):
            probe("--option", option, "--seconds", "0")
        assert stop_keeper(bench.config)
        for arguments in (("--machine", "mch_bench"), ("--option", option)):
            said = probe(*arguments, "--seconds", "0.3")
            assert "serial 1183" in said and "roasting (6)" in said and "heater 5 fan 3 drum 7" in said


def test_an_r2_is_read_by_its_kind_and_what_is_missing_is_named(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    with benches.served_machine(kind="bullet-r2") as bench:
        option = f'backend={{"kind":"virtual-socket","path":"{bench.machine_socket}"}}'
        assert stop_keeper(bench.config)
        said = probe("--kind", "bullet-r2", "--option", option, "--seconds", "0.6")
        assert "Aillio Bullet R2, serial R2-1183" in said and "roasting (6)" in said
        assert "heater 5 fan 3 drum 7" in said and "exhaust absent" not in said and "201 V" in said
        with pytest.raises(CommandError, match="not_found: no Bullet R1") as refused:
            probe("--option", option, "--seconds", "0")
        assert "0483:5741" in str(refused.value)


def test_nothing_there_says_what_to_look_at(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    with pytest.raises(CommandError, match="not_found") as refused:
        probe("--option", f'backend={{"kind":"virtual-socket","path":"{tmp_path}/none"}}')
    assert "lsusb" in str(refused.value)


def test_a_line_machine_is_read_and_what_was_refused_is_counted(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    peer, door = LinePeer(seed=1, faults="garbage@20:count=2", speed=10.0), TcpDoor("127.0.0.1", 0)
    with served(peer, door):
        said = probe("--kind", "tcp-line", "--option", f"port={door.port}", "--seconds", "2.5")
    assert "virtual line roaster, serial L-7" in said and "heater 55 fan 30 drum 70" in said
    assert "environment" in said and '"lines":' in said and "parse_errors" in said


@pytest.mark.parametrize(("arguments", "words"), [
    (("--kind", "tcp-line"), "needs the option port"),
    (("--kind", "tcp-line", "--option", "port=1"), "nothing listens at 127.0.0.1:1"),
    (("--kind", "tc4-serial", "--option", "device=/dev/no-such-tty"), "there is no /dev/no-such-tty"),
])
def test_a_line_machine_that_is_not_there_says_what_to_look_at(
    settings: Any, tmp_path: Path, arguments: tuple[str, ...], words: str,
) -> None:
    settings.DATA_DIR = tmp_path
    with pytest.raises(CommandError, match=words):
        probe(*arguments, "--seconds", "0")


def test_a_keeper_that_holds_another_kind_of_device_is_not_in_the_way(tmp_path: Path) -> None:
    def held(kind: str, **options: Any) -> keeper_config.KeeperConfig:
        return keeper_config.make(tmp_path, machine_id="m", name="m", driver_kind=kind, driver_options=options)

    line = held("tcp-line", port=5025)
    assert is_same_device("tcp-line", {"host": "127.0.0.1", "port": "5025"}, line)
    assert not is_same_device("tcp-line", {"port": 5026}, line) and not is_same_device("bullet-r1", {}, line)
    assert is_same_device("bullet-r1", {}, held("bullet-r1"))
    assert not is_same_device("bullet-r1", {}, held("bullet-r1", backend={"kind": "virtual-socket", "path": "x"}))
    assert is_same_device("tc4-serial", {"device": "/dev/x"}, held("tc4-serial", device="/dev/x"))


def test_the_udev_rule_names_both_products() -> None:
    assert probe("--udev", "print") == UDEV_RULES
    assert "5741" in UDEV_RULES and "a27e" in UDEV_RULES and "0666" not in UDEV_RULES


@pytest.mark.parametrize("arguments", [("--option", "x"), ("--kind", "bullet-r3"), ("--machine", "../x"),
                                       ("--option", "sensor_mop=probe_a")])
def test_bad_arguments_are_command_errors(settings: Any, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    settings.DATA_DIR = tmp_path
    with pytest.raises(CommandError):
        probe(*arguments)
