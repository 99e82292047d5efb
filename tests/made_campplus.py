"""A narrow CAM++, and a pipeline of pyannote 3.1's kind around an embedding."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

CONFIG_YAML = """\
version: 3.1.0
pipeline:
  name: pyannote.audio.pipelines.SpeakerDiarization
  params:
    clustering: AgglomerativeClustering
    segmentation: $model/segmentation
    embedding: $model/embedding
    embedding_exclude_overlap: true
params:
  clustering:
    method: centroid
    min_cluster_size: 12
    threshold: 0.7045654963945799
  segmentation:
    min_duration_off: 0.0
"""


def source_of(folder: Path, segmentation: Path, embedding: Path) -> Path:
    """A pipeline of pyannote 3.1's kind, with another embedding."""
    shutil.copytree(segmentation, folder / "segmentation")
    (folder / "embedding").mkdir()
    shutil.copy(embedding, folder / "embedding")
    (folder / "config.yaml").write_text(CONFIG_YAML)
    return folder


def small_campplus(path: Path, *, whole: bool = False) -> Path:
    """CAM++ as 3D-Speaker saves it, narrow; ``whole``: with all that its authors' class has."""
    import torch
    from mlx.utils import tree_flatten

    from samevoice.converters.families import campplus
    from samevoice.converters.rules import Tensor, invert
    from samevoice.models.networks.campplus import CAMPPlus

    sizes = {"m_channels": 32 if whole else 4, "init_channels": 6, "growth_rate": 2, "bn_size": 3}
    config = {
        **campplus.FBANK,
        **sizes,
        "num_mel_bins": 16,
        "layers": [12, 24, 16] if whole else [1, 2, 1],
    }
    config["embedding_size"] = 5
    mx.random.seed(0)
    flat: Any = tree_flatten(CAMPPlus(config).parameters())
    made = {name: Tensor.of(np.array(array)) for name, array in flat}
    back = invert(campplus.table(config), made, {})
    torch.save({name: torch.from_numpy(np.array(array)) for name, array in back}, path)
    return path
