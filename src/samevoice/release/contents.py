"""A release on disk: the bundle, its card, its proof, and the sums of it all.

Everything is written aside, read back, and only then gets its name. The same bundle and results
always give the same bytes: nothing here asks for the time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import samevoice
from samevoice.converters import bundle as bundles
from samevoice.converters.bundle import CARD, PARITY, PROVENANCE, SUMS, UNSUMMED
from samevoice.errors import BundleError
from samevoice.parity import gallery_file, golden
from samevoice.parity import result as results
from samevoice.release import corpora
from samevoice.release.parts import RESULT, Part
from samevoice.release.terms import Offer, RefusedError, name_of

REPORT, LADDER = "report.html", "ladder.svg"
RECORD = "release.json"  # below parity/: what was accepted, and by whom it was judged
SCHEMA = 1


@dataclass(frozen=True)
class Released:
    """What lies there now."""

    path: Path
    files: int
    nbytes: int
    sha256: str  # of SHA256SUMS, and so of everything


def release(
    one: Offer,
    output: Path,
    *,
    overwrite: bool = False,
    repo: str | None = None,
    sign: Callable[[Path], None] = lambda folder: None,
    check: Callable[[Path], None] = lambda folder: None,
) -> Released:
    """Write the release, or refuse; ``repo`` is where the card says that it is to be had.

    ``sign`` may put a signature beside it all; ``check`` sees the whole before it gets its name,
    and raises to keep it back.
    """
    refuse(one)
    _refuse_place(one, output)
    with bundles.written_aside(output, overwrite=overwrite, replaceable=is_release) as aside:
        with bundles.understood(one.bundle, RefusedError):
            _write(aside, one, repo)
        read_back(aside)
        sign(aside)
        check(aside)
    files = bundles.files_in(output)
    size = sum((output / name).stat().st_size for name in files)
    return Released(output, len(files), size, bundles.sha256(output / SUMS))


def _refuse_place(one: Offer, output: Path) -> None:
    """Inside what it is made from, a release would change it."""
    inside = [one.bundle, *(part.golden for part in one.parts if part.golden is not None)]
    target = output.resolve()
    for folder in inside:
        if target.is_relative_to(folder.resolve()):
            raise RefusedError(f"not released: {output} lies in {folder}: choose another --output")


def refuse(one: Offer) -> None:
    """Raise with the first reason; ``one.refusals`` has them all."""
    against = one.refusals
    if against:
        more = f" (and {len(against) - 1} more)" if len(against) > 1 else ""
        raise RefusedError(f"not released: {against[0]}{more}")


def is_release(folder: Path) -> bool:
    """Whether all that lies there is what a release put there."""
    try:
        return set(bundles.files_in(folder)) <= {*UNSUMMED, *bundles.read_sums(folder)}
    except BundleError:
        return False


# Writing ------------------------------------------------------------------------------------------


def _write(folder: Path, one: Offer, repo: str | None) -> None:
    from samevoice.release import card

    for name in bundles.files_in(one.bundle):
        if name not in UNSUMMED and not name.startswith(f"{PARITY}/"):  # of an earlier release
            _copy(one.bundle / name, folder / name)
    shown = [_write_proof(folder, one, part) for part in one.parts]
    if one.gallery is not None and one.gallery_path is not None and one.networks:
        _copy(one.gallery_path, folder / PARITY / gallery_file.NAME)
    for claim, found in one.shown:
        bundles.write_json(folder / PARITY / claim.file, corpora.without_paths(found.said))
    bundles.write_json(folder / PARITY / RECORD, record(one))
    (folder / CARD).write_text(card.render(one, shown, repo), encoding="utf-8")
    # The provenance names every file's hash: the card is another now, and the proof is new.
    provenance = {
        **one.provenance,
        corpora.EVALUATIONS: {claim.file: corpora.summary(found) for claim, found in one.shown},
        "outputs": bundles.file_hashes(folder),
    }
    bundles.write_json(folder / PROVENANCE, provenance)
    names = [name for name in bundles.files_in(folder) if name != SUMS]
    lines = [f"{bundles.sha256(folder / name)}  {name}\n" for name in names]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _copy(source: Path, target: Path) -> None:
    if source.is_symlink() or not source.is_file():
        raise RefusedError(f"not released: {source} is a link or no file, and is not followed")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def proof_of(part_name: str) -> str:
    """Where the proof of a part lies: ``parity``, or ``parity/segmentation``."""
    return f"{PARITY}/{part_name}" if part_name else PARITY


def _write_proof(folder: Path, one: Offer, part: Part) -> dict[str, Any]:
    """The comparison of a part, and what the card shows of it."""
    from samevoice.reports import canvas, page, plots
    from samevoice.reports.view import view

    result, place = part.judged, folder / proof_of(part.name)
    place.mkdir(parents=True, exist_ok=True)
    results.write(place / RESULT, result)
    bugs = one.gallery.of(part.architecture) if one.gallery is not None else ()
    drawn = plots.plots(result)
    shown = view(result, part.label, gallery=bugs or None)
    text = page.html(shown, drawn=[drawn])
    (place / REPORT).write_text(text, encoding="utf-8")
    ladder = next((x for x in drawn if isinstance(x, canvas.Plot) and x.key == "ladder"), None)
    if ladder is not None:
        (place / LADDER).write_text(ladder.file, encoding="utf-8")
    if part.golden is not None:
        for name in golden.read(part.golden).files:
            _copy(part.golden / name, place / golden.FOLDER / name)
    alt = ladder.alt if ladder else None
    return {"label": part.label, "place": proof_of(part.name), "view": shown, "ladder": alt}


def record(one: Offer) -> dict[str, Any]:
    """What no result says: which tool let it out, and what somebody answered for."""
    return {
        "schema": SCHEMA,
        "tool": {"name": "samevoice", "version": samevoice.__version__},
        "model_type": one.kind,
        "results": {part.name: part.judged.bundle.sha256 for part in one.parts},
        "accepted": [{"limit": x.limit, "because": x.because} for x in one.accepted],
        "loosened": [
            {"part": part.name, "limit": name_of(loose), "says": str(loose)}
            for part, loose in one.loosened
        ],
        "licence_ok": one.licence_ok,
        "fast": one.fast,
    }


def read_back(folder: Path) -> None:
    """Every file as it was meant to be written."""
    for name, digest in bundles.read_sums(folder).items():
        if bundles.sha256(folder / name) != digest:
            raise BundleError(f"{name} reads back otherwise than written; is the disk sound?")
