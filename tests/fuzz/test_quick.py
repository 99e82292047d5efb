"""A small share of make fuzz and make kill, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuzz import kill, targets
from fuzz.run import ROOT

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        sys.platform != "linux", reason="the fuzzer watches files with inotify and reads /proc"
    ),
]


def share(name: str, out: Path, *words: str) -> str:
    """What the module prints, if it found nothing."""
    line = [sys.executable, "-m", f"fuzz.{name}", "--out", str(out), *words]
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, capture_output=True, text=True, timeout=280, env=env)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_no_spoilt_file_does_harm(tmp_path: Path) -> None:
    share("run", tmp_path, "--share", "0.006", "--processes", "1")
    found = json.loads((tmp_path / "figures.json").read_text())["targets"]
    assert found.keys() == {target.name for target in targets.TARGETS}
    assert not (tmp_path / "failures").exists()


def test_a_kill_leaves_nothing_half_done(tmp_path: Path) -> None:
    share("kill", tmp_path, "--share", "0.01")
    found = json.loads((tmp_path / "kills.json").read_text())["jobs"]
    assert found.keys() == {job.name for job in kill.JOBS}
