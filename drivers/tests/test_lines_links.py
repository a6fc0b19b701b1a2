"""Line machines over real sockets and a real pseudo terminal: served peers, the system's errors, and the keeper."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from drivers import registry
from drivers.lines.links import DescriptorStream, SerialConnector, TcpConnector
from drivers.port import (
    Busy,
    Control,
    DriverError,
    InDoubt,
    MachineState,
    NoPermission,
    NotFound,
    NotSent,
    Outcome,
    ProtocolError,
    SettingOrder,
    Unplugged,
)
from drivers.tests.line_machines import TC4_CONTROLS
from drivers.virtual.line_peer import LinePeer
from drivers.virtual.line_server import TcpDoor, TerminalDoor, served
from drivers.virtual.tc4_peer import Tc4Peer

pytestmark = pytest.mark.timeout(60)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def line_machine(stack: ExitStack, peer: LinePeer, **options: Any) -> tuple[Any, TcpDoor]:
    door = TcpDoor("127.0.0.1", 0)
    stack.enter_context(served(peer, door))
    driver: Any = registry.make_driver("tcp-line", {"port": door.port, **options})
    driver.open()
    stack.callback(driver.close)
    return driver, door


def tc4(stack: ExitStack, peer: Tc4Peer, tmp_path: Path) -> tuple[Any, Path]:
    link = tmp_path / "tty"
    stack.enter_context(served(peer, TerminalDoor(link)))
    driver: Any = registry.make_driver(
        "tc4-serial", {"device": str(link), "controls": TC4_CONTROLS, "assumed_state": "roasting"})
    driver.open()
    stack.callback(driver.close)
    return driver, link


def until(condition: Callable[[], Any], within_s: float = 5.0) -> Any:
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"not within {within_s} s")


def test_a_line_machine_over_tcp_is_read_ordered_and_made_safe(stack: ExitStack) -> None:
    peer = LinePeer(seed=1)
    driver, _ = line_machine(stack, peer)
    first, second = driver.read(), driver.read()
    assert first.state is MachineState.ROASTING and second.sequence >= first.sequence
    order = driver.apply(SettingOrder("o1", Control.HEATER, 80, from_step=55), 4.0)
    assert order.outcome is Outcome.PROVED and peer.status()["heater_step"] == 80
    assert order.first_byte_monotonic_s - order.started_monotonic_s < 0.05
    safe = driver.make_safe(3.0)
    assert safe.outcome is Outcome.PROVED and peer.status()["heater_step"] == 0
    assert safe.first_byte_monotonic_s - safe.started_monotonic_s < 0.05
    assert safe.proved_monotonic_s - safe.started_monotonic_s < 1.0


@pytest.mark.parametrize("turn", range(8))
def test_stop_against_an_order_in_another_thread_never_says_off_while_heat_comes_on(
    stack: ExitStack, turn: int,
) -> None:
    peer = LinePeer(seed=turn)
    driver, _ = line_machine(stack, peer)
    driver.read()
    receipts: list[Any] = []
    ordering = threading.Thread(
        target=lambda: receipts.append(driver.apply(SettingOrder("o", Control.HEATER, 90), 4.0)))
    ordering.start()
    time.sleep(turn * 0.0007)
    safe = driver.make_safe(3.0)
    ordering.join(5.0)
    time.sleep(0.15)
    assert safe.outcome is Outcome.PROVED and peer.status()["heater_step"] == 0
    assert receipts[0].outcome in (Outcome.PROVED, Outcome.DECLINED, Outcome.IN_DOUBT, Outcome.NOT_SENT)


def test_unplugged_is_said_within_half_a_second_and_the_machine_is_back_within_two(stack: ExitStack) -> None:
    peer = LinePeer(seed=1)
    driver, _ = line_machine(stack, peer)
    driver.read()
    peer.act("fault", fault="disconnect@0+1.5")
    began_s = time.monotonic()
    with pytest.raises(Unplugged):
        while True:
            driver.read()
    assert time.monotonic() - began_s < 0.5

    def is_back() -> bool:
        try:
            driver.open()
            return True
        except NotFound:
            time.sleep(0.1)
            return False

    until(is_back, 4.0)
    assert time.monotonic() - began_s < 1.5 + 2.0
    assert driver.read().heater_step == 55


def test_a_tc4_on_a_serial_line_is_read_ordered_and_made_safe(stack: ExitStack, tmp_path: Path) -> None:
    peer = Tc4Peer(seed=1)
    driver, _ = tc4(stack, peer, tmp_path)
    assert driver.read().bean_temp_c == pytest.approx(peer.status()["bean_temp_c"], abs=1.0)
    order = driver.apply(SettingOrder("o1", Control.HEATER, 80, from_step=55), 4.0)
    assert order.outcome is Outcome.PROVED and peer.status()["heater_step"] == 80
    safe = driver.make_safe(3.0)
    assert safe.outcome is Outcome.PROVED and peer.status()["heater_step"] == 0


def test_a_serial_cable_that_is_pulled_is_unplugged_and_opened_again(stack: ExitStack, tmp_path: Path) -> None:
    peer = Tc4Peer(seed=1)
    driver, _ = tc4(stack, peer, tmp_path)
    driver.read()
    peer.act("fault", fault="disconnect@0+1")
    began_s = time.monotonic()
    with pytest.raises(DriverError) as caught:
        while True:
            driver.read()
    assert isinstance(caught.value, Unplugged) or caught.value.code == "not_sent"
    assert time.monotonic() - began_s < 0.5
    driver.close()
    with pytest.raises(NotFound):
        driver.open()

    def is_back() -> bool:
        try:
            driver.open()
            return True
        except NotFound:
            time.sleep(0.1)
            return False

    until(is_back, 6.0)
    assert driver.read().heater_step is not None


def test_a_serial_port_is_ours_alone(stack: ExitStack, tmp_path: Path) -> None:
    _, link = tc4(stack, Tc4Peer(seed=1), tmp_path)
    with pytest.raises(Busy) as busy:
        registry.open_driver("tc4-serial", {"device": str(link)})
    assert "Only one program" in busy.value.how_to_fix


def test_no_such_port_and_one_that_is_no_serial_port_are_two_errors(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as absent:
        SerialConnector(str(tmp_path / "none")).connect()
    assert "/dev/serial/by-id" in absent.value.how_to_fix
    (tmp_path / "file").write_text("")
    with pytest.raises(ProtocolError):
        SerialConnector(str(tmp_path / "file")).connect()


def test_a_forbidden_port_names_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    from drivers.lines import links

    def refuse(*_: Any, **__: Any) -> None:
        raise links.serial.SerialException(13, "Permission denied")

    monkeypatch.setattr(links.serial, "Serial", refuse)
    with pytest.raises(NoPermission) as forbidden:
        SerialConnector("/dev/ttyACM0").connect()
    assert "dialout" in forbidden.value.how_to_fix


def test_a_port_nobody_listens_at_is_not_found_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    began_s = time.monotonic()
    with pytest.raises(NotFound, match="nothing listens"):
        TcpConnector("127.0.0.1", port).connect()
    assert time.monotonic() - began_s < 0.5


def test_a_name_nobody_knows_and_a_host_that_swallows_everything_are_bounded(stack: ExitStack) -> None:
    began_s = time.monotonic()
    with pytest.raises(NotFound):
        TcpConnector("no-such-host.invalid", 5000, 0.5).connect()
    full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    waiting = []
    for _ in range(4):  # fill its queue: the next connect hangs, as at a host that swallows packets
        each = stack.enter_context(socket.socket())
        each.setblocking(False)
        each.connect_ex(full.getsockname())
        waiting.append(each)
    with pytest.raises(NotFound, match="does not answer"):
        TcpConnector("127.0.0.1", full.getsockname()[1], 0.3).connect()
    assert time.monotonic() - began_s < 2.0


def test_a_peer_that_takes_nothing_is_not_sent_and_a_half_line_is_in_doubt_and_ended() -> None:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours.setblocking(False)
    stream = DescriptorStream(ours, ours.fileno(), "look", is_socket=True)
    with pytest.raises(InDoubt):
        stream.send(b"x" * 3_000_000)
    with pytest.raises(NotSent):
        stream.send(b"SET a heater 0\n")
    got = bytearray()
    theirs.setblocking(False)
    while True:
        try:
            got += theirs.recv(65536)
        except BlockingIOError:
            break
    stream.send(b"SET b heater 0\n")
    got += theirs.recv(65536)
    assert bytes(got).endswith(b"x\nSET b heater 0\n"), "the half line does not swallow the next"
    theirs.close()
    with pytest.raises(Unplugged):
        while True:
            stream.receive(0.1)
    stream.close()


def test_closing_wakes_a_read_that_waits() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    stream = DescriptorStream(ours, ours.fileno(), "look", is_socket=True)
    threading.Timer(0.1, stream.close).start()
    began_s = time.monotonic()
    with pytest.raises(Unplugged):
        stream.receive(5.0)
    assert time.monotonic() - began_s < 1.0
    theirs.close()


def test_a_second_client_is_told_that_some_take_one_at_a_time(stack: ExitStack) -> None:
    _, door = line_machine(stack, LinePeer(seed=1))
    with pytest.raises(Unplugged):
        registry.open_driver("tcp-line", {"port": door.port})


@pytest.mark.parametrize(("kind", "options", "words"), [
    ("tcp-line", {"prt": 1}, "did you mean 'port'"), ("tcp-line", {}, "needs the option port"),
    ("tcp-line", {"port": 0}, "from 1 to 65535"), ("tcp-line", {"port": 1, "format": "json"}, "did you mean 'jsonl'"),
    ("tcp-line", {"port": 1, "states": {"1": "roast"}}, "did you mean 'roasting'"),
    ("tcp-line", {"port": 1, "offsets": {"bt": 1}}, "did you mean 'btC'"),
    ("tcp-line", {"port": 1, "offsets": {"btC": "1"}}, "number of °C"),
    ("tcp-line", {"port": 1, "columns": ["a", "a"]}, "twice"), ("tcp-line", {"port": 1, "columns": 5}, "columns"),
    ("tcp-line", {"port": 1, "interval_ms": 10_001}, "from 20 to 10000"),
    ("tcp-line", {"port": 1, "read_only": "yes"}, "true or false"),
    ("tcp-line", {"port": 1, "delimiter": ",,"}, "1–1 characters"),
    ("tc4-serial", {}, "needs the option device"), ("tc4-serial", {"device": "/dev/x", "baud": 12345}, "baud"),
    ("tc4-serial", {"device": "/dev/x", "chan": "1700"}, "chan"),
    ("tc4-serial", {"device": "/dev/x", "inputs": {"bean": "ch3"}}, "ch3"),
    ("tc4-serial", {"device": "/dev/x", "controls": {"heater": {"output": "OT3"}}}, "did you mean 'OT"),
    ("tc4-serial", {"device": "/dev/x", "controls": {"heater": {}}}, "output"),
    ("tc4-serial", {"device": "/dev/x", "controls": {"heater": 5}}, "no option"),
    ("tc4-serial", {"device": "/dev/x", "controls": {"heater": {"output": "OT1"}, "fan": {"output": "OT1"}}}, "share"),
    ("tc4-tcp", {"port": 1, "controls": {"flap": {"output": "OT1"}}}, "no control 'flap'"),
    ("tc4-tcp", {"port": 1, "device": "/dev/x"}, "no option 'device'"),
])
def test_a_wrong_option_is_refused_by_its_name(kind: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(registry.BadOption) as refused:
        registry.make_driver(kind, options)
    assert words in str(refused.value)


def test_the_served_peer_is_a_process_of_its_own(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "drivers.virtual.line_server", "--kind", "tcp-line", "--listen", "127.0.0.1:0"],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().split(":")[1].split(",")[0])
        driver = registry.open_driver("tcp-line", {"port": port})
        assert driver.read().heater_step == 55
        driver.close()
    finally:
        process.terminate()
        assert process.wait(5) == 0
        if process.stdout is not None:
            process.stdout.close()
