"""Small checkpoints for tests, with pyannote's own classes or from plain numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from samevoice.converters import bundle as bundles
from samevoice.converters.transforms import Array

# Nobody writes there, not even root: on Linux, and on macOS.
SEALED = Path("/proc") if Path("/proc").is_dir() else Path("/System")


def record(folder: Path) -> None:
    """The hashes in a bundle's provenance as the files are now, as if it had been made so."""
    inner = [path.parent for path in folder.glob("*/provenance.json")]
    for place in [*inner, folder]:
        found = json.loads((place / "provenance.json").read_text())
        found["outputs"] = bundles.file_hashes(place)
        (place / "provenance.json").write_text(json.dumps(found))


def pyannet(
    *,
    hidden: int = 8,
    layers: int = 2,
    bidirectional: bool = True,
    monolithic: bool = True,
    linear: int = 2,
    classes: int = 3,
    powerset: int | None = 2,
    seed: int = 0,
) -> Any:
    """pyannote's PyanNet with small layers and random weights, ready to be saved."""
    import torch
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.segmentation import PyanNet

    torch.manual_seed(seed)
    model = PyanNet(
        sincnet={"stride": 10},
        lstm={
            "hidden_size": hidden,
            "num_layers": layers,
            "bidirectional": bidirectional,
            "monolithic": monolithic,
        },
        linear={"hidden_size": hidden, "num_layers": linear},
    )
    mono = powerset is not None
    model.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION if mono else Problem.MULTI_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=10.0,
        classes=[f"speaker#{n + 1}" for n in range(classes)],
        powerset_max_classes=powerset,
        permutation_invariant=True,
    )
    model.build()
    return shaken(model).eval()


def labelled(folder: Path) -> Path:
    """A checkpoint in which each of three speakers has a score of its own, seeded."""
    import torch
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.segmentation import PyanNet

    from samevoice.converters import reference

    torch.manual_seed(1)
    model = PyanNet(sincnet={"stride": 10})
    model.specifications = Specifications(
        problem=Problem.MULTI_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=5.0,
        classes=["a", "b", "c"],
        permutation_invariant=True,
    )
    model.build()
    with torch.no_grad():  # scores that cross the thresholds now and then
        model.classifier.weight.mul_(30)
        model.classifier.bias.sub_(0.5)
    folder.mkdir(parents=True)
    reference.save_pyannote(model.eval(), folder)
    return folder


def resnet(depth: int = 34, seed: int = 0) -> Any:
    """pyannote's WeSpeaker ResNet of a depth, with statistics that are no defaults."""
    import torch
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.embedding import wespeaker

    torch.manual_seed(seed)
    model = getattr(wespeaker, f"WeSpeakerResNet{depth}")()
    model.specifications = Specifications(
        problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=5.0, min_duration=2.5
    )
    return shaken(model).eval()


def shaken(model: Any) -> Any:
    """The model without defaults: tensors left at 0 or 1 could not be told apart."""
    import torch

    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith(("running_var", "norm1d.weight")) or "bn" in name.split(".")[-2]:
                value.copy_(torch.rand_like(value.float()) + 0.5)
            elif name.endswith("bias"):
                value.copy_(torch.randn_like(value) * 0.1)
    return model


def save(model: Any, path: Path, **more: Any) -> Path:
    """As pyannote saves a checkpoint."""
    import torch

    content: dict[str, Any] = {
        "epoch": 3,
        "global_step": 7,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        **more,
    }
    model.on_save_checkpoint(content)
    torch.save(content, path)
    return path


def state(model: Any) -> dict[str, Array]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


def pyannet_arrays(hidden: int = 8, layers: int = 1, seed: int = 0) -> dict[str, Array]:
    """A PyanNet's state dict without torch: the names and shapes of the real one, small."""
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> Array:
        return random.standard_normal(shape).astype(np.float32)

    sinc = "sincnet.conv1d.0.filterbank"
    made: dict[str, Array] = {
        f"{sinc}.low_hz_": draw(40, 1),
        f"{sinc}.band_hz_": draw(40, 1),
        f"{sinc}.window_": draw(125),
        f"{sinc}.n_": draw(1, 125),
        "sincnet.conv1d.1.weight": draw(60, 80, 5),
        "sincnet.conv1d.2.weight": draw(60, 60, 5),
        "sincnet.conv1d.1.bias": draw(60),
        "sincnet.conv1d.2.bias": draw(60),
    }
    for name, size in (("wav_norm1d", 1), ("norm1d.0", 80), ("norm1d.1", 60), ("norm1d.2", 60)):
        made |= {f"sincnet.{name}.weight": draw(size), f"sincnet.{name}.bias": draw(size)}
    for layer in range(layers):
        for end in ("", "_reverse"):
            at = f"l{layer}{end}"
            made[f"lstm.weight_ih_{at}"] = draw(4 * hidden, 2 * hidden if layer else 60)
            made[f"lstm.weight_hh_{at}"] = draw(4 * hidden, hidden)
            made[f"lstm.bias_ih_{at}"] = draw(4 * hidden)
            made[f"lstm.bias_hh_{at}"] = draw(4 * hidden)
    made |= {"linear.0.weight": draw(hidden, 2 * hidden), "linear.0.bias": draw(hidden)}
    made |= {"classifier.weight": draw(7, hidden), "classifier.bias": draw(7)}
    return made
