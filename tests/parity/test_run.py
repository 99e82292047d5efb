"""The whole comparison: right ports are green at every tap, wrong ones red where they are wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import made_up
import mlx.core as mx
import numpy as np
import pytest

from samevoice.converters import convert
from samevoice.models.layers import pooling, sincnet
from samevoice.models.networks import pyannet
from samevoice.parity import dumps, inputs, result, run
from samevoice.parity.bounds import parse_override
from samevoice.parity.candidate import Candidate
from samevoice.parity.engine import FEATURES, Trace, compare_traces, order_of, trace
from samevoice.parity.identity import ParityError, fingerprint
from samevoice.parity.inputs import Example, Recording, batch, noise, shortest_for
from samevoice.parity.judge import Verdict, judge_pair
from samevoice.parity.limits import limits_for
from samevoice.parity.reference import Reference
from samevoice.parity.roles.embedding import masks

SOUNDS = (
    Example("deep", batch([noise(6000), noise(6000, seed=1)]), depth="full", labels=("",)),
    # Eight of them: of one alone fourteen values come out, and which framework rounds these few
    # more luckily hangs on the processor.
    Example("short", batch([noise(1261, seed=2 + k) for k in range(8)]), labels=("",)),
)


@dataclass(frozen=True)
class Pair:
    """A source, its bundle, and what the reference said."""

    source: Path
    bundle: Path
    reference: Reference
    traces: tuple[Trace, ...]
    family: str

    @property
    def order(self) -> list[str]:
        return order_of(self.reference, [one.example for one in self.traces])

    def judged(self, candidate: Candidate) -> Verdict:
        limits = limits_for(self.family, "float32", "cpu")
        return compare_traces(self.traces, candidate, limits, order=self.order)


def located(source: Path) -> convert.Part:
    return convert.prepare(source, model_type="auto", options=convert.Options()).parts[0]


def paired(source: Path, folder: Path, sounds: tuple[Example, ...]) -> Pair:
    convert.convert(source, folder / "bundle")
    part = located(source)
    reference = Reference.load(part)
    traces = tuple(trace(reference, one) for one in sounds)
    return Pair(source, folder / "bundle", reference, traces, part.family.role)


@pytest.fixture(scope="module")
def make(pyannote: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pair]:
    del pyannote

    def build(model: Any, sounds: tuple[Example, ...] = SOUNDS) -> Pair:
        folder = tmp_path_factory.mktemp("pair")
        return paired(made_up.save(model, folder / "x.ckpt"), folder, sounds)

    return build


@pytest.fixture(scope="module")
def small(make: Callable[..., Pair]) -> Pair:
    return make(made_up.pyannet(layers=2))


@pytest.fixture(scope="module")
def voices(references: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Pair:
    speech = inputs.sample()[inputs.SPEECH :]
    both = masks(2, 30)
    labels = tuple("aabbcaabbc")
    deep = batch([speech[:8000], speech[8000:16000]])
    sounds = (
        Example("deep", deep, both, "full", labels),
        Example("short", batch([speech[:1680]])),
    )
    return paired(references["embedding"], tmp_path_factory.mktemp("voices"), sounds)


@pytest.fixture
def candidate(small: Pair) -> Candidate:
    """A fresh one, to be spoilt."""
    return Candidate.load(small.bundle, "cpu")


# Right ports --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"bidirectional": False},
        {"monolithic": False, "layers": 3},
        {"linear": 0},
        {"powerset": None},
        {"hidden": 64, "layers": 1, "seed": 3},
    ],
    ids=lambda v: "-".join(v) or "usual",
)
def test_a_right_segmentation_is_green_at_every_tap(
    make: Callable[..., Pair], variant: dict[str, Any]
) -> None:
    pair = make(made_up.pyannet(**variant))
    verdict = pair.judged(Candidate.load(pair.bundle, "cpu"))
    assert verdict.reasons == ()
    assert verdict.outputs == ("output",)
    assert max(tap.noise_ratio for tap in verdict.taps) < 3
    assert {tap.mode for tap in verdict.taps} == {"free", "forced"}
    assert verdict.task["agreement"]["decision_agreement"] == 1.0
    deep = [tap for tap in verdict.taps if tap.mode == "free" and tap.input == "deep"]
    assert all(tap.times_floor is not None for tap in deep)


def test_a_right_embedding_is_green_at_every_tap(voices: Pair) -> None:
    verdict = voices.judged(Candidate.load(voices.bundle, "cpu"))
    assert verdict.reasons == ()
    assert max(tap.noise_ratio for tap in verdict.taps) < 2
    assert verdict.task["ranking"]["kendall_tau"] == 1.0
    assert verdict.task["similarity"]["eer_gap"] == 0.0


def test_the_golden_segmentation_is_at_the_noise_floor(golden: Path, tmp_path: Path) -> None:
    source = golden / "checkpoints" / "segmentation-3.0-dequantised"
    speech = inputs.sample()
    sounds = (
        Example("speech", batch([speech[-32000:]]), depth="full", labels=("",)),
        Example("chunk", batch([speech[: inputs.CHUNK]]), labels=("",)),
    )
    pair = paired(source, tmp_path, sounds)
    verdict = pair.judged(Candidate.load(pair.bundle, "cpu"))
    assert verdict.reasons == ()
    outputs = [tap.noise_ratio for tap in verdict.taps if tap.output]
    assert max(outputs) <= 2
    assert verdict.task["agreement"]["flips"] == 0


# Wrong ports --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tap",
    ["sincnet.norm.1", "sincnet.conv.2", "lstm.0.forward", "lstm.1.backward", "linear.0"],
)
def test_one_altered_number_shows_at_its_tap(small: Pair, candidate: Candidate, tap: str) -> None:
    name, value = next(iter(candidate.weights(tap).items()))
    value = value.copy()
    value.flat[0] += 1e-3
    candidate.network.load_weights([(name, mx.array(value))], strict=False)
    verdict = small.judged(candidate)
    assert not verdict.passed
    assert verdict.first_divergence == tap
    # Fed with the right input, every other layer is right: only this one is red.
    forced = [one.name for one in verdict.failed if one.mode == "forced"]
    assert [name for name in forced if not name.endswith(".input")] == [tap]
    assert len(forced) <= 3  # and what it hands on, to one layer or to both directions of an LSTM


def test_a_small_error_that_drowns_in_the_whole_is_seen_in_its_layer(
    small: Pair, candidate: Candidate
) -> None:
    """The sinc filters' float32 noise is larger than a layer's own: only a local truth is finer."""
    right = {tap.key: tap for tap in small.judged(candidate).taps}
    free, forced = right["linear.0", "free", "deep"], right["linear.0", "forced", "deep"]
    assert forced.reference_rms < free.reference_rms / 3
    off = (4 * forced.reference_rms * free.reference_rms) ** 0.5  # between the two noises
    name = "linear.0.bias"
    bias = candidate.weights("linear.0")[name] + np.float32(off)
    candidate.network.load_weights([(name, mx.array(bias))], strict=False)
    failed = {tap.key for tap in small.judged(candidate).failed}
    assert forced.key in failed
    assert free.key not in failed


def relu(x: mx.array) -> mx.array:
    return mx.maximum(x, 0)


def test_what_lies_between_two_layers_shows_at_the_next_ones_input(
    small: Pair, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pyannet, "leaky_relu", relu)
    verdict = small.judged(candidate)
    assert verdict.first_divergence == "linear.1.input"
    monkeypatch.undo()
    monkeypatch.setattr(sincnet, "leaky_relu", relu)
    assert small.judged(candidate).first_divergence == "sincnet.conv.1.input"


def test_a_biased_deviation_shows_at_the_pooling(
    voices: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = pooling.weighted_stats

    def biased(x: mx.array, weights: mx.array) -> tuple[mx.array, mx.array]:
        mean, std = right(x, weights)
        frames = x.shape[2]
        return mean, std * ((frames - 1) / frames) ** 0.5

    monkeypatch.setattr(pooling, "weighted_stats", biased)
    verdict = voices.judged(Candidate.load(voices.bundle, "cpu"))
    assert verdict.first_divergence == "resnet.pool"


def test_features_as_input_are_compared_too(voices: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waveforms may be right where filterbank features are not."""
    spoilt = Candidate.load(voices.bundle, "cpu")
    right = type(spoilt.network).frames  # type: ignore[attr-defined]

    def frames(self: Any, x: mx.array) -> mx.array:
        seen: mx.array = right(self, x * 1.01 if x.ndim == 3 and x.shape[-1] == 80 else x)
        return seen

    monkeypatch.setattr(type(spoilt.network), "frames", frames)
    verdict = voices.judged(spoilt)
    assert {tap.name for tap in verdict.failed} == {FEATURES}


def test_nan_fails(small: Pair, candidate: Candidate) -> None:
    name, value = next(iter(candidate.weights("linear.1").items()))
    candidate.network.load_weights([(name, mx.array(value * np.nan))], strict=False)
    verdict = small.judged(candidate)
    assert verdict.first_divergence == "linear.1"
    assert any("NaN" in words for words in verdict.reasons)
    assert not verdict.task["agreement"]["decision_agreement"] >= 0


def test_a_missing_tap_fails(
    small: Pair, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    from samevoice.models.layers import taps

    give = taps.Heard.give

    def forgetful(self: taps.Heard, path: str, x: mx.array) -> mx.array:
        return x if path == "sincnet.norm.1" else give(self, path, x)

    monkeypatch.setattr(taps.Heard, "give", forgetful)
    verdict = small.judged(candidate)
    assert "sincnet.norm.1" in {tap.name for tap in verdict.failed}
    assert any("missing in the candidate" in words for words in verdict.reasons)


def test_a_tap_that_the_reference_lacks_fails(small: Pair, candidate: Candidate) -> None:
    first = small.traces[0]
    plain = Recording(dict(first.plain.outputs), dict(first.plain.inputs), first.plain.order)
    del plain.outputs["linear.0"]
    limits = limits_for("segmentation", "float32", "cpu")
    verdict = compare_traces([replace(first, plain=plain)], candidate, limits)
    assert {tap.name for tap in verdict.failed} == {"linear.0"}


def test_a_port_that_breaks_off_fails(small: Pair, candidate: Candidate) -> None:
    candidate.network["classifier"].weight = mx.zeros((7, 9))
    verdict = small.judged(candidate)
    assert not verdict.passed
    assert verdict.first_divergence == "classifier"


def test_a_fast_form_that_differs_from_the_recorded_one_fails(
    small: Pair, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    from samevoice.models.layers import taps

    network = type(candidate.network)
    call = network.__call__
    monkeypatch.setattr(
        network, "__call__", lambda self, x: call(self, x) * (1.0 if taps.active() else 1.001)
    )
    verdict = small.judged(candidate)
    assert {tap.name for tap in verdict.failed} == {"output"}


# Figures ------------------------------------------------------------------------------------------


def test_a_lucky_reference_is_held_to_its_other_evaluations(small: Pair) -> None:
    first = small.traces[1]
    truth, plain = first.truth.outputs["output"], first.plain.outputs["output"]
    wrong = (truth + 10 * (plain - truth)).astype(np.float32)

    def floors() -> Iterator[Any]:
        return {"another": {"output": wrong}}  # type: ignore[return-value]

    class Fake:
        network = Candidate.load(small.bundle, "cpu").network

        def try_run(self, example: Example) -> tuple[Any, str]:
            return {"output": wrong}, ""

    limits = limits_for("segmentation", "float32", "cpu")
    without = compare_traces([replace(first, evaluate=dict)], Fake(), limits)  # type: ignore[arg-type]
    measured = compare_traces([replace(first, evaluate=floors)], Fake(), limits)  # type: ignore[arg-type]
    assert not without.passed
    assert measured.taps[0].noise_ratio > 5
    assert measured.taps[0].passed


def test_the_shortest_input_is_what_pyannote_takes(small: Pair, voices: Pair) -> None:
    for pair, expected in ((small, 1261), (voices, 1680)):
        network = Candidate.load(pair.bundle, "cpu").network
        assert shortest_for(network.num_frames) == expected
        assert np.isfinite(pair.reference.run(Example("x", batch([noise(expected)])))).all()
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        small.reference.run(Example("x", batch([noise(1260)])))
    assert np.isnan(voices.reference.run(Example("x", batch([noise(1679)])))).any()


# Files --------------------------------------------------------------------------------------------


def test_a_result_says_what_was_compared(small: Pair, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    made = run.run(
        small.bundle,
        small.source,
        inputs=SOUNDS,
        device="cpu",
        progress=lambda *what: told.append(what),
        output=tmp_path / "out",
    )
    assert result.read(tmp_path / "out" / "result.json") == made
    assert made.passed
    assert made.model_type == "segmentation"
    assert (made.dtype, made.device) == ("float32", "cpu")
    assert made.source.sha256 == convert.fingerprint(located(small.source).source_hashes)
    assert made.bundle.sha256 == fingerprint(small.bundle)
    assert [one.sha256 for one in made.inputs] == [one.sha256 for one in SOUNDS]
    assert {"torch", "mlx", "pyannote.audio", "blas", "MLX_ENABLE_TF32"} <= made.versions.keys()
    assert made.command[:2] == ("samevoice", "parity")
    assert told[0] == ("deep", 0, 2)
    assert told[-1] == ("", 2, 2)
    assert "agree" in run.sentence(made)
    assert not (tmp_path / "out" / "reproduction").exists()


def test_limits_can_be_overridden_and_that_is_told(small: Pair) -> None:
    made = run.run(
        small.bundle, small.source, inputs=SOUNDS[1:], overrides=[parse_override("noise_ratio=9")]
    )
    assert {str(one).split(":")[0] for one in made.loosened} == {
        "noise_ratio at every tap",
        "noise_ratio at the outputs",
    }


def test_a_divergence_is_saved_small_and_judged_without_torch(small: Pair, tmp_path: Path) -> None:
    spoilt = tmp_path / "bundle"
    shutil.copytree(small.bundle, spoilt)
    arrays: Any = dict(mx.load(str(spoilt / "model.safetensors")))  # type: ignore[arg-type]
    arrays["linear.0.bias"] = arrays["linear.0.bias"] + 0.01
    mx.save_safetensors(str(spoilt / "model.safetensors"), arrays, {"format": "mlx"})
    made_up.record(spoilt)
    made = run.run(spoilt, small.source, inputs=SOUNDS, device="cpu", output=tmp_path / "out")
    assert made.first_divergence == "linear.0"
    assert "linear.0" in run.sentence(made, tmp_path / "out")
    folder = tmp_path / "out" / "reproduction"
    about = json.loads((folder / "about.json").read_text())
    assert about["tap"] == "linear.0"
    found = {name: dumps.open_dump(folder / f"{name}.safetensors") for name in PARTS}
    assert set(found["weights"]) == {"linear.0.bias", "linear.0.weight"}
    assert list(found["input"]) == ["linear.0"]
    verdict = judge_pair(found["reference"], found["candidate"])
    assert verdict.first_divergence == "linear.0"
    gap = found["candidate"]["linear.0"] - found["truth"]["linear.0"]
    np.testing.assert_allclose(gap, 0.01, atol=1e-4)
    assert made.bundle.sha256 != fingerprint(small.bundle)


PARTS = ("input", "weights", "truth", "reference", "candidate")


def test_the_fingerprint_leaves_out_card_and_provenance(small: Pair, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(small.bundle, copy)
    for name in ("README.md", "provenance.json"):
        (copy / name).write_text("{}")
    assert fingerprint(copy) == fingerprint(small.bundle)
    (copy / "config.json").write_text("{}")
    assert fingerprint(copy) != fingerprint(small.bundle)


def test_another_source_is_refused_in_one_sentence(
    small: Pair, voices: Pair, tmp_path: Path
) -> None:
    other = made_up.save(made_up.pyannet(seed=9), tmp_path / "other.ckpt")
    with pytest.raises(ParityError, match="was made from another source than") as caught:
        run.run(small.bundle, other)
    assert "\n" not in str(caught.value)
    with pytest.raises(ParityError, match="holds no segmentation"):
        run.run(small.bundle, voices.source)


@pytest.mark.parametrize("options", [{"dtype": "float16"}, {"dtype": "bfloat16"}, {"q_bits": 8}])
def test_coarse_bundles_are_judged_by_their_own_limits(
    make: Callable[..., Pair], tmp_path: Path, options: dict[str, Any]
) -> None:
    pair = make(made_up.pyannet(hidden=64, layers=1))
    convert.convert(pair.source, tmp_path / "coarse", **options)
    made = run.run(tmp_path / "coarse", pair.source, inputs=SOUNDS)
    assert made.dtype == options.get("dtype", "q8")
    assert made.limits.dtype == made.dtype
    assert all(np.isfinite(tap.noise_ratio) for tap in made.taps)


def test_a_mixed_bundle_is_judged_by_its_coarsest_type(
    make: Callable[..., Pair], tmp_path: Path
) -> None:
    pair = make(made_up.pyannet(hidden=64, layers=1))
    (tmp_path / "recipe.toml").write_text('default = "float16"\n[layers]\n"lstm.*" = 6')
    convert.convert(pair.source, tmp_path / "mixed", recipe=tmp_path / "recipe.toml")
    made = run.run(tmp_path / "mixed", pair.source, inputs=SOUNDS)
    assert made.dtype == made.limits.dtype == "mixed-6"
    ratios = [tap.noise_ratio for tap in made.taps if tap.name == "lstm.0.forward"]
    assert 100 < max(ratios) < 1e6
    assert not made.verdict.failed


def test_a_pipeline_gives_a_result_for_each_part(
    references: dict[str, Path], tmp_path: Path
) -> None:
    convert.convert(references["full"], tmp_path / "full")
    with pytest.raises(ParityError, match="run_parts"):
        run.run(tmp_path / "full", references["full"])
    sounds = (Example("x", batch([noise(4000)]), labels=("",)),)
    found = run.run_parts(
        tmp_path / "full", references["full"], inputs=sounds, output=tmp_path / "out"
    )
    assert found.keys() == {"segmentation", "embedding", "plda", "pipeline"}
    for name, made in found.items():
        assert made.passed, made.verdict.reasons
        assert result.read(tmp_path / "out" / name / "result.json") == made
    assert {tap.max_abs for tap in found["plda"].taps} == {0.0}
    only = run.run_parts(tmp_path / "full" / "plda", references["full"])
    assert only[""].passed


def test_one_plda_number_that_differs_is_red(references: dict[str, Path], tmp_path: Path) -> None:
    convert.convert(references["full"], tmp_path / "full")
    path = tmp_path / "full" / "plda" / "model.safetensors"
    from safetensors.numpy import load_file, save_file

    arrays = load_file(path)
    name = sorted(arrays)[0]
    arrays[name] = np.nextafter(arrays[name], np.inf)
    save_file(arrays, path, {"format": "mlx"})
    found = run.run_parts(tmp_path / "full" / "plda", references["full"])
    assert found[""].first_divergence == name
