"""Silero VAD as its makers ship it: the TorchScript file of their package, and layer by layer.

TorchScript cannot be listened to, and this file asks for float32 inside. So there are two of it:
the file itself, with the checkpoint's weights, gives the output where nobody listens. The layers
that it names, called in its order as plain torch modules, give every tap and the truth in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samevoice.converters.reference import seeded_torch
from samevoice.errors import MissingExtraError
from samevoice.parity import seeding
from samevoice.parity.authors import SILERO

if TYPE_CHECKING:
    import torch

SCRIPT = replace(
    SILERO,
    path="silero_vad/data/silero_vad.jit",
    sha256="e1122837f4154c511485fe0b9c64455f7b929c96fbb8d79fbdb336383ebd3720",
)
STRIDES = (1, 2, 2, 1)  # of its convolutions
# What the script calls its layers at 16 kHz -> what the safetensors beside it call them.
NAMES = {
    "stft.forward_basis_buffer": "stft_conv.weight",
    **{
        f"encoder.{i}.reparam_conv.{end}": f"conv{i + 1}.{end}"
        for i in range(4)
        for end in ("weight", "bias")
    },
    **{
        f"decoder.rnn.{kind}_{way}": f"lstm_cell.{kind}_{way}"
        for kind in ("weight", "bias")
        for way in ("ih", "hh")
    },
    **{f"decoder.decoder.2.{end}": f"final_conv.{end}" for end in ("weight", "bias")},
}


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    """The network for waveforms (B, 1, N), unfilled: (B, T, 1), from the beginning at each call."""
    try:
        module: torch.nn.Module = _class()(config)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{error.name}, which runs the original,", "parity") from error
    return module.eval()


@cache
def script() -> Any:
    """The makers' own file, loaded once."""
    import torch

    return torch.jit.load(str(SCRIPT.fetch())).eval()  # type: ignore[no-untyped-call]


@cache
def _cell() -> Any:
    import torch

    class Cell(torch.nn.LSTMCell):
        """The cell along time: (B, T, D) -> (B, T, H)."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            state, states = None, []
            for step in x.unbind(1):
                state = super().forward(step, state)
                states.append(state[0])
            return torch.stack(states, dim=1)

    return Cell


@cache
def _class() -> Any:
    import torch

    class SileroVAD(torch.nn.Module):
        """The script's layers, by the names of the safetensors."""

        def __init__(self, config: Mapping[str, Any]) -> None:
            super().__init__()
            self.window, self.context = config["window"], config["context"]
            filters, channels = config["filters"], config["channels"]
            size, hidden = filters - 2, config["hidden_size"]
            self.stft_conv = torch.nn.Conv1d(1, filters, size, size // 2, bias=False)
            inputs = (filters // 2, *channels)
            for i, stride in enumerate(STRIDES):
                conv = torch.nn.Conv1d(inputs[i], channels[i], 3, stride, padding=1)
                self.add_module(f"conv{i + 1}", conv)
            self.lstm_cell = _cell()(channels[-1], hidden)
            self.final_conv = torch.nn.Conv1d(hidden, config["num_classes"], 1)

        def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
            x = waveforms.flatten(1)
            heard = any(one._forward_hooks for one in self.children())
            return layers(self, x) if heard or x.dtype != torch.float32 else whole(self, x)

    return SileroVAD


def whole(module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """(B, N) -> (B, T, 1), by the script's own walk over a recording."""
    held, run = module.state_dict(), script()
    run.load_state_dict({f"_model.{a}": held[b] for a, b in NAMES.items()}, strict=False)
    scores: torch.Tensor = run.audio_forward(x, 16000)
    return scores[..., None]


def layers(module: Any, x: torch.Tensor) -> torch.Tensor:
    """The same, as the script's text has it."""
    from torch.nn import functional

    x = functional.pad(x, (module.context, -x.shape[1] % module.window))
    x = x.unfold(1, module.context + module.window, module.window)
    batch, count, heard = x.shape
    mirrored = module.stft_conv.kernel_size[0] // 4
    x = functional.pad(x.reshape(-1, 1, heard), (0, mirrored), mode="reflect")
    real, imaginary = module.stft_conv(x).chunk(2, dim=1)
    x = (real.pow(2) + imaginary.pow(2)).sqrt()
    for i in range(len(STRIDES)):
        x = module.get_submodule(f"conv{i + 1}")(x).relu()
    x = module.lstm_cell(x.reshape(batch, count, -1))
    scores: torch.Tensor = module.final_conv(x.relu().transpose(1, 2)).sigmoid()
    return scores.transpose(1, 2)


def reference(folder: Path, small: bool) -> None:
    """Seeded weights behind the script's own filters; its one shape is small already."""
    del small
    shape = {"window": 512, "context": 64, "filters": 258, "channels": (128, 64, 64, 128)}
    with seeded_torch() as torch, torch.no_grad():
        module: Any = build({**shape, "hidden_size": 128, "num_classes": 1})
        seeding.leave_defaults(module)
        module.stft_conv.weight.copy_(script().state_dict()["_model.stft.forward_basis_buffer"])
        module.final_conv.weight.mul_(8)  # or nothing would be decided
    seeding.save_state(module, folder)
