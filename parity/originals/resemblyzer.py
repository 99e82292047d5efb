"""Resemblyzer's own class, from its wheel, for waveforms and masks.

Its spectrogram comes from librosa, in numpy: here it is torch's, so that there is one in float64.
What its ``preprocess_wav`` does before, louder sound and less silence, is no part of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from samevoice.converters.reading.checkpoint import REFERENCE_NOTE
from samevoice.converters.reference import import_pyannote, seeded_torch
from samevoice.parity import authors, seeding

if TYPE_CHECKING:
    import torch

RATE, WINDOW, STEP = 16000, 400, 160
SIZES = {"num_mel_bins": 40, "hidden_size": 256, "num_layers": 3, "embedding_size": 256}
# What the package calls them.
NAMES = {
    "num_mel_bins": "mel_n_channels",
    "hidden_size": "model_hidden_size",
    "num_layers": "model_num_layers",
    "embedding_size": "model_embedding_size",
}


def package() -> Any:
    """The module with the authors' class; what it has for sound files is left out."""
    hollow = ("resemblyzer", "resemblyzer.audio")
    return authors.load(authors.RESEMBLYZER, "resemblyzer.voice_encoder", hollow)


def build(config: Mapping[str, Any]) -> torch.nn.Module:
    """The authors' network, unfilled, in float32, called as pyannote's embeddings are."""
    module: torch.nn.Module = _class()(config)
    return module.eval()


@cache
def _class() -> Any:
    import_pyannote()  # and torchaudio, where torch came without its CUDA libraries
    import torch

    own = package()

    class VoiceEncoder(own.VoiceEncoder):  # type: ignore[misc, name-defined]
        """For waveforms (B, 1, N) and weights (B, T) or (B, S, T)."""

        def __init__(self, config: Mapping[str, Any]) -> None:
            sizes = {name: config[ours] for ours, name in NAMES.items()}
            with TemporaryDirectory() as folder, patch.multiple(own, **sizes):
                empty = Path(folder) / "empty.pt"
                torch.save({"model_state": {}}, empty)
                super().__init__("cpu", verbose=False, weights_fpath=empty)

        def forward(
            self, waveforms: torch.Tensor, weights: torch.Tensor | None = None
        ) -> torch.Tensor:
            return authors.cut(self.embedded, waveforms.flatten(1), weights, WINDOW)

        def embedded(self, samples: torch.Tensor) -> torch.Tensor:
            """(B, N) -> (B, E), as the authors' ``embed_utterance`` does for one in numpy."""
            _, slices = self.compute_partial_slices(samples.shape[1], 1.3, 0.75)
            missing = max(0, slices[-1].stop * STEP - samples.shape[1])
            mel = spectrogram(torch.nn.functional.pad(samples, (0, missing)), self.lstm.input_size)
            parts = torch.stack([mel[:, part] for part in slices], dim=1)
            heard = super().forward(parts.flatten(0, 1))
            mean = heard.unflatten(0, parts.shape[:2]).mean(dim=1)
            voices: torch.Tensor = mean / mean.norm(dim=1, keepdim=True)
            return voices

    return VoiceEncoder


def spectrogram(samples: torch.Tensor, bins: int) -> torch.Tensor:
    """(B, N) -> (B, T, M), by librosa's definition; what is constant is made in float64."""
    import torch
    from torchaudio.functional import melscale_fbanks

    window = torch.hann_window(WINDOW, dtype=torch.float64).to(samples)
    spectrum = torch.stft(
        samples, WINDOW, STEP, window=window, pad_mode="constant", return_complex=True
    )
    power = spectrum.real.square() + spectrum.imag.square()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        edges = (WINDOW // 2 + 1, 0.0, RATE / 2, bins, RATE)
        filters = melscale_fbanks(*edges, norm="slaney", mel_scale="slaney")
    finally:
        torch.set_default_dtype(before)
    mel: torch.Tensor = power.transpose(1, 2) @ filters.to(samples)
    return mel


def reference(folder: Path, small: bool) -> None:
    """Seeded weights, laid out as the package saves its own."""
    sizes = {"hidden_size": 32, "embedding_size": 48} if small else {}
    with seeded_torch() as torch, torch.no_grad():
        module: Any = build({**SIZES, **sizes})
        seeding.leave_defaults(module)
        module.lstm.weight_ih_l0.mul_(30)  # or what is quiet would sound like silence
    loss = {f"similarity_{name}": torch.tensor([1.5]) for name in ("weight", "bias")}
    content = {"step": 0, "model_state": {**module.state_dict(), **loss}}
    torch.save({**content, "samevoice": {"note": REFERENCE_NOTE}}, folder / "pytorch_model.bin")
