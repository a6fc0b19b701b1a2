"""Line machines for the contract suite: the virtual peers on a clock that is turned by hand, without sockets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from drivers import registry
from drivers.port import Control, Driver, NotFound, NotSent, Unplugged
from drivers.virtual.clocks import ManualClock
from drivers.virtual.line_peer import CSV_COLUMNS, LinePeer, NotTaken, Peer
from drivers.virtual.tc4_peer import Tc4Peer
from kernel import clock

STEP_S = 0.01


class HandStream:
    """A connection to a peer in this process; waiting turns the clock."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._is_open = True

    def receive(self, wait_s: float) -> bytes:
        until_s = clock.monotonic() + wait_s
        while True:
            data = self._peer.take()
            if not self._is_open or not self._peer.is_connected:
                raise Unplugged("the other side closed the connection", "It is called again by itself.")
            if data or clock.monotonic() >= until_s - 1e-9:
                return data
            clock.sleep(min(STEP_S, until_s - clock.monotonic()))

    def send(self, data: bytes) -> float:
        at_s = clock.monotonic()
        if not self._is_open or not self._peer.is_connected:
            raise NotSent("nothing could be sent: the connection is closed")
        self._peer.feed(data)
        return at_s

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._peer.hang_up()


class HandConnector:
    """Connects to a peer in this process."""

    where = "a peer in this process"

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def connect(self) -> HandStream:
        try:
            self._peer.connect()
        except NotTaken as error:
            raise NotFound("nothing listens", "Start the peer.") from error
        return HandStream(self._peer)


@dataclass
class LineRig:
    """A driver, the virtual peer behind it, and the clock both live by."""

    driver: Driver
    peer: Peer
    clock: ManualClock

    def truth(self, control: Control) -> int:
        """Where the control really stands, in percent."""
        return int(self.peer.status()[f"{control.value}_step"])

    def state(self) -> str:
        return str(self.peer.status()["state"])

    def heats(self) -> list[int]:
        """Heater settings the machine was told, in order."""
        return [step for control, step in self.told() if control == "heater"]

    def told(self) -> list[tuple[str, int]]:
        """Every setting the machine was told: control, percent."""
        found = []
        for line in self.peer.told:
            words = line.split()
            if words[0] == "SET":
                found.append((words[2], int(words[3])))
            elif ";" in line:
                output, _, value = line.partition(";")
                found.append(({"OT1": "heater", "OT2": "drum", "IO3": "fan"}[output], int(value)))
        return found


def line_rig(hand: ManualClock, *, options: dict[str, Any] | None = None, **peer: Any) -> LineRig:
    made = LinePeer(seed=5, clock=hand, **peer)
    form = {"format": "csv", "columns": list(CSV_COLUMNS)} if peer.get("form") == "csv" else {}
    driver = registry.make_driver("tcp-line", {"connector": HandConnector(made), "port": 1, **form, **(options or {})})
    return LineRig(driver, made, hand)


TC4_CONTROLS = {"heater": {"output": "OT1"}, "fan": {"output": "IO3", "safe": 70},
                "drum": {"output": "OT2", "min": 10}}


def tc4_rig(hand: ManualClock, *, kind: str, options: dict[str, Any] | None = None, **peer: Any) -> LineRig:
    """Steered, and said to be roasting all the time: a TC4 knows no states."""
    made = Tc4Peer(seed=5, clock=hand, **peer)
    where = {"port": 1} if kind == "tc4-tcp" else {"device": "/dev/none"}
    driver = registry.make_driver(kind, {
        "connector": HandConnector(made), "controls": TC4_CONTROLS, "assumed_state": "roasting", **where,
        **(options or {})})
    return LineRig(driver, made, hand)


def serial_rig(hand: ManualClock, **details: Any) -> LineRig:
    return tc4_rig(hand, kind="tc4-serial", **details)


def tc4_tcp_rig(hand: ManualClock, **details: Any) -> LineRig:
    return tc4_rig(hand, kind="tc4-tcp", **details)


LINE_RIGS: dict[str, Callable[..., LineRig]] = {
    "tcp-line": line_rig, "tc4-serial": serial_rig, "tc4-tcp": tc4_tcp_rig,
}
