"""ReDimNet2, a speaker embedding network, as WeSpeaker writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samevoice.converters.families import wespeaker
from samevoice.converters.layers import (
    BATCH_COUNTERS,
    affine,
    attention,
    batch_norm,
    conv1d,
    conv2d,
    pointwise,
)
from samevoice.converters.rules import Rule, Table, Tensor, count_of, shape_of
from samevoice.errors import ConversionError
from samevoice.family import Family

# WeSpeaker's factories, by how many channels they begin with; the rest shows in the tensors.
FACTORIES = {
    **{12: "ReDimNet2B0", 16: "ReDimNet2B1", 20: "ReDimNet2B2", 24: "ReDimNet2B3"},
    **{32: "ReDimNet2B4", 48: "ReDimNet2B5", 64: "ReDimNet2B6"},
}
CUSTOM = "ReDimNet2Custom"
OTHERS = {
    "stage0_pre.": "two branches a stage (dual_agg)",
    "stem_gnorm.": "group norms (agg_gnorm)",
    "freq_embedder.": "encoded frequencies (use_freq_pos_enc)",
    "conv_block.se.": "gates between frequencies (basic_resnet_fwse)",
    "conv_block.dwconvs.": "ConvNeXt blocks in its images",
}
CONTEXT = (0, 1, 2, 3)  # convolutions along time; a transformer layer stands behind them


def config(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters as the MLX network and the authors' class want them, all from the shapes."""
    del metadata
    _refuse_others(tensors)
    channels = shape_of(tensors, "backbone.stem.0.weight")[0]
    features = shape_of(tensors, "backbone.fin_wght1d.w")[2]
    stages = _stages(tensors, channels)
    hidden, taken, *_ = shape_of(tensors, "pool.linear1.weight")
    given = shape_of(tensors, "pool.linear2.weight")[0]
    head = tensors.get("backbone.head.weight")
    return {
        "model_type": "embedding",
        "architecture": FACTORIES.get(channels, CUSTOM),
        **wespeaker.FBANK,
        "num_mel_bins": features // channels,
        "C": channels,
        "stages": stages,
        "out_channels": head.shape[0] if head else 0,
        "return_2d": head is not None and len(head.shape) == 4,
        "features": given,
        "pool_hidden": hidden,
        "pool_context": taken != given,
        "embed_dim": shape_of(tensors, "linear.weight")[0],
        "emb_bn": "bn2.weight" in tensors,
        "assumed": ["fbank as WeSpeaker computes it: 25/10 ms, Hamming"],
    }


def _refuse_others(tensors: Mapping[str, Tensor]) -> None:
    for part, what in OTHERS.items():
        if any(part in name for name in tensors):
            raise ConversionError(f"a ReDimNet2 with {what} is not supported")


def _stages(tensors: Mapping[str, Tensor], channels: int) -> list[dict[str, Any]]:
    found = []
    for number in range(count_of(tensors, r"backbone\.stage(\d+)\.")):
        at = f"backbone.stage{number}"
        width, inner, down, across = shape_of(tensors, f"{at}.2.weight")
        blocks = count_of(tensors, rf"backbone\.stage{number}\.(\d+)\.conv_block\.conv1\.")
        group = shape_of(tensors, f"{at}.3.conv_block.conv1.weight")[1]
        outputs = channels * down
        # To1d, and a layer before it where the channels become fewer or more.
        context = 3 + blocks + (1 if width == outputs else 2)
        reduced = tensors.get(f"{at}.{context}.red_dim_conv.0.weight")
        found.append(
            {
                "stride": [down, across],
                "width": width,
                "groups": channels // inner,
                "blocks": blocks,
                "block_groups": width // group,
                "hidden": reduced.shape[0] if reduced else 0,
            }
        )
        channels = outputs
    return found


def table(config: Mapping[str, Any]) -> Table:
    """The authors' names, but for the blocks of images, which lie in a module of their own."""
    stem = "backbone.stem"
    rules: Table = (*_conv2d(f"{stem}.0"), *affine(f"{stem}.1", f"{stem}.1"))
    channels = config["C"]
    for number, stage in enumerate(config["stages"]):
        channels *= stage["stride"][0]
        rules += _stage(f"backbone.stage{number}", stage, channels)
    rules += (_same("backbone.fin_wght1d.w"),)
    if config["out_channels"]:
        rules += _linear("backbone.head", dims=2 if config["return_2d"] else 1)
    if config["emb_bn"]:
        rules += _norm("bn2")
    return (
        *rules,
        *_linear("pool.linear1"),
        *_linear("pool.linear2"),
        *_norm("bn"),
        *affine("linear", "linear"),
        BATCH_COUNTERS,
        *wespeaker.HEADS,
    )


def _stage(at: str, stage: Mapping[str, Any], outputs: int) -> Table:
    rules: Table = (_same(f"{at}.0.w"), *_conv2d(f"{at}.2"))
    here = 3
    for here in range(3, 3 + stage["blocks"]):
        rules += _block(f"{at}.{here}")
    here = 3 + stage["blocks"]
    if stage["width"] != outputs:
        rules += (*_linear(f"{at}.{here}.0", dims=2), *_norm(f"{at}.{here}.1"))
        here += 1
    return (*rules, *_context(f"{at}.{here + 1}")) if stage["hidden"] else rules


def _block(at: str) -> Table:
    rules: Table = ()
    for number in (1, 2):
        theirs = f"{at}.conv_block"
        rules += conv2d(f"{theirs}.conv{number}", f"{at}.conv{number}", bias=False)
        rules += pointwise(f"{theirs}.conv{number}pw", f"{at}.conv{number}pw", dims=2)
        rules += batch_norm(f"{theirs}.bn{number}", f"{at}.bn{number}")
    return rules


def _context(at: str) -> Table:
    rules: Table = (*_linear(f"{at}.red_dim_conv.0"), *_affine(f"{at}.red_dim_conv.1"))
    for number in CONTEXT:
        inner = f"{at}.tcm.{number}"
        rules += conv1d(f"{inner}.dwconvs.0", f"{inner}.dwconvs.0")
        rules += (*_norm(f"{inner}.norm"), *_linear(f"{inner}.pwconv1"))
    layer = f"{at}.tcm.{len(CONTEXT)}"
    return (
        *rules,
        *attention(f"{layer}.attention", f"{layer}.attention", packed=False),
        *_affine(f"{layer}.layer_norm"),
        *_affine(f"{layer}.feed_forward.intermediate_dense"),
        *_affine(f"{layer}.feed_forward.output_dense"),
        *_affine(f"{layer}.final_layer_norm"),
        *_linear(f"{at}.exp_dim_conv"),
    )


def _same(name: str) -> Rule:
    return Rule(name, name)


def _affine(name: str) -> Table:
    return affine(name, name)


def _norm(name: str) -> Table:
    return batch_norm(name, name)


def _conv2d(name: str) -> Table:
    return conv2d(name, name)


def _linear(name: str, *, dims: int = 1) -> Table:
    return pointwise(name, name, dims=dims)


FAMILY = Family(
    role="embedding",
    architectures=(*FACTORIES.values(), CUSTOM),
    anchors=("backbone.fin_wght1d.w", "backbone.stage0.0.w", "pool.linear1.weight"),
    config=config,
    table=table,
    network="samevoice.models.networks.redimnet2:ReDimNet2",
    original="samevoice.parity.originals.redimnet2:build",
    reference="samevoice.parity.originals.redimnet2:reference",
)
