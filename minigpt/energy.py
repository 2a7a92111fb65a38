"""What a run costs in energy and carbon dioxide: E = P t, m = E c.

The power P is measured where the machine tells it (RAPL counters, Linux), else estimated as WATTS_PER_CORE for each core in
use, about what a server's processor draws for a busy core with its share of memory. The carbon intensity c of the grid is
the world's mean in 2023, 480 g of CO2-equivalent per kWh (Ember, Global Electricity Review 2024).
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

WATTS_PER_CORE = 10.0
GRID = 480.0  # g CO2-equivalent per kWh
COUNTERS = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Footprint:
    """Power in watts, whether it was measured, and what `seconds` of it come to."""

    watts: float
    measured: bool
    seconds: float

    @property
    def kilowatt_hours(self) -> float:
        return self.watts * self.seconds / 3.6e6

    @property
    def grams(self) -> float:
        """Of CO2-equivalent."""
        return self.kilowatt_hours * GRID

    def __str__(self) -> str:
        origin = "measured" if self.measured else f"estimated at {WATTS_PER_CORE:g} W a core"
        return (
            f"{self.watts:.1f} W ({origin}) x {self.seconds:.0f} s = {self.kilowatt_hours * 1000:.3g} Wh; "
            f"x {GRID:g} g/kWh = {self.grams:.2g} g of CO2-equivalent"
        )


class Meter:
    """Measures from when it is made; asked now and then, it also survives the counters' beginning anew."""

    def __init__(self, cores: int | None = None) -> None:
        allowed = getattr(os, "sched_getaffinity", None)
        self.cores = cores or (len(allowed(0)) if allowed else os.cpu_count() or 1)
        self.joules, self._began = 0.0, time.monotonic()
        self._last = _counters()

    def watts(self) -> tuple[float, bool]:
        """The mean power so far and whether it was measured."""
        now = _counters()
        if not now or now.keys() != self._last.keys():
            return self.cores * WATTS_PER_CORE, False
        for name, (value, most) in now.items():
            self.joules += ((value - self._last[name][0]) % (most + 1)) / 1e6
        self._last = now
        return self.joules / max(time.monotonic() - self._began, 1e-9), True


def _counters() -> dict[str, tuple[int, int]]:
    """(microjoules so far, largest value) of each processor package whose counter may be read."""
    found = {}
    for folder in sorted(COUNTERS.glob("intel-rapl:*")):
        if folder.name.count(":") == 1:
            try:
                found[folder.name] = int((folder / "energy_uj").read_text()), int((folder / "max_energy_range_uj").read_text())
            except (OSError, ValueError):
                continue
    return found
