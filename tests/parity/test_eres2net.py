"""ERes2Net in MLX against its authors' own classes, on seeded weights of a small shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_families import comes_back, cuts_voices_out, spoiler_of

import samevoice
from samevoice.converters.reading import sources
from samevoice.models import registry
from samevoice.parity import authors, seeding
from samevoice.parity.gallery import Spoiler

pytestmark = pytest.mark.long

pytest.importorskip("torch")
mx = pytest.importorskip("mlx.core")

SMALL = "reference:ERes2Net34_Base/small"


@pytest.fixture(scope="module")
def spoiler(pyannote: Any) -> Spoiler:
    del pyannote
    return spoiler_of(SMALL, authors.WESPEAKER)


def test_every_layer_is_heard_and_right(spoiler: Spoiler) -> None:
    verdict = spoiler.verdict()
    assert verdict.passed
    heard = {tap.name for tap in verdict.taps}
    assert {"layer3.0.fuse_models.0", "fuse_mode1234", "layer4.0.relu", "pool"} <= heard
    outputs = [tap for tap in verdict.taps if tap.output]
    assert outputs
    assert all(tap.noise_ratio < 2 for tap in outputs)


@pytest.mark.parametrize("bug", ["the two inputs exchanged", "without its ceiling"])
def test_a_bug_is_found_where_it_is(spoiler: Spoiler, bug: str) -> None:
    case = next(case for case in spoiler.cases() if case.bug.name == bug)
    found = spoiler.spoilt(case)
    assert found.found == found.where != ""


def test_it_comes_back_bit_for_bit(spoiler: Spoiler, tmp_path: Path) -> None:
    del spoiler
    comes_back(SMALL, tmp_path)


def test_voices_are_cut_out_of_the_features(spoiler: Spoiler) -> None:
    cuts_voices_out(spoiler.candidate.network)


def test_attentive_pooling_and_two_layers_behind_it(pyannote: Any, tmp_path: Path) -> None:
    """What no reference has, held against the authors' class."""
    del pyannote
    import torch

    from samevoice.parity.originals import eres2net

    more = {"pool_hidden": 8, "pool_context": True, "two_emb_layer": True}
    module = eres2net.seeded("ERes2Net34_Base", True, **more)
    seeding.save_state(module, tmp_path)
    samevoice.convert(tmp_path / "pytorch_model.bin", tmp_path / "bundle")
    network: Any = registry.load(tmp_path / "bundle")
    assert network.config["pool_context"]
    x = np.random.default_rng(0).standard_normal((2, 1, 8000)).astype(np.float32)
    with torch.inference_mode():
        want = module(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(np.array(network(mx.array(x))), want, atol=1e-5 * np.abs(want).max())


def test_another_pooling_is_refused(pyannote: Any, tmp_path: Path) -> None:
    del pyannote
    import torch

    source = sources.locate(SMALL)
    state = torch.load(source.root / source.files[0], weights_only=True)["state_dict"]
    torch.save({**state, "pool.n_query.0.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(samevoice.SamevoiceError, match="neither TSTP nor ASTP"):
        samevoice.convert(tmp_path / "other.pt", tmp_path / "refused")
