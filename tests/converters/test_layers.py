"""The generic rules against torch's layers on random inputs, through MLX's own layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from samevoice.converters import layers
from samevoice.converters.rules import Table, Tensor, convert, invert, plan
from samevoice.errors import ConversionError

torch = pytest.importorskip("torch", reason="pip install 'samevoice[parity]'")
mx = pytest.importorskip("mlx.core")
nn = pytest.importorskip("mlx.nn")
utils = pytest.importorskip("mlx.utils")
BatchNorm = pytest.importorskip("samevoice.models.layers").BatchNorm

RANDOM = np.random.default_rng(0)


def port(module: Any, table: Table, target: Any) -> None:
    """Load ``module``'s weights into the MLX ``target`` by the table, and check the way back."""
    sources = {f"m.{k}": Tensor.of(v.detach().numpy()) for k, v in module.state_dict().items()}
    shapes = {
        f"m.{name}": tuple(array.shape) for name, array in utils.tree_flatten(target.parameters())
    }
    laid = plan(table, sources, shapes)
    made = dict(convert(laid))
    target.load_weights([(name[2:], mx.array(array)) for name, array in made.items()], strict=True)
    target.eval()
    kept = {name: sources[name] for name in laid.kept}
    back = dict(invert(table, {k: Tensor.of(v) for k, v in made.items()}, kept))
    assert back.keys() == sources.keys()
    assert all(back[name].tobytes() == sources[name].load().tobytes() for name in sources)


def draw(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def same(got: Any, truth: Any) -> None:
    truth = truth.detach().numpy()
    got = np.array(got)
    assert got.shape == truth.shape
    assert np.abs(got - truth).max() < 2e-6 * max(1.0, np.abs(truth).max())


def shake(module: Any) -> Any:
    """Random values everywhere: defaults of 0 and 1 would hide a tensor that went astray."""
    with torch.no_grad():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.1)
    return module.eval()


def test_conv1d() -> None:
    module, target = shake(torch.nn.Conv1d(3, 4, 5, stride=2)), nn.Conv1d(3, 4, 5, stride=2)
    port(module, layers.conv1d("m", "m"), target)
    x = draw(2, 3, 20)
    same(target(mx.array(x.transpose(0, 2, 1))).transpose(0, 2, 1), module(torch.tensor(x)))


def test_conv2d_with_unequal_sides() -> None:
    module = shake(torch.nn.Conv2d(3, 4, (2, 5), stride=(2, 1), bias=False))
    target = nn.Conv2d(3, 4, (2, 5), stride=(2, 1), bias=False)
    port(module, layers.conv2d("m", "m", bias=False), target)
    x = draw(2, 3, 8, 9)
    got = target(mx.array(x.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)
    same(got, module(torch.tensor(x)))


def test_a_convolution_of_one_tap_as_a_linear_layer() -> None:
    for module, shape in (
        (torch.nn.Conv1d(3, 4, 1), (2, 3, 7)),
        (torch.nn.Conv2d(3, 4, 1), (2, 3, 7, 5)),
    ):
        target = nn.Linear(3, 4)
        port(shake(module), layers.pointwise("m", "m", dims=len(shape) - 2), target)
        x = draw(*shape)
        same(
            np.moveaxis(np.array(target(mx.array(np.moveaxis(x, 1, -1)))), -1, 1),
            module(torch.tensor(x)),
        )


def test_a_wider_convolution_is_no_linear_layer() -> None:
    source = {"m.weight": Tensor.of(draw(4, 3, 2))}
    with pytest.raises(ConversionError, match="cannot take"):
        plan(layers.pointwise("m", "m", bias=False), source, {"m.weight": (4, 3)})


def test_batch_norm_without_affine() -> None:
    module = shake(torch.nn.BatchNorm1d(4, affine=False))
    target = BatchNorm(4, affine=False)
    port(module, (*layers.batch_norm("m", "m", affine=False), layers.BATCH_COUNTERS), target)
    x = draw(5, 4)
    same(target(mx.array(x)), module(torch.tensor(x)))


def test_conv_transpose1d() -> None:
    module = shake(torch.nn.ConvTranspose1d(3, 4, 5, stride=2))
    target = nn.ConvTranspose1d(3, 4, 5, stride=2)
    port(module, layers.conv_transpose1d("m", "m"), target)
    x = draw(2, 3, 7)
    same(target(mx.array(x.transpose(0, 2, 1))).transpose(0, 2, 1), module(torch.tensor(x)))


def test_conv_transpose2d() -> None:
    module = shake(torch.nn.ConvTranspose2d(3, 4, (2, 5)))
    target = nn.ConvTranspose2d(3, 4, (2, 5))
    port(module, layers.conv_transpose2d("m", "m"), target)
    x = draw(2, 3, 5, 6)
    got = target(mx.array(x.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)
    same(got, module(torch.tensor(x)))


def test_linear() -> None:
    module, target = shake(torch.nn.Linear(5, 3)), nn.Linear(5, 3)
    port(module, layers.affine("m", "m"), target)
    x = draw(4, 5)
    same(target(mx.array(x)), module(torch.tensor(x)))


def test_embedding() -> None:
    module, target = shake(torch.nn.Embedding(7, 3)), nn.Embedding(7, 3)
    port(module, layers.embedding("m", "m"), target)
    x = np.array([[0, 6, 3]])
    same(target(mx.array(x)), module(torch.tensor(x)))


def test_batch_norm_uses_its_running_statistics() -> None:
    module, target = shake(torch.nn.BatchNorm1d(3)), nn.BatchNorm(3)
    port(module, (*layers.batch_norm("m", "m"), layers.BATCH_COUNTERS), target)
    x = draw(6, 3) * 3 + 1
    same(target(mx.array(x)), module(torch.tensor(x)))


def test_instance_norm_with_affine() -> None:
    module = shake(torch.nn.InstanceNorm1d(3, affine=True))
    target = nn.InstanceNorm(3, affine=True)
    port(module, layers.affine("m", "m"), target)
    x = draw(2, 3, 9)
    same(target(mx.array(x.transpose(0, 2, 1))).transpose(0, 2, 1), module(torch.tensor(x)))


def test_lstm() -> None:
    module, target = shake(torch.nn.LSTM(5, 4, batch_first=True)), nn.LSTM(5, 4)
    port(module, layers.lstm("m", "m"), target)
    x = draw(2, 6, 5)
    same(target(mx.array(x))[0], module(torch.tensor(x))[0])


def test_second_layer_backwards_lstm() -> None:
    module = shake(torch.nn.LSTM(5, 4, num_layers=2, bidirectional=True, batch_first=True))
    whole = {name: value for name, value in module.state_dict().items() if "l1_reverse" in name}
    target = nn.LSTM(8, 4)
    single = torch.nn.LSTM(8, 4, batch_first=True)
    single.load_state_dict({k.replace("l1_reverse", "l0"): v for k, v in whole.items()})
    sources = {f"m.{name}": Tensor.of(value.numpy()) for name, value in whole.items()}
    shapes = {f"m.{k}": tuple(v.shape) for k, v in utils.tree_flatten(target.parameters())}
    made = convert(plan(layers.lstm("m", "m", layer=1, reverse=True), sources, shapes))
    target.load_weights([(name[2:], mx.array(array)) for name, array in made], strict=True)
    x = draw(2, 6, 8)
    same(target(mx.array(x))[0], single(torch.tensor(x))[0])


def test_gru() -> None:
    module, target = shake(torch.nn.GRU(5, 4, batch_first=True)), nn.GRU(5, 4)
    port(module, layers.gru("m", "m"), target)
    x = draw(2, 6, 5)
    same(target(mx.array(x)), module(torch.tensor(x))[0])


@pytest.mark.parametrize("bias", [True, False])
def test_packed_attention(bias: bool) -> None:
    module = shake(torch.nn.MultiheadAttention(8, 2, bias=bias, batch_first=True))
    target = nn.MultiHeadAttention(8, 2, bias=bias)
    port(module, layers.attention("m", "m", bias=bias), target)
    q, k, v = draw(2, 5, 8), draw(2, 7, 8), draw(2, 7, 8)
    truth, _ = module(torch.tensor(q), torch.tensor(k), torch.tensor(v))
    same(target(mx.array(q), mx.array(k), mx.array(v)), truth)


class Separate(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Attention as many speech models write it: four Linear layers with short names."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, torch.nn.Linear(8, 8))

    def forward(self, x: Any) -> Any:
        def heads(y: Any) -> Any:
            return y.view(2, 5, 2, 4).transpose(1, 2)

        q, k, v = heads(self.q_proj(x)), heads(self.k_proj(x)), heads(self.v_proj(x))
        mixed = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out_proj(mixed.transpose(1, 2).reshape(2, 5, 8))


def test_separate_attention() -> None:
    module, target = shake(Separate()), nn.MultiHeadAttention(8, 2, bias=True)
    port(module, layers.attention("m", "m", packed=False), target)
    x = draw(2, 5, 8)
    same(target(mx.array(x), mx.array(x), mx.array(x)), module(torch.tensor(x)))


def test_ports_that_call_it_output_proj() -> None:
    table = layers.attention("m", "m", out="output_proj")
    names = {
        "in_proj_weight": (24, 8),
        "in_proj_bias": (24,),
        "out_proj.weight": (8, 8),
        "out_proj.bias": (8,),
    }
    sources = {f"m.{name}": Tensor.of(draw(*shape)) for name, shape in names.items()}
    ends = {"weight": (8, 8), "bias": (8,)}
    parts = ("query_proj", "key_proj", "value_proj", "output_proj")
    shapes = {f"m.{part}.{end}": shape for part in parts for end, shape in ends.items()}
    assert set(dict(convert(plan(table, sources, shapes)))) == set(shapes)
