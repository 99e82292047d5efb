"""The bundle of a whole pipeline against its source: one result, and what is kept beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from samevoice.converters import bundle as bundles
from samevoice.converters import convert
from samevoice.models import backend
from samevoice.parity import identity, roles
from samevoice.parity import result as results
from samevoice.parity.bounds import Override
from samevoice.parity.dumps import write_reproduction
from samevoice.parity.identity import ParityError
from samevoice.parity.inputs import Example
from samevoice.parity.limits import limits_for
from samevoice.parity.pipeline.comparison import Compared, Comparison, compare, taps_of
from samevoice.parity.pipeline.original import ReferencePipeline
from samevoice.parity.pipeline.port import Listening
from samevoice.parity.pipeline.recordings import Recorded, recordings_of
from samevoice.parity.pipeline.stages import ORDER
from samevoice.parity.reproduction import REPRODUCTION, RESULT
from samevoice.parity.result import Artefact, Result


def run(
    bundle: str | Path,
    source: str | Path,
    *,
    inputs: roles.Set | Sequence[Recorded | Example] = roles.QUICK,
    audio: Sequence[str | Path] = (),
    references: Sequence[str | Path] = (),
    device: backend.Choice = "auto",
    overrides: Iterable[Override] = (),
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    output: str | Path | None = None,
    command: Sequence[str] = (),
    revision: str | None = None,
    fast: bool = False,
) -> Result:
    """Compare the bundle of a whole pipeline with pyannote's own on the same recordings.

    ``references`` are RTTM files that say who really spoke in ``audio``. ``fast`` compares the fast
    configuration: its result is of another model type, and no proof of the bundle as it is.
    """
    folder, started = Path(bundle), time.monotonic()
    asked = [one for one in overrides if one.tap is None or one.tap in ORDER]
    planned = made_from(folder, source, revision)
    chosen = recordings_of(inputs, audio, references)
    identity.strict_float32()
    candidate = Listening(folder, device, fast=fast)
    precision = identity.dtype_of_pipeline(folder), identity.device_of(candidate)
    limits = limits_for(results.FAST if fast else convert.WHOLE, *precision).overridden(asked)
    reference = ReferencePipeline.load(planned)
    loaded = time.monotonic()
    whole = compare(reference, candidate, chosen, limits, progress)
    seconds = {"load": loaded - started, "compare": time.monotonic() - loaded}
    named = inputs if isinstance(inputs, str) else roles.QUICK
    typed = identity.command_of(folder, source, named, audio, device, asked)
    command = command or (*typed, *_more_words(references, fast))
    made = _result(whole, folder, planned, candidate, seconds, command)
    # The recordings of the set come first; those that were given are somebody's own.
    shown = [] if fast else whole.compared[: len(chosen) - len(audio)]
    return made if output is None else _saved(made, whole, shown, Path(output))


def _more_words(references: Sequence[str | Path], fast: bool) -> Iterator[str]:
    for path in references:
        yield from ("--reference", str(path))
    yield from ("--only", "pipeline", *(["--fast"] if fast else []))


def _result(
    whole: Comparison,
    folder: Path,
    planned: convert.Conversion,
    candidate: Listening,
    seconds: Mapping[str, float],
    command: Sequence[str],
) -> Result:
    return Result.of(
        whole.verdict,
        model_type=whole.verdict.limits.family,
        inputs=[one.recording.example.described() for one in whole.compared],
        command=command,
        source=source_of(planned),
        bundle=Artefact(identity.fingerprint(folder), {"name": folder.resolve().name}),
        versions=identity.versions(),
        details={
            **whole.details,
            "device": candidate.device_name,
            "seconds": {name: round(value, 3) for name, value in seconds.items()},
        },
    )


def made_from(folder: Path, source: str | Path, revision: str | None) -> convert.Conversion:
    """The source, which must be the one that every part of the bundle was made from."""
    planned = convert.prepare(
        source, model_type="auto", options=convert.Options(), revision=revision
    )
    if planned.pipeline is None:
        raise ParityError(
            f"{source} is no whole pipeline, which {folder} is: name the source it was made from"
        )
    said = bundles.read_json(folder / bundles.PROVENANCE)["sources"]
    hashes = {part.family.role: part.source_hashes for part in planned.parts}
    for name, files in {**hashes, convert.WHOLE: convert.hashes_of(planned.pipeline)}.items():
        if convert.fingerprint(files) != said[name]["sha256"]:
            raise ParityError(
                f"{folder} was made from another {name} than {source} holds: "
                "name that source, or convert again"
            )
    config = bundles.read_json(folder / bundles.CONFIG)
    identity.check_settings(config.get("pipeline", {}), planned.settings, folder)
    for part in planned.parts:
        where = folder / part.folder
        identity.check_settings(bundles.read_json(where / bundles.CONFIG), part.config, where)
    return planned


def source_of(planned: convert.Conversion) -> Artefact:
    assert planned.pipeline is not None
    files = dict(convert.hashes_of(planned.pipeline))
    for part in planned.parts:
        files |= {f"{part.folder}/{name}": digest for name, digest in part.source_hashes.items()}
    return identity.artefact_of(planned.pipeline, files, planned.note)


def _saved(made: Result, whole: Comparison, shown: Sequence[Compared], folder: Path) -> Result:
    """The result, golden data of the exact pipeline, and both sides of the first wrong stage."""
    from samevoice.parity import golden
    from samevoice.parity.pipeline import golden as golden_pipeline

    if shown:
        golden_pipeline.save(folder / golden.FOLDER, shown, made.source.sha256, made.versions)
    if whole.verdict.failed:
        wrong = whole.verdict.failed[0]
        taps = (tap for one in whole.compared for tap in taps_of(one))
        found = next((x for x in taps if (x.name, x.mode, x.input) == wrong.key), None)
        sides = {who: getattr(found, who, None) for who in ("truth", "reference", "candidate")}
        about = {
            "tap": wrong.name,
            "mode": wrong.mode,
            "recording": wrong.input,
            "reasons": list(wrong.reasons),
            "versions": identity.versions(),
            "judge": "samevoice judge reference.safetensors candidate.safetensors",
        }
        parts = {who: {} if x is None else {wrong.name: x} for who, x in sides.items()}
        write_reproduction(folder / REPRODUCTION, parts, about, overwrite=True)
        made = replace(made, details={**made.details, "reproduction": REPRODUCTION})
    results.write(folder / RESULT, made)
    return made


def sentence(result: Result) -> str:
    """The outcome in one line."""
    found = result.task["diarization"]
    recordings = len(found["recordings"])
    told: str = (
        f"DER {100 * found['der']:.3g} % between the two over {recordings} "
        f"recording{'s' if recordings != 1 else ''}, {found['flips']} decisions differ "
        f"({found['flips_on_floor']} within float32 noise), {found['decisions_near_floor']} were "
        f"that close, {found['tied_frames']} frames are tied"
    )
    if "fast" in result.task:
        told += f"; {cost(result)}"
    if "der_reference" in found:
        told += (
            f"; against the given reference {100 * found['der_candidate']:.3g} %, "
            f"pyannote's own {100 * found['der_reference']:.3g} %"
        )
    return told


def cost(result: Result) -> str:
    """What the fast configuration costs, beside the exact one in the same run."""
    found = result.task["fast"]
    return (
        f"fast: {found['time_ratio']:.2f} of the exact pipeline's time, voices' median cosine "
        f"{found['shared_cosine_median']:.3f}, least {found['shared_cosine_min']:.3f}, "
        f"DER {100 * found['der_exact']:.3g} % against it"
    )
