"""The verdict needs numpy alone: a machine without torch and MLX can judge and read results."""

from __future__ import annotations

import subprocess
import sys

import pytest

MODULES = ("metrics", "limits", "judge", "result", "task", "dumps")


@pytest.mark.parametrize("module", MODULES)
def test_importing_it_brings_in_no_framework(module: str) -> None:
    script = (
        f"import sys, samevoice.parity.{module}\n"
        "heavy = {'torch', 'mlx', 'pyannote', 'scipy', 'safetensors.torch'} & sys.modules.keys()\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_check_above_can_fail() -> None:
    script = "import sys, mlx; sys.exit('imported' if 'mlx' in sys.modules else 0)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 1
