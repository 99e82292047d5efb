"""Every error that samevoice raises on purpose: one sentence, what is wrong and what to do.

The command line prints the sentence and exits with ``exit_code``; from Python they are ordinary
exceptions, all of them ``SamevoiceError``.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from traceback import walk_tb


class SamevoiceError(Exception):
    """Bad usage or bad input."""

    exit_code = 2


class NotPassedError(SamevoiceError):
    """The gate says no, or a release is refused."""

    exit_code = 1


class MissingExtraError(SamevoiceError):
    """A part of samevoice was asked for whose packages are not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed: pip install 'samevoice[{extra}]'")


class SourceError(SamevoiceError):
    """The source cannot be found, reached or told apart."""


class CheckpointError(SamevoiceError):
    """A checkpoint file cannot be read, or must not be."""


class ConversionError(SamevoiceError):
    """Tensors and rules do not fit each other."""


class DiarizationError(SamevoiceError, ValueError):
    """The pipeline was asked for what cannot be: no speakers, or chunks without frames."""


class BundleError(SamevoiceError):
    """A bundle cannot be written, or what lies there is none."""


class SlowerWarning(UserWarning):
    """Something fast was left out for something slower that is as right."""


def nearest(word: object, names: Iterable[str], listed: str) -> str:
    """Of more names than a line holds: those that were likely meant, and what lists them all."""
    said, by_small = str(word)[:80].lower(), {name.lower(): name for name in names}
    holding = [one for one in by_small if said in one] if len(said) > 2 else []
    close = " or ".join(by_small[x] for x in holding[:3] or get_close_matches(said, by_small))
    return f"nearest is {close}; {listed}" if close else listed


def told(error: BaseException, module: str = "") -> str:
    """Its kind, what it says, and the line of this module that led to it."""
    frames = [(one.f_code, one.f_globals, line) for one, line in walk_tb(error.__traceback__)]
    lines = [(code, line) for code, names, line in frames if names.get("__name__") == module]
    where = f" ({Path(lines[-1][0].co_filename).name}, line {lines[-1][1]})" if lines else ""
    said = " ".join(str(error).split()) or (f"in {frames[-1][0].co_name}" if frames else "")
    return f"{type(error).__name__}: {said}{where}"
