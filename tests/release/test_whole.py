"""A whole pipeline leaves with four results, or not at all.

The results are made up, but judged as real ones are: comparing both networks takes minutes. What
they are of, the bundle and its inputs, is real.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_release import sum_again, write_gallery

from samevoice.converters.bundle import read_weights
from samevoice.parity import golden, run
from samevoice.parity import result as results
from samevoice.parity.engine import Trace
from samevoice.parity.identity import fingerprint, source_of
from samevoice.parity.inputs import Input, Recording
from samevoice.parity.judge import Tap, judge_taps
from samevoice.parity.limits import limits_for
from samevoice.parity.pipeline.recordings import default_recordings
from samevoice.parity.result import Artefact, Result
from samevoice.parity.task import compare_decisions, compare_embeddings
from samevoice.release import contents, evidence, terms
from samevoice.release.verify import verify

VERSIONS = {"samevoice": "0.1.0", "mlx": "0", "torch": "0"}
RANDOM = np.random.default_rng(0)
SCORES = RANDOM.standard_normal((1, 40, 7)).astype(np.float32)
EXACT = SCORES.astype(np.float64)
FORCED = ("masks", "count", "turns")


def tap(name: str, sound: str, mode: Any = "free") -> Tap:
    return Tap(name, EXACT, SCORES, SCORES, input=sound, mode=mode)


def layer(name: str, sound: str, mode: Any) -> Tap:
    few = EXACT[0, :2]
    return Tap(name, few, few, few, input=sound, mode=mode)


def made_up(kind: str, bundle: Path, inputs: list[Input]) -> Result:
    """A green result of this bundle: both sides gave the same."""
    if kind == "plda":
        arrays = {name: tensor.load() for name, tensor in read_weights(bundle).items()}
        taps = [Tap(name, array, array, array) for name, array in arrays.items()]
    elif kind == "full":
        taps = [tap("log_probabilities", one.name) for one in inputs]
        equal = [(one.name, name) for one in inputs for name in FORCED]
        taps += [Tap(name, EXACT, EXACT, EXACT, input=x, mode="forced") for x, name in equal]
    else:
        taps = [tap("output", one.name) for one in inputs]
        outputs, forced = evidence.taps_of_network(bundle, ())
        for one in inputs:
            if one.notes["depth"] in ("free", "full"):
                taps += [layer(name, one.name, "free") for name in outputs]
            if one.notes["depth"] == "full":
                taps += [layer(name, one.name, "forced") for name in forced]
    named = {"segmentation": ["output"], "embedding": ["output"], "full": ["log_probabilities"]}
    limits = limits_for("generic" if kind == "plda" else kind, "float32", "cpu")
    verdict = judge_taps(taps, limits, outputs=named.get(kind, [])).with_task(task(kind))
    return Result.of(
        verdict,
        model_type=kind,
        source=Artefact(source_of(bundle), {"name": "made up"}),
        bundle=Artefact(fingerprint(bundle)),
        versions=VERSIONS,
        inputs=inputs,
    )


def task(kind: str) -> dict[str, dict[str, Any]]:
    decisions = compare_decisions(SCORES, SCORES, truth=EXACT).sections()
    if kind == "segmentation":
        return decisions
    if kind == "full":
        rates = {"der": 0.0, "exclusive_der": 0.0, "unexplained_der": 0.0}
        return {"diarization": rates, **decisions}
    if kind == "embedding":
        voices = SCORES[0].astype(np.float64)
        labels = [str(k % 4) for k in range(len(voices))]
        return compare_embeddings(SCORES[0], SCORES[0], truth=voices, labels=labels).sections()
    return {}


@pytest.fixture(scope="module")
def whole(reference_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The reference pipeline's bundle, and a folder of results as parity writes it."""
    folder = tmp_path_factory.mktemp("whole")
    for kind in ("segmentation", "embedding"):
        bundle, place = reference_bundle / kind, folder / kind
        examples = run.default_examples(bundle)
        made = made_up(kind, bundle, [one.described() for one in examples])
        results.write(place / "result.json", made)
        one = Recording({"output": EXACT}), Recording({"output": SCORES})
        traces = [Trace(x, *one, evaluate=dict) for x in examples]
        golden.save(
            place / "golden", traces, model_type=kind, source_sha256=made.source.sha256, versions={}
        )
    results.write(folder / "plda" / "result.json", made_up("plda", reference_bundle / "plda", []))
    recordings = list(default_recordings())
    made = made_up("full", reference_bundle, [one.example.described() for one in recordings])
    results.write(folder / "pipeline" / "result.json", made)
    with golden.written_anew(folder / "pipeline" / "golden") as aside:
        (aside / "000.safetensors").write_bytes(b"")
        rows = [
            {"file": "000.safetensors", "name": x.name, "sha256": x.sha256} for x in made.inputs
        ]
        golden.write_index(aside, rows, "full", made.source.sha256, {})
    write_gallery(
        folder / "gallery.json", "segmentation", "embedding", configs=configs(reference_bundle)
    )
    return reference_bundle, folder


def configs(bundle: Path) -> dict[str, Any]:
    """Of both networks."""
    kinds = ("segmentation", "embedding")
    return {kind: json.loads((bundle / kind / "config.json").read_text()) for kind in kinds}


def test_it_leaves_with_all_four(whole: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, folder = whole
    one = terms.offer(bundle, [folder], licence_ok=True)
    assert one.refusals == ()
    assert [part.label for part in one.parts] == ["embedding", "plda", "segmentation", "pipeline"]
    made = contents.release(one, tmp_path / "release")
    found = list(verify(made.path, replay=False))
    assert [(x.name, x.says) for x in found if not x.passed] == []
    for name in ("segmentation", "embedding", "pipeline"):
        assert (made.path / "parity" / name / "golden" / "golden.json").is_file()
        assert (made.path / "parity" / name / "report.html").is_file()
    text = (made.path / "README.md").read_text()
    assert "> **reference weights: for parity, not for use**" in text
    assert "- reference\n" in text
    assert 'SpeakerDiarizationPipeline("speaker-diarization-mlx")' in text
    assert "dropped 36 such as" in text


@pytest.mark.parametrize("part", ["segmentation", "embedding", "plda", "pipeline"])
def test_without_one_of_them_it_stays(whole: tuple[Path, Path], part: str) -> None:
    bundle, folder = whole
    given = [folder / name for name in ("segmentation", "embedding", "plda", "pipeline")]
    given = [path for path in given if path.name != part]
    one = terms.offer(bundle, given, gallery=folder / "gallery.json", licence_ok=True)
    (only,) = one.refusals
    assert (only.term, only.why) == ("result", f"there is no result of the {part}")


def test_both_networks_need_their_gallery(whole: tuple[Path, Path], tmp_path: Path) -> None:
    bundle, folder = whole
    write_gallery(tmp_path / "gallery.json", "segmentation", configs=configs(bundle))
    one = terms.offer(bundle, [folder], gallery=tmp_path / "gallery.json", licence_ok=True)
    (only,) = one.refusals
    assert only.why == "the gallery holds no bug of WeSpeakerResNet34"


def test_swapped_networks_are_found(whole: tuple[Path, Path], tmp_path: Path) -> None:
    """Each is green for itself, and stands where the other should."""
    bundle, folder = whole
    made = contents.release(terms.offer(bundle, [folder], licence_ok=True), tmp_path / "release")
    proof = made.path / "parity"
    (proof / "segmentation").rename(proof / "aside")
    (proof / "embedding").rename(proof / "segmentation")
    (proof / "aside").rename(proof / "embedding")
    sum_again(made.path)
    found = {x.name: x.says for x in verify(made.path, replay=False) if not x.passed}
    assert found["weights"].startswith("parity/embedding/result.json is of the segmentation")
