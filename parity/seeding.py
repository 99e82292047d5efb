"""Seeded weights for originals whose trained ones cannot be had: they hear nothing.

No value is left where a fresh module has it: a port that forgets one must not pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samevoice.converters.reading.checkpoint import REFERENCE_NOTE
from samevoice.converters.reference import sample, seeded_torch
from samevoice.converters.reference import save_pyannote as save_pyannote
from samevoice.parity.inputs import RATE

if TYPE_CHECKING:
    import torch


def leave_defaults(module: torch.nn.Module) -> None:
    """Random scales, shifts and biases; matrices and filters are random already."""
    import torch

    with torch.no_grad():
        for name, value in module.named_parameters():
            if name.rpartition(".")[2].startswith("bias"):
                value.copy_(torch.randn_like(value) * 0.1)
            elif value.dim() == 1:
                value.copy_(torch.rand_like(value) + 0.5)


def calibrated(module: torch.nn.Module, run: Callable[[], object]) -> None:
    """The norms' statistics are those of what ``run`` calls the module with.

    Where values hardly differ, their deviation counts as a fifth of their mean: a norm that divides
    by less magnifies rounding as no trained one does.
    """
    import torch

    norms = [x for x in module.modules() if isinstance(x, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None  # a plain mean over all that was seen
    module.train()
    with torch.no_grad():
        run()
        for norm in norms:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_var.clamp_(min=norm.running_mean.square() / 25)
    module.eval()


def sounds(count: int = 10, samples: int = 32_000) -> torch.Tensor:
    """(count, 1, samples): speech that pyannote.audio ships, noise and tones, in turn.

    A network without training hears little difference between voices: norms that saw nothing else
    would magnify rounding.
    """
    import torch

    speech = sample()
    step = (len(speech) - samples) // max(count - 1, 1)
    time = np.arange(samples) / RATE
    made = []
    for n in range(count):
        tone = 0.3 * np.sin(2 * np.pi * (100 * (n + 1) + 300 * time) * time)
        hiss = 0.1 * np.random.default_rng(n).standard_normal(samples)
        made.append((speech[n * step :][:samples], hiss, tone)[n % 3])
    return torch.from_numpy(np.stack(made).astype(np.float32)[:, None])


def save_state(module: torch.nn.Module, folder: Path) -> None:
    """As most authors save theirs, with a note that nothing was learnt."""
    import torch

    content = {"state_dict": module.state_dict(), "samevoice": {"note": REFERENCE_NOTE}}
    torch.save(content, folder / "pytorch_model.bin")


def write_fed(
    build: Callable[[Mapping[str, Any]], torch.nn.Module], config: Mapping[str, Any], folder: Path
) -> None:
    """The weights of a network whose config says what it is fed, its norms made for that."""
    from samevoice.parity.roles import network

    with seeded_torch() as torch:
        module = build(config)
        leave_defaults(module)
        sizes = {name: int(size) for name, size in config["sizes"].items()}
        given = [
            network.drawn(one, sizes, n, np.float32(1)) for n, one in enumerate(config["inputs"])
        ]
        calibrated(module, lambda: module(*map(torch.from_numpy, given)))
    save_state(module, folder)
