"""SuplimeSegmentation in MLX against its authors' own class, on seeded weights of a small shape."""

from __future__ import annotations

from typing import Any

import pytest

from samevoice.errors import SourceError
from samevoice.parity import authors
from samevoice.parity.gallery import Spoiler

pytest.importorskip("torch")

SMALL = "reference:SuplimeSegmentation/small"


@pytest.fixture(scope="module")
def spoiler(pyannote: Any) -> Spoiler:
    """The port of seeded weights, which is right: a spoiler says so before it spoils."""
    del pyannote
    try:
        authors.SUPLIME.fetch()
    except SourceError as error:
        pytest.skip(str(error))
    return Spoiler(SMALL)


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
