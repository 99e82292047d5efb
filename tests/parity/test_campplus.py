"""CAM++ in MLX against its authors' own class, with trained weights and with seeded ones."""

from __future__ import annotations

import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import samevoice
from samevoice.converters import rules
from samevoice.converters.families import campplus as family
from samevoice.converters.reading import wheels
from samevoice.converters.reading.checkpoint import read
from samevoice.converters.rules import Tensor
from samevoice.errors import SourceError
from samevoice.parity.authors import SPEAKERLAB
from samevoice.parity.judge import Verdict
from samevoice.parity.originals import campplus

pytestmark = pytest.mark.long

pytest.importorskip("torch")
mx = pytest.importorskip("mlx.core")
utils = pytest.importorskip("mlx.utils")
networks = pytest.importorskip("samevoice.models.networks.campplus")


@pytest.fixture(scope="module")
def authors(pyannote: Any) -> Any:
    """The authors' module, fetched once."""
    del pyannote
    try:
        SPEAKERLAB.fetch()
    except SourceError as error:
        pytest.skip(str(error))
    return campplus._package()


@pytest.fixture(scope="module")
def trained(authors: Any, golden: Path) -> tuple[Any, Any]:
    """The original and the port of the trained checkpoint."""
    del authors
    folder = golden / "checkpoints" / "campplus-zh-en-common"
    if not folder.is_dir():
        pytest.skip(f"no CAM++ at {folder}")
    tensors = dict(read(folder, ("campplus_cn_en_common.pt",)).tensors)
    module = campplus.build(family.config(tensors, {}))
    import torch

    state = {name: torch.from_numpy(np.array(tensor.load())) for name, tensor in tensors.items()}
    module.load_state_dict(state, strict=True)
    return module, port(module)


def port(module: Any) -> Any:
    """The MLX network with the original's weights, by way of the table."""
    tensors = {name: Tensor.of(x.numpy()) for name, x in module.state_dict().items()}
    config = family.config(tensors, {})
    network = networks.CAMPPlus(config)
    shapes = {k: tuple(v.shape) for k, v in utils.tree_flatten(network.parameters())}
    laid = rules.plan(family.table(config), tensors, shapes)
    made = [(name, mx.array(np.array(array))) for name, array in rules.convert(laid)]
    network.load_weights(made, strict=True)
    network.eval()
    return network


@pytest.fixture(scope="module")
def speech(golden: Path) -> np.ndarray:
    """(2, 1, 32000): two pieces of two recordings."""
    pieces = []
    for clip, start in (("02_pyannote_sample", 7), ("03_dual_speaker", 20)):
        with wave.open(str(golden / "clips" / clip / "clip_16k.wav")) as file:
            file.setpos(16000 * start)
            pieces.append(np.frombuffer(file.readframes(32000), "<i2") / np.float32(32768))
    return np.stack(pieces)[:, None]


def masks() -> np.ndarray:
    """(2, 3, 59): speakers one after the other, as a segmentation has frames for them."""
    found = np.zeros((2, 3, 59), dtype=np.float32)
    for speaker, frames in enumerate((slice(0, 25), slice(20, 59), slice(5, 12))):
        found[:, speaker, frames] = 1
    return found


def held_against(module: Any, network: Any, *inputs: np.ndarray) -> Verdict:
    verdict: Verdict = samevoice.parity.compare(module, network, inputs)
    return verdict


def test_it_is_the_authors_own_network(
    trained: tuple[Any, Any], authors: Any, pyannote: Any
) -> None:
    """Without weights, what is around it changes no bit."""
    import torch

    module, _ = trained
    plain = authors.CAMPPlus(feat_dim=80, embedding_size=192)
    plain.load_state_dict(module.state_dict(), strict=True)
    features = torch.randn(2, 300, 80, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        want = plain.eval()(features)
        assert torch.equal(module(features), want)
        full = module(features, torch.ones(2, 150)).numpy()
    np.testing.assert_allclose(full, want.numpy(), rtol=0, atol=1e-5)


def test_every_tap_of_the_trained_one(trained: tuple[Any, Any], speech: np.ndarray) -> None:
    verdict = held_against(*trained, speech)
    assert verdict.passed, verdict.reasons
    assert len(verdict.taps) == 349
    (output,) = [tap for tap in verdict.taps if tap.output]
    assert output.noise_ratio < 2


def test_with_masks(trained: tuple[Any, Any], speech: np.ndarray) -> None:
    verdict = held_against(*trained, speech, masks())
    assert verdict.passed, verdict.reasons


def test_as_people_run_it(trained: tuple[Any, Any], speech: np.ndarray) -> None:
    """In the form that is fast here, where there is nothing to see but the output."""
    verdict = samevoice.parity.compare(*trained, (speech, masks()), lambda path: None)
    assert verdict.passed, verdict.reasons
    output, recorded = verdict.taps
    assert recorded.max_abs != output.max_abs  # or the fast form was never taken
    assert output.noise_ratio < 2


def test_from_features(trained: tuple[Any, Any], speech: np.ndarray) -> None:
    import torch

    features = trained[0].compute_fbank(torch.from_numpy(speech)).numpy()
    verdict = held_against(*trained, features)
    assert verdict.passed, verdict.reasons


def test_a_relu_at_the_end_is_caught(trained: tuple[Any, Any], speech: np.ndarray) -> None:
    module, network = trained

    class Added(type(network)):  # type: ignore[misc]
        def embed(self, *args: Any) -> Any:
            return mx.maximum(super().embed(*args), 0)

    network.__class__, before = Added, type(network)
    try:
        verdict = held_against(module, network, speech)
    finally:
        network.__class__ = before
    assert not verdict.passed
    assert verdict.first_divergence == "output"


def test_an_empty_mask(trained: tuple[Any, Any], speech: np.ndarray) -> None:
    """What the last norm makes of zeros, on both sides."""
    import torch

    module, network = trained
    empty = np.zeros((2, 1, 59), dtype=np.float32)
    with torch.inference_mode():
        theirs = module(torch.from_numpy(speech), torch.from_numpy(empty)).numpy()
    ours = np.array(network(mx.array(speech), mx.array(empty)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    norm = module.xvector.dense.nonlinear.batchnorm
    want = -norm.running_mean / torch.sqrt(norm.running_var + norm.eps)
    np.testing.assert_allclose(ours[0, 0], want.numpy(), rtol=1e-4, atol=1e-6)


def test_seeded_weights_of_another_size(authors: Any) -> None:
    """The same each time, nothing as a fresh module has it, and the port of it holds."""
    del authors
    sizes = {"num_mel_bins": 40, "embedding_size": 24, "growth_rate": 8, "init_channels": 16}
    module = campplus.seeded(7, **sizes)
    again = campplus.seeded(7, **sizes)
    state, other = module.state_dict(), again.state_dict()
    assert all(np.array_equal(state[name], other[name]) for name in state)
    for name, value in state.items():
        if value.dim() == 1:
            assert len(np.unique(value)) > 1, name
    random = np.random.default_rng(0)
    noise = (0.1 * random.standard_normal((2, 1, 32000))).astype(np.float32)
    verdict = held_against(module, port(module), noise, masks())
    assert verdict.passed, verdict.reasons


def test_a_wheel_that_was_changed_is_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("SAMEVOICE_CACHE", str(tmp_path))

    def fetched(file: wheels.WheelFile, folder: Path) -> Path:
        (folder / file.path).write_bytes(b"not the authors' either")
        return folder / file.path

    monkeypatch.setattr(wheels, "download", fetched)
    SPEAKERLAB.cached.parent.mkdir(parents=True)
    SPEAKERLAB.cached.write_bytes(b"not the authors'")
    before = list(sys.path)
    with pytest.raises(SourceError, match="has the SHA-256"):
        campplus._package()
    assert sys.path == before
