"""Which parts run, against which targets, and what is said of two diarizations."""

from __future__ import annotations

import json
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samevoice.bench import big, engines, parts
from samevoice.bench.material import Material
from samevoice.bench.parts import SIZES, Plan
from samevoice.bench.rows import Left, Series
from samevoice.bench.workers import BenchError, Ran, once_each

TURNS: list[list[Any]] = [[0.0, 1.0, "A"], [1.0, 2.0, "B"]]


def test_only_a_long_run_writes_gigabytes_unasked() -> None:
    assert "memory" not in parts.chosen([], SIZES["usual"])
    assert "memory" in parts.chosen([], SIZES["long"])
    assert parts.chosen(["memory", "start"], SIZES["quick"]) == ("start", "memory")


def test_targets_of_the_lstm_depend_on_the_batch() -> None:
    assert parts.targets("lstm", 1)["torch"].most == 5.0
    assert parts.targets("lstm", 32)["torch"].most == 2.5
    assert "torch" not in parts.targets("lstm", 8)
    assert parts.targets("voices", 8)["torch, 3 passes"].most == 0.45


def saying(who: str, turns: list[list[Any]], seconds: float = 1.0, stage: float = 1.0) -> Series:
    stages = dict.fromkeys(parts.STAGES, stage)
    return Series(who, (seconds,), found={"turns": turns, "stages": stages})


def test_diarizations_are_set_side_by_side() -> None:
    longer = [[0.0, 1.0, "A"], [1.0, 2.1, "B"]]
    one, same, other = (saying("", turns) for turns in (TURNS, list(TURNS), longer))
    assert parts._likeness(one, same, "hers") == "turns are hers"
    assert parts._likeness(one, other, "hers") == "DER 5 % from hers"


def test_a_pipeline_gives_its_stages_and_the_fast_tier_beside_both() -> None:
    found = {
        "pyannote": saying("pyannote", TURNS, 30.0, 10.0),
        "samevoice": saying("samevoice", TURNS, 6.0),
        "samevoice --fast": saying("fast", TURNS[:1], 2.0),
    }
    rows = list(parts._set_beside("0.5 min", found))
    whole, fast, against = (row for row in rows if not row.is_stage)
    assert (whole.ratio, whole.met, whole.said) == (0.2, True, "turns are pyannote's")
    assert [row.ratio for row in rows if row.is_stage] == [0.1] * 6
    assert fast.met is True
    assert fast.said == "DER 50 % from the exact ones"
    assert against.ratio == pytest.approx(1 / 3)
    del found["pyannote"]
    alone = next(parts._set_beside("0.5 min", found))
    assert (alone.theirs, alone.met) == (None, None)


def test_senko_stands_beside_both_tiers() -> None:
    found = {
        "samevoice": saying("samevoice", TURNS, 6.0),
        "samevoice --fast": saying("fast", TURNS, 2.0),
        "senko": saying("senko", TURNS[:1], 4.0),
    }
    rows = [row for row in parts._set_beside("0.5 min", found) if row.theirs]
    beside = {row.what: row for row in rows if row.theirs and row.theirs.who == "senko"}
    assert [row.ratio for row in beside.values()] == [1.5, 0.5]
    assert beside["0.5 min"].said == "senko's DER 50 % from the exact ones"


def test_senko_runs_where_there_is_nothing_else_of_ours(tmp_path: Path) -> None:
    (tmp_path / "senko.py").write_text(
        "class Diarizer:\n"
        "    def __init__(self, **_): print('ready')\n"
        "    def diarize(self, audio, **_):\n"
        "        return {'merged_segments': [{'start': 0, 'end': 1.5, 'speaker': audio}]}\n"
    )
    python = tmp_path / "python"
    path = f"PYTHONPATH=$PYTHONPATH:{tmp_path}"
    python.write_text(f'#!/bin/sh\n{path} exec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    plan = Plan(SIZES["quick"], Material(tmp_path), senko=python)
    found = once_each(list(parts._senko(plan, "clip.wav")), 1)["senko"].found
    assert found["turns"] == [[0.0, 1.5, "clip.wav"]]


def test_other_numbers_are_said() -> None:
    ours, same, other = (
        Series(who, (1.0,), found={"some": some})
        for who, some in (("", [1.0, -2.0]), ("torch", [1.0001, -2.0]), ("ort", [1.2, -2.0]))
    )
    assert parts.differing(ours, same, "float32") == ""
    assert parts.differing(ours, other, "float32") == (
        "ort gives other numbers, 0.1 of their size away"
    )


@pytest.mark.long
def test_engines_that_are_absent_or_fail_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: dict[str, Path] = {}
    given = {"voices": "embedding"}, "/nowhere", tmp_path, models
    (left,) = engines.exported(*given)
    assert left.what == "voices beside ONNX Runtime and OpenVINO"
    assert "/nowhere" in left.why
    monkeypatch.setattr(engines, "find_spec", lambda _: None)
    (left,) = engines.exported(*given)
    assert left.why == "not installed: pip install 'samevoice[engines]'"
    assert models == {}


@pytest.mark.long
def test_a_short_command_counts_without_its_networks(
    tmp_path: Path, narrow_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def command(what: str, words: list[str]) -> Ran:
        with wave.open(words[words.index("diarize") + 1]) as audio:
            assert audio.getnframes() == 5 * audio.getframerate()
        seconds = {"segmentation": 0.1, "embeddings": 0.2, "clustering": 0.3}
        Path(words[words.index("--output") + 1]).write_text(json.dumps({"seconds": seconds}))
        ran.append(what)
        return Ran(float(len(ran)), 0.0)

    monkeypatch.setattr(parts, "command", command)
    row = parts._short(Plan(SIZES["quick"], Material(tmp_path, model=narrow_bundle)))
    assert row.ours.seconds == pytest.approx((1.7, 2.7))  # the first run fills the caches
    assert row.met is False


@pytest.mark.parametrize("block", [300, 96_000])
def test_recordings_are_looped_to_the_sample(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samevoice.bench.material.BLOCK", block)
    sound = tmp_path / "sound.wav"
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(np.arange(700, dtype="<i2").tobytes())
    material = Material(tmp_path, sound=sound)
    with material.recording(0.1) as path, wave.open(str(path)) as file:
        heard = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    np.testing.assert_array_equal(heard, np.arange(96_000) % 700)
    assert not path.exists()


def test_a_bundle_alone_has_nothing_beside_it(tmp_path: Path, narrow_bundle: Path) -> None:
    material = Material(tmp_path, model=narrow_bundle)
    assert material.source is None
    plan = Plan(SIZES["quick"], material)
    assert [one.who for one in parts._theirs(plan, "lstm", "segmentation", 1)] == []
    assert [one.who for one in parts._pyannote(plan, "clip.wav")] == []


@pytest.mark.skipif(not big.can_measure(), reason="only Linux says what is a process's own")
@pytest.mark.parametrize(("kind", "dtype"), [("safetensors", "float32"), ("bin", "float16")])
def test_a_checkpoint_of_its_own_is_converted_and_gone(
    kind: str, dtype: str, tmp_path: Path
) -> None:
    row = big.measured(kind, dtype, tmp_path, hidden=64)
    assert row.what == f"0.00 GB of {kind} to {dtype}"
    assert row.ours.peak_gb is not None
    assert 0.02 < row.ours.peak_gb < 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_seen_before(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"not enough disk: \d+ GB are needed below"):
        big.measured("bin", "float32", tmp_path, hidden=10**5)


def test_where_no_proc_is_memory_is_left_out(
    tmp_path: Path, narrow_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(big, "STATUS", f"{tmp_path}/{{}}/none")
    (row,) = parts.memory(Plan(SIZES["quick"], Material(tmp_path, model=narrow_bundle)))
    assert row == Left("memory", "not measured here: only Linux says what is a process's own")
