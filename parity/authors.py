"""The authors' own code of models that pyannote.audio does not carry, out of pinned wheels.

Their packages ask for much that a network never imports, and for old versions of it. So they are
not installed: a wheel is fetched once, checked by its hash, and imported as the file that it is, in
the process that compares and nowhere else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from samevoice.converters.reading.wheels import WheelFile
from samevoice.errors import MissingExtraError
from samevoice.models.layers.fbank import FULL_SCALE

if TYPE_CHECKING:
    import torch

SPEAKERLAB = WheelFile(
    "speakerlab",
    "0.0.6",
    "speakerlab-0.0.6-py3-none-any.whl",
    "f7c69a8ad7ac803f179572b54cfc76bce2888d699bc25663df741d933c337f2a",
)
WESPEAKER = WheelFile(
    "wespeaker-unofficial",
    "0.0.2",
    "wespeaker_unofficial-0.0.2-py3-none-any.whl",
    "5300819d8e8e7add131005f5d20c95c031fab70fbc590c3664a0a509fd809c30",
)
SPEECHBRAIN = WheelFile(
    "speechbrain",
    "1.1.2",
    "speechbrain-1.1.2-py3-none-any.whl",
    "9fea4144c917ea58bcf13f17a1a1759179ed7472a30ec8416e7c7c8cf21d9c9a",
)
SUPLIME = WheelFile(
    "suplime",
    "0.2.0",
    "suplime-0.2.0-py3-none-any.whl",
    "b2fa53e051cdd6aaad66f441bf593dc4d325c75e67d5a531d60e34273cf92439",
)
RESEMBLYZER = WheelFile(
    "resemblyzer",
    "0.1.4",
    "Resemblyzer-0.1.4-py3-none-any.whl",
    "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
)
SILERO = WheelFile(
    "silero-vad",
    "6.2.3",
    "silero_vad-6.2.3-py3-none-any.whl",
    "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
)


def own(spec: str) -> Any:
    """What MODULE:CLASS names: installed, or in the current folder."""
    module, _, attribute = spec.partition(":")
    find_here()
    return attrgetter(attribute)(import_module(module))


def in_float32(module: torch.nn.Module) -> torch.nn.Module:
    """What its authors built in half precision, in the one that is compared."""
    import torch

    for one in (*module.parameters(), *module.buffers()):
        if one.dtype in (torch.float16, torch.bfloat16):
            one.data = one.data.float()
    return module


def find_here() -> None:
    """Modules in the current folder, where a command was installed and Python does not look."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # where it stays: what was imported may import more later


def load(wheel: WheelFile, name: str, hollow: Sequence[str] = ()) -> Any:
    """The module ``name`` out of a wheel, which stands behind all else on the path.

    ``hollow`` are packages that are left empty: their own ``__init__`` imports what a network does
    not need. A package that is installed is another copy, and never stands in for the pinned one.
    """
    try:
        import_module("torch")
    except ModuleNotFoundError as error:
        raise MissingExtraError("torch, which runs the original,", "parity") from error
    path = str(wheel.fetch())
    if path not in sys.path:
        sys.path.append(path)
    for package in hollow:
        if package not in sys.modules:
            empty = ModuleType(package)
            empty.__path__ = [f"{path}/{package.replace('.', '/')}"]
            sys.modules[package] = empty
    return import_module(name)


# Called as pyannote's embeddings are --------------------------------------------------------------

# What the filterbank is told besides the sample rate, by the names that it shares with the config.
OPTIONS = (
    *("num_mel_bins", "frame_length", "frame_shift", "round_to_power_of_two"),
    *("snip_edges", "dither", "window_type", "use_energy"),
)


class HearsFbank:
    """Mixed into an authors' class: waveforms (B, 1, N), or features (B, T, M) as they are."""

    config: Mapping[str, Any]

    def compute_fbank(self, waveforms: torch.Tensor) -> torch.Tensor:
        return kaldi_fbank(waveforms, self.config)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.shape[-1] == self.config["num_mel_bins"] else self.compute_fbank(x)


class HearsVoices(HearsFbank):
    """The same around ``embedded``: (B, T, M), (B, S, T') -> (B, S, E); without weights (B, E)."""

    embedded: Callable[..., torch.Tensor]

    def forward(self, waveforms: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """Weights (B, T') are those of one voice: (B, E)."""
        features = self.features(waveforms)
        if weights is None or weights.dim() == 3:
            return self.embedded(features, weights)
        return self.embedded(features, weights[:, None])[:, 0]


def kaldi_fbank(waveforms: torch.Tensor, config: Mapping[str, Any]) -> torch.Tensor:
    """(B, 1, N) -> (B, T, M), the mean over time taken off."""
    import torch
    from torchaudio.compliance import kaldi

    given = {name: config[name] for name in OPTIONS}
    given["sample_frequency"] = config["sample_rate"]
    scaled = waveforms * config.get("full_scale", FULL_SCALE)
    features = torch.stack([kaldi.fbank(one, **given) for one in scaled])
    return features - features.mean(dim=1, keepdim=True)


def cut(
    run: Callable[[torch.Tensor], torch.Tensor],
    frames: torch.Tensor,
    weights: torch.Tensor | None,
    fewest: int = 1,
) -> torch.Tensor:
    """(B, T, ...), (B, T'), (B, S, T') or None -> (B[, S], E): each voice cut out, and heard alone.

    As pyannote calls networks that take no weights; who has fewer than ``fewest`` frames is zeros.
    """
    import torch

    if weights is None:
        return run(frames)
    masks = weights if weights.dim() == 3 else weights[:, None]
    size = frames.shape[1]
    heard = torch.nn.functional.interpolate(masks.float(), size=size, mode="nearest") > 0.5
    pairs = [(x, mask) for x, of in zip(frames, heard, strict=True) for mask in of]
    found = [run(x[mask][None])[0] if mask.sum() >= fewest else None for x, mask in pairs]
    spoken = next((one for one in found if one is not None), None)
    silent = torch.zeros_like(run(frames[:1])[0] if spoken is None else spoken)
    rows = torch.stack([silent if one is None else one for one in found])
    return rows.reshape(*weights.shape[:-1], -1)
