"""Checks of a release, as whoever downloaded it runs them: MLX and numpy, no PyTorch.

Each check is one function that says what it saw, or raises ``FaultError`` with what is wrong. The
first ones look at names and hashes only, and nothing is opened that they have not let pass.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import samevoice
from samevoice.converters import bundle as bundles
from samevoice.converters.bundle import (
    CONFIG,
    PARITY,
    PROVENANCE,
    SIGNATURE,
    SUMS,
    UNSUMMED,
    read_json,
)
from samevoice.errors import BundleError, MissingExtraError, SamevoiceError
from samevoice.evaluation import gate
from samevoice.evaluation.gate import Evaluated
from samevoice.files import stays_below
from samevoice.parity import gallery_file, golden, replay
from samevoice.parity.judge import Verdict
from samevoice.parity.result import read
from samevoice.release import corpora, evidence, signature
from samevoice.release.contents import RECORD, SCHEMA, proof_of
from samevoice.release.corpora import Claim
from samevoice.release.parts import RESULT, Part, settings_fault, strangers, wanted
from samevoice.release.terms import name_of

if TYPE_CHECKING:
    from samevoice.models.backend import Choice


SHARD = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
# Nothing that is read as a whole is read whatever its size.
LARGEST = {SUMS: 16 << 20, ".sig": 16 << 20, ".json": 128 << 20}


class FaultError(SamevoiceError):
    """What is wrong with a release, by name."""


class UncheckedError(SamevoiceError):
    """Nothing is wrong with it, and nothing was shown."""


@dataclass(frozen=True)
class Outcome:
    """One line: what was checked, whether it holds, and what was seen."""

    name: str
    passed: bool
    says: str
    checked: bool = True  # or it was passed over, and nobody asked for it

    def as_dict(self) -> dict[str, Any]:
        said = {"check": self.name, "passed": self.passed, "says": self.says}
        return {**said, "checked": self.checked}


@dataclass
class Folder:
    """A release that is being checked; what earlier checks read is kept for later ones.

    ``root`` is what links may not lead out of: the folder, or the hub's cache around it.
    """

    path: Path
    root: Path
    device: Choice = "auto"
    key: Path | None = None  # whose signature it must have
    certificate: Path | None = None  # or below which roots the certificate of its signature is
    signed: bool = False  # it must have one
    sums: dict[str, str] = field(default_factory=dict)

    @cached_property
    def bundle(self) -> tuple[Part, ...]:
        """The comparisons that this bundle needs; that of the whole is the last."""
        return tuple(wanted(self.path))

    @property
    def kind(self) -> str:
        return self.bundle[-1].kind

    @cached_property
    def record(self) -> dict[str, Any]:
        found = read_json(self.path / PARITY / RECORD)
        if found.get("schema") != SCHEMA:
            raise FaultError(f"{PARITY}/{RECORD} is of schema {found.get('schema')!r}")
        return found

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The same, each with its result."""
        return tuple(map(self._with_result, self.bundle))

    def _with_result(self, part: Part) -> Part:
        path = self.path / _where(part)
        if not path.is_file():
            raise FaultError(f"{_where(part)} is missing")
        return replace(part, result_path=path, result=read(path))


# The checks ---------------------------------------------------------------------------------------


def _names(one: Folder) -> str:
    """Nothing but what was released, and no way out of the folder; nothing is opened before."""
    for path in sorted(one.path.rglob("*")):
        name = path.relative_to(one.path).as_posix()
        if name.partition("/")[0] not in bundles.FOREIGN:
            _refuse_entry(one, path, name)
    one.sums = bundles.read_sums(one.path)
    there, named = set(bundles.files_in(one.path)) - {*UNSUMMED}, set(one.sums)
    if lost := sorted(named - there):
        raise FaultError(f"{lost[0]} is missing, and {len(lost) - 1} more are")
    if strange := sorted(there - named):
        raise FaultError(f"{strange[0]} was added: no file of the release has that name")
    if strange := strangers(one.path):
        raise FaultError(f"{strange[0]} is no file that a release has")
    _indexed(one.path, one.sums)
    beside = [name for name in bundles.FOREIGN if os.path.lexists(one.path / name)]
    apart = f"; {', '.join(beside)} not looked at" if beside else ""
    return f"{len(named)} files, all named in {SUMS}, none of them outside{apart}"


def _refuse_entry(one: Folder, path: Path, name: str) -> None:
    """A plain file or a folder; in the hub's cache also its own links to plain files."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        target = Path(os.path.realpath(path))
        if not target.is_relative_to(one.root):
            raise FaultError(f"{name} is a link that leads out of the folder")
        if one.root == Path(os.path.realpath(one.path)) or not target.is_file():
            raise FaultError(f"{name} is a link: a release holds files alone")
        mode = target.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise FaultError(f"{name} is neither a file nor a folder")
    largest = LARGEST.get(path.suffix or path.name)
    if largest is not None and stat.S_ISREG(mode) and path.stat().st_size > largest:
        raise FaultError(f"{name} is larger than {largest >> 20} MiB, as none is that was released")


def _indexed(folder: Path, sums: Mapping[str, str]) -> None:
    """Shards lie beside the index that names them, and are what was released."""
    for where in (name for name in sums if name.endswith(bundles.INDEX)):
        named = read_json(folder / where).get("weight_map")
        if not isinstance(named, dict):
            raise FaultError(f"{where} has no weight_map")
        for name in sorted({str(name) for name in named.values()}):
            if not stays_below(name) or "/" in name:
                raise FaultError(f"{where} names {name!r}, which leads out of its folder")
            if not SHARD.fullmatch(name) or where.replace(bundles.INDEX, name) not in sums:
                raise FaultError(f"{where} names {name!r}, which is no shard of the release")


def _sums(one: Folder) -> str:
    for name, digest in one.sums.items():
        if bundles.sha256(one.path / name) != digest:
            raise FaultError(f"{name} is not what was released: its sha256 differs")
    return f"{len(one.sums)} sha256 agree, {_size(one)}"


def _size(one: Folder) -> str:
    return f"{sum((one.path / name).stat().st_size for name in one.sums) / 1e6:.1f} MB"


def _signature(one: Folder) -> str:
    if not os.path.lexists(one.path / SIGNATURE):
        if one.signed or one.key or one.certificate:
            raise FaultError(f"nobody signed it: there is no {SIGNATURE}")
        raise UncheckedError("nobody signed it")
    if one.key is not None:
        return signature.check(one.path, one.key)
    if one.certificate is not None:
        return signature.check_certificate(one.path, one.certificate)
    said = f"signed by {signature.named(one.path)}"
    if one.signed:
        raise FaultError(
            f"{said}, which nothing was checked with: name the public key with --key, or a "
            "certificate's root with --certificate"
        )
    raise UncheckedError(f"{said}, not checked: --key PUBLIC or --certificate ROOT does")


def _provenance(one: Folder) -> str:
    said = read_json(one.path / PROVENANCE)
    with bundles.understood(PROVENANCE, FaultError):
        if changed := bundles.changed(one.path, said["outputs"]):
            raise FaultError(f"{changed[0]} is not what {PROVENANCE} names")
        for part in one.bundle[:-1]:
            _same_source(part, said["sources"])
        if said["model_type"] != one.kind:
            raise FaultError(f"{PROVENANCE} is of the {said['model_type']}, not of the {one.kind}")
        source = said["sources"][one.kind]
        return f"from {source['name']}, sha256 {source['sha256'][:12]}"


def _same_source(part: Part, sources: Mapping[str, Any]) -> None:
    """Of a pipeline, every part's own provenance says what the whole one's says."""
    inner = read_json(part.folder / PROVENANCE)
    if changed := bundles.changed(part.folder, inner["outputs"]):
        raise FaultError(f"{part.name}/{changed[0]} is not what {part.name}/{PROVENANCE} names")
    if inner["sources"] != {part.kind: sources[part.source]}:
        raise FaultError(f"{part.name}/{PROVENANCE} names another source than {PROVENANCE}")


def _verdicts(one: Folder) -> str:
    for part in one.parts:
        result = part.judged
        if not result.passed:
            raise FaultError(f"{_where(part)} is red: {result.verdict.reasons[0]}")
    taps = sum(len(part.judged.taps) for part in one.parts)
    return f"{taps} taps judged again from their figures, {len(one.parts)} green"


def _belongs(one: Folder) -> str:
    from samevoice.parity.identity import source_of

    for part in one.parts:
        _plausible(part)
        result = part.judged
        if result.model_type != part.kind:
            raise FaultError(
                f"{_where(part)} is of the {result.model_type}, not of the {part.kind}"
            )
        if result.bundle.sha256 != part.fingerprint:
            raise FaultError(f"{_where(part)} is of another bundle than these weights")
        if result.source.sha256 != source_of(part.folder):
            raise FaultError(f"{_where(part)} is of another source than {PROVENANCE} names")
        if result.dtype != part.dtype:
            raise FaultError(f"{_where(part)} is of {result.dtype}, the weights are {part.dtype}")
        if result.device.endswith("-tf32"):
            raise FaultError(f"{_where(part)} was made on {result.device}, which proves too little")
        if part.is_data and (why := _copied(part)):
            raise FaultError(why)
    if one.bundle[-1].is_pipeline and (why := settings_fault(one.path)):
        raise FaultError(why)
    with bundles.understood(f"{PARITY}/{RECORD}", FaultError):
        if one.record["results"] != {part.name: part.fingerprint for part in one.parts}:
            raise FaultError(f"{PARITY}/{RECORD} is of other weights")
    return "every result is of these weights and their source"


def _copied(part: Part) -> str:
    """Why a part's arrays are not those that were compared, as far as figures can tell."""
    from samevoice.parity.metrics import Pair

    arrays = {name: tensor.load() for name, tensor in bundles.read_weights(part.folder).items()}
    for tap in part.judged.taps:
        array = arrays.pop(tap.name, None)
        if array is None or tuple(array.shape) != tap.shape:
            return f"{part.label} has no {tap.name!r} of the shape that was compared"
        if not math.isclose(Pair(array, array).truth_rms, tap.truth_rms, rel_tol=1e-12):
            return f"{tap.name!r} of the {part.label} is not the array that was compared"
    return f"{part.label} holds {min(arrays)!r}, which was not compared" if arrays else ""


def _inputs(one: Folder) -> str:
    by_hash = find_spec("pyannote") is not None and find_spec("pyannote.audio") is not None
    for part in one.parts:
        if lost := evidence.missing_inputs(part, by_hash=by_hash):
            raise FaultError(f"{_where(part)} lacks {len(lost)} default inputs, first {lost[0]!r}")
        if gone := evidence.missing_taps(part):
            raise FaultError(f"{_where(part)} lacks {len(gone)} taps, first {gone[0]}")
    count = sum(len(part.judged.inputs) for part in one.parts)
    how = "by hash" if by_hash else "by name and shape, as pyannote.audio is not installed"
    return f"all default inputs among {count}, {how}"


def _plausible(part: Part) -> None:
    """No more layers than tensors: a network of a million would be built for ever."""
    if not part.is_network:
        return
    tensors = len(read_json(part.folder / bundles.INDEX)["weight_map"])
    for name in ("lstm", "linear"):
        said = part.config.get(name)
        layers = said.get("num_layers", 0) if isinstance(said, dict) else 0
        if not isinstance(layers, int) or layers > tensors:
            raise FaultError(f"{CONFIG} says {name}.num_layers {layers!r} of {tensors} tensors")


def _limits(one: Folder) -> str:
    with bundles.understood(f"{PARITY}/{RECORD}", FaultError):
        accepted = {x["limit"]: x["because"] for x in one.record["accepted"]}
    loose = [(part, x) for part in one.parts for x in part.judged.loosened]
    for part, found in loose:
        if name_of(found) not in accepted:
            raise FaultError(f"{_where(part)} loosened {found}, for which nobody answers")
    if not loose:
        return "none was loosened"
    return "; ".join(f"{part.label}: {x}, {accepted[name_of(x)]}" for part, x in loose)


def _corpora(one: Folder) -> str:
    with bundles.understood(f"{PARITY}/{RECORD}", FaultError):
        found = tuple(corpora.claims(one.parts, bool(one.record["fast"])))
    seen = {claim.file: _evaluated(one, claim) for claim in found}
    named = {file: corpora.summary(evaluation) for file, evaluation in seen.items()}
    if read_json(one.path / PROVENANCE).get(corpora.EVALUATIONS, {}) != named:
        raise FaultError(f"{PROVENANCE} names another corpus, or other figures")
    said = [f"{claim.says}: {corpora.sentence(seen[claim.file])}" for claim in found]
    return "; ".join(said) or "a float32 embedding or none, and no fast mode: none is needed"


def _evaluated(one: Folder, claim: Claim) -> Evaluated:
    where = one.path / PARITY / claim.file
    if not where.is_file():
        raise FaultError(f"{claim.says}, and {PARITY}/{claim.file} is missing")
    found = gate.read(where)
    why = corpora.fault(found) if claim.is_about(one.bundle[-1], found) else "is of other weights"
    if why:
        raise FaultError(f"{claim.says}, and {PARITY}/{claim.file} {why}")
    return found


def _bugs(one: Folder) -> str:
    networks = [part for part in one.parts if part.is_network]
    if not networks:
        return "no network in it, so no bug to find"
    found = gallery_file.read(one.path / PARITY / gallery_file.NAME)
    for part in networks:
        why = evidence.gallery_fault(found, part)
        if not why and found.versions.get("samevoice") == samevoice.__version__:
            why = evidence.gallery_age(found, part)
        if why:
            raise FaultError(why)
    count = sum(len(found.of(part.architecture)) for part in networks)
    by = found.versions.get("samevoice", "unknown")
    other = f", by samevoice {by}" if by != samevoice.__version__ else ""
    return f"{count} known bugs were found where they sit, or shown to change nothing{other}"


def _replayed(one: Folder) -> str:
    seen = []
    for part in one.parts:
        if part.golden is None:
            continue
        if why := evidence.golden_fault(part):
            raise FaultError(why)
        verdict = replay.replay(part.folder, part.golden, device=one.device)
        if not verdict.passed:
            raise FaultError(f"the {part.label} diverges on this machine: {verdict.reasons[0]}")
        if why := _other_figures(part, verdict):
            raise FaultError(why)
        seen.append(_said(part, verdict))
    return "; ".join(seen) or "nothing to replay: copies have no outputs"


def _other_figures(part: Part, verdict: Verdict) -> str:
    """Why the golden data are not what the result's figures were made from, or ""."""
    known = {tap.key: tap for tap in part.judged.taps}
    for tap in verdict.taps:
        said = known.get(tap.key)
        if said is None or tap.mode == "forced":
            continue
        pairs = [(tap.truth_rms, said.truth_rms), (tap.reference_rms, said.reference_rms)]
        if not all(math.isclose(a, b, rel_tol=1e-9) for a, b in pairs):
            return f"golden data of the {part.label} are not those that {_where(part)} was made on"
    settled = {row["name"]: row["settled"] for row in _golden_rows(part)}
    said_of = part.judged.task.get("diarization", {}).get("recordings", {})
    for name, row in said_of.items():
        if settled.get(name) != (not row["clusters_on_floor"] and not row["tied_frames"]):
            return f"golden data of the {part.label} say otherwise whether {name!r} is settled"
    return ""


def _golden_rows(part: Part) -> tuple[dict[str, Any], ...]:
    assert part.golden is not None
    return golden.read(part.golden).examples if part.is_pipeline else ()


def _said(part: Part, verdict: Verdict) -> str:
    if "diarization" in verdict.task:
        rate = verdict.task["diarization"]["der"]
        return f"{part.label} DER {100 * rate:.2g} %"
    worst = max(tap.judged_ratio for tap in verdict.taps)
    return f"{part.label} noise ratio at most {worst:.2f} over {len(verdict.taps)} outputs"


def _where(part: Part) -> str:
    return f"{proof_of(part.name)}/{RESULT}"


@dataclass(frozen=True)
class Check:
    """One line of ``samevoice verify``; ``says`` is how the documents have it."""

    name: str
    says: str
    run: Callable[[Folder], str]
    builds: bool = False  # whether it builds the network: only of what was sound until then


CHECKS = (
    Check("files", "every file is named, none leads out of the folder, none was added", _names),
    Check("sha256", "every file has the sum that was released", _sums),
    Check(
        "signature",
        "everything was signed with the key, or below the root, that you name",
        _signature,
    ),
    Check("provenance", "the provenance names these files", _provenance),
    Check("verdict", "the results' verdicts follow from their figures, and are green", _verdicts),
    Check("weights", "the results are of these weights and of their source", _belongs),
    Check("inputs", "the comparison was made on the default inputs at least", _inputs, True),
    Check("limits", "no limit was loosened that nobody answers for", _limits),
    Check("corpus", "an evaluation shows what a coarse embedding or the fast mode costs", _corpora),
    Check("gallery", "the known bugs were found by the harness that gave the verdict", _bugs),
    Check("replay", "MLX gives PyTorch's saved outputs on this machine", _replayed, True),
)


def verify(
    path: Path,
    *,
    root: Path | None = None,
    device: Choice = "auto",
    replay: bool = True,
    key: Path | None = None,
    certificate: Path | None = None,
    signed: bool = False,
) -> Iterator[Outcome]:
    """One outcome a check, as each is done; after a fault in the names nothing is opened.

    ``key`` is a public key in PEM that must have signed it, or ``certificate`` the roots that must
    vouch for whoever did; ``signed`` refuses what nobody signed.
    """
    if not os.path.lexists(path / SUMS):
        raise BundleError(f"{path} has no {SUMS}: it is no samevoice release")
    inside = Path(os.path.realpath(root or path))
    one, sound = Folder(path, inside, device, key, certificate, signed), True
    for check in CHECKS:
        if check.run is _replayed and not replay:
            continue
        if check.builds and not sound:
            yield Outcome(check.name, False, "not run: something else was found first")
            continue
        outcome = _outcome(check, one)
        sound = sound and outcome.passed
        yield outcome
        if not outcome.passed and check.run is _names:
            return


def _outcome(check: Check, one: Folder) -> Outcome:
    try:
        return Outcome(check.name, True, check.run(one))
    except UncheckedError as nothing:
        return Outcome(check.name, True, str(nothing), checked=False)
    except (MissingExtraError, signature.KeyFileError):
        raise  # that says nothing of the release
    except SamevoiceError as error:
        return Outcome(check.name, False, _short(str(error), one.path))
    except OSError as error:
        said = f"{error.filename} cannot be read: {error.strerror}"
        return Outcome(check.name, False, _short(said, one.path))
    except Exception as error:
        # Whoever wrote these files may have written anything; MLX and numpy say so in their ways.
        words = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        said = f"something in the release makes no sense ({words})"
        return Outcome(check.name, False, _short(said, one.path))


def _short(words: str, folder: Path) -> str:
    """Files by their names in the release."""
    return words.replace(f"{folder}/", "")
