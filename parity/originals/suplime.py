"""SuplimeSegmentation as its authors wrote it, around torchaudio's WavLM and Conformer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice.converters.reference import import_pyannote, sample, seeded_torch
from samevoice.parity import authors, seeding
from samevoice.parity.originals.pyannet import finished

if TYPE_CHECKING:
    import torch

# torchaudio's arguments for what is thrown away in training, and for what is not here at all.
QUIET = {
    "encoder_projection_dropout": 0.0,
    "encoder_attention_dropout": 0.0,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.0,
    "encoder_layer_drop": 0.0,
    "aux_num_out": None,
}
OURS = ("weight_norm", "source_num_layers", "packed")
BASE_PLUS: dict[str, Any] = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [(512, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 768,
    "encoder_pos_conv_kernel": 128,
    "encoder_pos_conv_groups": 16,
    "encoder_num_layers": 12,
    "encoder_num_heads": 12,
    "encoder_num_buckets": 320,
    "encoder_max_distance": 800,
    "encoder_ff_interm_features": 3072,
    "encoder_layer_norm_first": False,
}
SMALL: dict[str, Any] = {
    **BASE_PLUS,
    "extractor_conv_layer_config": [(16, 10, 5), (16, 3, 2), (16, 3, 2), (12, 3, 2), (20, 2, 2)],
    "encoder_embed_dim": 24,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 3,
    "encoder_num_heads": 4,
    "encoder_num_buckets": 32,
    "encoder_max_distance": 60,
    "encoder_ff_interm_features": 40,
}
CONFORMER = {"num_heads": 4, "ffn_dim": 256, "num_layers": 4, "depthwise_conv_kernel_size": 31}
SMALL_CONFORMER = {"num_heads": 4, "ffn_dim": 32, "num_layers": 2, "depthwise_conv_kernel_size": 7}


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    import_pyannote()
    module = authors.load(authors.SUPLIME, "suplime.models.segmentation").SuplimeSegmentation(
        wav2vec=arguments(config["wav2vec"]),
        wav2vec_layer=config["wav2vec_layer"],
        conformer={**config["conformer"], "dropout": 0.0},
        linear=dict(config["linear"]),
        normalize_waveform=config["normalize_waveform"],
        sample_rate=config["sample_rate"],
        num_channels=config["num_channels"],
    )
    return finished(module, config)


def arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """What torchaudio's functions are called with."""
    return {**QUIET, **{name: value for name, value in config.items() if name not in OURS}}


# Seeded weights -----------------------------------------------------------------------------------


def reference(folder: Path, small: bool) -> None:
    """SuplimeSegmentation on WavLM Base+, as the authors' own checkpoint is saved."""
    config = {
        "wav2vec": SMALL if small else BASE_PLUS,
        "wav2vec_layer": -1,
        "conformer": SMALL_CONFORMER if small else CONFORMER,
        "normalize_waveform": False,
    }
    with seeded_torch():
        write(build({**common(small), **config}), folder)


def common(small: bool) -> dict[str, Any]:
    """Four speakers, at most two at a time."""
    return {
        "sample_rate": 16000,
        "num_channels": 1,
        "linear": {"hidden_size": 16 if small else 128, "num_layers": 2},
        "specifications": {
            "problem": "MONO_LABEL_CLASSIFICATION",
            "resolution": "FRAME",
            "duration": 10.0,
            "min_duration": None,
            "warm_up": (0.0, 0.0),
            "classes": [f"speaker#{n}" for n in (1, 2, 3, 4)],
            "powerset_max_classes": 2,
            "permutation_invariant": True,
        },
    }


def write(module: Any, folder: Path) -> None:
    import torch

    fill(module, torch.from_numpy(sample()))
    seeding.save_pyannote(module, folder)


def fill(module: Any, speech: torch.Tensor) -> None:
    """With no value as a fresh module has it, and every class the winner somewhere."""
    import torch

    seeding.leave_defaults(module)
    with torch.no_grad():
        for name, value in module.named_parameters():
            if name.endswith("gru_rel_pos_const"):
                value.copy_(torch.rand_like(value) + 0.5)
    seeding.calibrated(module, lambda: module(speech[160_000:320_000].reshape(2, 1, -1)))
    spread_decisions(module, speech)


def spread_decisions(module: Any, speech: torch.Tensor) -> None:
    """If one class always won, no wrong decision would show."""
    import torch

    with torch.no_grad():
        before = []
        hook = module.classifier.register_forward_hook(lambda _, x, y: before.append(y))
        module(speech[None, None, :160_000])
        hook.remove()
        scores = before[0].reshape(-1, before[0].shape[-1])
        scale = 4.0 / scores.std(dim=0).clamp_min(1e-6)
        module.classifier.weight.mul_(scale[:, None])
        module.classifier.bias.sub_(scores.mean(dim=0)).mul_(scale)
