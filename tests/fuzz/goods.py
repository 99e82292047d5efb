"""Small good files of every kind that samevoice reads; the fuzzer changes copies of them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_audio
import made_evaluation
import made_up
import numpy as np
from made_release import Ready, write_gallery

PIPELINE = """\
pipeline:
  name: pyannote.audio.pipelines.SpeakerDiarization
  params:
    clustering: VBxClustering
    segmentation: $model/segmentation
    embedding: $model/embedding
    embedding_exclude_overlap: true
    plda: $model/plda
params:
  clustering: {threshold: 0.6, Fa: 0.07, Fb: 0.8}
  segmentation:
    min_duration_off: 0.0
"""
TALK = """\
SPEAKER a 1 0.000 1.000 <NA> <NA> ana <NA> <NA>
SPEAKER a 1 1.000 0.750 <NA> <NA> bob <NA> <NA>
"""
LIMITS = "[limits]\nnoise_ratio = 200.0\n\n[limits.taps.weight]\nmax_abs = 1e-3\n"
# Format -> what soundfile calls it; the others are ffmpeg's.
SOUNDS = {
    "wav": "WAV", "flac": "FLAC", "ogg": "OGG", "mp3": "MP3",
    "aiff": "AIFF", "au": "AU", "caf": "CAF", "w64": "W64",
}  # fmt: skip
CODECS = {"m4a": "aac", "webm": "libopus", "mkv": "flac"}
# What opens other files, where a player follows it: {outside} is a folder that nobody named.
PLAYLISTS = {
    "list.ffconcat": "ffconcat version 1.0\nfile '{outside}/secret.wav'\n",
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{outside}/secret.wav\n",
    "list.sdp": "v=0\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    "list.mpd": '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet>'
    "<Representation><BaseURL>file://{outside}/secret.wav</BaseURL></Representation>"
    "</AdaptationSet></Period></MPD>\n",
}


def feed_little() -> None:
    """A comparison of one second: what is tested here is files, and not figures."""
    from samevoice.parity import inputs, roles

    def few(speech: Any, shortest: int, whole: bool) -> Iterator[inputs.Example]:
        yield inputs.Example(
            "sample", inputs.batch([speech[: inputs.RATE]]), depth="full", labels=("",)
        )
        yield inputs.Example("noise", inputs.batch([inputs.noise(shortest)]))

    role = roles.named("segmentation")
    roles.every()[role.name] = replace(role, examples=roles.of_speech(few, lambda shortest: ()))


def make(root: Path, outside: Path) -> None:
    """Every good file, below ``root``; ``outside`` is the folder that playlists point at."""
    from samevoice.converters.reference import import_pyannote

    import_pyannote()
    feed_little()
    _pipeline(root / "full")
    _checkpoints(root / "sources")
    _bundles(root)
    _dumps(root / "dumps")
    _sounds(root / "audio", outside)
    _voices(root / "voices", root / "bundle")
    (root / "talk.rttm").write_text(TALK)
    (root / "talk.uem").write_text("talk 1 0.000 10.000\ntalk 1 12.5 20\n")
    (root / "limits.toml").write_text(LIMITS)


def _pipeline(folder: Path) -> None:
    """A source as community-1 is laid out, its networks a few channels wide."""
    import torch

    for part in ("segmentation", "embedding", "plda"):
        (folder / part).mkdir(parents=True)
    # Of this seed one voice speaks alone for long enough to be enrolled.
    network = made_up.pyannet(layers=1, linear=1, seed=4)
    made_up.save(network, folder / "segmentation" / "pytorch_model.bin")
    wide = made_up.resnet()
    state = {name: _narrow(value) for name, value in wide.state_dict().items()}
    saved = {"state_dict": state, "hyper_parameters": dict(wide.hparams)}
    torch.save(saved, folder / "embedding" / "pytorch_model.bin")
    plda(folder / "plda", *state["resnet.seg_1.weight"].shape[:1])
    (folder / "config.yaml").write_text(PIPELINE)


def _narrow(value: Any) -> Any:
    """A sixteenth along every wide axis."""
    return value[tuple(slice(size // 16 if size >= 32 else size) for size in value.shape)].clone()


def plda(folder: Path, voice: int, space: int = 8) -> None:
    random = np.random.default_rng(0)
    basis, _ = np.linalg.qr(random.standard_normal((voice, voice)))
    mean = random.standard_normal(space) * 0.1
    np.savez(
        folder / "xvec_transform.npz",
        mean1=random.standard_normal(voice) * 0.1,
        mean2=mean.astype(np.float32),
        lda=np.resize(basis, (voice, space)).astype(np.float32),
    )
    psi = np.sort(random.gamma(2.0, 1.0, space))[::-1].copy()
    np.savez(folder / "plda.npz", mu=mean, tr=np.eye(space) + 0.02, psi=psi)


def _checkpoints(folder: Path) -> None:
    """The same weights in each container that convert reads."""
    import torch
    from safetensors.numpy import save_file

    (folder / "sharded").mkdir(parents=True)
    network = made_up.pyannet(layers=1, linear=1)
    made_up.save(network, folder / "zip.ckpt")
    arrays = made_up.pyannet_arrays()
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    torch.save(state, folder / "old.ckpt", _use_new_zipfile_serialization=False)
    save_file(arrays, folder / "plain.safetensors", metadata={"format": "pt"})
    names = sorted(arrays)
    shards = {f"model-0000{k + 1}-of-00002.safetensors": names[k::2] for k in range(2)}
    for shard, held in shards.items():
        save_file({name: arrays[name] for name in held}, folder / "sharded" / shard)
    where = {name: shard for shard, held in shards.items() for name in held}
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    (folder / "sharded" / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))


def _bundles(root: Path) -> None:
    """The pipeline converted; and one network compared and released."""
    from samevoice.converters import convert
    from samevoice.parity import run
    from samevoice.release import contents

    convert.convert(root / "full", root / "bundle")
    ready = Ready(root / "proof")
    source = root / "sources" / "zip.ckpt"
    convert.convert(source, ready.bundle)
    run.run(ready.bundle, source, output=ready.parity, device="cpu")
    config = json.loads((ready.bundle / "config.json").read_text())
    write_gallery(ready.gallery, "segmentation", configs={"segmentation": config})
    contents.release(ready.offer(), ready.release)
    sides = (made_evaluation.system(root / "bundle", fast=fast) for fast in (False, True))
    made_evaluation.write(root / "runs" / "1" / "evaluation.json", *sides, missed=[0.1] * 6)


def _dumps(folder: Path) -> None:
    from safetensors.numpy import save_file

    folder.mkdir()
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "weight": random.standard_normal((8, 6)).astype(np.float32),
        "bias": random.standard_normal(8),
        "steps": np.arange(5),
    }
    for name in ("ref", "got"):
        np.savez(folder / f"{name}.npz", **arrays)
        save_file(arrays, folder / f"{name}.safetensors")


def _sounds(folder: Path, outside: Path) -> None:
    spoken = np.concatenate([made_audio.tone(0.5, pitch=pitch) for pitch in (200, 300, 440, 250)])
    for suffix, kind in SOUNDS.items():
        made_audio.recording(folder / f"a.{suffix}", spoken + made_audio.noise(32_000), format=kind)
    for suffix, codec in CODECS.items() if shutil.which("ffmpeg") else ():
        words = ["ffmpeg", "-v", "error", "-i", "a.wav", "-c:a", codec, f"a.{suffix}"]
        subprocess.run(words, cwd=folder, check=True, stdin=subprocess.DEVNULL)
    for name, text in PLAYLISTS.items():
        (folder / name).write_text(text.format(outside=outside))


def _voices(folder: Path, bundle: Path) -> None:
    from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline
    from samevoice.models.diarization.speakers import Database

    pipeline = SpeakerDiarizationPipeline(bundle, "cpu")
    database = Database.open(folder, pipeline.embedding_fingerprint, create=True)
    config = json.loads((bundle / "embedding" / "config.json").read_text())
    random = np.random.default_rng(0)
    for name in ("Ana", "Bob"):
        rows = random.standard_normal((2, config["embed_dim"])).astype(np.float32)
        database.enroll(name, rows, ["a.wav", "b.wav"], [2.0, 3.0])
