"""What a virtual machine shows at one moment, before it is laid into bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WireValues:
    """Every value of one moment, named by what the firmware means."""

    temp_a_c: float  # the first temperature field: offset 0 on an R1, 4 on an R2
    temp_b_c: float  # the second: 8 on an R1, 16 on an R2
    rate_c_per_min: float
    infrared_rate_c_per_min: float
    exhaust_c: float
    roast_clock_s: int
    heater_step: int
    fan_step: int
    drum_step: int
    state: int
    sample_counter: int
    fan_rpm: int
    voltage_v: int
    preheat_target_c: int
    ambient_c: float = 27.0
    board_c: float = 35.0
    coil_fan_rpm: int = 1200
    coil_fan_2_rpm: int = 1200
    error_codes: tuple[tuple[int, int], ...] = ()
    infrared_fan_rpm: int = 6000
    crack_energy: float = 0.0
    heater_watts: float = 0.0
    buttons: int = 0
    rate_a_c_per_min: float = 0.0  # an R2 sends a rate beside each of its two temperatures
    rate_b_c_per_min: float = 0.0
    roast_count: int = 0
