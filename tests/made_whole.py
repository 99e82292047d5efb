"""A whole pipeline's results, made up but judged as real ones are: comparing takes minutes.

What they are of, the bundle and its inputs, is real.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from made_release import write_gallery

from samevoice.converters.bundle import CONFIG, read_json, read_weights
from samevoice.parity import golden, run
from samevoice.parity import result as results
from samevoice.parity.engine import Trace
from samevoice.parity.identity import dtype_of, dtype_of_pipeline, fingerprint, source_of
from samevoice.parity.inputs import Input, Recording
from samevoice.parity.judge import Tap, judge_taps
from samevoice.parity.limits import limits_for
from samevoice.parity.pipeline.recordings import default_recordings
from samevoice.parity.result import Artefact, Result
from samevoice.parity.task import compare_decisions, compare_embeddings
from samevoice.release import evidence

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
    limits = limits_for("generic" if kind == "plda" else kind, precision(kind, bundle), "cpu")
    verdict = judge_taps(taps, limits, outputs=named.get(kind, [])).with_task(task(kind))
    return Result.of(
        verdict,
        model_type=kind,
        source=Artefact(source_of(bundle), {"name": "made up"}),
        bundle=Artefact(fingerprint(bundle)),
        versions=VERSIONS,
        inputs=inputs,
    )


def precision(kind: str, bundle: Path) -> Any:
    if kind == "plda":
        return "float32"
    return dtype_of_pipeline(bundle) if kind == "full" else dtype_of(read_json(bundle / CONFIG))


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


def write_results(bundle: Path, folder: Path) -> Path:
    """As parity writes those of a pipeline's bundle, with a gallery."""
    for kind in ("segmentation", "embedding"):
        part, place = bundle / kind, folder / kind
        examples = run.default_examples(part)
        made = made_up(kind, part, [one.described() for one in examples])
        results.write(place / "result.json", made)
        one = Recording({"output": EXACT}), Recording({"output": SCORES})
        traces = [Trace(x, *one, evaluate=dict) for x in examples]
        golden.save(
            place / "golden", traces, model_type=kind, source_sha256=made.source.sha256, versions={}
        )
    results.write(folder / "plda" / "result.json", made_up("plda", bundle / "plda", []))
    recordings = list(default_recordings())
    made = made_up("full", bundle, [one.example.described() for one in recordings])
    results.write(folder / "pipeline" / "result.json", made)
    with golden.written_anew(folder / "pipeline" / "golden") as aside:
        (aside / "000.safetensors").write_bytes(b"")
        rows = [
            {"file": "000.safetensors", "name": x.name, "sha256": x.sha256} for x in made.inputs
        ]
        golden.write_index(aside, rows, "full", made.source.sha256, {})
    write_gallery(folder / "gallery.json", "segmentation", "embedding", configs=configs(bundle))
    return folder


def configs(bundle: Path) -> dict[str, Any]:
    """Of both networks."""
    kinds = ("segmentation", "embedding")
    return {kind: json.loads((bundle / kind / "config.json").read_text()) for kind in kinds}
