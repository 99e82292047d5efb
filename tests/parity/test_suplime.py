"""SuplimeSegmentation in MLX against its authors' own class, on seeded weights of a small shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_families import spoiler_of

from samevoice.converters.reference import seeded_torch
from samevoice.parity import authors
from samevoice.parity.gallery import Spoiler
from samevoice.parity.originals import suplime

pytestmark = pytest.mark.long

pytest.importorskip("torch")

SMALL = "reference:SuplimeSegmentation/small"


@pytest.fixture(scope="module")
def spoiler(pyannote: Any) -> Spoiler:
    del pyannote
    return spoiler_of(SMALL, authors.SUPLIME)


def test_every_layer_is_heard_and_right(spoiler: Spoiler) -> None:
    verdict = spoiler.verdict()
    assert verdict.passed
    heard = {tap.name for tap in verdict.taps}
    layer = "wav2vec.encoder.transformer.layers.1"
    assert {f"{layer}.attention", f"{layer}.attention.query_proj", "mixture"} <= heard
    assert {"conformer.conformer_layers.1.self_attn.out_proj"} <= heard
    assert {"wav2vec.encoder.transformer.pos_conv_embed.conv"} <= heard
    (output,) = [tap for tap in verdict.taps if tap.name == "output" and tap.mode == "free"]
    assert output.noise_ratio < 2


LARGE = {
    "extractor_mode": "layer_norm",
    "extractor_conv_bias": True,
    "encoder_layer_norm_first": True,
}


def test_the_large_options(spoiler: Spoiler, tmp_path: Path) -> None:
    """Waveforms made even, norms of each frame, in front of what they norm."""
    del spoiler
    config = {
        **suplime.common(small=True),
        "wav2vec": {**suplime.SMALL, **LARGE},
        "wav2vec_layer": -1,
        "conformer": {**suplime.SMALL_CONFORMER, "num_layers": 1},
        "normalize_waveform": True,
    }
    with seeded_torch():
        suplime.write(suplime.build(config), tmp_path)
    right_port(tmp_path)


def test_sseriouss(spoiler: Spoiler) -> None:
    del spoiler
    right_port("reference:SSeRiouSS/small")


def right_port(source: str | Path) -> None:
    verdict = Spoiler(source).verdict()
    (output,) = [tap for tap in verdict.taps if tap.name == "output" and tap.mode == "free"]
    assert output.noise_ratio < 2


@pytest.mark.parametrize(
    "bug",
    [
        "heads interleaved",
        "the scale forgotten",
        "softmax over who looks",
        "the position bias dropped",
        "positions counted the other way",
        "the gates of the position bias dropped",
        "an even mean of the layers",
        "GLU with its halves exchanged for GLU",
        "over the other axis",
    ],
)
def test_a_bug_is_found_where_it_is_and_named(spoiler: Spoiler, bug: str) -> None:
    case = next(case for case in spoiler.cases() if case.bug.name == bug)
    found = spoiler.spoilt(case, prove=True)
    assert found.found == found.where != ""
    assert found.named
