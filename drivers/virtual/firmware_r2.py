"""A Bullet R2's side of the wire: the frames it pushes, and what it makes of which bytes.

Source: ``reference/bullet-and-alog.md`` §2; where that is silent an R2 does as an R1 does, or as a setting says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from drivers.virtual import frames_r2, heat
from drivers.virtual.firmware import COOLING, DROPPING, OFF, SHUTDOWN, TICKS_PER_S, Answer, Firmware
from drivers.virtual.settings import R2Settings
from drivers.virtual.wire_values import WireValues

COOLDOWN = DROPPING  # 7: on an R2 a state that lasts
RESETTING = 0x0B
COMMAND_BYTES = 8
COOL_BELOW_C, COOLS_AT_MOST_S = 60.0, 600
DANGEROUS = {b"\x4a\x01": "usb_reset", b"\x20\xff": "roaster_reset", b"\x30\x99": "bootloader"}
RELATIVE = {0x34: "heater", 0x31: "fan", 0x32: "drum"}

#: The drum of an R1; fourteen steps of an R2's heater are as hot as nine of an R1's.
BULLET_R2 = replace(heat.BULLET_R1, watts_per_step=heat.BULLET_R1.watts_per_step * 9 / 14)


class FirmwareR2(Firmware):
    """One Bullet R2. It speaks unasked: ``pushed_frames`` is what goes out with each push."""

    SETTINGS = R2Settings
    RANGES: ClassVar[dict[str, tuple[int, int]]] = frames_r2.RANGES
    PREHEATS_WITH = (11, 2, 0)
    HOLDS_WITH = (2, 5)
    COOLS_IN = COOLDOWN
    HEAT = BULLET_R2
    settings: R2Settings

    def power_on(self) -> None:
        """As after the mains switch; while it is watched, by way of its own reset."""
        super().power_on()
        if self._has_started:
            self.state = RESETTING

    # -- what the firmware does by itself ---------------------------------------------------------

    def _acts(self) -> dict[int, Callable[[], None]]:
        return {**super()._acts(), COOLDOWN: self._cool_down, COOLING: self._cool_down, RESETTING: self._reset}

    def _cool_down(self) -> None:
        self._cool()
        is_cool = self.warmth.drum_temp_c < COOL_BELOW_C and self.state_ticks >= 5 * TICKS_PER_S
        if is_cool or self.state_ticks >= COOLS_AT_MOST_S * TICKS_PER_S:
            self._enter(SHUTDOWN)

    def _reset(self) -> None:
        if self.state_ticks >= TICKS_PER_S:
            self._enter(OFF)

    def _resets_infrared(self) -> bool:
        return self.settings.infrared_resets

    # -- the wire ---------------------------------------------------------------------------------

    def pushed_frames(self) -> list[bytes]:
        """One set: A0, A1, A2 and, where they are set, A3 and A4."""
        values = self.wire_values()
        self._shown_controls.append((self.heater_step, self.fan_step, self.drum_step))
        count = self.sample_counter if self.settings.has_frame_counter else 0
        frames = [
            frames_r2.temperatures(values, count),
            frames_r2.fans(values, count),
            frames_r2.power(values, count, self.state_ticks // TICKS_PER_S),
        ]
        if self.settings.has_spare_frames:
            frames += [frames_r2.spare(0xA3, count), frames_r2.spare(0xA4, count)]
        if self.settings.frame_order == "a0_last":
            frames = [*frames[1:], frames[0]]
        return [frames_r2.sealed(frame, self.settings.frame_seal) for frame in frames]

    def wire_values(self) -> WireValues:
        values = super().wire_values()
        rates = (values.infrared_rate_c_per_min, values.rate_c_per_min)
        first, second = rates if self.settings.sensor_map == "probe_b" else rates[::-1]
        return replace(
            values, rate_a_c_per_min=first, rate_b_c_per_min=second, roast_count=self.roast_count,
        )

    def receive(self, transfer: bytes) -> Answer:
        """One OUT transfer: four bytes and their checksum, or nothing happens."""
        command, seal = bytes(transfer[:4]), bytes(transfer[4:])
        is_sealed = seal == frames_r2.crc(command).to_bytes(4, "little")
        is_heard = len(transfer) == COMMAND_BYTES and (is_sealed or not self.settings.checks_crc)
        if command[:2] in DANGEROUS:
            name = DANGEROUS[command[:2]]
            return Answer(name, alarm=f"dangerous command {name}", reboots=is_heard and name != "bootloader")
        if len(transfer) != COMMAND_BYTES:
            return Answer("unknown", alarm=f"unknown transfer of {len(transfer)} bytes")
        if not is_heard:
            return Answer("ignored: wrong checksum", alarm=f"wrong checksum of {command.hex()}")
        return self._told(command)

    def _told(self, command: bytes) -> Answer:
        family, kind = command[0], command[1]
        if command == b"\x30\x01\x00\x00":
            before = self.state
            return Answer(f"prs {before} -> {self.press_prs()}")
        if family in RELATIVE and kind in (1, 2) and command[2:] == b"\xaa\xaa":
            return Answer(self._relative(RELATIVE[family], 1 if kind == 1 else -1))
        if family == 0x35 and kind == 0:
            return self._preheat_target(int.from_bytes(command[2:4], "big"))
        return Answer("unknown", alarm=f"unknown command {command.hex()}")

    def _accepts(self, control: str) -> bool:
        if self.state == RESETTING:
            return False
        return super()._accepts(control)

    def slipped_frame(self) -> bytes:
        """The end of one frame and the beginning of the next in one transfer."""
        first, second = self.pushed_frames()[:2]
        return first[20:] + second[:20]
