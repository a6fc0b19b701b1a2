"""The person at a served machine: button, beans, knobs, faults, and a look at the truth."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from drivers.virtual.socket_wire import LineSocket, connect


class Panel:
    """Client of the control channel at ``path``. Every act returns the machine's status after it."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._line: LineSocket | None = None

    def __enter__(self) -> Panel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the panel."""
        with self._lock:
            if self._line:
                self._line.close()
                self._line = None

    def press_prs(self) -> dict[str, Any]:
        """Press Preheat/Roast/Shutdown."""
        return self._act("press_prs")

    def charge_beans(self, mass_kg: float = 0.4, bean_temp_c: float | None = None) -> dict[str, Any]:
        """Pour beans in; in state 4 the machine then starts the roast by itself."""
        return self._act("charge_beans", mass_kg=mass_kg, bean_temp_c=bean_temp_c)

    def drop_beans(self) -> dict[str, Any]:
        """Open the door: beans out, and the button pressed if it roasts."""
        return self._act("drop_beans")

    def pour_out(self) -> dict[str, Any]:
        """Empty the drum, nothing pressed."""
        return self._act("pour_out")

    def turn_knob(self, control: str, step: int) -> dict[str, Any]:
        """Turn heater, fan or drum at the machine, to an absolute step."""
        return self._act("turn_knob", control=control, step=step)

    def fault(self, text: str) -> dict[str, Any]:
        """Start faults now, e.g. ``unplug@0+10`` or ``nan:sensor=probe`` (a start time is ignored)."""
        return self._act("fault", fault=text)

    def replay(self, path: str | Path, speed: float | None = None) -> dict[str, Any]:
        """Play a recorded roast on the wire now (a file the server can read); ``speed`` while it plays."""
        return self._act("replay", path=str(Path(path).absolute()), speed=speed)

    def unplug(self) -> dict[str, Any]:
        """Pull the cable."""
        return self.fault("unplug")

    def replug(self) -> dict[str, Any]:
        """Put the cable back."""
        return self.fault("replug")

    def status(self) -> dict[str, Any]:
        """The truth, see ``VirtualMachine.status``; and the server's pid."""
        return dict(self._ask({"op": "status"}))

    def wire(self, after: int = 0, directions: list[str] | None = None) -> list[dict[str, Any]]:
        """Wire log entries kept in the server's memory, oldest first, at most 5000."""
        return list(self._ask({"op": "wire", "after": after, "directions": directions}))

    def _act(self, name: str, **details: Any) -> dict[str, Any]:
        return dict(self._ask({"op": "panel", "act": name, **details}))

    def _ask(self, request: dict[str, Any]) -> Any:
        with self._lock:
            if self._line is None:
                self._line = connect(self._path)
            try:
                self._line.send(request)
                answer = self._line.receive()
            except OSError:
                self._line.close()
                self._line = None
                raise
        if "ok" not in answer:
            raise ValueError(str(answer.get("error") or answer.get("usb_error")))
        return answer["ok"]
