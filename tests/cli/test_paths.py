"""What a killed run left beside its results goes with the next run; what another writes stays."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from samevoice.cli import paths

DEAD = 1 << 30  # no system gives such a number to a process


def test_what_a_killed_run_left_goes(tmp_path: Path) -> None:
    (tmp_path / f".samevoice-{DEAD}-0.partial").write_text("half")
    paths.write({tmp_path / "a.rttm": "whole"})
    assert [path.name for path in tmp_path.iterdir()] == ["a.rttm"]


def test_what_others_write_stays(tmp_path: Path) -> None:
    kept = [tmp_path / f".samevoice-{os.getppid()}-0.partial", tmp_path / ".samevoice-x.partial"]
    kept.append(tmp_path / f".samevoice-{DEAD}-1.partial")  # of another machine, perhaps
    for path in kept:
        path.write_text("more to come")
    with open(kept[-1]) as written:
        fcntl.flock(written, fcntl.LOCK_EX)
        paths.write({tmp_path / "a.rttm": "whole"})
    assert {path.name for path in tmp_path.iterdir()} == {"a.rttm", *(x.name for x in kept)}
