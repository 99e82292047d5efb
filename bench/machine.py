"""Where benchmarks write, and what they say of the machine that they ran on."""

from __future__ import annotations

import os
import platform
from datetime import date
from pathlib import Path
from typing import Any

from samevoice.converters.convert import versions

OUT = Path(__file__).resolve().parents[1] / "out" / "bench"


def described() -> dict[str, Any]:
    """Today, the machine, how busy it is, and the versions of what was measured."""
    return {
        "date": date.today().isoformat(),
        "machine": {
            "system": f"{platform.system()} {platform.release()}",
            "architecture": platform.machine(),
            "cores": os.cpu_count(),
            "load_average": os.getloadavg()[0],
        },
        "versions": versions(),
    }
