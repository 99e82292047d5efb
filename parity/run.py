"""The whole comparison of a bundle with its source: both frameworks, every input, one result.

``run`` compares one network, ``run_parts`` a bundle of any kind. Below them ``trace`` and
``compare_traces`` work on networks in memory, so that one trace of the reference serves any number
of candidates.
"""

from __future__ import annotations

import hashlib
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

import samevoice
from samevoice.converters import bundle as bundles
from samevoice.converters import convert, rules
from samevoice.converters.bundle import PROVENANCE
from samevoice.errors import SamevoiceError
from samevoice.models import backend
from samevoice.models.layers.geometry import receptive_field_center
from samevoice.parity import details as drawn
from samevoice.parity import inputs as inputs_module
from samevoice.parity import result as results
from samevoice.parity.dumps import write_reproduction
from samevoice.parity.inputs import Example, Recording, into
from samevoice.parity.judge import Tap, TapVerdict, Verdict, judge_taps
from samevoice.parity.limits import Limits, Override, limits_for, precision_of
from samevoice.parity.metrics import Array, ShapeMismatchError, noise_ratio
from samevoice.parity.result import Artefact, Cause, Result
from samevoice.parity.task import compare_decisions, compare_embeddings

if TYPE_CHECKING:
    from samevoice.parity.candidate import Candidate
    from samevoice.parity.reference import Reference

Progress = Callable[[str, int, int], None]  # what was compared, inputs done, inputs in all

Floors: TypeAlias = Mapping[str, Mapping[str, Array]]  # evaluation -> tap -> array

OUTPUT = "output"
# Above this noise_ratio the reference's other evaluations are run, to tell luck from error.
QUIET = 1.5
# The output of a run in which every layer was seen. The forms that are fast while nobody looks
# must give the same, so both are held against the truth.
RECORDED = "output.recorded"
# The output for filterbank features instead of a waveform: an embedding takes both.
FEATURES = "output.features"
RESULT, REPRODUCTION = "result.json", "reproduction"
NETWORKS = ("segmentation", "embedding")
PIPELINE = "pipeline"  # the part of a bundle that is all of them together
FAST = results.FAST  # the same in its fast configuration, which is no proof of the exact one
TF32 = "MLX_ENABLE_TF32"


class ParityError(SamevoiceError):
    """Bundle and source cannot be compared."""


class OnDevice(Protocol):
    """A network or a pipeline that says what it runs on."""

    @property
    def device_name(self) -> str: ...


# The reference's side of one example --------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Trace:
    """All that the reference has to say on one example; any candidate is held against it.

    ``local`` is the truth of each layer alone: float64 arithmetic on the float32 reference's own
    input of that layer. Fed with the same input, a port must be as close to it as the reference
    itself, so noise_ratio means for one layer what it means for the whole network.
    """

    example: Example
    truth: Recording
    plain: Recording
    local: Recording | None = None
    evaluate: Callable[[], Floors] = dict

    @cached_property
    def floors(self) -> Floors:
        """Other evaluations of the reference, measured when a figure first needs them."""
        return self.evaluate()


def trace(reference: Reference, example: Example) -> Trace:
    """Run the reference on an example, as deep as it asks."""

    def evaluate() -> Floors:
        deep = example.depth != "output"
        return {name: one.outputs for name, one in reference.evaluations(example, deep=deep)}

    if example.depth == "output":
        truth, plain = (
            Recording(outputs={OUTPUT: reference.run(example, precision)})
            for precision in ("float64", "float32")
        )
        return Trace(example, truth, plain, evaluate=evaluate)
    truth, plain = reference.record(example, "float64"), reference.record(example)
    if example.depth == "free":
        return Trace(example, truth, plain, evaluate=evaluate)
    local = reference.record(example, "float64", fed=plain.inputs)
    return Trace(example, truth, plain, local, evaluate)


# Both sides ---------------------------------------------------------------------------------------


@dataclass
class Outputs:
    """For the task, what came out: (example, truth, reference, candidate); or why nothing did."""

    rows: list[tuple[Example, Array, Array, Array]] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)


def taps_of(traced: Trace, candidate: Candidate, kept: Outputs | None = None) -> Iterator[Tap]:
    """Run the candidate on a traced example: every seam, one at a time."""
    kept = kept if kept is not None else Outputs()
    name = traced.example.name
    output, error = candidate.try_run(traced.example)
    if error:
        kept.errors[name] = error
    truth, plain = traced.truth.outputs[OUTPUT], traced.plain.outputs[OUTPUT]
    if output is not None:
        kept.rows.append((traced.example, truth, plain, output))
    yield Tap(OUTPUT, truth, plain, output, _floors(traced, OUTPUT, output), input=name)
    if traced.example.depth != "output":
        yield from _free(traced, candidate, kept)
        if candidate.takes_features:
            got, error = candidate.try_features(traced.example)
            if error:
                kept.errors[f"{name}, features"] = error
            yield Tap(FEATURES, truth, plain, got, _floors(traced, OUTPUT, got), input=name)
    if traced.local is not None:
        yield from _forced(traced, traced.local, candidate, kept)


def _free(traced: Trace, candidate: Candidate, kept: Outputs) -> Iterator[Tap]:
    recorded = candidate.record(traced.example)
    name = traced.example.name
    if recorded.error:
        kept.errors[name] = recorded.error
    truth, plain = traced.truth.outputs, traced.plain.outputs
    for tap in dict.fromkeys([*plain, *recorded.outputs]):
        got = recorded.outputs.pop(tap, None)
        shown = RECORDED if tap == OUTPUT else tap
        floors = _floors(traced, tap, got)
        yield Tap(shown, truth.get(tap), plain.get(tap), got, floors, input=name)


def _floors(traced: Trace, tap: str, got: Array | None) -> list[Array]:
    """What PyTorch does to itself at this tap, where all is looked at or the port looks noisy."""
    truth, plain = traced.truth.outputs.get(tap), traced.plain.outputs.get(tap)
    if truth is None or plain is None or got is None or got.shape != truth.shape:
        return []
    if traced.example.depth != "full" and noise_ratio(truth, plain, got) <= QUIET:
        return []
    return [one[tap] for one in traced.floors.values() if tap in one]


def _forced(traced: Trace, local: Recording, candidate: Candidate, kept: Outputs) -> Iterator[Tap]:
    """Every layer on the reference's own input, and what reaches a layer from those before it."""
    recorded = candidate.record(traced.example, fed=traced.plain.inputs)
    name = traced.example.name
    if recorded.error:
        kept.errors[f"{name}, forced"] = recorded.error
    truth, plain, got = local.taps, traced.plain.taps, recorded.taps
    strangers = [tap for tap in recorded.outputs if tap not in plain]
    for tap in dict.fromkeys([*traced.plain.order, *strangers]):
        yield Tap(tap, truth.get(tap), plain.get(tap), got.get(tap), (), "forced", name)


def compare_traces(
    traces: Iterable[Trace],
    candidate: Candidate,
    limits: Limits,
    *,
    order: Sequence[str] | None = None,
    kept: Outputs | None = None,
) -> Verdict:
    """One candidate against what the reference said, the task included."""
    kept = kept if kept is not None else Outputs()
    taps = (tap for one in traces for tap in taps_of(one, candidate, kept))
    verdict = judge_taps(taps, limits, outputs=[OUTPUT], order=order)
    activation = str(candidate.network.config.get("activation", ""))
    return verdict.with_task(task_of(limits.family, kept, threshold=activation == "sigmoid"))


def order_of(reference: Reference, examples: Sequence[Example]) -> list[str]:
    """Every tap that these examples must have, as the reference computes them."""
    depths = {one.depth for one in examples}
    deep = depths & {"free", "full"}
    if not deep:
        return [OUTPUT]
    smallest = min((one for one in examples if one.depth in deep), key=lambda x: x.waveforms.size)
    seen = reference.record(smallest)
    order = seen.order if "full" in depths else list(seen.outputs)
    return [*order, RECORDED]


def task_of(family: str, kept: Outputs, *, threshold: bool = False) -> dict[str, dict[str, Any]]:
    """The task's figures over all examples that have labels."""
    rows = [row for row in kept.rows if row[0].labels]
    if not rows:
        return {}
    columns = zip(*((flat(x) for x in row[1:]) for row in rows), strict=True)
    truth, plain, got = (np.concatenate(column) for column in columns)
    try:
        if family == "segmentation":
            return compare_decisions(
                plain, got, threshold=0.5 if threshold else None, truth=truth
            ).sections()
        labels = [label for row in rows for label in row[0].labels]
        return compare_embeddings(plain, got, truth=truth, labels=labels).sections()
    except ShapeMismatchError:
        return {}  # a limit on a figure that is not there is broken


def flat(x: Array) -> Array:
    """(..., D) -> (N, D)."""
    return x.reshape(-1, x.shape[-1])


# A bundle and its source --------------------------------------------------------------------------


def run(
    bundle: str | Path,
    source: str | Path,
    *,
    inputs: inputs_module.Set | Sequence[Example] = "quick",
    audio: Sequence[str | Path] = (),
    device: backend.Choice = "auto",
    overrides: Iterable[Override] = (),
    progress: Progress | None = None,
    output: str | Path | None = None,
    command: Sequence[str] = (),
    revision: str | None = None,
) -> Result:
    """Compare the bundle of one network with the checkpoint that it was made from.

    ``inputs`` names a set or lists examples of your own; ``audio`` adds recordings. With
    ``output`` the result, and on a divergence its reproduction, go into that folder.
    """
    folder = Path(bundle)
    config = bundles.read_json(folder / bundles.CONFIG)
    if config.get("model_type") not in NETWORKS:
        raise ParityError(
            f"{folder} holds a {config.get('model_type')}: run() compares one network, "
            "run_parts() whole bundles"
        )
    started, asked = time.monotonic(), tuple(overrides)
    part = _part_of(folder, config["model_type"], source, revision)
    check_settings(config, part.config, folder)
    strict_float32()
    from samevoice.parity.candidate import Candidate
    from samevoice.parity.reference import Reference

    candidate, reference = Candidate.load(folder, device), Reference.load(part)
    shortest = shortest_for(candidate.network.num_frames)
    given = inputs_module.from_audio(audio, config["model_type"], shortest)
    chosen = [*_examples(config["model_type"], shortest, inputs), *given]
    limits = limits_for(config["model_type"], dtype_of(config), device_of(candidate))
    limits = limits.overridden(asked)
    loaded = time.monotonic()
    kept = Outputs()
    traces = _traces(reference, chosen, kept, progress or (lambda what, done, total: None))
    if output is not None:
        private = {one.name for one in given}
        traces = _with_golden(Path(output), traces, reference, part, private)
    order = order_of(reference, chosen)
    verdict = compare_traces(traces, candidate, limits, order=order, kept=kept)
    seconds = {"load": loaded - started, "compare": time.monotonic() - loaded}
    made = Result.of(
        verdict,
        model_type=config["model_type"],
        source=_source_artefact(part),
        bundle=Artefact(fingerprint(folder), {"name": folder.resolve().name}),
        versions=versions(),
        inputs=[one.described() for one in chosen],
        command=command or command_of(folder, source, inputs, audio, device, asked),
        details=_details(candidate, kept, seconds) | _drawn(folder, candidate, kept),
        cause=_cause(verdict, chosen, reference, candidate, part),
    )
    return _saved(made, verdict, chosen, reference, candidate, output)


def run_parts(
    bundle: str | Path,
    source: str | Path,
    *,
    output: str | Path | None = None,
    only: Sequence[str] = (),
    references: Sequence[str | Path] = (),
    fast: bool = False,
    **options: Any,
) -> dict[str, Result]:
    """A bundle of any kind: part -> result; a single network is the part "".

    Of a whole pipeline the last part, "pipeline", is all of it against pyannote's own, where
    ``references`` may tell who really speaks in the recordings. ``only`` names what to compare.
    ``fast`` compares the pipeline's fast configuration instead, as the part "fast".
    """
    folder = Path(bundle)
    kind = bundles.read_json(folder / bundles.CONFIG).get("model_type")
    if kind != "full" and references:
        raise _only_of_pipelines(folder, kind)
    names = part_names(folder, only, fast=fast)
    if kind == "plda":
        return {"": _compare_plda(folder, source, output, options)}
    if kind != "full":
        return {"": run(folder, source, output=output, **options)}
    found: dict[str, Result] = {}
    for name in names:
        where = None if output is None else Path(output) / name
        if name in (PIPELINE, FAST):
            from samevoice.parity import diarization

            found[name] = diarization.run(
                folder, source, output=where, references=references, fast=fast, **options
            )
            continue
        compare = _compare_plda if name == "plda" else _compare_network
        found[name] = compare(folder / name, source, where, options)
    return found


def part_names(folder: Path, only: Sequence[str] = (), *, fast: bool = False) -> list[str]:
    """The components, then the pipeline as a whole; of these the ones that are asked for."""
    config = bundles.read_json(folder / bundles.CONFIG)
    if config.get("model_type") != "full":
        if only or fast:
            raise _only_of_pipelines(folder, config.get("model_type"))
        return [""]
    if fast and (strangers := [name for name in only if name != PIPELINE]):
        raise ParityError(f"the fast tier is of the whole pipeline, not of {strangers[0]!r}")
    if fast:
        return [FAST]
    names = [*sorted(config["components"], reverse=True), PIPELINE]
    if strangers := [name for name in only if name not in names]:
        raise ParityError(f"{folder} has no part {strangers[0]!r}: one of {', '.join(names)}")
    return [name for name in names if not only or name in only]


def _only_of_pipelines(folder: Path, kind: object) -> ParityError:
    return ParityError(
        f"{folder} is a {kind}: parts, RTTM references and the fast tier are a pipeline's"
    )


def _compare_network(
    folder: Path, source: str | Path, output: str | Path | None, options: Mapping[str, Any]
) -> Result:
    return run(folder, source, output=output, **options)


def _compare_plda(
    folder: Path, source: str | Path, output: str | Path | None, options: Mapping[str, Any]
) -> Result:
    """No network: every array is the source's, to the last bit."""
    part = _part_of(folder, "plda", source, options.get("revision"))
    theirs = dict(rules.convert(part.plan))
    ours = {name: tensor.load() for name, tensor in bundles.read_weights(folder).items()}
    limits = limits_for("generic", "float32", "cpu")
    exactly = Override("max_abs", 0.0, origin="arrays that are copied must be equal")
    taps = (
        Tap(name, theirs.get(name), theirs.get(name), ours.get(name))
        for name in dict.fromkeys([*theirs, *ours])
    )
    made = Result.of(
        judge_taps(taps, limits.overridden([exactly])),
        model_type="plda",
        source=_source_artefact(part),
        bundle=Artefact(fingerprint(folder), {"name": folder.resolve().name}),
        versions=versions(),
        command=options.get("command")
        or ("samevoice", "parity", str(folder), "--source", str(source)),
        details={"tensors": drawn.tensors(bundles.read_json(folder / PROVENANCE))},
    )
    if output is not None:
        results.write(Path(output) / RESULT, made)
    return made


def _part_of(
    folder: Path, model_type: str, source: str | Path, revision: str | None
) -> convert.Part:
    """The part of the source that the bundle says it was made from, to the hash."""
    planned = convert.prepare(
        source, model_type="auto", options=convert.Options(), revision=revision
    )
    fitting = [one for one in planned.parts if one.family.role == model_type]
    if not fitting:
        raise ParityError(
            f"{source} holds no {model_type}, which {folder} is: name the source it was made from"
        )
    said = bundles.read_json(folder / PROVENANCE)["sources"][model_type]["sha256"]
    if convert.fingerprint(fitting[0].source_hashes) != said:
        raise ParityError(
            f"{folder} was made from another source than {source} (sha256 {said[:12]}...): "
            "name that one, or convert again"
        )
    return fitting[0]


def check_settings(config: Mapping[str, Any], source: Mapping[str, Any], folder: Path) -> None:
    """What a bundle is told must be what its source says, also where no tap would show it."""
    for name, value in source.items():
        if name != "assumed" and config.get(name) != value:
            raise ParityError(
                f"config.json of {folder} says {name} {config.get(name)!r}, its source {value!r}: "
                "convert again"
            )


def strict_float32() -> None:
    """MLX rounds factors to TF32 on GPUs unless told otherwise, before its first product."""
    os.environ.setdefault(TF32, "0")


def _examples(
    model_type: str, shortest: int, chosen: inputs_module.Set | Sequence[Example]
) -> list[Example]:
    if isinstance(chosen, str):
        return inputs_module.examples(model_type, shortest, chosen)
    return list(chosen)


def default_examples(
    bundle: str | Path, chosen: inputs_module.Set = "quick", speech: Array | None = None
) -> list[Example]:
    """What ``run`` feeds a bundle unless told otherwise."""
    from samevoice.models.registry import build

    config = bundles.read_json(Path(bundle) / bundles.CONFIG)
    kind = str(config.get("model_type"))
    if kind not in NETWORKS:
        raise ParityError(f"{bundle} is a {kind}: golden data are saved of one network at a time")
    return inputs_module.examples(kind, shortest_for(build(config).num_frames), chosen, speech)


def shortest_for(num_frames: Callable[[int], int]) -> int:
    """The least number of samples that gives two frames.

    One frame has neither an instance's variance nor an unbiased deviation: pyannote refuses it, or
    answers NaN.
    """
    low, high = 1, inputs_module.CHUNK
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if num_frames(middle) >= 2 else (middle + 1, high)
    return low


def _traces(
    reference: Reference, examples: Sequence[Example], kept: Outputs, progress: Progress
) -> Iterator[Trace]:
    for done, example in enumerate(examples):
        progress(example.name, done, len(examples))
        yield trace(reference, example)
    progress("", len(examples), len(examples))


def _with_golden(
    output: Path,
    traces: Iterator[Trace],
    reference: Reference,
    part: convert.Part,
    private: set[str],
) -> Iterator[Trace]:
    """The outputs are kept beside the result: a release shows with them that it works elsewhere."""
    from samevoice.parity import golden

    def evaluate(example: Example) -> Floors:
        return {name: one.outputs for name, one in reference.evaluations(example, deep=False)}

    return golden.along(
        output / golden.FOLDER,
        traces,
        evaluate,
        private=private,
        model_type=part.family.role,
        source_sha256=convert.fingerprint(part.source_hashes),
        versions=versions(),
    )


# What the result says beside the verdict ----------------------------------------------------------


def fingerprint(folder: Path) -> str:
    """One hash for a bundle: over every file's, but no card's and no provenance's.

    These two may be written anew without a weight being touched, and what a release puts into
    ``parity/`` comes later.
    """
    hashes = bundles.file_hashes(folder)
    kept = {name: digest for name, digest in hashes.items() if not _is_beside(name)}
    lines = sorted(f"{digest}  {name}\n" for name, digest in kept.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _is_beside(name: str) -> bool:
    """A card or a provenance, of the bundle or of one of its parts; or a release's proof."""
    first, _, rest = name.partition("/")
    own = rest if rest and first in (*NETWORKS, "plda") else name
    return first == bundles.PARITY or own in (bundles.CARD, PROVENANCE)


def source_of(folder: Path) -> str:
    """The hash of what a bundle was made from, as a result of it must name it."""
    provenance = folder / PROVENANCE
    with bundles.understood(provenance, ParityError):
        said = bundles.read_json(provenance)
        sources, kind = said["sources"], said["model_type"]
        if kind != "full":
            return str(sources[kind]["sha256"])
        files = dict(sources[kind]["files"])
        for part in sources.keys() - {kind}:
            files |= {f"{part}/{name}": x for name, x in sources[part]["files"].items()}
        return convert.fingerprint(files)


def dtype_of(config: Mapping[str, Any]) -> str:
    """The name by which limits know a bundle's precision."""
    quantization = config.get("quantization")
    return f"q{quantization['bits']}" if quantization else str(config.get("dtype", "float32"))


def dtype_of_pipeline(folder: Path) -> str:
    """The coarser precision of the two networks."""
    configs = (bundles.read_json(folder / x / bundles.CONFIG) for x in NETWORKS)
    found = [dtype_of(config) for config in configs]
    return max(found, key=lambda dtype: precision_of(dtype, "cpu").step)  # type: ignore[arg-type]


def device_of(candidate: OnDevice) -> str:
    """The name by which limits know a device: on a GPU, products may be TF32."""
    name = candidate.device_name.lower()
    exact = name == "cpu" or os.environ.get(TF32) == "0"
    return name if exact else f"{name}-tf32"


def versions() -> dict[str, str]:
    """All that can change a figure."""
    return {
        "samevoice": samevoice.__version__,
        **convert.versions(),
        "platform": f"{platform.system()} {platform.machine()}",
        "blas": backend.BLAS,
        TF32: os.environ.get(TF32, "unset"),
    }


def command_of(
    folder: Path,
    source: str | Path,
    inputs: inputs_module.Set | Sequence[Example],
    audio: Sequence[str | Path],
    device: str,
    overrides: Iterable[Override] = (),
) -> tuple[str, ...]:
    """The command line that repeats the comparison."""
    places = [(f"{one.tap}:" if one.tap else "", one) for one in overrides]
    limits = [word for tap, x in places for word in ("--limit", f"{tap}{x.metric}={x.bound:g}")]
    given = [word for path in audio for word in ("--audio", str(path))]
    some = ["--inputs", inputs] if isinstance(inputs, str) and inputs != "quick" else []
    where = ["--device", device] if device != "auto" else []
    named = ("samevoice", "parity", str(folder), "--source", str(source))
    return (*named, *some, *given, *where, *limits)


def _source_artefact(part: convert.Part) -> Artefact:
    source = part.source
    notes = {"name": source.name, "kind": source.kind}
    if source.revision:
        notes["revision"] = source.revision
    if note := part.checkpoint.metadata.get("note"):
        notes["note"] = str(note)
    return Artefact(convert.fingerprint(part.source_hashes), notes)


def _details(candidate: Candidate, kept: Outputs, seconds: Mapping[str, float]) -> dict[str, Any]:
    import torch

    rows, at = [], 0
    for example, _, _, got in kept.rows:
        if example.labels:
            rows.append([example.name, at, at + len(flat(got))])
            at += len(flat(got))
    return {
        "device": candidate.device_name,
        "torch_threads": torch.get_num_threads(),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "errors": kept.errors,
        "task_rows": rows,  # which rows of the task's tables are whose
    }


def _drawn(folder: Path, candidate: Candidate, kept: Outputs) -> dict[str, Any]:
    """What plots show beside the verdict's own figures."""
    found: dict[str, Any] = {"tensors": drawn.tensors(bundles.read_json(folder / PROVENANCE))}
    outputs = {example.name: (plain, got) for example, _, plain, got in kept.rows}
    found["scatter"] = drawn.scatter(outputs)
    labelled = {example.name: example.labels for example, *_ in kept.rows if example.labels}
    if candidate.network.config["model_type"] == "embedding":
        found["voices"] = [label for labels in labelled.values() for label in labels]
    else:
        heard = {name: outputs[name] for name in labelled}
        found["timelines"] = _timelines(candidate, heard)
    return found


def _timelines(candidate: Candidate, heard: Mapping[str, tuple[Array, Array]]) -> dict[str, Any]:
    network = candidate.network
    config, windows = network.config, network.windows
    rate = int(config.get("sample_rate", inputs_module.RATE))
    threshold = 0.5 if config.get("activation") == "sigmoid" else None
    said = config.get("specifications") or {}
    speakers, at_once = len(said.get("classes") or ()), said.get("powerset_max_classes")
    return drawn.timelines(
        heard,
        step=math.prod(window.stride for window in windows) / rate,
        start=receptive_field_center(windows) / rate,
        classes=drawn.class_names(speakers, at_once, int(config["num_classes"]), threshold),
        threshold=threshold,
    )


# The first divergence -----------------------------------------------------------------------------


def _cause(
    verdict: Verdict,
    examples: Sequence[Example],
    reference: Reference,
    candidate: Candidate,
    part: convert.Part,
) -> Cause | None:
    """What is proven to be wrong at the first divergence, from the shortest input that shows it."""
    from samevoice.parity import causes

    short = sorted(examples, key=lambda one: one.waveforms.size)
    inputs = {tap.input for tap in verdict.failed if tap.name == verdict.first_divergence}
    traces = (trace(reference, replace(x, depth="full")) for x in short if x.name in inputs)
    return causes.proven(verdict, traces, reference, candidate, causes.Source(part))


def _saved(
    made: Result,
    verdict: Verdict,
    examples: Sequence[Example],
    reference: Reference,
    candidate: Candidate,
    output: str | Path | None,
) -> Result:
    if output is None:
        return made
    folder = Path(output)
    if verdict.failed:
        wrong = verdict.failed[0]
        example = next((one for one in examples if one.name == wrong.input), None)
        if example is not None:
            reproduce(folder / REPRODUCTION, wrong, example, reference, candidate)
            made = replace(made, details={**made.details, "reproduction": REPRODUCTION})
    results.write(folder / RESULT, made)
    return made


def reproduce(
    folder: Path, wrong: TapVerdict, example: Example, reference: Reference, candidate: Candidate
) -> Path:
    """The diverging layer alone: what went in, its weights, what came out on all sides."""
    traced = trace(reference, example)
    taps = taps_of(traced, candidate)
    found = next((x for x in taps if (x.name, x.mode, x.input) == wrong.key), None)
    layer = wrong.name.removesuffix(into("")) if wrong.name.endswith(into("")) else wrong.name
    parts: dict[str, dict[str, Array]] = {
        "input": {name: x for name, x in traced.plain.inputs.items() if name == layer},
        "weights": candidate.weights(layer),
    }
    for who in ("truth", "reference", "candidate"):
        array = None if found is None else getattr(found, who)
        parts[who] = {} if array is None else {wrong.name: array}
    if not parts["input"]:
        parts["input"] = {"waveforms": example.waveforms}
        if example.masks is not None:
            parts["input"]["masks"] = example.masks
    about = {
        "tap": wrong.name,
        "mode": wrong.mode,
        "example": example.name,
        "reasons": list(wrong.reasons),
        "noise_ratio": str(wrong.noise_ratio),
        "versions": versions(),
        "judge": "samevoice judge reference.safetensors candidate.safetensors",
    }
    return write_reproduction(folder, parts, about, overwrite=True)


def sentence(result: Result, output: str | Path | None = None) -> str:
    """The verdict in one line, as the command line ends with it."""
    if result.passed:
        worst = max(tap.judged_ratio for tap in result.taps)
        return (
            f"{result.model_type}: {len(result.taps)} taps agree, noise_ratio at most {worst:.3g}"
        )
    failed = result.verdict.failed
    if not failed:
        return f"{result.model_type}: {result.verdict.task_reasons[0]}"
    first = failed[0]
    where = "" if output is None else f"; reproduction in {Path(output) / REPRODUCTION}"
    why = f"; proven cause: {result.cause.bug}" if result.cause else ""
    return f"{result.model_type} diverges first at {first.label}: {first.reasons[0]}{why}{where}"
