"""What tells one Bullet from another, as one table per model: ranges, bytes, button, place on the bus. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from drivers.bullet import codec_r1, codec_r2
from drivers.port import Control, ControlRange, MachineState

#: (state code before the press, state wanted) → states that prove the press. Nothing else is ever pressed.
Presses = dict[tuple[int, MachineState], frozenset[MachineState]]


@dataclass(frozen=True, slots=True)
class BulletModel:
    """One model. Bytes are whole commands, as they go to the wire."""

    name: str
    product_ids: tuple[int, ...]
    endpoints: tuple[int, int] | None  # (OUT, IN); None: found when opened, the last of each
    resets_at_open: bool
    requests: dict[bytes, int]  # questions and the length of their answers; none where the machine pushes
    check_command: Callable[[bytes], str]
    ranges: dict[Control, ControlRange]
    absolute_controls: frozenset[Control]  # set by one command, not by steps
    encode_setting: Callable[[Control, int, int], list[bytes]]
    encode_preheat: Callable[[int], bytes] | None  # None: no such command that is known well enough
    prs: bytes
    heater_up: bytes
    heater_down: bytes
    presses: Presses
    passing_codes: frozenset[int]  # states on the way that decide nothing yet
    echo_s: float  # an echo that still lags after this has been dropped
    look_s: float  # how long STOP looks between two downs: it must not hold up the second

    @property
    def heater_max_step(self) -> int:
        """The hottest setting."""
        return self.ranges[Control.HEATER].max_step

    @property
    def askable_states(self) -> frozenset[MachineState]:
        """States an order may ask for."""
        return frozenset(target for _, target in self.presses)


#: No press out of CHARGE (a roast is started by hand, with beans), none in the short states 5 and 7.
R1 = BulletModel(
    name="Bullet R1",
    product_ids=codec_r1.PRODUCT_IDS,
    endpoints=(codec_r1.ENDPOINT_OUT, codec_r1.ENDPOINT_IN),
    resets_at_open=False,
    requests=codec_r1.REQUESTS,
    check_command=codec_r1.check_command,
    ranges=codec_r1.RANGES,
    absolute_controls=frozenset({Control.DRUM}),
    encode_setting=codec_r1.encode_setting,
    encode_preheat=None,
    prs=codec_r1.PRS,
    heater_up=codec_r1.HEATER_UP,
    heater_down=codec_r1.HEATER_DOWN,
    presses={
        (0x00, MachineState.PREHEATING): frozenset({MachineState.PREHEATING, MachineState.STABILISING}),
        (0x02, MachineState.CHARGE): frozenset({MachineState.CHARGE}),
        (0x03, MachineState.CHARGE): frozenset({MachineState.CHARGE}),
        (0x06, MachineState.COOLING): frozenset({MachineState.COOLING}),
        (0x08, MachineState.SHUTDOWN): frozenset({MachineState.SHUTDOWN, MachineState.OFF}),
        (0x09, MachineState.OFF): frozenset({MachineState.OFF}),
    },
    passing_codes=frozenset({0x05, 0x07}),
    echo_s=0.3,
    look_s=0.09,
)

#: The ring 0→2→4→6→7→0 of the existing client, without its press out of 4. What a press does in 3, 8, 9 and 0x0B
#: nobody has told: nothing is pressed there.
R2 = BulletModel(
    name="Bullet R2",
    product_ids=codec_r2.PRODUCT_IDS,
    endpoints=None,
    resets_at_open=True,
    requests={},
    check_command=codec_r2.check_command,
    ranges=codec_r2.RANGES,
    absolute_controls=frozenset(),
    encode_setting=codec_r2.encode_setting,
    encode_preheat=codec_r2.encode_preheat,
    prs=codec_r2.PRS,
    heater_up=codec_r2.HEATER_UP,
    heater_down=codec_r2.HEATER_DOWN,
    presses={
        (0x00, MachineState.PREHEATING): frozenset({MachineState.PREHEATING, MachineState.STABILISING}),
        (0x02, MachineState.CHARGE): frozenset({MachineState.CHARGE}),
        (0x06, MachineState.COOLING): frozenset({MachineState.COOLING}),
        (0x07, MachineState.OFF): frozenset({MachineState.OFF, MachineState.SHUTDOWN}),
    },
    passing_codes=frozenset(),
    echo_s=0.5,  # a frame comes each 100 ms, and may show what was 300 ms before
    look_s=0.11,
)
MODELS = (R1, R2)
