"""Whether the files of a bundle are those that were written, as far as it says itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from samevoice.errors import BundleError
from samevoice.files import read_json, sha256


def hashes(folder: Path, names: Iterable[str]) -> list[str]:
    """Of files that ``check`` let pass: as recorded, which it has compared, or else computed."""
    provenance = folder / "provenance.json"
    outputs = read_json(provenance, BundleError).get("outputs") if provenance.exists() else None
    return [(outputs or {}).get(name) or sha256(folder / name, BundleError) for name in names]


def check(folder: Path, names: Iterable[str]) -> None:
    """Refuse a file whose hash is not the one in provenance.json.

    A bundle that other tools or a hand made has none, and then nothing is known of its files.
    """
    provenance = folder / "provenance.json"
    if not provenance.exists():
        return
    outputs = read_json(provenance, BundleError).get("outputs", {})
    if not isinstance(outputs, dict):
        raise BundleError(f"{provenance} has no list of files and hashes: convert the source again")
    for name in names if outputs else ():
        path = folder / name
        if outputs.get(name) != (sha256(path, BundleError) if path.exists() else None):
            raise BundleError(
                f"{path} is not as it was written (samevoice inspect shows what changed): convert "
                "the source again"
            )
