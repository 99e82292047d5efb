"""DiariZen's table: pruned widths are read from the tensors, and every tensor comes back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from samevoice.converters.families import diarizen
from samevoice.converters.recognise import wrapper
from samevoice.converters.rules import Tensor, convert, invert, plan
from samevoice.errors import ConversionError

mx = pytest.importorskip("mlx.core")
utils = pytest.importorskip("mlx.utils")
networks = pytest.importorskip("samevoice.models.networks.diarizen")

# As many heads of twelve as the published base has, of two numbers each.
HEADS = [list(one) for one in diarizen.PRUNED[0]]
CONFIG: dict[str, Any] = {
    "wavlm": {
        "extractor_mode": "group_norm",
        "extractor_conv_layer_config": [[6, 10, 5], [8, 3, 2]],
        "extractor_conv_bias": False,
        "encoder_embed_dim": 24,
        "encoder_pos_conv_kernel": 4,
        "encoder_pos_conv_groups": 2,
        "encoder_num_layers": 12,
        "source_num_layers": 12,
        "encoder_ff_interm_features": [5, 6, 0, *range(1, 10)],
        "packed": False,
        "encoder_layer_norm_first": False,
        "weight_norm": "parametrizations",
        "encoder_num_heads": 12,
        "encoder_num_buckets": 8,
        "encoder_max_distance": 800,
        "encoder_remaining_heads": HEADS,
        "scaled": True,
        "normalize_waveform": False,
    },
    "attention_in": 8,
    "ffn_hidden": 6,
    "num_head": 4,
    "num_layer": 1,
    "kernel_size": 3,
    "num_classes": 11,
    "activation": "log_softmax",
}


def checkpoint(config: dict[str, Any]) -> dict[str, Tensor]:
    random = np.random.default_rng(0)

    def values(*shape: int) -> Tensor:
        return Tensor.of(random.standard_normal(shape).astype(np.float32))

    network = networks.DiariZen(config)
    made = {name: values(*x.shape) for name, x in utils.tree_flatten(network.parameters())}
    weight = "wavlm_model.encoder.transformer.pos_conv_embed.conv.parametrizations.weight"
    kept = {f"{weight}.original0": values(1, 1, 4), f"{weight}.original1": values(24, 12, 4)}
    return {name: Tensor.of(x) for name, x in invert(diarizen.table(config), made, kept)}


def test_widths_and_heads_are_read_from_the_tensors_and_all_come_back() -> None:
    tensors = checkpoint(CONFIG)
    assert wrapper(diarizen.FAMILY, tensors) == ""
    config = diarizen.config(tensors, {})
    assert {name: config[name] for name in CONFIG} == CONFIG
    assert config["specifications"]["classes"] == [f"speaker#{n}" for n in (1, 2, 3, 4)]
    network = networks.DiariZen(config)
    shapes = {name: tuple(x.shape) for name, x in utils.tree_flatten(network.parameters())}
    laid = plan(diarizen.table(config), tensors, shapes)
    made = {name: Tensor.of(array) for name, array in convert(laid)}
    kept = {name: tensors[name] for name in laid.kept}
    back = dict(invert(diarizen.table(config), made, kept))
    assert back.keys() == tensors.keys()
    assert all(back[n].tobytes() == tensor.load().tobytes() for n, tensor in tensors.items())


def test_other_prunings_must_say_which_heads_are_left() -> None:
    heads = [[0, 3], *HEADS[1:-1], [1, 2]]
    changed = {**CONFIG, "wavlm": {**CONFIG["wavlm"], "encoder_remaining_heads": heads}}
    tensors = checkpoint(changed)
    with pytest.raises(ConversionError, match=r"pruning left 2, 3, 3, .* heads of 12"):
        diarizen.config(tensors, {})
    said = {"hyper_parameters": {"remaining_heads": heads}}
    assert diarizen.config(tensors, said)["wavlm"]["encoder_remaining_heads"] == heads


def test_what_is_not_converted_says_so() -> None:
    tensors = checkpoint(CONFIG)
    tensors["conformer.pos_emb.pe_k.weight"] = Tensor.of(np.zeros((2000, 2), np.float32))
    with pytest.raises(ConversionError, match="relative positions"):
        diarizen.config(tensors, {})
    tensors = checkpoint({**CONFIG, "num_classes": 9})
    with pytest.raises(ConversionError, match="9 classes are no powerset"):
        diarizen.config(tensors, {})
