"""``doctor --self-test RELEASE`` replays on this machine what PyTorch said."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pytest
from made_release import Ready
from typed import ended

from samevoice import selftest


@pytest.fixture(autouse=True)
def forms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The replay alone, on the CPU."""
    monkeypatch.setattr(selftest, "FORMS", ())
    monkeypatch.setattr(selftest, "_devices", lambda: ("cpu",))


def told(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_a_release_is_verified_and_replayed(
    made: Ready, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended("doctor", "--self-test", made.release, "--json") == 0
    (row,) = told(capsys)
    assert (row["device"], row["name"], row["state"]) == ("CPU", "golden release", "good")
    assert row["found"].startswith("segmentation noise ratio at most ")


def test_a_bundle_with_golden_data_is_replayed(
    ready: Ready, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ready.parity / "golden", ready.bundle / "golden")
    assert ended("doctor", "--self-test", ready.bundle, "--json") == 0
    (row,) = told(capsys)
    assert (row["name"], row["state"]) == ("golden bundle", "good")
    assert 0 < row["error"] < 2


def test_what_diverges_is_broken(
    ready: Ready, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from samevoice.models.fast import pyannet

    shutil.copytree(ready.parity / "golden", ready.bundle / "golden")
    monkeypatch.setattr(pyannet, "leaky", lambda x: np.maximum(x, 0))  # of the form for a CPU
    assert ended("doctor", "--self-test", ready.bundle, ready.release) == 1
    said = capsys.readouterr()
    assert said.out.count("✗ CPU   golden ") == 2
    assert "it diverges from PyTorch: " in said.out
    assert "replay: the segmentation diverges on this machine: " in said.out
    assert said.err.startswith("samevoice: 2 of 2 tests failed, first golden bundle on CPU: ")


def test_what_was_changed_since_is_broken(ready: Ready, capsys: pytest.CaptureFixture[str]) -> None:
    (ready.release / "config.json").write_text("{}")
    assert ended("doctor", "--self-test", ready.release) == 1
    assert "✗ CPU   golden release sha256: config.json is not what" in capsys.readouterr().out
