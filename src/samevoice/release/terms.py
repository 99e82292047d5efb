"""What must be true before a bundle may leave: each term says why not, and what to run.

The terms read the bundle, its results and the gallery, and write nothing. ``Offer`` is what is to
be released; its ``refusals`` are all the reasons against it, in the order of ``TERMS``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from samevoice.converters import bundle as bundles
from samevoice.converters.bundle import CONFIG, PROVENANCE, read_json
from samevoice.errors import NotPassedError, SamevoiceError
from samevoice.parity import gallery_file, golden
from samevoice.parity import result as results
from samevoice.parity.gallery_file import Gallery
from samevoice.parity.inputs import Input
from samevoice.parity.judge import Mode
from samevoice.parity.limits import Loosened
from samevoice.parity.result import Result

RESULT = "result.json"
PIPELINE = "pipeline"
COMPONENTS = ("segmentation", "embedding", "plda")
NETWORKS = ("segmentation", "embedding")
# How closely each default input must have been looked at, at least.
DEPTHS = ("output", "free", "full")
# Where PyTorch has no input of its own to feed the port with.
NO_SEAM = ("output", "fbank")
# Licences that let others pass the weights on. Whoever uses another says that he read it.
REDISTRIBUTABLE = frozenset(
    (
        "mit",
        "apache-2.0",
        "bsd",
        "bsd-2-clause",
        "bsd-3-clause",
        "isc",
        "cc0-1.0",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-sa-3.0",
        "cc-by-sa-4.0",
        "unlicense",
        "cdla-permissive-1.0",
        "cdla-permissive-2.0",
        "openrail",
        "bigscience-openrail-m",
    )
)


class RefusedError(NotPassedError):
    """This bundle does not leave."""


class OfferError(SamevoiceError):
    """What was asked for cannot be meant: a limit accepted that nobody loosened, for example."""


@dataclass(frozen=True)
class Accepted:
    """A loosened limit that somebody answers for: ``noise_ratio``, or ``lstm.0:noise_ratio``."""

    limit: str
    because: str


@dataclass(frozen=True)
class Part:
    """One comparison that a release must show: of a network, the PLDA, or a whole pipeline."""

    name: str  # "" where the bundle is one network
    folder: Path
    kind: str  # segmentation, embedding, plda or full
    result_path: Path | None = None
    result: Result | None = None
    unread: str = ""  # why the result cannot be believed
    others: tuple[tuple[Path, Result], ...] = ()  # further results of these very bytes

    @property
    def label(self) -> str:
        return self.name or self.kind

    @cached_property
    def config(self) -> dict[str, Any]:
        return read_json(self.folder / CONFIG)

    @property
    def architecture(self) -> str:
        return str(self.config.get("architecture"))

    @cached_property
    def fingerprint(self) -> str:
        from samevoice.parity.identity import fingerprint

        return fingerprint(self.folder)

    @property
    def golden(self) -> Path | None:
        """What torch said, saved beside the result; the PLDA is compared by its hash alone."""
        if self.kind == "plda" or self.result_path is None:
            return None
        return self.result_path.parent / golden.FOLDER

    @property
    def dtype(self) -> str:
        from samevoice.parity.identity import dtype_of, dtype_of_pipeline

        if self.kind == "plda":
            return "float32"  # by whose limits copies are judged
        return dtype_of_pipeline(self.folder) if self.kind == "full" else dtype_of(self.config)


@dataclass(frozen=True)
class Offer:
    """A bundle, what was measured of it, and what its owner answers for."""

    bundle: Path
    kind: str
    parts: tuple[Part, ...]
    gallery_path: Path | None = None
    gallery: Gallery | None = None
    unread_gallery: str = ""
    accepted: tuple[Accepted, ...] = ()
    licence_ok: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def networks(self) -> tuple[Part, ...]:
        """Of each of these a gallery must have been seen."""
        return tuple(part for part in self.parts if part.kind in NETWORKS)

    @property
    def sources(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.provenance["sources"]
        return found

    @cached_property
    def refusals(self) -> tuple[Refusal, ...]:
        """Every reason against this release."""
        return tuple(
            Refusal(term.name, why, run) for term in TERMS for why, run in term.reasons(self)
        )

    @property
    def loosened(self) -> tuple[tuple[Part, Loosened], ...]:
        found = [(part, part.result) for part in self.parts if part.result is not None]
        return tuple((part, one) for part, result in found for one in result.loosened)


@dataclass(frozen=True)
class Refusal:
    """One reason, by the name of its term."""

    term: str
    why: str
    run: str  # what to do about it

    def __str__(self) -> str:
        return f"{self.why}: {self.run}"


# What is offered ----------------------------------------------------------------------------------


def offer(
    bundle: Path,
    given: Sequence[Path],
    *,
    gallery: Path | None = None,
    accepted: Iterable[Accepted] = (),
    licence_ok: bool = False,
) -> Offer:
    """Gather what ``given`` results, files or folders of them, say of this bundle."""
    config = read_json(bundle / CONFIG)
    provenance = read_json(bundle / PROVENANCE)
    kind = str(config.get("model_type"))
    paths = list(dict.fromkeys(result_files(given)))
    with bundles.understood(bundle / PROVENANCE):
        found_gallery = gallery or find_gallery([*given, *paths])
        made = Offer(
            bundle,
            kind,
            tuple(parts_of(bundle, kind, paths)),
            found_gallery,
            *_read_gallery(found_gallery),
            tuple(accepted),
            licence_ok,
            provenance,
        )
    _refuse_idle(made)
    return made


def parts_of(bundle: Path, kind: str, paths: Sequence[Path]) -> Iterator[Part]:
    """Every comparison that this bundle needs, with the result that is of it, if any is."""
    if kind not in (*COMPONENTS, "full"):
        raise OfferError(f"{bundle} is a {kind}, which cannot be released")
    read = [(path, *_read(path)) for path in paths]
    for part in wanted(bundle, kind):
        yield _best(part, read)


def wanted(bundle: Path, kind: str) -> Iterator[Part]:
    """The comparisons that a bundle of this kind needs, without their results."""
    for name in COMPONENTS if kind == "full" else ():
        yield Part(name, bundle / name, name)
    yield Part(PIPELINE if kind == "full" else "", bundle, kind)


def _best(part: Part, read: Sequence[tuple[Path, Result | None, str]]) -> Part:
    """The result of these very bytes; else one that is of this kind, to say what is wrong."""
    same = [(path, x) for path, x, _ in read if x is not None and x.model_type == part.kind]
    exact = [(path, x) for path, x in same if x.bundle.sha256 == part.fingerprint]
    for path, result in exact or same:
        others = tuple((p, x) for p, x in exact if p != path)
        return replace(part, result_path=path, result=result, others=others)
    for path, _, unread in read:
        if unread and (not part.name or path.parent.name == part.name):
            return replace(part, result_path=path, unread=unread)
    return part


def _read(path: Path) -> tuple[Result | None, str]:
    try:
        return results.read(path), ""
    except SamevoiceError as error:
        return None, str(error)


def result_files(given: Iterable[Path]) -> Iterator[Path]:
    """A file as it is; of a folder its result.json, and those in the folders below it."""
    for path in given:
        if not path.exists():
            raise OfferError(f"--result {path}: there is no such file or folder")
        if not path.is_dir():
            yield path
            continue
        if (path / RESULT).is_file():
            yield path / RESULT
        yield from sorted(path.glob(f"*/{RESULT}"))


def find_gallery(given: Sequence[Path]) -> Path | None:
    """The gallery that lies beside the results, or in one of the two folders above them."""
    for path in given:
        around = (path.resolve() / RESULT) if path.is_dir() else path.resolve()
        for folder in list(around.parents)[:3]:
            if (folder / gallery_file.NAME).is_file():
                return folder / gallery_file.NAME
    return None


def _read_gallery(path: Path | None) -> tuple[Gallery | None, str]:
    if path is None:
        return None, ""
    try:
        return gallery_file.read(path), ""
    except SamevoiceError as error:
        return None, str(error)


def _refuse_idle(made: Offer) -> None:
    """Accepting what nobody loosened is a slip of the pen."""
    given = [one.limit for one in made.accepted]
    if twice := [name for name in given if given.count(name) > 1]:
        raise OfferError(f"--accept-loosened {twice[0]} was given twice: give one reason")
    names = {name_of(one) for _, one in made.loosened}
    for one in made.accepted:
        if one.limit not in names:
            known = f"only {', '.join(sorted(names))}" if names else "no limit"
            raise OfferError(f"--accept-loosened {one.limit}: {known} was loosened")


def name_of(one: Loosened) -> str:
    """As it is written after --limit."""
    return one.metric if one.tap is None else f"{one.tap}:{one.metric}"


# The terms ----------------------------------------------------------------------------------------

Reasons = Iterator[tuple[str, str]]  # why not, what to run


def _untouched(one: Offer) -> Reasons:
    written = one.provenance["outputs"]
    if changed := bundles.changed(one.bundle, written):
        yield (
            f"{len(changed)} files of {one.bundle} are not as they were written, "
            f"first {changed[0]!r}",
            "convert again",
        )
    if strange := strangers(one.bundle):
        yield f"{strange[0]} of {one.bundle} is no file of a bundle", "move it away"
    if one.kind == "full" and (why := settings_fault(one.bundle)):
        yield why, "convert again"


def _there(one: Offer) -> Reasons:
    for part in one.parts:
        if part.result is None and not part.unread:
            yield f"there is no result of the {part.label}", _parity(one)


def _readable(one: Offer) -> Reasons:
    for part in one.parts:
        if part.unread:
            yield f"the result of the {part.label} cannot be believed ({part.unread})", _parity(one)


def _green(one: Offer) -> Reasons:
    for part, result in _judged(one):
        for path, other in part.others:
            if not other.passed:
                yield f"{path} is red, and of the very same files", f"read {path}, or leave it out"
        if not result.passed:
            yield (
                f"the {part.label} is red: {result.verdict.reasons[0]}",
                f"read {_report(part)}",
            )


def _same_bytes(one: Offer) -> Reasons:
    for part, result in _judged(one):
        if result.bundle.sha256 != part.fingerprint:
            said = result.bundle.sha256[:12] or "none"
            yield (
                f"the result of the {part.label} is of other files (sha256 {said}, "
                f"not {part.fingerprint[:12]})",
                _parity(one),
            )


def _same_source(one: Offer) -> Reasons:
    from samevoice.parity.identity import source_of

    for part, result in _judged(one):
        if result.source.sha256 != source_of(part.folder):
            yield (
                f"the {part.label} was compared with another source than it was made from",
                _parity(one),
            )


def _same_precision(one: Offer) -> Reasons:
    for part, result in _judged(one):
        if result.dtype != part.dtype:
            yield (
                f"the {part.label} is {part.dtype}, but its result is of {result.dtype}",
                _parity(one),
            )


def _strict_device(one: Offer) -> Reasons:
    for part, result in _judged(one):
        if result.device.endswith("-tf32"):
            yield (
                f"the {part.label} was compared on {result.device}, whose limits are too wide to "
                "show a fault",
                "set MLX_ENABLE_TF32=0, or --device cpu, and run samevoice parity again",
            )


def _whole_set(one: Offer) -> Reasons:
    for part, result in _judged(one):
        missing = missing_inputs(part, result)
        if missing:
            yield (
                f"the {part.label} was not compared on {len(missing)} of the default inputs, "
                f"first {missing[0]!r}",
                _parity(one),
            )


def _every_tap(one: Offer) -> Reasons:
    if any(_untouched(one)):
        return  # a bundle that was changed cannot be loaded
    for part, result in _judged(one):
        if lost := missing_taps(part, result):
            yield f"the result of the {part.label} lacks {lost[0]}", _parity(one)


def _replayable(one: Offer) -> Reasons:
    for part, result in _judged(one):
        if part.golden is not None and (why := golden_fault(part, result)):
            yield f"no golden data of the {part.label}: {why}", _parity(one)


def _gallery(one: Offer) -> Reasons:
    for part in one.networks:
        why = one.unread_gallery or gallery_fault(one.gallery, part)
        if not why and one.gallery is not None:
            why = gallery_age(one.gallery, part)
        if why:
            source = one.sources[part.kind]["name"]
            yield (
                why,
                f"run samevoice gallery {source} --output gallery.md beside the results, or name "
                "another's gallery.json with --gallery",
            )


def _accepted(one: Offer) -> Reasons:
    known = {x.limit for x in one.accepted}
    for part, loose in one.loosened:
        if name_of(loose) not in known:
            yield (
                f"limits of the {part.label} were loosened, {loose}",
                f"compare without it, or answer for it: --accept-loosened {name_of(loose)} "
                '--because "..."',
            )


def _licensed(one: Offer) -> Reasons:
    if one.licence_ok:
        return
    for source in one.sources.values():
        if why := licence_fault(source):
            yield (
                f"{source['name']} {why}",
                "read its terms, and if they let you pass it on, say so with --license-ok",
            )
            return


@dataclass(frozen=True)
class Term:
    """One thing that must hold; ``says`` is how the table of refusals has it."""

    name: str
    says: str
    reasons: Callable[[Offer], Reasons]


TERMS = (
    Term("bundle", "the bundle is as it was written", _untouched),
    Term("result", "every part of it has a result", _there),
    Term(
        "schema", "which can be read, is of this schema and does not contradict itself", _readable
    ),
    Term("verdict", "which is green", _green),
    Term("hashes", "for exactly these files", _same_bytes),
    Term("source", "against the source that they were made from", _same_source),
    Term("dtype", "in the precision that is shipped", _same_precision),
    Term("device", "on a device that computes in float32, not TF32", _strict_device),
    Term("inputs", "on the default inputs at least", _whole_set),
    Term("taps", "at every layer, as deep as each input says", _every_tap),
    Term("golden", "with PyTorch's outputs kept for a replay", _replayable),
    Term("gallery", "every known bug of its family was found where it sits", _gallery),
    Term("loosened", "no limit was loosened that nobody answers for", _accepted),
    Term("licence", "the source's licence lets it be passed on, or was read", _licensed),
)


def _judged(one: Offer) -> Iterator[tuple[Part, Result]]:
    for part in one.parts:
        if part.result is not None:
            yield part, part.result


def _parity(one: Offer) -> str:
    names = [source.get("name", "SOURCE") for source in one.sources.values()]
    name = one.sources.get(one.kind, {}).get("name") or names[0]
    return f"run samevoice parity {one.bundle} --source {name} --output DIR"


def _report(part: Part) -> str:
    assert part.result_path is not None
    page = part.result_path.parent / "report.html"
    return str(page if page.is_file() else part.result_path)


# What a bundle and a release may hold, by its place in them; ``{part}`` is one of a pipeline's.
BUNDLE_FILES = (
    r"config\.json",
    r"README\.md",
    r"provenance\.json",
    r"model\.safetensors",
    r"model-\d{5}-of-\d{5}\.safetensors",
    r"model\.safetensors\.index\.json",
    r"origin/(checkpoint\.json|kept\.safetensors|config\.yaml)",
)
PROOF_FILES = (
    r"(gallery|release)\.json",
    r"((segmentation|embedding|plda|pipeline)/)?(result\.json|report\.html|ladder\.svg)",
    r"((segmentation|embedding|pipeline)/)?golden/(golden\.json|\d{3,}\.safetensors)",
)
KNOWN = re.compile(
    rf"((segmentation|embedding|plda)/)?({'|'.join(BUNDLE_FILES)})"
    rf"|{bundles.PARITY}/({'|'.join(PROOF_FILES)})|{'|'.join(bundles.UNSUMMED)}"
)


def strangers(folder: Path) -> list[str]:
    """Files that neither a bundle nor a release has."""
    return [name for name in bundles.files_in(folder) if not KNOWN.fullmatch(name)]


def settings_fault(folder: Path) -> str:
    """Why a pipeline's parameters are not those of the config.yaml that it came from, or ""."""
    from samevoice.converters import pipeline

    path = folder / bundles.ORIGIN / pipeline.CONFIG_YAML
    try:
        said = pipeline.parameters(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        return f"{path} cannot be read: {error}"
    found = read_json(folder / CONFIG).get("pipeline")
    if found != said:
        return f"{CONFIG} says other parameters than {bundles.ORIGIN}/{pipeline.CONFIG_YAML}"
    return ""


# Shared with verify -------------------------------------------------------------------------------


def missing_inputs(part: Part, result: Result, *, by_hash: bool = True) -> list[str]:
    """Default inputs that the result lacks, or looked at less closely.

    Without pyannote.audio, in which the recording lies, ``by_hash`` has to be false: then names,
    shapes and depths are compared.
    """
    known = {one.name: one for one in result.inputs}
    return [
        one.name
        for one in default_inputs(part, by_hash=by_hash)
        if not _covers(known.get(one.name), one, by_hash)
    ]


def _covers(found: Input | None, wanted: Input, by_hash: bool) -> bool:
    if found is None or found.shape != wanted.shape or (by_hash and found.sha256 != wanted.sha256):
        return False
    depth = found.notes.get("depth", "")
    least = DEPTHS.index(wanted.notes["depth"])
    return depth in DEPTHS and DEPTHS.index(depth) >= least


def missing_taps(part: Part, result: Result) -> list[str]:
    """Taps that the network has and the result lacks, where an input says that all were seen."""
    if part.kind not in NETWORKS:
        return []
    outputs, forced = taps_of_network(part.folder)
    seen = {(tap.name, tap.mode, tap.input) for tap in result.taps}
    wanted: list[tuple[str, Mode, str]] = []
    for one in result.inputs:
        depth = one.notes.get("depth")
        if depth in ("free", "full"):
            wanted += [(name, "free", one.name) for name in outputs]
        if depth == "full":
            wanted += [(name, "forced", one.name) for name in forced]
    return [
        f"{name} ({mode}, {where})"
        for name, mode, where in wanted
        if (name, mode, where) not in seen
    ]


def taps_of_network(folder: Path) -> tuple[list[str], list[str]]:
    """The taps of a bundle's network, free-running and forced, as it runs through them itself."""
    from samevoice.parity.candidate import Candidate
    from samevoice.parity.engine import OUTPUT, RECORDED
    from samevoice.parity.inputs import Example, batch, into, noise
    from samevoice.parity.run import shortest_for

    candidate = Candidate.load(folder, "cpu")
    short = shortest_for(candidate.network.num_frames)
    seen = candidate.record(Example("short", batch([noise(short)])))
    outputs = [RECORDED if name == OUTPUT else name for name in seen.outputs]
    return outputs, [*seen.outputs, *(into(name) for name in seen.inputs if name not in NO_SEAM)]


def default_inputs(part: Part, *, by_hash: bool) -> list[Input]:
    from samevoice.parity import inputs, run

    speech = None if by_hash else inputs.stand_in()
    if part.kind == "plda":
        return []
    if part.kind == "full":
        from samevoice.parity.pipeline.recordings import default_recordings

        return [one.example.described() for one in default_recordings("quick", speech)]
    return [one.described() for one in run.default_examples(part.folder, "quick", speech)]


def golden_fault(part: Part, result: Result) -> str:
    """Why a replay of a part's golden data would not belong to this result, or "".

    They hold the default inputs, and may lack recordings that were compared beside these.
    """
    assert part.golden is not None
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
    strange = [one for one in ids.split(", ") if one.lower() not in REDISTRIBUTABLE]
    return f"is under {strange[0]!r}" if strange else ""
