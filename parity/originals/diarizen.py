"""DiariZen as its authors wrote it: they have put it on no package index.

Their own Model wants a base class out of their copy of pyannote.audio. That copy cannot stand
beside pyannote.audio 4, so the class is imported above a base that does what theirs does here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice.converters.reading.checkpoint import REFERENCE_NOTE
from samevoice.converters.reference import import_pyannote, sample, seeded_torch
from samevoice.parity import hints
from samevoice.parity.listening import ReferenceError
from samevoice.parity.originals import suplime

if TYPE_CHECKING:
    import torch

NAME = "diarizen.models.eend.model_wavlm_conformer"
OURS = (*suplime.OURS, "encoder_num_heads", "encoder_ff_interm_features", "scaled")
SMALL: dict[str, Any] = {
    **suplime.SMALL,
    "encoder_num_layers": 4,
    "encoder_remaining_heads": [[0, 1, 2, 3], [1, 3], [], [2]],
    "encoder_ff_interm_features": [40, 12, 20, 8],
    "normalize_waveform": False,
}
HEADS = [[*range(12)] for _ in range(12)]
BASE = {
    **suplime.BASE_PLUS,
    "encoder_remaining_heads": HEADS,
    "normalize_waveform": False,
}


@cache
def _classes() -> Any:
    """The authors' module."""
    import_pyannote()
    from pyannote.audio.core import model as core
    from pyannote.audio.core.task import Problem, Resolution, Specifications

    class Base(core.Model):  # type: ignore[misc]
        """Where pyannote.audio asks a task, theirs is told itself."""

        def __init__(self, num_channels: int, duration: float, **speakers: int) -> None:
            super().__init__(num_channels=num_channels)
            names = [f"speaker#{n + 1}" for n in range(speakers["max_speakers_per_chunk"])]
            self.specifications = Specifications(
                problem=Problem.MONO_LABEL_CLASSIFICATION,
                resolution=Resolution.FRAME,
                duration=duration,
                classes=names,
                powerset_max_classes=speakers["max_speakers_per_frame"],
                permutation_invariant=True,
            )

    before, core.Model = core.Model, Base
    try:
        module = import_module(NAME)
        conformer = import_module("diarizen.models.module.conformer")
    except ModuleNotFoundError as error:
        raise ReferenceError(
            f"the original of DiariZen needs {error.name}: run git clone "
            "https://github.com/BUTSpeechFIT/DiariZen and put that folder into PYTHONPATH"
        ) from None
    finally:
        core.Model = before
    # Called as any other module, it can be listened to.
    attention = conformer.MultiHeadSelfAttention
    if "__call__" in vars(attention):
        attention.forward = attention.__call__
        del attention.__call__
    return module


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    authors = _classes()
    said = config["wavlm"]
    layers = range(said["encoder_num_layers"])
    inner = said["encoder_ff_interm_features"]
    widths = [inner if isinstance(inner, int) else inner[n] for n in layers]
    arguments = {**suplime.QUIET, **{k: value for k, value in said.items() if k not in OURS}}
    arguments |= {
        "encoder_total_num_heads": [said["encoder_num_heads"] for _ in layers],
        "encoder_use_attention": [bool(heads) for heads in said["encoder_remaining_heads"]],
        "encoder_use_feed_forward": [width > 0 for width in widths],
        "encoder_ff_interm_features": widths,
    }

    class Model(authors.Model):  # type: ignore[misc, name-defined]
        """Its WavLM is told here, not by a name or a file."""

        def load_wavlm(self, source: str) -> Any:
            return authors.wavlm_model(**arguments)

    task = config["specifications"]
    module: torch.nn.Module = Model(
        wavlm_layer_num=said["encoder_num_layers"] + 1,
        wavlm_feat_dim=said["encoder_embed_dim"],
        **{n: config[n] for n in ("attention_in", "ffn_hidden", "num_head", "num_layer")},
        kernel_size=config["kernel_size"],
        max_speakers_per_chunk=len(task["classes"]),
        max_speakers_per_frame=task["powerset_max_classes"],
        chunk_size=task["duration"],
        num_channels=1,
    )
    _mark(module)
    return module.eval()


def _mark(module: Any) -> None:
    """Its WavLM is a copy of torchaudio's; its Conformer is the authors' own."""
    hints.mark(module, written_in="diarizen.")
    hints.mark_axes(hints.AS_MLX, module.weight_sum)
    for block in module.conformer.conformer_layer:
        hints.mark_axes(hints.ROWS, *block.mha.modules())
        hints.mark_axes(hints.AS_MLX, block.mha, block.conv)
        hints.mark_inside(block.mha.mha.linearO)
        hints.mark_function(block.ffn1.swish, block.conv.swish, block.ffn2.swish)


def reference(folder: Path, small: bool) -> None:
    """WavLM Base+ as it is, or a small one that was pruned."""
    import torch

    config = {
        "wavlm": SMALL if small else BASE,
        "attention_in": 16 if small else 256,
        "ffn_hidden": 24 if small else 1024,
        "num_head": 4,
        "num_layer": 2 if small else 4,
        "kernel_size": 7 if small else 31,
        "specifications": suplime.common(small)["specifications"],
    }
    with seeded_torch():
        module = build(config)
        suplime.fill(module, torch.from_numpy(sample()))
        content = {
            "state_dict": module.state_dict(),
            "samevoice": {"note": REFERENCE_NOTE},
            "hyper_parameters": {
                "wavlm": {"encoder_max_distance": config["wavlm"]["encoder_max_distance"]},
                "remaining_heads": config["wavlm"]["encoder_remaining_heads"],
            },
        }
        torch.save(content, folder / "pytorch_model.bin")
