"""Anyone's own pair of modules in a few lines: right ones pass, wrong ones say where."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.nn.layers.base import Module
from mlx.nn.layers.containers import Sequential
from mlx.nn.layers.convolution import Conv1d, Conv2d
from mlx.nn.layers.linear import Linear

import samevoice.parity
from samevoice.parity.modules import CompareError, compare

torch = pytest.importorskip("torch")
X = np.random.default_rng(0).standard_normal((2, 3, 20)).astype(np.float32)


class Torch(torch.nn.Module):  # type: ignore[name-defined, misc]
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv1d(3, 4, 3)
        self.rest = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(4, 5))

    def forward(self, x: Any) -> Any:
        return self.rest(self.conv(x).transpose(1, 2))


class Mlx(Module):
    def __init__(self, theirs: Torch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conv = Conv1d(3, 4, 3)
        self.head = Linear(4, 5)
        state = {name: x.detach().numpy() for name, x in theirs.state_dict().items()}
        self.conv.weight = mx.array(state["conv.weight"].transpose(0, 2, 1))
        self.conv.bias = mx.array(state["conv.bias"])
        self.head.weight = mx.array(state["rest.1.weight"])
        self.head.bias = mx.array(state["rest.1.bias"])

    def __call__(self, x: mx.array) -> mx.array:
        y: mx.array = self.head(mx.maximum(self.conv(x.swapaxes(1, 2)), 0))
        return y


NAMES = {"rest.1": "head"}


@pytest.fixture
def pair() -> tuple[Torch, Mlx]:
    theirs = Torch()
    return theirs, Mlx(theirs)


def test_a_right_pair_passes(pair: tuple[Torch, Mlx]) -> None:
    verdict = compare(*pair, X, names=NAMES)
    assert verdict.passed, verdict.reasons
    assert [tap.name for tap in verdict.taps] == ["conv", "head", "output", "output.recorded"]
    assert verdict.outputs == ("output",)
    assert verdict.taps[0].shape == (2, 18, 4)


@pytest.mark.parametrize("given", [X, (X,), [X], {"x": X}], ids=["one", "tuple", "list", "dict"])
def test_inputs_come_in_any_form(pair: tuple[Torch, Mlx], given: Any) -> None:
    assert compare(*pair, given, names=lambda path: {"conv": "conv", "rest.1": "head"}.get(path))


@pytest.mark.parametrize("name", ["conv", "head"])
def test_a_wrong_layer_is_named(pair: tuple[Torch, Mlx], name: str) -> None:
    theirs, ours = pair
    ours[name].bias = ours[name].bias + 1e-3
    verdict = compare(theirs, ours, X, names=NAMES)
    assert not verdict.passed
    assert verdict.first_divergence == name


def test_what_the_port_lacks_fails(pair: tuple[Torch, Mlx]) -> None:
    verdict = compare(*pair, X)  # rest.1 is called head there, and nobody said so
    assert verdict.first_divergence == "rest.1"
    assert "missing in the candidate" in verdict.reasons[0]
    assert compare(*pair, X, names={"rest.1": None}).passed


def test_a_layout_can_be_given(pair: tuple[Torch, Mlx]) -> None:
    kept = {"conv": lambda x: x}
    verdict = compare(*pair, X, names=NAMES, layouts=kept)
    assert any("shape" in words for words in verdict.reasons)


def test_both_modules_are_left_as_they_were(pair: tuple[Torch, Mlx]) -> None:
    theirs, ours = pair
    theirs.train()
    ours.train()
    kinds = [type(one) for one in (ours, ours.conv, ours.head)]
    compare(theirs, ours, X, names=NAMES)
    assert theirs.training
    assert ours.training
    assert theirs.conv.weight.dtype == torch.float32
    assert not any(one._forward_hooks for one in theirs.modules())
    assert [type(one) for one in (ours, ours.conv, ours.head)] == kinds


def test_an_image_network_needs_its_own_mlx_inputs() -> None:
    theirs = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    ours = Sequential(Conv2d(3, 4, 3))  # type: ignore[no-untyped-call]
    ours.layers[0].weight = mx.array(theirs[0].weight.detach().numpy().transpose(0, 2, 3, 1))
    ours.layers[0].bias = mx.array(theirs[0].bias.detach().numpy())
    x = np.random.default_rng(1).standard_normal((1, 3, 8, 9)).astype(np.float32)
    verdict = compare(
        theirs, ours, x, names={"0": "layers.0"}, mlx_inputs=x.transpose(0, 2, 3, 1).copy()
    )
    assert verdict.passed, verdict.reasons


def test_a_layer_that_runs_twice_has_two_taps() -> None:
    class Twice(torch.nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.a = torch.nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            return self.a(self.a(x))

    class TwiceHere(Module):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.a = Linear(4, 4)

        def __call__(self, x: mx.array) -> mx.array:
            y: mx.array = self.a(self.a(x))
            return y

    theirs, ours = Twice(), TwiceHere()
    ours.a.weight = mx.array(theirs.a.weight.detach().numpy())
    ours.a.bias = mx.array(theirs.a.bias.detach().numpy())
    verdict = compare(theirs, ours, np.ones((2, 4), np.float32))
    assert verdict.passed
    assert [tap.name for tap in verdict.taps] == ["a", "a#2", "output", "output.recorded"]


def test_limits_can_be_overridden(pair: tuple[Torch, Mlx]) -> None:
    theirs, ours = pair
    ours.head.bias = ours.head.bias + 1e-6
    verdict = compare(theirs, ours, X, names=NAMES, overrides={"noise_ratio": 1e9})
    assert verdict.passed
    assert verdict.loosened


def test_a_name_that_torch_does_not_have_is_refused(pair: tuple[Torch, Mlx]) -> None:
    with pytest.raises(CompareError, match="no 'head'"):
        compare(*pair, X, names={"head": "rest.1"})


def test_it_is_the_packages_own_function() -> None:
    theirs = torch.nn.Linear(3, 2)
    ours = Linear(3, 2)
    ours.weight, ours.bias = (mx.array(x.detach().numpy()) for x in theirs.parameters())
    x = np.ones((1, 3), np.float32)
    package: Any = samevoice.parity
    assert package.compare(theirs, ours, x).passed
    with pytest.raises(AttributeError, match="compares"):
        _ = package.compares


def test_every_output_is_compared() -> None:
    """The second of two may be wrong while the first is right."""

    class Theirs(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, x: Any) -> Any:
            return x, {"twice": 2 * x}

    class Ours(Module):
        def __init__(self, factor: float) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.factor = factor

        def __call__(self, x: Any) -> Any:
            return x, {"twice": self.factor * x}

    x = np.ones((2, 3), np.float32)
    assert compare(Theirs(), Ours(2.0), x).passed
    wrong = compare(Theirs(), Ours(2.01), x)
    assert wrong.first_divergence == "output.1.twice"


def test_four_axes_are_turned_only_behind_convolutions() -> None:
    theirs = torch.nn.Sequential(torch.nn.Linear(8, 8))
    ours = Sequential(Linear(8, 8))  # type: ignore[no-untyped-call]
    weights = [(f"layers.{k}", mx.array(v.numpy())) for k, v in theirs.state_dict().items()]
    ours.load_weights(weights)
    x = np.random.default_rng(0).standard_normal((2, 8, 8, 8)).astype(np.float32)
    assert compare(theirs, ours, x, names=lambda path: f"layers.{path}").passed


class Fc(torch.nn.Module):  # type: ignore[misc, name-defined]
    """One linear layer, run in some way."""

    def __init__(self, run: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.run = torch.nn.Linear(4, 4), run

    def forward(self, x: Any) -> Any:
        return self.run(self.fc, x)


class FcHere(Module):
    def __init__(self, theirs: Fc, run: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fc, self.run = Linear(4, 4), run
        self.fc.weight, self.fc.bias = (mx.array(x.detach().numpy()) for x in theirs.parameters())

    def __call__(self, x: mx.array) -> mx.array:
        y: mx.array = self.run(self.fc, x)
        return y


ONES = np.ones((2, 4), np.float32)


def test_a_layer_that_runs_once_too_often_fails() -> None:
    theirs = Fc(lambda fc, x: fc(x))
    ours = FcHere(theirs, lambda fc, x: fc(x) + 0 * fc(x))
    verdict = compare(theirs, ours, ONES)
    assert verdict.first_divergence == "fc#2"
    assert "extra in the candidate" in verdict.reasons[0]


def test_a_layer_that_torch_never_runs_fails() -> None:
    theirs = Fc(lambda fc, x: torch.nn.functional.linear(x, fc.weight, fc.bias))
    verdict = compare(theirs, FcHere(theirs, lambda fc, x: fc(x)), ONES)
    assert verdict.first_divergence == "fc"


def test_a_block_that_is_named_counts_by_the_first_of_what_it_gives() -> None:
    class Both(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.block = Fc(lambda fc, x: (fc(x), x))

        def forward(self, x: Any) -> Any:
            return self.block(x)[1]

    class BothHere(Module):
        def __init__(self, theirs: Both, factor: float) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.block = FcHere(theirs.block, lambda fc, x: (factor * fc(x), x))

        def __call__(self, x: mx.array) -> mx.array:
            y: mx.array = self.block(x)[1]
            return y

    theirs = Both()
    names = {"block": "block", "block.fc": None}
    assert compare(theirs, BothHere(theirs, 1.0), ONES, names).passed
    wrong = compare(theirs, BothHere(theirs, 1.1), ONES, names)
    assert wrong.first_divergence == "block"


def test_a_layer_with_two_paths_is_heard_under_the_one_that_is_named() -> None:
    theirs = Fc(lambda fc, x: fc(x))
    ours = FcHere(theirs, lambda fc, x: fc(x))
    ours.all = [ours.fc]
    for name in ("fc", "all.0"):
        verdict = compare(theirs, ours, ONES, {"fc": name})
        assert verdict.passed, verdict.reasons
    with pytest.raises(CompareError, match="are one module: name one"):
        compare(theirs, ours, ONES, {"fc": "fc", "": "all.0"})


def test_a_filterbank_is_asked_for_by_nobody() -> None:
    class Theirs(torch.nn.Module):  # type: ignore[misc, name-defined]
        def compute_fbank(self, x: Any) -> Any:
            return 2 * x

        def forward(self, x: Any) -> Any:
            return self.compute_fbank(x)

    class Ours(Module):
        def __call__(self, x: mx.array) -> mx.array:
            return 2 * x

    ours = Ours()  # type: ignore[no-untyped-call]
    verdict = compare(Theirs(), ours, ONES)
    assert [tap.name for tap in verdict.taps] == ["output", "output.recorded"]
    assert verdict.passed


def test_a_limit_on_the_measured_floor_holds_at_quiet_taps() -> None:
    theirs = Fc(lambda fc, x: fc(x))
    ours = FcHere(theirs, lambda fc, x: fc(x))
    verdict = compare(theirs, ours, ONES, overrides={"times_floor": 5})
    assert verdict.passed, verdict.reasons
    assert all(tap.times_floor is not None for tap in verdict.taps)


def test_a_layer_that_is_called_by_keyword() -> None:
    theirs = Fc(lambda fc, x: fc(input=x))
    assert compare(theirs, FcHere(theirs, lambda fc, x: fc(x)), ONES).passed

    class Gives(torch.nn.Module):  # type: ignore[misc, name-defined]
        """No tensor at all."""

        def forward(self, *, x: Any) -> Any:
            return {"x": x}

    class Around(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = Gives()

        def forward(self, x: Any) -> Any:
            return self.inner(x=x)["x"]

    class GivesHere(Module):
        def __call__(self, x: mx.array) -> dict[str, mx.array]:
            return {"x": x}

    class Ours(Module):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.inner = GivesHere()  # type: ignore[no-untyped-call]

        def __call__(self, x: mx.array) -> mx.array:
            y: mx.array = self.inner(x)["x"]
            return y

    assert compare(Around(), Ours(), ONES, {"inner": "inner"}).passed
