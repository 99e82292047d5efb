"""The harness must find every bug where it is, and prove its cause; and it must be able to fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlx.nn.layers.linear import Identity

from samevoice.parity import causes, gallery, spoiling
from samevoice.parity.bounds import Override
from samevoice.parity.candidate import Candidate
from samevoice.parity.identity import ParityError
from samevoice.parity.limits import limits_for
from samevoice.parity.metrics import noise_ratio
from samevoice.parity.textbook import compute

pytestmark = pytest.mark.long

KINDS = ("segmentation", "embedding")


@pytest.fixture(scope="module")
def spoilers(references: dict[str, Path]) -> dict[str, gallery.Spoiler]:
    return {kind: gallery.Spoiler(references[kind]) for kind in KINDS}


@pytest.mark.parametrize(("kind", "each", "least"), [("segmentation", 1, 35), ("embedding", 3, 13)])
def test_every_bug_is_found_where_it_is_and_its_cause_is_proven(
    kind: str, each: int, least: int, spoilers: dict[str, gallery.Spoiler]
) -> None:
    """Of the embedding each third, which takes half a minute; `make gallery` does them all."""
    spoiler = spoilers[kind]
    found = [spoiler.spoilt(case, prove=True) for case in spoiler.cases()[::each]]
    found += spoiler.decided()
    assert [(one.bug, one.where, one.found) for one in found if not one.right] == []
    real = [one for one in found if one.where not in ("", "decisions")]
    assert [(one.bug, one.cause) for one in real if not one.named] == []
    assert [one.bug for one in found if not one.where and one.cause] == []
    assert len(real) >= least
    for one in real:
        assert one.cause is not None
        assert one.cause.tap == one.where
        assert one.cause.ratio_after <= 3 < one.cause.ratio_before
        assert one.cause.bug in one.cause.sentence


def test_bugs_are_found_in_trained_weights(golden: Path, pyannote: Any) -> None:
    del pyannote
    spoiler = gallery.Spoiler(golden / "checkpoints" / "segmentation-3.0-dequantised")
    found = [spoiler.spoilt(case, prove=True) for case in spoiler.cases()[::4]]
    assert [(one.bug, one.where, one.found) for one in found if not one.right] == []
    assert [(one.bug, one.cause) for one in found if one.where and not one.named] == []


def test_of_two_bugs_the_first_is_found_and_proven(references: dict[str, Path]) -> None:
    found = gallery.examine_pairs(references["segmentation"], most=6)
    assert len(found) == 6
    assert [(one.bug, one.where, one.found) for one in found if not one.right] == []
    assert [(one.bug, one.cause) for one in found if not one.named] == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_textbook_computes_what_the_reference_computes(
    kind: str, spoilers: dict[str, gallery.Spoiler]
) -> None:
    traced = spoilers[kind].traces[0]
    assert traced.local is not None
    seen = set()
    for path, layer in spoilers[kind].layers.items():
        x = traced.plain.inputs.get(path, traced.example.waveforms[:, 0])
        got = compute(layer, x, traced.example.masks)
        if got is not None:
            seen.add(layer.kind)
            truth, plain = traced.local.outputs[path], traced.plain.outputs[path]
            assert noise_ratio(truth, plain, got) < 1.5, path
    assert len(seen) >= 5


def test_the_functions_between_layers_are_told_from_what_goes_through_them(
    spoilers: dict[str, gallery.Spoiler],
) -> None:
    plain = spoilers["segmentation"].traces[0].plain
    taps = ("sincnet.norm.0.input", "sincnet.conv.1.input", "classifier.input", "output")
    found = [spoiling.function_at(tap, plain.order, plain.taps) for tap in taps]
    names = [layer and layer.settings["name"] for layer in found]
    assert names == ["an absolute value", "leaky ReLU", "leaky ReLU", "log-softmax"]
    assert spoiling.function_at("lstm.1.forward.input", plain.order, plain.taps) is None
    turned = {"conv": np.ones((6, 1, 4)), "lstm.input": np.ones((2, 3, 4))}  # frames of windows
    assert spoiling.function_at("lstm.input", [*turned], turned) is None


def test_what_no_bug_explains_is_not_named(spoilers: dict[str, gallery.Spoiler]) -> None:
    """A layer with another factor is right by the textbook; a sum between layers is nothing."""
    from samevoice.models.layers import taps

    spoiler = spoilers["segmentation"]
    network = spoiler.candidate.network
    with taps.listen(network, changes={"linear.1": lambda given, y: 1.5 * y}):
        cause = spoiler.cause(spoiler.verdict())
    assert cause is not None
    assert (cause.tap, cause.bug) == ("linear.1", causes.UNNAMED)
    with taps.listen(network, changes={"lstm.1.forward.input": lambda given, x: x + 0.5}):
        verdict = spoiler.verdict()
        cause = spoiler.cause(verdict)
    assert verdict.first_divergence == "lstm.1.forward.input"
    assert cause is None


def _train_mode(self: Any, x: Any) -> Any:
    axes = tuple(range(x.ndim - 1))
    y = (x - x.mean(axis=axes)) / (x.var(axis=axes) + 1e-5).sqrt()
    return y * self.weight + self.bias


def test_bugs_in_the_ports_code_are_proven_and_named(
    spoilers: dict[str, gallery.Spoiler], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by way of the textbook: another layer, another window, another call."""
    spoiler = spoilers["embedding"]
    network: Any = spoiler.candidate.network

    def said() -> tuple[str, str]:
        cause = spoiler.cause(spoiler.verdict())
        return (cause.tap, cause.bug) if cause else ("", "")

    block = network.resnet.layer1[0]
    norm, fbank = block.bn1, network.fbank
    block.bn1 = Identity()
    assert said() == ("resnet.layer1.0.bn1", "the layer left out")
    block.bn1 = norm
    network.fbank = replace(fbank, window_type="hanning")
    assert said() == ("fbank", "Hann for Hamming")
    network.fbank = fbank
    monkeypatch.setattr(type(norm), "__call__", _train_mode)
    assert said() == ("resnet.bn1", "the batch's own statistics (train mode)")


def test_a_green_port_has_no_cause(spoilers: dict[str, gallery.Spoiler]) -> None:
    assert spoilers["segmentation"].cause(spoilers["segmentation"].verdict()) is None


def test_a_gate_that_lets_everything_pass_is_found_out(
    references: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(*given: str) -> Any:
        return limits_for(*given).overridden([Override("noise_ratio", 1e9)])

    monkeypatch.setattr(gallery, "limits_for", blind)
    spoiler = gallery.Spoiler(references["segmentation"])
    found = [spoiler.spoilt(case) for case in spoiler.cases()[1:3]]
    assert not any(one.right for one in found)


def test_a_wrong_port_is_no_ground_to_spoil(
    references: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Candidate.load

    def wrong(*given: Any) -> Candidate:
        made = right(*given)
        layer: Any = spoiling.at(made.network, "lstm.1.forward")
        layer.bias = 0 * layer.bias
        return made

    monkeypatch.setattr(Candidate, "load", wrong)
    with pytest.raises(ParityError, match=r"fails at 'lstm\.1\.forward' before any bug"):
        gallery.Spoiler(references["segmentation"])


@pytest.mark.parametrize("kind", KINDS)
def test_each_bug_leaves_the_port_as_it_was(
    kind: str, spoilers: dict[str, gallery.Spoiler]
) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten

    spoiler = spoilers[kind]
    network: Any = spoiler.candidate.network
    wave = mx.random.normal((2, 8000), key=mx.random.key(0)) * 0.1
    before, weights = network(wave), dict(tree_flatten(network.parameters()))
    for case in spoiler.cases():
        with spoiling.installed(network, (case.layer, case.wrong)):
            pass
        after: dict[str, Any] = dict(tree_flatten(network.parameters()))
        assert all(after[name] is weights[name] for name in weights), case.name
    assert mx.array_equal(network(wave), before)
