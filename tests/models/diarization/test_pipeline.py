"""The whole pipeline: from audio of every kind, with golden inputs, beside pyannote's own."""

from __future__ import annotations

import inspect
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import made_up
import mlx.core as mx
import numpy as np
import pytest
import soundfile
from mlx.utils import tree_flatten
from safetensors.numpy import load_file, save_file

from samevoice.errors import BundleError, DiarizationError
from samevoice.models import backend
from samevoice.models.diarization import pipeline as module
from samevoice.models.diarization import segmenter
from samevoice.models.diarization.audio import open_audio
from samevoice.models.diarization.clustering import Bounds, Clustering
from samevoice.models.diarization.decoding import AudioError
from samevoice.models.diarization.output import Diarization
from samevoice.models.diarization.pipeline import Analysis, SpeakerDiarizationPipeline, Stages

RATE = 16_000


def heard(samples: np.ndarray, rate: int = RATE) -> dict[str, Any]:
    return {"waveform": samples[None], "sample_rate": rate, "uri": "talk"}


# --- what it is called with ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(pipeline: SpeakerDiarizationPipeline, talk: np.ndarray) -> Diarization:
    return pipeline(heard(talk))


def test_a_waveform_a_file_and_a_file_object_are_one(
    pipeline: SpeakerDiarizationPipeline, talk: np.ndarray, plain: Diarization, tmp_path: Path
) -> None:
    file = tmp_path / "talk.wav"
    soundfile.write(file, talk, RATE, subtype="FLOAT")
    assert len(plain.speaker_diarization) > 1
    assert pipeline(file).to_rttm() == plain.to_rttm()
    assert pipeline(str(file)).to_rttm() == plain.to_rttm()
    found = pipeline(io.BytesIO(file.read_bytes()))
    assert list(found.speaker_diarization) == list(plain.speaker_diarization)


def test_turns_have_a_start_an_end_and_a_speaker(plain: Diarization) -> None:
    for turn, speaker in plain.speaker_diarization:
        assert 0 < turn.start < turn.end < 13
        assert speaker.startswith("SPEAKER_")
    assert plain.speaker_embeddings.shape == (len(plain.labels), 256)
    assert plain.duration == 12.0
    assert {"segmentation", "embeddings", "clustering"} <= plain.seconds.keys()


def test_one_speaker_at_a_time_in_the_exclusive_variant(plain: Diarization) -> None:
    ends = 0.0
    for turn, _ in plain.exclusive_speaker_diarization:
        assert turn.start >= ends
        ends = turn.end


@pytest.fixture(scope="module")
def whole(pipeline: SpeakerDiarizationPipeline, talk: np.ndarray) -> Analysis:
    """All three chunks in one batch."""
    return pipeline.analyse([talk])


@pytest.mark.parametrize("batch", [1, 2])
def test_the_same_bytes_whatever_the_batch(
    bundle: Path, talk: np.ndarray, whole: Analysis, batch: int
) -> None:
    found = SpeakerDiarizationPipeline(bundle, batch_size=batch).analyse([talk])
    assert found.embeddings.tobytes() == whole.embeddings.tobytes()
    assert found.segmentations.tobytes() == whole.segmentations.tobytes()


def test_audio_comes_in_blocks_of_any_size(
    pipeline: SpeakerDiarizationPipeline, talk: np.ndarray, whole: Analysis
) -> None:
    parts = pipeline.analyse(np.array_split(talk, [5, 100_000, 160_001]))
    assert parts.samples == whole.samples == len(talk)
    assert parts.segmentations.tobytes() == whole.segmentations.tobytes()
    assert parts.embeddings.tobytes() == whole.embeddings.tobytes()


def test_the_hook_hears_every_stage(pipeline: SpeakerDiarizationPipeline, talk: np.ndarray) -> None:
    told: list[tuple[str, Any, dict[str, Any]]] = []
    pipeline(heard(talk), hook=lambda step, artefact, **more: told.append((step, artefact, more)))
    steps = list(dict.fromkeys(step for step, _, _ in told))
    assert steps == [
        "reading",
        "segmentation",
        "speaker_counting",
        "embeddings",
        "clustering",
        "discrete_diarization",
    ]
    assert all(more["file"] == "talk" for _, _, more in told)
    reading = [more for step, _, more in told if step == "reading"]
    assert reading[-1]["completed"] == reading[-1]["total"] == 12.0


# --- odd audio ----------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 399, 400, 159_999, 160_000, 160_001])
def test_every_length_gives_an_answer(
    pipeline: SpeakerDiarizationPipeline, talk: np.ndarray, samples: int
) -> None:
    found = pipeline.analyse([talk[:samples]])
    assert found.samples == samples
    assert len(found.segmentations) == 1 + (samples > 160_000)
    pipeline.result(pipeline.assign(found), "short")


def test_silence_is_nobody(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = SpeakerDiarizationPipeline(bundle)
    # Of equal classes the first counts: nobody.
    monkeypatch.setattr(quiet, "segment", lambda waves: mx.zeros((len(waves), 589, 7)))
    found = quiet(heard(np.zeros(3 * RATE, dtype=np.float32)))
    assert list(found.speaker_diarization) == list(found.exclusive_speaker_diarization) == []
    assert found.speaker_embeddings.shape == (0, 256)
    assert found.to_rttm() == ""


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_refused(
    pipeline: SpeakerDiarizationPipeline, talk: np.ndarray, value: float
) -> None:
    spoilt = talk.copy()
    spoilt[RATE] = value
    with pytest.raises(AudioError, match=r"at 1\.000 s"):
        pipeline(heard(spoilt))


@pytest.mark.parametrize("name", ["dc", "clipped"])
def test_dc_and_clipping_give_an_answer(
    pipeline: SpeakerDiarizationPipeline, talk: np.ndarray, name: str
) -> None:
    sounds = {"dc": talk * 0.5 + 0.4, "clipped": np.clip(30 * talk, -1, 1)}
    found = pipeline(heard(sounds[name].astype(np.float32)))
    assert np.isfinite(found.speaker_embeddings).all()


# --- the embedding network ----------------------------------------------------------------------


def test_as_a_gpu_embeds_a_batch_at_once(
    pipeline: SpeakerDiarizationPipeline, talk: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its forms, run here: the compiled trunk, and all chunks pooled together."""
    waves = np.stack([talk[k : k + 160_000] for k in (0, 16_000)])
    masks = np.zeros((2, 589, 3), dtype=np.float32)
    masks[0, :200, 0] = masks[0, 300:, 1] = masks[1, 100:, 2] = 1
    wanted = pipeline.embed(waves, masks)
    monkeypatch.setattr(backend, "on_cpu", lambda: False)
    calls: list[int] = []
    pooled = pipeline.embedding.pooled

    def counted(frames: mx.array, weights: mx.array) -> mx.array:
        calls.append(len(frames))
        found: mx.array = pooled(frames, weights)
        return found

    monkeypatch.setattr(pipeline.embedding, "pooled", counted)
    np.testing.assert_allclose(pipeline.embed(waves, masks, wanted[0, 2]), wanted, atol=1e-4)
    assert calls == [2]


def test_each_chunk_is_embedded_once_and_silent_ones_never(
    bundle: Path, talk: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = SpeakerDiarizationPipeline(bundle, batch_size=2)
    seen: list[int] = []
    frames = one.embedding.frames

    def counted(waveforms: mx.array) -> mx.array:
        seen.append(len(waveforms))
        found: mx.array = frames(waveforms)
        return found

    monkeypatch.setattr(one.embedding, "frames", counted)
    masks = np.zeros((3, 589, 3), dtype=np.float32)
    masks[0, :200, 0] = masks[2, 100:, 1] = masks[2, :300, 2] = 1
    waves = np.stack([talk[k : k + 160_000] for k in (0, 100, 200)])
    silent = one.silent_embedding()
    seen.clear()
    vectors = one.embed(waves, masks, silent)
    assert seen == [2]
    for chunk, slot in ((0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)):
        np.testing.assert_allclose(vectors[chunk, slot], silent, atol=1e-6)
    alone = np.array(one.embedding(mx.array(waves[2:]), mx.array(masks[2:, :, 1])))
    # Frames in which the third speaks as well do not count for the second.
    assert not np.allclose(vectors[2, 1], alone[0], atol=1e-3)
    clean = mx.array(masks[2:, :, 1] * (masks[2:].sum(axis=2) < 2))
    np.testing.assert_allclose(
        vectors[2, 1], np.array(one.embedding(mx.array(waves[2:]), clean))[0], atol=1e-5
    )


def test_an_empty_mask_gives_the_last_layers_bias(pipeline: SpeakerDiarizationPipeline) -> None:
    bias = np.array(pipeline.embedding.resnet.seg_1.bias)
    np.testing.assert_allclose(pipeline.silent_embedding(), bias, atol=1e-6)


def test_a_mask_needs_more_than_two_clean_frames(pipeline: SpeakerDiarizationPipeline) -> None:
    assert pipeline.least_frames == 2


# --- golden -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(fitted_bundle: Path) -> SpeakerDiarizationPipeline:
    return SpeakerDiarizationPipeline(fitted_bundle)


@pytest.mark.parametrize("clip", ["02_pyannote_sample", "03_dual_speaker", "04_three_speaker"])
def test_captured_stages_give_the_captured_rttm(
    golden: Path, clip: str, fitted: SpeakerDiarizationPipeline
) -> None:
    """Everything behind the networks, through the pipeline's own methods."""
    folder = golden / "clips" / clip
    with np.load(folder / "segmentations.npz") as found:
        segmentations = found["segmentations"].astype(np.uint8)
    with np.load(folder / "raw_embeddings.npz") as found:
        embeddings = found["embeddings"]
    samples = soundfile.info(folder / "clip_16k.wav").frames
    uri = (folder / "reference.rttm").read_text().split()[1]
    result = fitted.result(fitted.assign(Analysis(segmentations, embeddings, samples)), uri)
    assert result.to_rttm() == (folder / "reference.rttm").read_text()


@pytest.mark.parametrize("seconds", [11, 3.3])
def test_pyannotes_turns_on_real_speech(
    golden: Path,
    pyannote: Any,
    fitted: SpeakerDiarizationPipeline,
    seconds: float,
) -> None:
    import torch
    from pyannote.audio import Pipeline

    samples, _ = soundfile.read(
        golden / "clips" / "02_pyannote_sample" / "clip_16k.wav",
        start=10 * RATE,
        frames=round(seconds * RATE),
        dtype="float32",
    )
    theirs = Pipeline.from_pretrained(golden / "checkpoints" / "community-1-fitted")
    wanted = theirs({"waveform": torch.from_numpy(samples)[None], "sample_rate": RATE, "uri": "x"})
    found = fitted(heard(samples) | {"uri": "x"})
    assert found.to_rttm() == wanted.speaker_diarization.to_rttm()
    assert found.to_rttm(exclusive=True) == wanted.exclusive_speaker_diarization.to_rttm()
    assert len(found.labels) == 2
    np.testing.assert_allclose(found.speaker_embeddings, wanted.speaker_embeddings, atol=1e-4)
    if seconds == 3.3:  # the chunk goes on in silence, and so does the last turn, with both
        end = wanted.speaker_diarization.get_timeline().extent().end
        assert max(turn.end for turn, _ in found.speaker_diarization) == end > seconds


# --- what it refuses ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        {"num_speakers": 0},
        {"num_speakers": -2},
        {"min_speakers": 3, "max_speakers": 2},
        {"max_speakers": 1.5},
        {"num_speakers": True},
        {"num_speakers": "two"},
        {"max_speakers": float("inf")},
        {"min_speakers": np.int64(0)},
    ],
    ids=str,
)
def test_counts_that_mean_nothing_are_refused_before_the_audio_is_read(
    pipeline: SpeakerDiarizationPipeline, asked: dict[str, Any]
) -> None:
    with pytest.raises(DiarizationError):
        pipeline("there is no such file", **asked)


def forced(pipeline: SpeakerDiarizationPipeline, whole: Analysis, count: int) -> Diarization:
    bounds = Bounds.of(count, None, None)
    return pipeline.result(pipeline.assign(whole, bounds), "talk", bounds)


def test_twelve_speakers(pipeline: SpeakerDiarizationPipeline) -> None:
    """Made-up voices that take turns, thirty chunks each, through all that follows the networks."""
    random = np.random.default_rng(0)
    voices, chunks = random.standard_normal((12, 256)).astype(np.float32), 360
    embeddings = np.zeros((chunks, 3, 256), dtype=np.float32)
    segmentations = np.zeros((chunks, 589, 3), dtype=np.uint8)
    talking = np.arange(chunks + 10) // 30 % 12  # who speaks in each second
    for chunk in range(chunks):
        here = talking[chunk : chunk + 10]
        for slot, who in enumerate(dict.fromkeys(here.tolist())):
            noise = 0.02 * random.standard_normal(256)
            embeddings[chunk, slot] = voices[who] + noise
            segmentations[chunk, :, slot] = np.repeat(here == who, 59)[:589]
    samples = (chunks + 9) * RATE
    result = pipeline.result(pipeline.assign(Analysis(segmentations, embeddings, samples)), "many")
    assert result.labels == [f"SPEAKER_{k:02d}" for k in range(12)]
    middles: dict[str, list[float]] = {label: [] for label in result.labels}
    for turn, speaker in result.speaker_diarization:
        middles[speaker].append((turn.start + turn.end) / 2)
    heard = {label: {int(talking[int(at)]) for at in found} for label, found in middles.items()}
    assert sorted(who for found in heard.values() for who in found) == list(range(12))
    for label, found in heard.items():
        (who,) = found
        voice = result.speaker_embeddings[result.labels.index(label)]
        assert np.abs(voice - voices[who]).max() < 0.05


def test_more_speakers_than_there_is_speech_for(
    pipeline: SpeakerDiarizationPipeline, whole: Analysis
) -> None:
    found = forced(pipeline, whole, 40)
    assert any("40 speakers were asked for" in note for note in found.notes)


def test_forced_to_one_speaker(pipeline: SpeakerDiarizationPipeline, whole: Analysis) -> None:
    assert forced(pipeline, whole, 1).labels == ["SPEAKER_00"]


def test_voices_that_could_not_be_told_apart_are_counted_in_words(
    pipeline: SpeakerDiarizationPipeline, talk: np.ndarray
) -> None:
    """Two may speak at once even so: then there are two labels, and one voice."""
    segmentations = np.zeros((1, 589, 3), dtype=np.uint8)
    segmentations[0, :100, 0] = segmentations[0, 50:100, 1] = 1
    spoken = Analysis(segmentations, np.ones((1, 3, 256), dtype=np.float32), 10 * RATE)
    found = forced(pipeline, spoken, 3)
    assert found.labels == ["SPEAKER_00", "SPEAKER_01"]
    assert found.notes == (
        "too little speech to tell voices: only those who speak at once differ",
        "1 voice was told apart where 3 were asked for: is there enough speech?",
    )


def test_beyond_a_hundred_speakers_each_keeps_the_own_voice(
    pipeline: SpeakerDiarizationPipeline,
) -> None:
    """SPEAKER_100 is sorted before SPEAKER_11."""
    count = 103
    discrete = np.repeat(np.eye(count, dtype=np.uint8), 4, axis=0)
    voices = np.tile(np.arange(count, dtype=np.float64)[:, None], (1, 2))
    nothing = np.zeros((0, 0))
    clustering = Clustering(np.arange(count)[None], nothing, voices, (nothing, nothing))
    analysis = Analysis(np.zeros((1, 589, 3), np.uint8), nothing, RATE)
    stages = Stages(analysis, nothing, clustering, discrete, discrete)
    found = pipeline.result(stages, "crowd")
    by_start = {who: k for k, (_, who) in enumerate(found.speaker_diarization)}
    assert found.speaker_embeddings[:, 0].tolist() == [by_start[who] for who in found.labels]


def test_audio_is_let_go_of_where_something_fails(
    pipeline: SpeakerDiarizationPipeline, talk: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_audio(heard(talk))
    blocks = source.blocks()
    monkeypatch.setattr(source, "blocks", lambda: blocks)
    monkeypatch.setattr(module, "open_audio", lambda *_: source)
    monkeypatch.setattr(pipeline, "batch_size", 1)  # or all is read before the hook is told

    def stopped(step: str, artefact: Any, **_: Any) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough") as kept:
        pipeline("talk", hook=stopped)
    assert kept.value.__traceback__ is not None  # its frames hold the blocks
    assert inspect.getgeneratorstate(blocks) == inspect.GEN_CLOSED


@pytest.mark.parametrize(
    ("duration", "step"), [(0.0, None), (-1.0, 1.0), (5.0, 6.0), (5.0, 0.0), (0.01, 0.01)]
)
def test_chunks_that_cannot_be_are_refused(
    bundle: Path, duration: float, step: float | None
) -> None:
    with pytest.raises(DiarizationError, match="chunks of"):
        SpeakerDiarizationPipeline(bundle, chunk_duration=duration, step=step)


def test_other_chunks(bundle: Path, talk: np.ndarray) -> None:
    one = SpeakerDiarizationPipeline(bundle, chunk_duration=5.0, step=2.5)
    found = one.analyse([talk])
    assert len(found.segmentations) == 4
    assert one.result(one.assign(found), "talk").duration == 12.0


def copied(bundle: Path, target: Path) -> Path:
    shutil.copytree(bundle, target)
    return target


def test_broken_bundles_are_named(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no config\.json"):
        SpeakerDiarizationPipeline(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="holds a segmentation, not a whole pipeline"):
        SpeakerDiarizationPipeline(bundle / "segmentation")
    lost = copied(bundle, tmp_path / "lost")
    shutil.rmtree(lost / "embedding")
    with pytest.raises(BundleError, match="embedding"):
        SpeakerDiarizationPipeline(lost)
    swapped = copied(bundle, tmp_path / "swapped")
    shutil.rmtree(swapped / "embedding")
    shutil.copytree(bundle / "segmentation", swapped / "embedding")
    with pytest.raises(BundleError, match=r"embedding.provenance\.json is not as it was written"):
        SpeakerDiarizationPipeline(swapped)
    made_up.record(swapped)
    with pytest.raises(BundleError, match="holds a PyanNet, which embeds no speakers"):
        SpeakerDiarizationPipeline(swapped)
    torn = copied(bundle, tmp_path / "torn")
    weights = torn / "plda" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(BundleError, match="plda"):
        SpeakerDiarizationPipeline(torn)
    weights.unlink()
    os.mkfifo(weights)
    with pytest.raises(BundleError, match="is not an ordinary file"):
        SpeakerDiarizationPipeline(torn)
    silent = copied(bundle, tmp_path / "silent")
    config = json.loads((silent / "config.json").read_text())
    for name in ("threshold", "embedding_exclude_overlap"):
        left = {key: value for key, value in config["pipeline"].items() if key != name}
        (silent / "config.json").write_text(json.dumps(config | {"pipeline": left}))
        made_up.record(silent)
        with pytest.raises(BundleError, match=f"'{name}'"):
            SpeakerDiarizationPipeline(silent)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (None, None),
        ("specifications", []),
        ("classes", None),
        ("classes", "abc"),
        ("classes", ["a"] * 4),
        ("classes", ["a"] * 100_000),
        ("powerset_max_classes", None),
        ("powerset_max_classes", 10**18),
        ("powerset_max_classes", True),
        ("powerset_max_classes", -1),
        ("duration", None),
        ("duration", -1.0),
        ("duration", 10**400),
        ("duration", "10"),
    ],
)
def test_a_segmentation_must_say_what_its_classes_are(
    bundle: Path, tmp_path: Path, name: str | None, value: Any
) -> None:
    torn = copied(bundle, tmp_path / "torn")
    path = torn / "segmentation" / "config.json"
    config = json.loads(path.read_text())
    if name is None:
        del config["specifications"]
    elif name == "specifications":
        config[name] = value
    else:
        config["specifications"][name] = value
    path.write_text(json.dumps(config))
    made_up.record(torn)
    with pytest.raises(BundleError, match=r"torn.segmentation: its specifications"):
        SpeakerDiarizationPipeline(torn)


@pytest.mark.parametrize("part", ["segmentation", "embedding", "plda"])
def test_one_flipped_bit_is_noticed(bundle: Path, tmp_path: Path, part: str) -> None:
    torn = copied(bundle, tmp_path / "torn")
    weights = torn / part / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1000] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BundleError, match=rf"{part}.model\.safetensors is not as it was written"):
        SpeakerDiarizationPipeline(torn)
    for path in torn.rglob("provenance.json"):
        path.unlink()
    SpeakerDiarizationPipeline(torn)  # of a bundle without hashes nothing is known


def test_a_plda_that_is_not_finite_is_refused_by_its_tensor(bundle: Path, tmp_path: Path) -> None:
    torn = copied(bundle, tmp_path / "torn")
    tensors = load_file(bundle / "plda" / "model.safetensors")
    tensors["xvec.mean1"] = np.full_like(tensors["xvec.mean1"], np.nan)
    save_file(tensors, torn / "plda" / "model.safetensors")
    made_up.record(torn)
    with pytest.raises(BundleError, match=r"xvec\.mean1 holds values that are NaN"):
        SpeakerDiarizationPipeline(torn)


def test_a_plda_without_eigenvectors_is_known_before_a_recording_is_heard(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = load_file(bundle / "plda" / "model.safetensors")
    torn = copied(bundle, tmp_path / "torn")
    for name, value in (("plda.tr", 0.0), ("plda.psi", np.nan)):
        changed = tensors | {name: np.full_like(tensors[name], value)}
        save_file(changed, torn / "plda" / "model.safetensors")
        made_up.record(torn)
        with pytest.raises(BundleError, match="holds no valid PLDA"):
            SpeakerDiarizationPipeline(torn)
    # What rounding may make of a matrix that is all but singular.
    monkeypatch.setattr(np.linalg, "inv", lambda matrix: -np.eye(len(matrix)))
    with pytest.raises(BundleError, match="holds no valid PLDA"):
        SpeakerDiarizationPipeline(bundle)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("part", "tensor"),
    [("segmentation", "classifier.bias"), ("embedding", "resnet.seg_1.bias")],
)
def test_weights_that_make_no_numbers_are_no_result(
    bundle: Path, talk: np.ndarray, part: str, tensor: str, value: float, fast: bool
) -> None:
    damaged = SpeakerDiarizationPipeline(bundle, fast=fast)
    network = getattr(damaged, part)
    weights = dict(tree_flatten(network.parameters()))
    network.load_weights([(tensor, mx.full(weights[tensor].shape, value))], strict=False)
    with pytest.raises(BundleError, match=f"{part} gives numbers that are not finite"):
        damaged(heard(talk))


@pytest.mark.parametrize("fast", [False, True])
def test_voices_that_are_no_numbers_are_no_result(
    bundle: Path, talk: np.ndarray, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    """Of what is said, where the silent voice is one."""
    damaged = SpeakerDiarizationPipeline(bundle, fast=fast)
    silent = damaged.silent_embedding()
    embed = type(damaged.embedding).embed
    monkeypatch.setattr(damaged, "silent_embedding", lambda: silent)
    monkeypatch.setattr(type(damaged.embedding), "embed", lambda *given: embed(*given) * mx.nan)
    with pytest.raises(BundleError, match="embedding gives numbers that are not finite"):
        damaged(heard(talk))


NO_IMPORTS = """
import sys
import numpy as np
from samevoice.models.diarization.pipeline import Analysis, SpeakerDiarizationPipeline
pipeline = SpeakerDiarizationPipeline(sys.argv[1])
print("loaded", *{name.partition('.')[0] for name in sys.modules})
per_chunk, random = pipeline.frames.per_chunk, np.random.default_rng(0)
embeddings = random.standard_normal((1, 3, 256)) + 0.01 * random.standard_normal((4, 3, 256))
segmentations = np.zeros((4, per_chunk, 3), np.uint8)
segmentations[:, : per_chunk // 2, 0] = segmentations[:, per_chunk // 2 :, 1] = 1
stages = pipeline.assign(Analysis(segmentations, embeddings.astype(np.float32), 13 * 16_000))
assert len(pipeline.result(stages, "made").speaker_diarization.labels()) == 2
print("clustered", *{name.partition('.')[0] for name in sys.modules})
"""


def test_nothing_is_imported_before_it_is_needed(bundle: Path) -> None:
    """What takes longer to import than all of a bundle to load: not even where voices differ."""
    command = [sys.executable, "-c", NO_IMPORTS, str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    heavy = {"scipy", "fastcluster", "torch", "pyannote", "huggingface_hub", "matplotlib", "rich"}
    assert "clustered" in done.stdout
    assert not heavy & set(done.stdout.split())


def test_reference_weights_say_so(pipeline: SpeakerDiarizationPipeline, bundle: Path) -> None:
    assert pipeline.reference_only
    assert len(pipeline.embedding_fingerprint) == 64
    again = SpeakerDiarizationPipeline(bundle)
    assert again.embedding_fingerprint == pipeline.embedding_fingerprint


def test_a_fingerprint_is_of_the_weights_whatever_is_recorded(
    pipeline: SpeakerDiarizationPipeline, bundle: Path, tmp_path: Path
) -> None:
    other = tmp_path / "bundle"
    shutil.copytree(bundle, other)
    for record in other.rglob("provenance.json"):
        record.unlink()
    assert SpeakerDiarizationPipeline(other).embedding_fingerprint == pipeline.embedding_fingerprint


def test_batches_are_sized_to_the_memory(
    pipeline: SpeakerDiarizationPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {}
    for memory in (0, 2**30, 2**40):
        monkeypatch.setattr(segmenter, "available_memory", lambda m=memory: float(m))
        sizes[memory] = pipeline._batch()
    assert sizes == {0: 1, 2**30: 2, 2**40: 16}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"memory.max": "3000\n", "memory.current": "1000\n"}, 2000.0),
        ({"memory.max": "1000\n", "memory.current": "3000\n"}, 0.0),
        ({"memory.max": "max\n", "memory.current": "1000\n"}, None),
        ({"memory/memory.limit_in_bytes": "70", "memory/memory.usage_in_bytes": "20"}, 50.0),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        ({}, None),
    ],
)
def test_a_containers_limit_counts(
    files: dict[str, str], free: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from samevoice.models.diarization import memory

    monkeypatch.setattr(memory, "CONTAINER", tmp_path / "none")
    system = memory.available_memory()
    assert system > 2**20
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "CONTAINER", tmp_path)
    found = memory.available_memory()
    assert found == free if free is not None else found > 2**20


@pytest.mark.parametrize("gpu", [True, False])
def test_without_proc_the_gpu_or_half_of_the_memory_counts(
    gpu: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from samevoice.models.diarization import memory

    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    monkeypatch.setattr(memory, "CONTAINER", tmp_path / "none")
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 16384, "SC_PHYS_PAGES": 1 << 20}.get)
    monkeypatch.setattr(mx, "is_available", lambda _: gpu)
    # What Metal tells of a machine with 16 GiB; of the CPU MLX tells names alone.
    metal = {"memory_size": 16 << 30, "max_recommended_working_set_size": 12 << 30}
    monkeypatch.setattr(mx, "device_info", lambda which: metal if which == mx.gpu else {})
    assert memory.available_memory() == (12 << 30 if gpu else 8 << 30)
