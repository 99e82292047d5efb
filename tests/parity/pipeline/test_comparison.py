"""A whole pipeline against pyannote's own: right ones are green, wrong ones red where they err."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from made_talk import FRAMES, RATE, Talk, saying

from samevoice.converters import convert
from samevoice.errors import SamevoiceError
from samevoice.models.diarization import clustering, reconstruction, vbx
from samevoice.models.diarization.crew import Task
from samevoice.models.diarization.frames import Frames
from samevoice.models.diarization.plda import Plda, unit
from samevoice.parity import result as results
from samevoice.parity.identity import ParityError
from samevoice.parity.inputs import InputError
from samevoice.parity.limits import limits_for
from samevoice.parity.pipeline import compare, comparison, outcome, recordings, stages
from samevoice.parity.pipeline.comparison import Compared, Comparison
from samevoice.parity.pipeline.original import ReferencePipeline, Spoke, SpokenTruth
from samevoice.parity.pipeline.port import Listening
from samevoice.parity.pipeline.recordings import Recorded
from samevoice.parity.result import ResultError
from samevoice.parity.turns import Errors

pytestmark = pytest.mark.long

LIMITS = limits_for("full", "float32", "cpu")
# A made-up recording ------------------------------------------------------------------------------


class Segmentation:
    def __init__(self, real: Any, scores: np.ndarray) -> None:
        self.config, self.scores = real.config, scores.astype(np.float32)

    def __call__(self, waveforms: mx.array) -> mx.array:
        return mx.array(self.scores[numbers(waveforms)])


class Embedding:
    def __init__(self, real: Any, voices: np.ndarray) -> None:
        self.real, self.voices = real, voices.astype(np.float32)
        self.config, self.fbank, self.compute_fbank = real.config, real.fbank, real.compute_fbank
        self.fewest_samples = real.fewest_samples

    def frames(self, waveforms: mx.array) -> mx.array:
        return waveforms

    def embed(self, waveforms: mx.array, masks: mx.array) -> mx.array:
        several = np.array(masks)
        mean = several @ self.voices[numbers(waveforms)]
        return mx.array(mean / (several.sum(axis=-1, keepdims=True) + np.float32(1e-8)))


def numbers(waveforms: mx.array) -> np.ndarray:
    found: np.ndarray = np.rint(np.array(waveforms[:, 0]) * 1000).astype(int)
    return found


@pytest.fixture(scope="module")
def bundle(references: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("pipeline") / "full"
    convert.convert(references["full"], target)
    return target


@pytest.fixture
def candidate(bundle: Path, talk: Talk) -> Listening:
    """The port with the same stand-ins, to be spoilt."""
    made = Listening(bundle, "cpu")
    made.segmentation = Segmentation(made.segmentation, talk.scores)
    made.embedding = Embedding(made.embedding, talk.voices)
    return made


Judge = Callable[[], Comparison]


@pytest.fixture
def judge(candidate: Listening, heard: tuple[Spoke, SpokenTruth], talk: Talk) -> Judge:
    return lambda: comparison.judged([compared(candidate, heard, talk)], LIMITS)


def compared(candidate: Listening, heard: tuple[Spoke, SpokenTruth], talk: Talk) -> Compared:
    return comparison.compare_one(talk.recording, *heard, candidate, LIMITS)


# Right and wrong ports ----------------------------------------------------------------------------


def test_the_recording_puts_every_stage_to_work(heard: tuple[Spoke, SpokenTruth]) -> None:
    found = heard[0]
    assert found.clusters.steps is not None
    assert found.clusters.steps.gamma.shape[1] == 4
    assert set(found.counts.tolist()) == {0, 1, 2}
    assert 0 < len(found.clusters.train[0]) < found.segmentations.any(axis=1).sum()
    assert len({label for *_, label in found.turns}) == len(found.voices)


def test_a_right_port_is_green_at_every_tap_in_both_modes(judge: Judge) -> None:
    found = judge()
    assert found.verdict.reasons == ()
    assert found.details["errors"] == found.details["left_out"] == {}
    modes = {(tap.name, tap.mode) for tap in found.verdict.taps}
    for name in stages.ORDER:
        assert ((name, "free") in modes) == (name in stages.FREE), name
        network = stages.TABLE.get(name) == stages.NETWORK
        forced = not name.endswith(".free") and not network
        assert ((name, "forced") in modes) == forced, name
    order = [tap.name for tap in found.verdict.taps]
    assert list(dict.fromkeys(order)) == list(stages.ORDER)
    section = found.verdict.task["diarization"]
    assert section["der"] == section["exclusive_der"] == section["unexplained_der"] == 0.0
    assert section["flips"] == 0


def cosine_threshold(patch: pytest.MonkeyPatch, candidate: Listening) -> None:
    del candidate
    real = clustering.ahc
    patch.setattr(clustering, "ahc", lambda x, threshold: real(x, (2 * threshold) ** 0.5))


def normalised_plda(patch: pytest.MonkeyPatch, candidate: Listening) -> None:
    del candidate
    real = Plda.__call__
    patch.setattr(Plda, "__call__", lambda self, x: real(self, unit(x)))


def greedy_masks(patch: pytest.MonkeyPatch, candidate: Listening) -> None:
    patch.setattr(type(candidate), "least_frames", 400)


def overlaps_kept(patch: pytest.MonkeyPatch, candidate: Listening) -> None:
    settings = {**candidate.settings, "embedding_exclude_overlap": False}
    patch.setattr(candidate, "settings", settings)


def names_in_another_order(patch: pytest.MonkeyPatch, candidate: Listening) -> None:
    del candidate

    def names(found: list[tuple[float, float, int]]) -> dict[int, str]:
        clusters = sorted({who for *_, who in found}, reverse=True)
        return {cluster: f"SPEAKER_{k:02d}" for k, cluster in enumerate(clusters)}

    patch.setattr(reconstruction, "names", names)


def one_iteration(patch: pytest.MonkeyPatch, candidate: Listening) -> None:
    del candidate
    patch.setattr(vbx, "ITERATIONS", 1)


def every_slot_for_itself(patch: pytest.MonkeyPatch, candidate: Listening) -> None:
    del candidate
    patch.setattr(clustering, "constrained", lambda soft: soft.argmax(axis=2))


def half_a_chunk(patch: pytest.MonkeyPatch, candidate: Listening) -> None:
    del candidate
    patch.setattr(clustering, "MIN_ACTIVE", 0.5)


def counts_rounded_up(patch: pytest.MonkeyPatch, candidate: Listening) -> None:
    del candidate
    patch.setattr(np, "rint", lambda x, real=np.rint: np.ceil(x) if np.ndim(x) else real(x))


def classes_in_another_order(patch: pytest.MonkeyPatch, candidate: Listening) -> None:
    assert candidate.classes is not None
    patch.setattr(candidate, "classes", candidate.classes[:, ::-1].copy())


def starts_of_frames(patch: pytest.MonkeyPatch, candidate: Listening) -> None:
    del candidate
    patch.setattr(Frames, "middles", lambda self, count: np.arange(count) * self.frame_step)


def the_quietest(patch: pytest.MonkeyPatch, candidate: Listening) -> None:
    del candidate
    real = reconstruction.discretise
    patch.setattr(reconstruction, "discretise", lambda votes, counts: real(-votes, counts))


def centroids_of_unit_length(patch: pytest.MonkeyPatch, candidate: Listening) -> None:
    del candidate
    real = clustering.cluster

    def cluster(*args: Any) -> Any:
        found = real(*args)
        return replace(found, centroids=unit(found.centroids))

    patch.setattr(clustering, "cluster", cluster)


def voices_in_another_order(patch: pytest.MonkeyPatch, candidate: Listening) -> None:
    del candidate
    from samevoice.models.diarization import pipeline

    real = pipeline._centroids
    patch.setattr(pipeline, "_centroids", lambda x, clusters: real(x, clusters)[::-1])


@pytest.mark.parametrize(
    ("bug", "where"),
    [
        (classes_in_another_order, "masks"),
        (counts_rounded_up, "count"),
        (greedy_masks, "weights"),
        (overlaps_kept, "weights"),
        (half_a_chunk, "trained"),
        (cosine_threshold, "ahc"),
        (normalised_plda, "plda"),
        (one_iteration, "gamma"),
        (centroids_of_unit_length, "centroids"),
        (every_slot_for_itself, "hard"),
        (the_quietest, "discrete"),
        (starts_of_frames, "turns"),
        (names_in_another_order, "turns"),
        (voices_in_another_order, "voices"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_known_bug_is_found_in_the_stage_where_it_sits(
    bug: Callable[[pytest.MonkeyPatch, Listening], None],
    where: str,
    judge: Judge,
    candidate: Listening,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        bug(patch, candidate)
        found = judge()
    assert found.verdict.first_divergence == where
    assert any(tap.mode == "forced" and tap.name == where for tap in found.verdict.failed)


def test_a_port_that_breaks_off_fails_and_says_why(
    judge: Judge, candidate: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **more: Any) -> Any:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(candidate, "assign", broken)
    found = judge()
    assert "RuntimeError: no such thing" in found.details["errors"]["talk, free"]
    assert not found.verdict.passed
    assert found.verdict.task["diarization"]["unexplained_der"] == np.inf
    # Forced, every stage is still judged.
    assert {tap.mode for tap in found.verdict.failed} == {"free"}


# Decisions on the noise floor ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def torn(reference: ReferencePipeline, talk: Talk) -> tuple[Talk, Spoke, SpokenTruth]:
    """The same talk, with half a second that pyannote's float32 can hardly decide."""
    scores = talk.scores.copy()
    scores[8, 30:60] = [-1.0, -1.0 - 1e-5, -5, -5, -5, -5, -5]
    made = replace(talk, scores=scores)
    with saying(reference, made):
        found = reference.run(made.samples)
        truth = reference.truth(found)
    assert isinstance(found, Spoke)
    assert isinstance(truth, SpokenTruth)
    # The rounding of a network is more than that of one number.
    return made, found, replace(truth, scores=truth.scores + 5e-6)


def turned(candidate: Listening, scores: np.ndarray, by: float) -> None:
    """The port decides the torn frames otherwise."""
    moved = scores.copy()
    moved[8, 30:60, 1] += by
    candidate.segmentation.scores = moved.astype(np.float32)


def test_flips_on_the_noise_floor_are_counted_and_explain_what_follows(
    candidate: Listening, torn: tuple[Talk, Spoke, SpokenTruth]
) -> None:
    talk, heard, truth = torn
    turned(candidate, talk.scores, 2e-5)
    one = comparison.compare_one(talk.recording, heard, truth, candidate, LIMITS)
    found = comparison.judged([one], LIMITS)
    section = found.verdict.task["diarization"]
    assert section["flips"] == section["flips_on_floor"] == 30
    assert section["decisions_near_floor"] == 30
    assert section["unexplained_der"] == 0.0
    # What depends on the decisions is judged from pyannote's own input alone.
    assert found.verdict.failed == ()
    (left,) = found.details["left_out"]["talk"].values()
    assert "turns" in left
    assert {tap.mode for tap in found.verdict.taps if tap.name == "turns"} == {"forced"}
    assert {tap.mode for tap in found.verdict.taps if tap.name == "embeddings"} == {"forced"}
    # 30 of 10,013 decisions are too many all the same.
    assert found.verdict.task_reasons[0].startswith("decision_agreement")


def test_a_flip_beyond_the_noise_explains_nothing(
    candidate: Listening, talk: Talk, heard: tuple[Spoke, SpokenTruth]
) -> None:
    scores = talk.scores.copy()
    scores[:, :, 0] += 20.0 * (np.arange(FRAMES.per_chunk) % 100 < 30)
    candidate.segmentation.scores = scores.astype(np.float32)
    found = comparison.judged([compared(candidate, heard, talk)], LIMITS)
    section = found.verdict.task["diarization"]
    assert section["flips"] > section["flips_on_floor"] == 0
    assert section["unexplained_der"] == section["der"] > 0.1
    assert {"masks", "turns"} <= {tap.name for tap in found.verdict.failed}


def test_clusters_that_rounding_decides_are_seen(
    candidate: Listening, heard: tuple[Spoke, SpokenTruth], talk: Talk
) -> None:
    plain, truth = heard
    steps = truth.clusters.steps
    assert steps is not None
    other = replace(truth.clusters, steps=replace(steps, ahc=np.zeros_like(steps.ahc)))
    one = compared(candidate, (plain, replace(truth, others=(other,))), talk)
    assert one.clusters_on_floor == "ahc"
    assert one.left_out == {}  # both sides came to the same all the same
    one.port.turns = one.original.turns[1:]
    assert one.left_out.keys() == set(stages.after("ahc", ""))
    assert one.explained


def test_coarse_networks_are_judged_by_the_der(
    candidate: Listening, heard: tuple[Spoke, SpokenTruth], talk: Talk
) -> None:
    limits = limits_for("full", "float16", "cpu")
    candidate.segmentation.scores = candidate.segmentation.scores.astype(np.float16)
    one = comparison.compare_one(talk.recording, *heard, candidate, limits)
    found = comparison.judged([one], limits)
    assert found.verdict.failed == ()
    assert {"der", "decision_agreement"} == limits.for_task.keys()
    free = {tap.name for tap in found.verdict.taps if tap.mode == "free"}
    assert free == {
        name for name, kind in stages.TABLE.items() if kind == stages.NETWORK
    }  # with the same masks, the embeddings as well


# Figures ------------------------------------------------------------------------------------------


A, B = "SPEAKER_00", "SPEAKER_01"


def test_the_der_is_that_of_pyannote_metrics_and_parts_may_be_left_out(pyannote: Any) -> None:
    del pyannote
    plain = ((0.0, 6.0, A), (4.0, 10.0, B))
    got = ((0.0, 6.0, B), (4.0, 9.0, A), (10.0, 11.0, A))
    found = outcome.errors(plain, got, 12.0)
    assert (found.wrong, found.total) == (2.0, 12.0)  # one second missed, one too many
    assert outcome.errors(plain, got, 12.0, [(9.0, 11.0)]).wrong == 0.0
    assert outcome.errors(plain, None, 12.0).rate == np.inf
    assert outcome.errors((), (), 12.0).rate == 0.0
    assert outcome.errors((), got, 12.0).rate == 1.0
    assert (Errors(1.0, 4.0) + Errors(0.0, 6.0)).rate == 0.1


def test_labels_are_given_to_whoever_speaks_most_then(pyannote: Any) -> None:
    del pyannote
    plain = ((0.0, 5.0, A), (5.0, 9.0, B))
    got = ((0.0, 5.0, B), (5.0, 9.0, A), (20.0, 21.0, "SPEAKER_02"))
    assert [who for *_, who in outcome.mapped(plain, got)] == [A, B, "SPEAKER_02"]
    extra = ((0.0, 9.0, "X"), (20.0, 21.0, A))
    assert [who for *_, who in outcome.mapped(plain, extra)] == [A, f"{A} (other)"]


def test_an_envelope_is_small_and_holds_the_extremes() -> None:
    samples = np.zeros(16_001, np.float32)
    samples[777], samples[15_000] = 0.5, -0.25
    found = outcome.envelope(samples)
    assert len(found) == 1000
    assert max(high for _, high in found) == 0.5
    assert min(low for low, _ in found) == -0.25
    assert outcome.envelope(samples[:3]) == [[0.0, 0.0]] * 3
    assert outcome.envelope(samples[:0]) == []


def test_partitions_are_compared_whatever_their_numbers() -> None:
    labels = np.array([[3, -2], [3, 0]])
    assert stages.canonical(labels).tolist() == [[0, -2], [0, 1]]
    assert stages.canonical(np.zeros(0)).tolist() == []


# References that are given ------------------------------------------------------------------------


def test_an_rttm_says_who_spoke(tmp_path: Path) -> None:
    path = tmp_path / "x.rttm"
    path.write_text(
        "SPKR-INFO a 1 <NA>\n\nSPEAKER a 1 0.5 1.25 <NA> <NA> eve <NA> <NA>\n"
        "SPEAKER b 1 0 1 <NA> <NA> bob <NA> <NA>\n"
    )
    assert recordings.read_rttm(path) == {"a": ((0.5, 1.75, "eve"),), "b": ((0.0, 1.0, "bob"),)}


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no line of a SPEAKER"), ("SPEAKER a 1 x 2 - - y", "line 1:"), ("SPEAKER a", "line 1:")],
)
def test_what_is_no_rttm_is_refused_in_one_line(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.rttm").write_text(text)
    with pytest.raises(SamevoiceError, match=words) as caught:
        recordings.read_rttm(tmp_path / "x.rttm")
    assert "\n" not in str(caught.value)


def test_references_go_with_the_recordings_of_that_name(tmp_path: Path) -> None:
    import soundfile

    for name in ("one.flac", "two.wav"):
        soundfile.write(tmp_path / name, np.zeros((800, 2)), 8000)
    rttm = tmp_path / "r.rttm"
    rttm.write_text("SPEAKER two 1 0 0.1 <NA> <NA> eve <NA> <NA>\n")
    audio = [tmp_path / "one.flac", tmp_path / "two.wav", tmp_path / "two.wav"]
    found = recordings.recordings_of([], audio, [rttm])
    assert [one.name for one in found] == ["one.flac", "two.wav", "two.wav #2"]
    assert [one.samples.shape for one in found] == [(1600,)] * 3
    assert [bool(one.spoken) for one in found] == [False, True, True]
    assert recordings.recordings_of([], audio[:1], [rttm])[0].spoken  # nothing else can be meant
    with pytest.raises(InputError, match="'two', and no --audio is called that"):
        recordings.recordings_of([], [audio[0], audio[0]], [rttm])


# A bundle and its source --------------------------------------------------------------------------


def test_somebodys_recording_is_not_kept_for_a_release(
    bundle: Path, references: dict[str, Path], tmp_path: Path
) -> None:
    import soundfile

    soundfile.write(tmp_path / "private.wav", np.zeros(RATE), RATE)
    mine = [Recorded("nobody", np.zeros(RATE, np.float32))]
    audio = [tmp_path / "private.wav"]
    made = compare.run(
        bundle, references["full"], inputs=mine, audio=audio, output=tmp_path / "out"
    )
    assert [one.name for one in made.inputs] == ["nobody", "private.wav"]
    index = json.loads((tmp_path / "out" / "golden" / "golden.json").read_text())
    assert [row["name"] for row in index["examples"]] == ["nobody"]


@pytest.fixture(scope="module")
def green(
    bundle: Path, references: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Path]:
    """Real networks, on a chunk of the sample and one of silence."""
    from samevoice.converters.reference import sample

    output = tmp_path_factory.mktemp("result")
    speech = sample()[16 * RATE : 25 * RATE]
    chosen = [
        Recorded("speech", speech, ((1.0, 2.0, "eve"),)),
        Recorded("nobody", np.zeros(RATE, np.float32)),
    ]
    made = compare.run(bundle, references["full"], inputs=chosen, device="cpu", output=output)
    return made, output


def test_the_reference_bundle_is_green(green: tuple[Any, Path]) -> None:
    made, output = green
    assert made.passed, made.verdict.reasons
    assert made == results.read(output / "result.json")
    assert (made.model_type, made.dtype, made.device) == ("full", "float32", "cpu")
    section = made.task["diarization"]
    assert section["der"] == 0.0
    rows = section["recordings"]
    assert rows["speech"]["decisions"] == 589
    assert rows["speech"]["der_candidate"] == rows["speech"]["der_reference"] > 0
    assert "pyannote's own" in compare.sentence(made)
    drawn = made.details["diarization"]["speech"]
    assert drawn["reference"] == drawn["candidate"]
    assert drawn["truth"] == [[1.0, 2.0, "eve"]]
    starts = [start for start, *_ in drawn["reference"]]
    assert all(a <= b for a, b in pairwise(starts))


WITHOUT_TORCH = """
import sys
for name in ("torch", "torchaudio", "pyannote", "lightning"):
    sys.modules[name] = None  # as if it were not installed
from samevoice.parity.replay import replay
verdict = replay(*sys.argv[1:], device="cpu")
print(verdict.passed, [tap.name for tap in verdict.taps], verdict.task["diarization"]["der"])
"""


def test_what_pyannote_said_is_replayed_without_it(green: tuple[Any, Path], bundle: Path) -> None:
    import subprocess
    import sys

    command = [sys.executable, "-c", WITHOUT_TORCH, str(bundle), str(green[1] / "golden")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    taps = ["log_probabilities", "turns", "exclusive_turns"]
    assert done.stdout.strip() == f"True {[name for name in taps for _ in range(2)]} 0.0"


def test_other_turns_than_pyannotes_are_found(
    green: tuple[Any, Path], bundle: Path, tmp_path: Path
) -> None:
    import shutil

    from safetensors.numpy import load_file, save_file

    from samevoice.parity.golden import GoldenError
    from samevoice.parity.replay import replay

    shutil.copytree(green[1] / "golden", tmp_path / "golden")
    path = tmp_path / "golden" / "000.safetensors"
    arrays = load_file(path)
    arrays["plain/turns"][0, 1] += 0.5
    save_file(arrays, path)
    verdict = replay(bundle, tmp_path / "golden", device="cpu")
    assert verdict.first_divergence == "turns"
    assert verdict.task["diarization"]["der"] > 0.0
    assert any("unexplained_der" in words for words in verdict.task_reasons)
    arrays["fed/waveforms"][0, 0, 5] += 0.5
    save_file(arrays, path)
    with pytest.raises(GoldenError, match="inputs of 'speech' are not those saved"):
        replay(bundle, tmp_path / "golden", device="cpu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: replace(x, taps=x.taps[1:]), "no log_probabilities"),
        (
            lambda x: replace(x, taps=tuple(t for t in x.taps if t.input != "nobody")),
            "judged for 'nobody'",
        ),
        (
            lambda x: replace(
                x, taps=tuple(t for t in x.taps if (t.name, t.mode) != ("turns", "forced"))
            ),
            r"no turns \(forced\)",
        ),
        (
            lambda x: replace(
                x, limits=limits_for("generic", "float32", "cpu"), task={}, loosened=()
            ),
            "limits of a generic",
        ),
    ],
)
def test_a_result_without_what_must_be_there_is_refused(
    green: tuple[Any, Path], change: Callable[[Any], Any], words: str
) -> None:
    with pytest.raises(ResultError, match=words):
        results.check(change(green[0]))


def test_settings_that_are_not_the_sources_are_refused(
    bundle: Path, references: dict[str, Path], tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(bundle, tmp_path / "edited")
    config = json.loads((tmp_path / "edited" / "config.json").read_text())
    config["pipeline"]["threshold"] = 0.7
    (tmp_path / "edited" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ParityError, match=r"threshold 0\.7, its source 0\.6"):
        compare.run(tmp_path / "edited", references["full"], inputs=[])


def test_the_gate_knows_a_pipelines_own_result(green: tuple[Any, Path], bundle: Path) -> None:
    from typer.testing import CliRunner

    from samevoice.cli import app

    line = ["gate", str(green[1] / "result.json"), "--bundle", str(bundle)]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0, done.output


def test_parts_that_are_not_there_are_refused(bundle: Path) -> None:
    from samevoice.parity.run import run_parts

    with pytest.raises(ParityError, match="one of segmentation, plda, embedding, pipeline"):
        run_parts(bundle, "reference:full", only=["pipelines"])
    with pytest.raises(ParityError, match="belong to a pipeline"):
        run_parts(bundle / "plda", "reference:full", only=["plda"])


# The fast configuration ---------------------------------------------------------------------------

FAST_LIMITS = limits_for("fast", "float32", "cpu")


class Near:
    """In place of the shared trunk: the exact voices, moved by a share of their length."""

    moved = 0.0

    def __init__(
        self, embedding: Any, frames: Frames, silent: np.ndarray, apart: float, hear: object
    ) -> None:
        del frames, silent, apart, hear
        self.embedding, self.random = embedding, np.random.default_rng(3)

    def heard(self, waveforms: np.ndarray, masks: np.ndarray) -> list[Task]:
        found = np.array(self.embedding.embed(mx.array(waveforms), mx.array(masks)))
        noise = self.random.standard_normal(found.shape).astype(np.float32)
        unit_noise = noise / np.linalg.norm(noise, axis=-1, keepdims=True)
        length = np.linalg.norm(found, axis=-1, keepdims=True)
        moved = found + self.moved * length * unit_noise
        return [Task("", (), begun=True, done=True, made=moved)]

    def rest(self) -> list[Task]:
        return []


@pytest.fixture
def fast(
    candidate: Listening,
    heard: tuple[Spoke, SpokenTruth],
    talk: Talk,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[float], Comparison]:
    """The same candidate in its fast configuration, judged as that."""
    monkeypatch.setattr("samevoice.models.diarization.pipeline.SharedTrunk", Near)
    candidate.fast = True

    def judged(moved: float) -> Comparison:
        monkeypatch.setattr(Near, "moved", moved)
        one = comparison.compare_one(talk.recording, *heard, candidate, FAST_LIMITS)
        return comparison.judged([one], FAST_LIMITS)

    return judged


def test_the_fast_configuration_is_judged_by_what_it_costs(
    fast: Callable[[float], Comparison],
) -> None:
    found = fast(0.05)
    assert found.verdict.reasons == ()
    free = {tap.name for tap in found.verdict.taps if tap.mode == "free"}
    assert free == {"log_probabilities", "masks", "count", "fbank"}
    forced = {tap.name for tap in found.verdict.taps if tap.mode == "forced"}
    assert {"weights", "embeddings", "ahc", "gamma", "hard", "turns"} <= forced
    ((why, left_out),) = found.details["left_out"]["talk"].items()
    assert "near" in why
    assert left_out[0] == "embeddings"
    cost = found.verdict.task["fast"]
    # A step of 0.05 across: a cosine of 1 / sqrt(1 + 0.05 ** 2).
    assert cost["shared_cosine_median"] == pytest.approx(0.99875, abs=2e-4)
    assert cost["time_ratio"] == pytest.approx(cost["seconds"] / cost["seconds_exact"])
    assert cost["recordings"]["talk"]["voices"] > 0


def test_flips_on_the_noise_floor_do_not_make_a_fast_configuration_red(
    candidate: Listening,
    torn: tuple[Talk, Spoke, SpokenTruth],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    talk, heard, truth = torn
    monkeypatch.setattr("samevoice.models.diarization.pipeline.SharedTrunk", Near)
    turned(candidate, talk.scores, 2e-5)
    candidate.fast = True
    one = comparison.compare_one(talk.recording, heard, truth, candidate, FAST_LIMITS)
    found = comparison.judged([one], FAST_LIMITS)
    assert found.verdict.failed == ()
    assert one.left_out.keys() == set(stages.after("masks", "")) | {"embeddings"}
    assert "fast" in one.left_out["embeddings"]
    assert "noise" in one.left_out["turns"]


def test_a_fast_configuration_that_costs_too_much_is_red(
    fast: Callable[[float], Comparison], candidate: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    (why,) = fast(0.5).verdict.task_reasons
    assert why.startswith("shared_cosine_median is 0.8")
    plain = candidate.result

    def losing_somebody(*args: Any, **options: Any) -> Any:
        made = plain(*args, **options)
        kept = made.speaker_diarization.crop(0, 20 if candidate.fast else 99)
        return replace(made, speaker_diarization=kept)

    monkeypatch.setattr(candidate, "result", losing_somebody)
    found = fast(0.0)
    assert [why for why in found.verdict.task_reasons if why.startswith("der is")]
    assert found.verdict.task["fast"]["der_exact"] > 0.02


def test_a_fast_configuration_that_breaks_off_is_red(
    fast: Callable[[float], Comparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Near, waveforms: np.ndarray, masks: np.ndarray) -> list[np.ndarray]:
        raise ValueError("no trunk")

    monkeypatch.setattr(Near, "heard", broken)
    found = fast(0.0)
    assert "shared_cosine_median was not measured" in " ".join(found.verdict.task_reasons)
    assert found.details["errors"] == {"talk, free": "ValueError: no trunk"}


def test_all_but_who_speaks_when_keeps_the_exact_limits() -> None:
    for dtype in ("float32", "float16", "q8"):
        exact, shared = (limits_for(x, dtype, "cpu") for x in ("full", "fast"))
        ders = ("unexplained_der", "der")
        kept = [one for one in exact.limits if one.metric not in ders]
        assert [one for one in shared.limits if one in kept] == kept
        added = {one.metric for one in shared.limits if one not in kept}
        assert added == {"shared_cosine_median", "shared_cosine_min", "der"}


def as_fast(result: Any) -> Any:
    """What a fast run would have written of the same comparison."""
    cost = {"shared_cosine_median": 0.99, "shared_cosine_min": 0.9, "time_ratio": 0.4}
    made = replace(
        result, limits=FAST_LIMITS, model_type="fast", task={**result.task, "fast": cost}
    )
    return replace(made, passed=made.verdict.passed, taps=made.taps)


def test_a_fast_result_is_no_proof_of_the_bundle(
    green: tuple[Any, Path], bundle: Path, tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    from samevoice.cli import app
    from samevoice.release.parts import parts_of

    result, folder = green
    path = tmp_path / "fast" / "result.json"
    results.write(path, as_fast(result))
    assert results.read(path).passed
    run = CliRunner().invoke
    assert run(app, ["gate", str(path)]).exit_code == 0
    refused = run(app, ["gate", str(path), "--bundle", str(bundle)])
    assert refused.exit_code != 0
    assert "fast configuration" in str(refused.exception)
    *_, last = parts_of(bundle, [path])
    assert (last.label, last.result) == ("pipeline", None)
    *_, last = parts_of(bundle, [path, folder / "result.json"])
    assert last.result == result


@pytest.mark.parametrize("only", [["embedding"], ["pipeline", "plda"]])
def test_the_fast_tier_is_of_the_whole_pipeline(bundle: Path, only: list[str]) -> None:
    from samevoice.parity.run import run_parts

    with pytest.raises(ParityError, match="of the whole pipeline"):
        run_parts(bundle, "reference:full", only=only, fast=True)
    with pytest.raises(ParityError, match="the fast tier belong to a pipeline"):
        run_parts(bundle / "segmentation", "reference:segmentation", fast=True)
