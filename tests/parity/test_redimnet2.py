"""ReDimNet2 in MLX against WeSpeaker's own class, on seeded weights of a small shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_families import comes_back, cuts_voices_out, spoiler_of

import samevoice
from samevoice.converters.reading import sources
from samevoice.models import backend, fast
from samevoice.parity import authors
from samevoice.parity.gallery import Spoiler

pytestmark = pytest.mark.long

pytest.importorskip("torch")
mx = pytest.importorskip("mlx.core")

SMALL = "reference:ReDimNet2B0/small"


@pytest.fixture(scope="module")
def spoiler(pyannote: Any) -> Spoiler:
    del pyannote
    return spoiler_of(SMALL, authors.WESPEAKER)


def test_every_layer_is_heard_and_right(spoiler: Spoiler) -> None:
    verdict = spoiler.verdict()
    assert verdict.passed
    heard = {tap.name for tap in verdict.taps}
    assert {
        "backbone.stem.2",
        "backbone.stage2.0",
        "backbone.stage2.6.tcm.4.attention",
        "pool",
    } <= heard
    outputs = [tap for tap in verdict.taps if tap.output]
    assert outputs
    assert all(tap.noise_ratio < 2 for tap in outputs)


def test_a_bug_is_found_where_it_is(spoiler: Spoiler) -> None:
    case = next(case for case in spoiler.cases() if case.bug.name == "GELU for its tanh form")
    found = spoiler.spoilt(case)
    assert found.found == found.where != ""


def test_it_comes_back_bit_for_bit(spoiler: Spoiler, tmp_path: Path) -> None:
    del spoiler
    comes_back(SMALL, tmp_path)


def test_voices_are_cut_out_of_the_features(spoiler: Spoiler) -> None:
    cuts_voices_out(spoiler.candidate.network)


@pytest.mark.parametrize("frames", [4, 7, 203])
def test_both_forms_give_the_same(spoiler: Spoiler, frames: int) -> None:
    network: Any = spoiler.candidate.network
    x = mx.array(np.random.default_rng(frames).standard_normal((2, frames, 24)).astype(np.float32))
    with backend.using(mx.Device(mx.cpu)):
        whole = np.array(network.whole(x))
        with fast.plain_forms():
            plain = np.array(network.whole(x))
    np.testing.assert_allclose(whole, plain, atol=1e-4 * np.abs(plain).max())


def test_what_the_authors_class_has_beside_is_refused(pyannote: Any, tmp_path: Path) -> None:
    del pyannote
    import torch

    source = sources.locate(SMALL)
    state = torch.load(source.root / source.files[0], weights_only=True)["state_dict"]
    torch.save({**state, "backbone.stem_gnorm.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(samevoice.SamevoiceError, match="group norms"):
        samevoice.convert(tmp_path / "other.pt", tmp_path / "refused")
