"""A Bullet R1's side of the wire: what it answers to which bytes. Source: ``reference/bullet-and-alog.md`` §1."""

from __future__ import annotations

from typing import ClassVar

from drivers.virtual import frames_r1
from drivers.virtual.firmware import TICKS_PER_S, Answer, Firmware
from drivers.virtual.settings import R1Settings

DANGEROUS = {b"\x4a\x01": "usb_reset", b"\x20\xff": "roaster_reset", b"\x30\x99": "bootloader"}


class FirmwareR1(Firmware):
    """One Bullet R1. It speaks only when asked."""

    SETTINGS = R1Settings
    RANGES: ClassVar[dict[str, tuple[int, int]]] = frames_r1.RANGES
    PREHEATS_WITH = (7, 1, 0)
    HOLDS_WITH = (1, 3)
    settings: R1Settings

    def _idle(self) -> None:
        if self.state_ticks % (15 * TICKS_PER_S) == 0:
            self._idle_message_due = self.settings.idle_message != "off"

    def _has_short_drop_state(self) -> bool:
        return self.settings.has_short_drop_state

    def receive(self, transfer: bytes) -> Answer:
        """One OUT transfer. Its length is part of its meaning: ``30 01`` asks, ``30 01 00 00`` presses."""
        prefix = bytes(transfer[:2])
        if prefix in DANGEROUS:
            name = DANGEROUS[prefix]
            return Answer(name, alarm=f"dangerous command {name}", reboots=name != "bootloader")
        if len(transfer) == 2:
            return self._asked(prefix)
        if len(transfer) >= 4 and transfer[:4] == b"\x30\x01\x00\x00":
            alarm = "" if len(transfer) == 4 else f"PRS of {len(transfer)} bytes: a padded status poll?"
            before = self.state
            return Answer(f"prs {before} -> {self.press_prs()}", alarm=alarm)
        if len(transfer) == 4:
            return self._told(transfer)
        return Answer("unknown", alarm=f"unknown transfer of {len(transfer)} bytes")

    def _asked(self, question: bytes) -> Answer:
        if question == b"\x30\x01":
            return self._status_a()
        if question == b"\x30\x03":
            return Answer("status2", [frames_r1.frame_b(self.wire_values())])
        if question == b"\x30\x02":
            return Answer("info1", [frames_r1.info_1(self.settings.serial_number, self.settings.firmware_version)])
        if question == b"\x89\x01":
            return Answer("info2", [frames_r1.info_2(self.settings.hours_on * 3600, self.roast_count)])
        if question == b"\x30\x05":
            return Answer("clear", clears_queue=True)
        return Answer("unknown", alarm=f"unknown question {question.hex()}")

    def _status_a(self) -> Answer:
        frame = frames_r1.frame_a(self.wire_values())
        self._shown_controls.append((self.heater_step, self.fan_step, self.drum_step))
        if not self._idle_message_due:
            return Answer("status1", [frame])
        self._idle_message_due = False
        idle = frames_r1.idle_message(self.sample_counter)
        is_extra = self.settings.idle_message == "extra"
        return Answer("status1 (idle message)", [idle, frame] if is_extra else [idle])

    def _told(self, command: bytes) -> Answer:
        family, kind, value = command[0], command[1], command[2]
        relative = {0x34: "heater", 0x31: "fan"}.get(family)
        if relative and kind in (1, 2) and command[2:4] == b"\xaa\xaa":
            return Answer(self._relative(relative, 1 if kind == 1 else -1))
        if family == 0x32 and kind in (0, 1) and command[3] == 0:
            return Answer(self._absolute("drum", value))
        if family == 0x34 and kind == 0 and command[3] == 0xBA:
            return self._third_party_absolute("heater", value)
        if family == 0x31 and kind == 0 and command[3] == 0:
            return self._third_party_absolute("fan", value)
        if family == 0x35 and kind == 0:
            return self._preheat_target(int.from_bytes(command[2:4], "big"))
        if family in (0x38, 0x39):
            return Answer("buzzer" if family == 0x38 else "blink")
        return Answer("unknown", alarm=f"unknown command {command.hex()}")

    def _third_party_absolute(self, control: str, value: int) -> Answer:
        if not self.settings.has_absolute_commands:
            return Answer(f"{control} = {value} not understood by this firmware")
        return Answer(self._absolute(control, value))

    def slipped_frame(self) -> bytes:
        """A reply nobody asked for: A and B change places."""
        return frames_r1.frame_b(self.wire_values())
