"""Speech and overlap, beside pyannote's own pipelines and its own steps."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import made_up
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import samevoice
from samevoice.errors import BundleError, ConversionError, DiarizationError
from samevoice.models.diarization.detection import (
    TASKS,
    DetectionPipeline,
    averaged,
    regions,
)
from samevoice.models.diarization.frames import Frames
from samevoice.models.diarization.pipeline import SpeakerDiarizationPipeline
from samevoice.parity.turns import errors

RATE = 16_000
FRAMES = Frames()


def recording() -> dict[str, Any]:
    from samevoice.converters.reference import sample

    return {"waveform": sample()[None], "sample_rate": RATE, "uri": "sample"}


# --- the steps ----------------------------------------------------------------------------------


def test_a_region_begins_above_one_threshold_and_ends_below_another() -> None:
    scores = np.array([0.3, 0.8, 0.6, 0.5, 0.4, 0.3, 0.6, 0.69, 0.71], dtype=np.float32)
    found = regions(scores, FRAMES, 0.7, 0.4, 0.0, 0.0)
    # The last region is one frame long, and so no longer than nothing.
    assert np.allclose(found, [FRAMES.middles(9)[[1, 5]]])
    assert regions(scores, FRAMES, 0.9, 0.4, 0.0, 0.0) == []
    assert regions(scores[1:], FRAMES, 0.7, 0.2, 0.0, 0.0) == [tuple(FRAMES.middles(8)[[0, 7]])]


def test_gaps_are_closed_before_short_regions_are_dropped() -> None:
    scores = np.array([1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0], dtype=np.float32)
    step = FRAMES.frame_step
    assert len(regions(scores, FRAMES, 0.5, 0.5, 0.0, 0.0)) == 3
    assert len(regions(scores, FRAMES, 0.5, 0.5, 0.0, 2 * step)) == 2
    assert len(regions(scores, FRAMES, 0.5, 0.5, 3 * step, 2 * step)) == 1
    assert regions(scores, FRAMES, 0.5, 0.5, 3 * step, 0.0) == []


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(2, 300),
    levels=st.sampled_from([2, 5, 1000]),
    onset=st.floats(0.05, 0.95),
    offset=st.floats(0.05, 0.95),
    shortest=st.sampled_from([0.0, 0.05, 0.2]),
    gap=st.sampled_from([0.0, 0.05, 0.2]),
)
@settings(max_examples=100, deadline=None)
def test_pyannotes_regions(
    seed: int,
    count: int,
    levels: int,
    onset: float,
    offset: float,
    shortest: float,
    gap: float,
    pyannote: None,
) -> None:
    from pyannote.audio.utils.signal import Binarize
    from pyannote.core import SlidingWindow, SlidingWindowFeature

    random = np.random.default_rng(seed)
    scores = (random.integers(0, levels, count) / (levels - 1)).astype(np.float32)
    window = SlidingWindow(duration=FRAMES.frame_duration, step=FRAMES.frame_step)
    theirs = Binarize(onset, offset, shortest, gap)(SlidingWindowFeature(scores[:, None], window))
    wanted = [(segment.start, segment.end) for segment in theirs.itersegments()]
    assert regions(scores, FRAMES, onset, offset, shortest, gap) == wanted


@given(
    seed=st.integers(0, 10_000),
    samples=st.integers(1, 40 * RATE),
    step=st.sampled_from([1.0, 0.5, 2.5, 10.0]),
    whole=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_pyannotes_average(
    seed: int, samples: int, step: float, whole: bool, pyannote: None
) -> None:
    from pyannote.audio import Inference
    from pyannote.core import Segment, SlidingWindow, SlidingWindowFeature

    frames = Frames(step=step)
    if whole:  # no chunk is padded
        samples = frames.chunk_samples + samples // frames.step_samples * frames.step_samples
    chunks = frames.num_chunks(samples)
    said = np.random.default_rng(seed).integers(0, 2, (chunks, frames.per_chunk), dtype=np.uint8)
    places = SlidingWindow(duration=frames.duration, step=step)
    window = SlidingWindow(duration=frames.frame_duration, step=frames.frame_step)
    scores = SlidingWindowFeature(said[..., None].astype(np.float32), places)
    wanted = Inference.aggregate(scores, window, hamming=True, missing=0.0)
    if not whole:
        wanted.data = wanted.crop(Segment(0.0, samples / RATE), mode="loose")
    ours = averaged(said, frames, samples)
    assert ours.dtype == wanted.data.dtype
    assert ours.tolist() == wanted.data[:, 0].tolist()


def test_overlap_is_what_the_second_speaker_says() -> None:
    masks = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 1], [1, 1, 1]], dtype=np.uint8)
    assert TASKS["voice-activity"].of_masks(masks).tolist() == [0, 1, 1, 1]
    assert TASKS["overlap"].of_masks(masks).tolist() == [0, 0, 1, 1]


# --- beside pyannote's pipelines ------------------------------------------------------------------


def theirs(checkpoint: Path, task: str, **numbers: float) -> Any:
    """pyannote's pipeline. Its version 4 has no OverlappedSpeechDetection: version 3's was this."""
    import torch
    from pyannote.audio import Inference, Model
    from pyannote.audio.pipelines import VoiceActivityDetection

    model = Model.from_pretrained(checkpoint)
    pipeline = VoiceActivityDetection(segmentation=model)
    if task == "overlap":
        pipeline._segmentation = Inference(
            model,
            pre_aggregation_hook=lambda scores: np.partition(scores, -2, axis=-1)[:, :, -2, None],
        )
    pipeline.instantiate({"min_duration_on": 0.0, "min_duration_off": 0.0, **numbers})
    sound = recording()
    return pipeline(sound | {"waveform": torch.from_numpy(np.array(sound["waveform"]))})


def check(checkpoint: Path, bundle: Path, task: str, **numbers: Any) -> int:
    """How many regions both found: as many, each within a frame of the other."""
    annotation = theirs(checkpoint, task, **numbers)
    wanted = [(s.start, s.end, who) for s, _, who in annotation.itertracks(yield_label=True)]
    found = DetectionPipeline(bundle, "cpu", task=task, **numbers)(recording())
    ours = found.speaker_diarization.spans
    assert len(ours) == len(wanted)
    for one, two in zip(ours, wanted, strict=True):
        assert abs(one[0] - two[0]) <= FRAMES.frame_step * 1.001
        assert abs(one[1] - two[1]) <= FRAMES.frame_step * 1.001
    # Labels of one kind: theirs are renamed to SPEECH, whatever is detected.
    label = TASKS[task].label
    assert {who for *_, who in ours} <= {label}
    assert errors([(*span[:2], label) for span in wanted], ours).rate == 0.0
    assert found.to_rttm() == annotation.to_rttm().replace("SPEECH", label)
    return len(ours)


@pytest.fixture(scope="module")
def trained(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """segmentation-3.0 and its bundle."""
    checkpoint = golden / "checkpoints" / "segmentation-3.0" / "pytorch_model.bin"
    if not checkpoint.is_file():
        pytest.skip(f"no segmentation-3.0 at {checkpoint}")
    bundle = tmp_path_factory.mktemp("trained") / "segmentation"
    samevoice.convert(checkpoint, bundle)
    return checkpoint, bundle


@pytest.mark.long
@pytest.mark.parametrize("task", TASKS)
def test_the_seeded_networks_regions_are_pyannotes(
    task: str, references: dict[str, Path], reference_bundle: Path
) -> None:
    """The segmentation of a whole pipeline's bundle is enough."""
    checkpoint = references["full"] / "segmentation" / "pytorch_model.bin"
    check(checkpoint, reference_bundle, task)


@pytest.mark.long
@pytest.mark.parametrize("durations", [{}, {"min_duration_on": 0.5, "min_duration_off": 0.3}])
@pytest.mark.parametrize("task", TASKS)
def test_the_trained_networks_regions_are_pyannotes(
    task: str, durations: dict[str, Any], trained: tuple[Path, Path], pyannote: None
) -> None:
    assert check(*trained, task, **durations) > 0


@pytest.fixture(scope="module")
def labelled(pyannote: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network in which each of three speakers has a score of its own, seeded; and its bundle."""
    folder = tmp_path_factory.mktemp("labelled")
    made_up.labelled(folder / "source")
    samevoice.convert(folder / "source", folder / "bundle", model_type="segmentation")
    return folder / "source" / "pytorch_model.bin", folder / "bundle"


def threshold(scores: np.ndarray, low: float, high: float) -> float:
    """Within that share of the scores, in the widest gap: no frame lies on it but for rounding."""
    ordered = np.sort(scores)[int(low * len(scores)) : int(high * len(scores))].astype(float)
    widest = np.diff(ordered).argmax()
    return float(ordered[widest : widest + 2].mean())


@pytest.mark.parametrize("task", TASKS)
def test_scores_of_independent_labels_are_thresholded_as_pyannotes(
    task: str, labelled: tuple[Path, Path]
) -> None:
    scores = DetectionPipeline(labelled[1], "cpu", task=task, scores=True)(recording()).scores
    assert scores is not None
    onset, offset = threshold(scores, 0.6, 0.8), threshold(scores, 0.3, 0.5)
    assert offset < onset
    assert check(*labelled, task, onset=onset, offset=offset) > 0


# --- their config.yaml ----------------------------------------------------------------------------

CONFIG_YAML = """\
pipeline:
  name: pyannote.audio.pipelines.{name}
  params:
    segmentation: $model/segmentation
params:
  onset: {onset}
  offset: {offset}
  min_duration_on: 0.05
  min_duration_off: 0.1
"""
NAMES = {"voice-activity": "VoiceActivityDetection", "overlap": "OverlappedSpeechDetection"}


def source_of(folder: Path, checkpoint: Path, text: str) -> Path:
    (folder / "segmentation").mkdir(parents=True)
    shutil.copy(checkpoint, folder / "segmentation" / "pytorch_model.bin")
    (folder / "config.yaml").write_text(text)
    return folder


@pytest.mark.parametrize("task", TASKS)
def test_a_pipelines_bundle_knows_its_thresholds(
    task: str, labelled: tuple[Path, Path], tmp_path: Path
) -> None:
    scores = DetectionPipeline(labelled[1], "cpu", task=task, scores=True)(recording()).scores
    assert scores is not None
    onset, offset = threshold(scores, 0.6, 0.8), threshold(scores, 0.3, 0.5)
    text = CONFIG_YAML.format(name=NAMES[task], onset=onset, offset=offset)
    source = source_of(tmp_path / "source", labelled[0], text)
    samevoice.convert(source, tmp_path / "bundle")
    numbers = {"onset": onset, "offset": offset, "min_duration_on": 0.05, "min_duration_off": 0.1}
    wanted = theirs(labelled[0], task, **numbers)
    if task == "voice-activity":  # their own reading of the same file
        from pyannote.audio import Pipeline

        pipeline = Pipeline.from_pretrained(str(source))
        assert pipeline is not None
        assert pipeline.parameters(instantiated=True) == numbers
    made = DetectionPipeline(tmp_path / "bundle", "cpu", task=task)
    assert made(recording()).to_rttm() == wanted.to_rttm().replace("SPEECH", TASKS[task].label)
    (other,) = set(TASKS) - {task}
    assert DetectionPipeline(tmp_path / "bundle", task=other).thresholds == (0.5, 0.5)
    asked = DetectionPipeline(tmp_path / "bundle", task=task, onset=0.3, min_duration_on=0.0)
    assert (asked.thresholds, asked.durations) == ((0.3, 0.3), (0.0, 0.1))
    with pytest.raises(BundleError, match=f"not a whole pipeline: .* or pass --task {task}"):
        SpeakerDiarizationPipeline(tmp_path / "bundle")
    # The network is compared and comes back as any other.
    assert samevoice.inspect(tmp_path / "bundle").changed == ()
    samevoice.to_torch(tmp_path / "bundle", tmp_path / "back.bin")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("onset: 0.5", "onset: 1.5", "onset is 1.5: it must lie between 0 and 1"),
        ("onset: 0.5", "onset: loud", "onset is 'loud'"),
        ("offset: 0.4", "offset: 0.6", "offset must not lie above onset"),
        ("on: 0.05", "on: -1", "min_duration_on is -1: it must be 0 or more seconds"),
        ("    segmentation: $model/segmentation\n", "    other: 1\n", "asks for 'other'"),
        ("params:\n  onset", "strange:\n  onset", "params"),
    ],
)
def test_an_odd_config_is_refused_in_one_line(
    old: str, new: str, said: str, labelled: tuple[Path, Path], tmp_path: Path
) -> None:
    text = CONFIG_YAML.format(name="VoiceActivityDetection", onset=0.5, offset=0.4)
    assert old in text
    source_of(tmp_path / "source", labelled[0], text.replace(old, new))
    with pytest.raises(ConversionError, match=re.escape(said)) as caught:
        samevoice.convert(tmp_path / "source", tmp_path / "bundle")
    assert "\n" not in str(caught.value)


# --- what it takes, and what it gives -------------------------------------------------------------


@pytest.fixture(scope="module")
def segmentation(reference_bundle: Path) -> Path:
    return reference_bundle / "segmentation"


def test_scores_are_kept_where_they_are_asked_for(segmentation: Path) -> None:
    plain = DetectionPipeline(segmentation)(recording())
    found = DetectionPipeline(segmentation, scores=True)(recording())
    assert "scores" not in json.loads(plain.to_json())
    said = json.loads(found.to_json(timing=True, model={"onset": 0.5}))
    assert (said["task"], said["label"]) == ("voice-activity", "SPEECH")
    scores = np.array(said["scores"]["values"])
    assert scores.min() >= 0 <= scores.max() <= 1
    times = said["scores"]["first"] + said["scores"]["step"] * np.arange(len(scores))
    for region in said["regions"]:
        inside = (times > region["start"] + 1e-3) & (times < region["end"] - 1e-3)
        assert (scores[inside] >= 0.5).all()
    assert said["detected"] == pytest.approx(sum(r["end"] - r["start"] for r in said["regions"]))
    assert said["seconds"].keys() == {"reading", "segmentation", "regions"}
    assert said["model"] == {"onset": 0.5}


def test_thresholds_move_the_regions(segmentation: Path) -> None:
    strict, loose = (
        DetectionPipeline(segmentation, onset=value)(recording()) for value in (0.9, 0.1)
    )
    seconds = [found.speaker_diarization.seconds("SPEECH") for found in (strict, loose)]
    assert seconds[0] < seconds[1]


def test_silence_holds_no_region(trained: tuple[Path, Path]) -> None:
    silence = {"waveform": np.zeros((1, 3 * RATE), dtype=np.float32), "sample_rate": RATE}
    found = DetectionPipeline(trained[1])(silence)
    assert (found.labels, found.to_rttm(), found.as_dict()["detected"]) == ([], "", 0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task": "music"}, "task 'music' is not one of voice-activity, overlap"),
        ({"onset": 1.0}, "onset is 1.0: it must lie between 0 and 1"),
        ({"offset": float("nan")}, "must lie between 0 and 1"),
        ({"min_duration_on": -1.0}, "min_duration_on is -1.0: it must be 0 or more seconds"),
        ({"min_duration_off": float("inf")}, "must be 0 or more seconds"),
        ({"step": 11.0}, "the step must be positive and at most the chunk's duration"),
    ],
)
def test_what_it_does_not_take(options: dict[str, Any], said: str, segmentation: Path) -> None:
    with pytest.raises(DiarizationError, match=said):
        DetectionPipeline(segmentation, **options)


def test_an_embedding_detects_nothing(reference_bundle: Path) -> None:
    with pytest.raises(BundleError, match="which is no segmentation"):
        DetectionPipeline(reference_bundle / "embedding")
