"""Which recordings are meant, and where their results go."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from samevoice import files
from samevoice.cli.options import UsageError
from samevoice.errors import SamevoiceError
from samevoice.outputs import OutputError, as_kept

STANDARD = "-"
FORMATS = ("rttm", "json", "srt", "vtt", "html")


def recordings(given: Sequence[str]) -> list[str]:
    """Every file, folders searched through; what does not exist fails when its turn comes."""
    if given.count(STANDARD) > 1:
        raise UsageError("standard input can be read once")
    found: list[str] = []
    for name in given:
        if name == STANDARD or not Path(name).is_dir():
            found.append(name)
            continue
        inside = files.below(name, files.RECORDINGS, OutputError)
        if not inside:
            raise UsageError(f"{name} holds no recordings (.wav, .flac, .mp3 and so on)")
        found += map(str, inside)
    return found


def is_there(name: str | Path) -> bool:
    return name == STANDARD or os.path.lexists(name)


def refuse_missing(name: str | Path) -> None:
    if not is_there(name):
        raise SamevoiceError(f"{name}: no such file")


def targets(
    recordings: Sequence[str], asked: Sequence[str], output: str, given: Sequence[str]
) -> dict[str, list[Path]]:
    """Where each recording's results go, an empty list for standard output."""
    if output == STANDARD:
        _refuse_mixture(recordings, asked)
        return {name: [] for name in recordings}
    path = Path(output)
    is_folder = os.path.isdir(path) or output.endswith("/")
    single = len(recordings) == len(asked) == 1 and not Path(given[0]).is_dir()
    if single and not is_folder and (path.suffix or os.path.exists(path)):
        if (
            path.suffix.lower() in files.RECORDINGS
        ):  # an unquoted *.wav behind --output ends up here
            raise UsageError(
                f"--output {path} is a recording's name: put recordings before --output, and name "
                "an .rttm behind it"
            )
        return {recordings[0]: [path]}
    if os.path.lexists(path) and not os.path.isdir(path):
        raise UsageError(f"--output {path} is a file, but several are written: name a folder")
    if path.suffix[1:] in FORMATS and not is_folder:
        raise UsageError(f"--output {path} names one file, but several are written: name a folder")
    targets = {name: [path / f"{stem(name)}.{kind}" for kind in asked] for name in recordings}
    _refuse_collisions(recordings, targets)
    return targets


def stem(recording: str) -> str:
    return "stdin" if recording == STANDARD else Path(recording).stem


def _refuse_mixture(recordings: Sequence[str], asked: Sequence[str]) -> None:
    if len(asked) > 1:
        raise UsageError("standard output takes one format: name a folder with --output")
    if len(recordings) > 1 and asked != ["rttm"]:
        raise UsageError(
            f"standard output takes one recording's {asked[0]}: name a folder with --output"
        )
    from samevoice.models.diarization.formats import field

    # In one stream recordings are told apart by their names alone, as RTTM can hold them.
    names = {name: [Path(field(stem(name)))] for name in recordings}
    _refuse_collisions(recordings, names, kept=str)


def _refuse_collisions(
    recordings: Sequence[str],
    targets: Mapping[str, list[Path]],
    kept: Callable[[Path], str] = as_kept,
) -> None:
    first: dict[str, str] = {}
    for name in recordings:
        target = targets[name][0]
        if (known := kept(target)) in first:
            raise UsageError(
                f"{first[known]} and {name} would both become {target.name}: rename one, or run "
                "twice"
            )
        first[known] = name
