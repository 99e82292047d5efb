"""The table of bugs: of layers that no network here has, too."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from samevoice.models.layers import BatchNorm, Conv1d, Module
from samevoice.models.layers.mel import MFCC, MelDecibels
from samevoice.models.layers.pooling import AttentivePool, StatsPool
from samevoice.models.network import CutEmbedding
from samevoice.models.nn import Linear
from samevoice.parity import bugs, spoiling
from samevoice.parity.textbook import Layer, compute

nn: Any = import_module("mlx.nn")


def net() -> Any:
    """One of everything."""
    made = nn.Module()
    made.mirror = Conv1d(4, 6, 5, dilation=2, bias=True, pads="reflect")
    made.conv = nn.Conv1d(4, 6, 3, padding=2, dilation=2)
    made.square = nn.Linear(6, 6)
    made.norm = nn.LayerNorm(6)
    made.batch = nn.BatchNorm(6)
    made.batch.running_mean = made.batch.running_mean + 1
    made.gru = nn.GRU(6, 6)
    made.lstm = nn.LSTM(6, 6)
    made.attention = nn.MultiHeadAttention(6, 2, bias=True)
    made.up = nn.ConvTranspose1d(6, 6, 2)
    return made


def of(path: str) -> Layer:
    return spoiling.layers_of(net())[path]


def test_the_module_tells_the_kind() -> None:
    kinds = {path: layer.kind for path, layer in spoiling.layers_of(net()).items() if path}
    assert kinds == {
        "attention": "attention",
        "attention.key_proj": "linear",
        "attention.out_proj": "linear",
        "attention.query_proj": "linear",
        "attention.value_proj": "linear",
        "batch": "batch norm",
        "conv": "conv1d",
        "gru": "gru",
        "lstm": "lstm",
        "mirror": "conv1d",
        "norm": "norm",
        "square": "linear",
    }


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("mirror", {"zeros for a mirror at the edges"}),
        ("conv", {"the dilation forgotten", "padding all on one side", "the kernel turned round"}),
        ("square", {"the matrix not transposed"}),
        ("gru", {"gates z, r, n for r, z, n"}),
        ("attention", {"query and key exchanged", "heads interleaved", "the scale forgotten"}),
    ],
)
def test_a_layer_has_the_bugs_of_its_kind(path: str, names: set[str]) -> None:
    layer = of(path)
    found = {bug.name for bug in bugs.bugs_of(layer) if bug.change(layer) is not None}
    assert names <= found


@pytest.mark.parametrize("path", ["conv", "mirror", "square", "norm"])
def test_the_textbook_agrees_with_mlx(path: str) -> None:
    network = net()
    layer = spoiling.layers_of(network)[path]
    x = np.random.default_rng(0).standard_normal((2, 9, 6 if path in ("square", "norm") else 4))
    got = compute(layer, x)
    assert got is not None
    theirs = np.array(network[path](mx.array(x.astype(np.float32))))
    np.testing.assert_allclose(got, theirs, atol=2e-6)


def test_two_convolutions_in_one_group_each() -> None:
    weight = np.ones((2, 1, 1), np.float32)
    layer = Layer("conv1d", "x", {"weight": weight}, {"groups": 2})
    x = np.array([[[1.0, 10.0], [2.0, 20.0]]])
    np.testing.assert_array_equal(compute(layer, x), x)


def test_a_strangers_class_of_the_same_name_is_none_of_ours() -> None:
    class StatsPool(Module):
        def __call__(self, x: mx.array) -> mx.array:
            return x.mean(axis=1)

    class Strange(Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool, self.act, self.linear = StatsPool(), StatsPool(), Linear(2, 2)
            self.act.function = "relu"

    assert [one.kind for path, one in spoiling.layers_of(Strange()).items() if path] == ["linear"]


def test_each_bug_changes_its_layer() -> None:
    network = net()
    layers = spoiling.layers_of(network)
    for layer in layers.values():
        for bug in bugs.bugs_of(layer):
            wrong = bug.change(layer)
            if wrong is None or bug.may_idle:
                continue
            same = all(np.array_equal(x, wrong.tensors[n]) for n, x in layer.tensors.items())
            assert not same or wrong.settings != layer.settings, bug.name


def test_heads_lie_apart_and_interleaved() -> None:
    rows = np.arange(4.0)[:, None]
    assert bugs._by_head(rows, 2)[:, 0].tolist() == [0, 2, 1, 3]


class Pool(AttentivePool):
    score_layers = ("tdnn.conv", "", "conv")

    def __init__(self, context: str, has_tanh: bool, masked: bool) -> None:
        super().__init__()
        self.context, self.has_tanh, self.masked = context, has_tanh, masked
        self.tdnn = {"conv": nn.Linear(12 if context else 4, 3), "norm": BatchNorm(3)}
        self.conv = nn.Linear(3, 4)


class NormedPool(Pool):
    score_layers = ("tdnn.conv", "tdnn.norm", "conv")


@pytest.mark.parametrize(
    ("kind", "context", "has_tanh", "masked"),
    [
        (Pool, "", True, False),
        (NormedPool, "biased", True, False),
        (Pool, "unbiased", True, True),
        (NormedPool, "", False, True),
    ],
)
def test_attentive_pooling_by_the_textbook(
    kind: type[Pool], context: str, has_tanh: bool, masked: bool
) -> None:
    """Both agree, and each bug that may not idle changes what comes out."""
    network = nn.Module()
    network.pool = kind(context, has_tanh, masked)
    layer = spoiling.layers_of(network)["pool"]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 9, 4)).astype(np.float32)
    soft = rng.random((2, 3, 5)).astype(np.float32)
    soft[:, 2] = 0
    given = (x, soft) if masked else (x,)
    got = compute(layer, x, soft)
    assert got is not None
    theirs = np.array(network.pool(*map(mx.array, given)))
    np.testing.assert_allclose(got, theirs, rtol=1e-5, atol=2e-6)
    for bug in bugs.bugs_of(layer):
        wrong = bug.change(layer)
        if wrong is not None and not bug.may_idle:
            spoilt = compute(wrong, x, soft)
            assert spoilt is not None, bug.name
            assert spoilt.shape != got.shape or not np.allclose(spoilt, got, rtol=1e-4), bug.name


@pytest.mark.parametrize("kind", ["speechbrain", "mfcc", "log mfcc"])
def test_mel_spectra_by_the_textbook(kind: str) -> None:
    rng = np.random.default_rng(0)
    network = nn.Module()
    if kind == "speechbrain":
        network.mel = MelDecibels(20)
    else:
        said = {"n_mels": 9, "n_fft": 64, "win_length": 50, "pad": 3, "normalized": "window"}
        config = {"n_mfcc": 7, "log_mels": kind == "log mfcc", "melkwargs": said}
        network.mel = MFCC(16000, config)
        network.mel.window = mx.array(np.hanning(51)[:50].astype(np.float32))
        network.mel.banks = mx.array(rng.random((33, 9)).astype(np.float32))
        network.mel.cosines = mx.array(rng.standard_normal((9, 7)).astype(np.float32))
    layer = spoiling.layers_of(network)["mel"]
    x = (rng.standard_normal((2, 900)) * [[1], [1e-3]]).astype(np.float32)
    x[:, 500:] = 0
    got = compute(layer, x)
    assert got is not None
    np.testing.assert_allclose(got, np.array(network.mel(mx.array(x))), atol=2e-4)
    changes = 0
    for bug in bugs.bugs_of(layer):
        if (wrong := bug.change(layer)) is not None:
            spoilt = compute(wrong, x)
            assert spoilt is not None
            assert not np.allclose(spoilt, got, atol=1e-3) or bug.may_idle, bug.name
            changes += 1
    assert changes >= 4


def test_a_pooling_of_voices_that_are_cut_out_has_no_bugs_with_masks() -> None:
    class Cut(CutEmbedding):
        def __init__(self) -> None:
            super().__init__({})
            self.pool = StatsPool(rows=1, flat=True)

    class Weighed(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.pool = StatsPool(rows=1, flat=True)

    x = np.random.default_rng(0).standard_normal((2, 9, 3)).astype(np.float32)
    masks = np.ones((2, 4, 9), np.float32)
    for kind, shape, with_masks in ((Cut, (2, 6), False), (Weighed, (2, 4, 6), True)):
        layer = spoiling.layers_of(kind())["pool"]
        found = compute(layer, x, masks)
        assert found is not None
        assert found.shape == shape
        named = {bug.name for bug in bugs.bugs_of(layer) if bug.change(layer)}
        assert "a biased deviation" in named
        assert ("masks ignored" in named) is with_masks
