"""Silero VAD's tensors, made up, by the names of its package's safetensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SHAPES: dict[str, tuple[int, ...]] = {
    "stft_conv.weight": (258, 1, 256),
    "conv1.weight": (128, 129, 3),
    "conv2.weight": (64, 128, 3),
    "conv3.weight": (64, 64, 3),
    "conv4.weight": (128, 64, 3),
    "lstm_cell.weight_ih": (512, 128),
    "lstm_cell.weight_hh": (512, 128),
    "lstm_cell.bias_ih": (512,),
    "lstm_cell.bias_hh": (512,),
    "final_conv.weight": (1, 128, 1),
    "final_conv.bias": (1,),
}
SHAPES |= {f"conv{i}.bias": SHAPES[f"conv{i}.weight"][:1] for i in (1, 2, 3, 4)}


def tensors() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        name: (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def checkpoint(path: Path) -> Path:
    from safetensors.numpy import save_file

    save_file(tensors(), path)
    return path
