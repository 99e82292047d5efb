"""What a result, golden data and a gallery must show: asked by a release and by its checks."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from samevoice.errors import SamevoiceError
from samevoice.parity import golden, roles
from samevoice.parity.gallery_file import Gallery
from samevoice.parity.inputs import Input
from samevoice.parity.judge import Mode
from samevoice.release.parts import Part

# How closely each default input must have been looked at, at least.
DEPTHS = ("output", "free", "full")
# Licences that let others pass the weights on. Any other needs --license-ok.
REDISTRIBUTABLE = re.compile(
    r"mit|apache-2\.0|bsd(-[23]-clause)?|isc|cc0-1\.0|cc-by(-sa)?-[34]\.0|unlicense"
    r"|cdla-permissive-[12]\.0|openrail|bigscience-openrail-m"
)


def missing_inputs(part: Part, *, by_hash: bool = True) -> list[str]:
    """Default inputs that the result lacks, or looked at less closely.

    Without pyannote.audio, in which the recording lies, ``by_hash`` has to be false: then names,
    shapes and depths are compared.
    """
    known = {one.name: one for one in part.judged.inputs}
    return [
        one.name
        for one in default_inputs(part, by_hash=by_hash)
        if not _covers(known.get(one.name), one, by_hash)
    ]


def _covers(found: Input | None, wanted: Input, by_hash: bool) -> bool:
    if found is None or found.shape != wanted.shape or (by_hash and found.sha256 != wanted.sha256):
        return False
    return _depth(found) >= _depth(wanted)


def _depth(one: Input) -> int:
    """0 for the output alone, 1 for every layer, 2 for each layer by itself as well."""
    said = one.notes.get("depth", "")
    return DEPTHS.index(said) if said in DEPTHS else -1


def missing_taps(part: Part) -> list[str]:
    """Taps that the network has and the result lacks, where an input says that all were seen."""
    if not part.is_network:
        return []
    seen = {(tap.name, tap.mode, tap.input) for tap in part.judged.taps}
    outputs, forced = taps_of_network(part.folder, {name for name, *_ in seen})
    wanted: list[tuple[str, Mode, str]] = []
    for one in part.judged.inputs:
        wanted += [(name, "free", one.name) for name in outputs if _depth(one) > 0]
        wanted += [(name, "forced", one.name) for name in forced if _depth(one) > 1]
    return [
        f"{name} ({mode}, {where})"
        for name, mode, where in wanted
        if (name, mode, where) not in seen
    ]


def taps_of_network(folder: Path, told: Collection[str]) -> tuple[list[str], list[str]]:
    """The taps of a bundle's network, free-running and forced, as it runs through them itself.

    All layers, and of the blocks around them those in ``told``: not every original has such a
    block. What a block gives is what the next layer takes, so that its fault shows there, too.
    """
    from samevoice.parity.candidate import Candidate
    from samevoice.parity.engine import RECORDED
    from samevoice.parity.inputs import OUTPUT, SAMPLE, into, noise
    from samevoice.parity.listening import FBANK

    candidate = Candidate.load(folder, "cpu")
    every = roles.examples(candidate.network, speech=noise(SAMPLE))
    seen = candidate.record(min(every, key=lambda one: one.size))
    if seen.error:
        raise SamevoiceError(f"the network in {folder} breaks off: {seen.error}")
    known = {OUTPUT, *told}
    layers = [name for name in seen.outputs if name in known or candidate.is_layer(name)]
    # PyTorch's filterbank is a method, so that nothing is noted of what it takes.
    inputs = [into(name) for name in seen.inputs if name in layers and name != FBANK]
    return [RECORDED if name == OUTPUT else name for name in layers], [*layers, *inputs]


def default_inputs(part: Part, *, by_hash: bool) -> list[Input]:
    from samevoice.parity import inputs, run

    speech = None if by_hash else inputs.stand_in()
    if part.is_data:
        return []
    if part.is_pipeline:
        from samevoice.parity.pipeline.recordings import default_recordings

        return [one.example.described() for one in default_recordings("quick", speech)]
    return [one.described() for one in run.default_examples(part.folder, "quick", speech)]


def golden_fault(part: Part) -> str:
    """Why a replay of a part's golden data would not belong to this result, or "".

    They hold the default inputs, and may lack recordings that were compared beside these.
    """
    assert part.golden is not None
    result = part.judged
    try:
        said = golden.read(part.golden)
    except SamevoiceError as error:
        return str(error)
    if (said.model_type, said.source_sha256) != (result.model_type, result.source.sha256):
        return f"{part.golden} is of another source"
    hashes = {one.name: one.sha256 for one in result.inputs}
    rows = {str(row["name"]): str(row.get("sha256")) for row in said.examples}
    usual = {one.name for one in default_inputs(part, by_hash=False)}
    if strange := sorted(rows.keys() - usual - hashes.keys()):
        return f"{part.golden} holds {strange[0]!r}, which the result was not made on"
    known = (usual | rows.keys()) & hashes.keys()
    lost = sorted(name for name in known if rows.get(name) != hashes[name])
    return f"{part.golden} lacks {lost[0]!r}, which the result was made on" if lost else ""


def gallery_fault(found: Gallery | None, part: Part) -> str:
    """Why this gallery proves nothing of a network, or ""."""
    name = part.architecture
    if found is None:
        return f"there is no gallery of {name}"
    rows = found.of(name)
    if not rows:
        return f"the gallery holds no bug of {name}"
    for row in rows:
        if not all(isinstance(row.get(key), str) for key in ("bug", "where", "found")):
            return f"the gallery of {name} holds a row that is no finding"
    if wrong := found.wrong(name):
        return f"the gallery of {name} is red: {wrong[0]!r} was not found where it sits"
    return ""


def gallery_age(found: Gallery, part: Part) -> str:
    """Why the bugs in it are not those that this samevoice knows, or ""."""
    import samevoice
    from samevoice.parity import gallery

    if (said := found.versions.get("samevoice")) != samevoice.__version__:
        return f"the gallery is of samevoice {said or 'unknown'}, not {samevoice.__version__}"
    seen = {row["bug"]: row["where"] for row in found.of(part.architecture)}
    known = gallery.known(part.config)
    if lost := [case.name for case in known if case.name not in seen]:
        return f"the gallery of {part.architecture} lacks {len(lost)} bugs, first {lost[0]!r}"
    moved = [case.name for case in known if not gallery.may_show(case, seen[case.name])]
    return f"the gallery of {part.architecture} looks for {moved[0]!r} elsewhere" if moved else ""


def licence_fault(source: Mapping[str, Any]) -> str:
    """Why a source may not simply be passed on, or ""."""
    licence = source.get("licence")
    if not isinstance(licence, Mapping):
        return "names no licence"
    if licence.get("gated"):
        return "is gated"
    ids = licence.get("id")
    if not isinstance(ids, str) or not ids:
        return "names no licence"
    strange = [one for one in ids.split(", ") if not REDISTRIBUTABLE.fullmatch(one.lower())]
    return f"is under {strange[0]!r}" if strange else ""
