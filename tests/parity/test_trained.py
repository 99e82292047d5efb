"""Trained weights on real recordings: the decisions that people get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import samevoice
from samevoice.parity.run import run


def test_every_decision_on_the_golden_clips_is_pyannotes(
    golden: Path, pyannote: Any, tmp_path: Path
) -> None:
    del pyannote
    source = golden / "checkpoints" / "segmentation-3.0-dequantised"
    clips = sorted(golden.glob("clips/*/clip_16k.wav"))
    assert len(clips) == 3
    samevoice.convert(source, tmp_path / "mlx")
    result = run(tmp_path / "mlx", source, inputs=[], audio=clips)
    assert result.passed, result.verdict.reasons
    outputs = [tap.noise_ratio for tap in result.taps if tap.output]
    assert max(outputs) <= 2
    agreement = result.task["agreement"]
    assert agreement["decisions"] == 7656  # 130 s in pieces of ten, and a rest
    # Where the two best classes lie within the noise a decision may flip; here none does.
    assert agreement["agreement_beyond_noise"] == 1.0
    assert agreement["flips_listed"] == []
