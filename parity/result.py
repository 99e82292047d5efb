"""result.json: the one file that gate, release and reports believe, and therefore check.

``write`` and ``read`` are the only ways. A result carries its figures and its limits, so that the
reader works the verdict out again: one that contradicts its own figures is refused. Strict JSON has
no NaN and no infinity; they are the strings "nan", "inf" and "-inf", everywhere in the file.
"""

from __future__ import annotations

import json
import math
import os
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, Union, get_args, get_origin, get_type_hints

from samevoice.converters.bundle import file_written_aside
from samevoice.errors import SamevoiceError
from samevoice.family import named_object
from samevoice.files import read_named
from samevoice.parity import roles
from samevoice.parity.bounds import LimitsError
from samevoice.parity.inputs import Input
from samevoice.parity.judge import TapVerdict, Verdict
from samevoice.parity.limits import Limits, Loosened, loosened
from samevoice.parity.metrics import HISTOGRAM_BINS, floor_of, ratio_of

SCHEMA = 2
Upgrade: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
# Schema -> how a document of it becomes one of the next; without a way an older one is refused.
UPGRADES: Mapping[int, Upgrade] = {1: lambda document: document | {"cause": None}}
FAST = "fast"  # the model type of a whole pipeline's fast configuration
SHA256 = re.compile(r"[0-9a-f]{64}|")
Json: TypeAlias = Any
NOT_FINITE: Mapping[str, float] = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class ResultError(SamevoiceError):
    """A result that cannot be read, or that contradicts itself."""


@dataclass(frozen=True)
class Artefact:
    """What was compared: its hash, and notes such as name, revision and licence.

    The hash is empty where there is no file, as for modules compared in memory; a release then has
    nothing to hold on to.
    """

    sha256: str
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cause:
    """What was proven to be wrong at the first divergence: put right, the tap is as it should be.

    ``bug`` names it; the noise ratios are of this layer alone, fed with the reference's own input.
    """

    tap: str
    bug: str
    ratio_before: float
    ratio_after: float
    sentence: str


@dataclass(frozen=True)
class Result:
    """One comparison of one bundle with its source. The fields are those of result.json."""

    passed: bool
    model_type: str
    dtype: str
    device: str
    source: Artefact
    bundle: Artefact
    versions: dict[str, str]
    inputs: tuple[Input, ...]
    command: tuple[str, ...]
    taps: tuple[TapVerdict, ...]
    first_divergence: str | None
    task: dict[str, dict[str, Json]]
    limits: Limits
    loosened: tuple[Loosened, ...]
    details: dict[str, Json] = field(default_factory=dict)  # what reports draw; decides nothing
    cause: Cause | None = None
    schema: int = SCHEMA

    @classmethod
    def of(
        cls,
        verdict: Verdict,
        *,
        inputs: Iterable[Input] = (),
        command: Iterable[str] = (),
        **said: Any,
    ) -> Self:
        """A verdict and where it comes from -> a result that is consistent by construction.

        ``said`` are the fields that do not follow from the verdict: ``model_type``, ``source``,
        ``bundle``, ``versions``, and what else there is.
        """
        result = cls(
            passed=verdict.passed,
            dtype=verdict.limits.dtype,
            device=verdict.limits.device,
            inputs=tuple(inputs),
            command=tuple(command),
            taps=verdict.taps,
            first_divergence=verdict.first_divergence,
            task={section: dict(figures) for section, figures in verdict.task.items()},
            limits=verdict.limits,
            loosened=verdict.loosened,
            **said,
        )
        check(result)
        return result

    @property
    def verdict(self) -> Verdict:
        """The same taps, task and limits, to ask for reasons, failures and doubts."""
        return Verdict(self.taps, self.limits, self.task)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return str(named_object("samevoice.reports.notebook:of_result")(self))


# Contradictions -----------------------------------------------------------------------------------


def check(result: Result) -> None:
    """Raise ``ResultError`` unless everything that follows from the figures is as they say."""
    for tap in result.taps:
        _check_tap(tap, result)
    if len({tap.key for tap in result.taps}) < len(result.taps):
        raise ResultError("a tap stands in the result twice")
    for who, artefact in (("source", result.source), ("bundle", result.bundle)):
        _check_hash(f"{who}.sha256", artefact.sha256)
    for k, one in enumerate(result.inputs):
        _check_hash(f"inputs[{k}].sha256", one.sha256)
    limits = result.limits
    if (result.dtype, result.device) != (limits.dtype, limits.device):
        raise ResultError(
            f"the limits are for {limits.dtype} on {limits.device}, "
            f"but the result is for {result.dtype} on {result.device}"
        )
    verdict = result.verdict
    _same("passed", result.passed, verdict.passed)
    _same("first_divergence", result.first_divergence, verdict.first_divergence)
    if result.cause is not None:
        _same("cause.tap", result.cause.tap, verdict.first_divergence)
    role = roles.every().get(result.model_type)
    if role is None:
        _check_other(result)
    elif role.judged and limits.family != result.model_type:
        raise ResultError(f"a {result.model_type} was judged by the limits of a {limits.family}")
    for name, mode in role.judged if role else ():
        _check_given(result, name, mode)
    _check_loosened(result)


def _check_other(result: Result) -> None:
    """Somebody's own modules are judged by the limits that hold for any."""
    if result.limits.family != "generic":
        raise ResultError(
            f"model_type is {result.model_type!r:.80}, which samevoice parity does not compare"
        )
    if result.passed and not any(tap.output for tap in result.taps):
        raise ResultError("no output was judged")


def _check_given(result: Result, name: str, mode: str) -> None:
    """Every input has this tap."""
    given = {tap.input for tap in result.taps if (tap.name, tap.mode) == (name, mode)}
    bare = [one.name for one in result.inputs if one.name not in given]
    if bare or not given:
        what = f"{name} ({mode})" if mode != "free" else name
        raise ResultError(f"no {what} was judged for {bare[0] if bare else 'any input'!r}")


def _check_tap(tap: TapVerdict, result: Result) -> None:
    broken = tap.violations(result.limits)
    if tap.passed == bool(broken):
        says = "passed" if tap.passed else "failed"
        why = broken[0] if broken else "its figures keep every limit"
        raise ResultError(f"tap {tap.label!r} claims to have {says}, but {why}: run it again")
    if tap.passed == bool(tap.reasons):
        raise ResultError(f"tap {tap.label!r} must give reasons if it failed, and only then")
    found = ratio_of(tap.rms, tap.reference_rms, tap.truth_rms)
    if tap.noise_ratio != found and not math.isclose(tap.noise_ratio, found, rel_tol=1e-9):
        raise ResultError(
            f"tap {tap.label!r} has noise_ratio {tap.noise_ratio:.6g}, but its errors say "
            f"{found:.6g}: run it again"
        )
    if tap.times_floor is not None:
        floor = max(tap.noise_floor, floor_of(tap.truth_rms))
        if not math.isclose(tap.times_floor, tap.rms / floor, rel_tol=1e-9):
            raise ResultError(
                f"tap {tap.label!r} has times_floor {tap.times_floor:.6g}, but its error and its "
                f"noise floor say {tap.rms / floor:.6g}: run it again"
            )
    if len(tap.histogram) != HISTOGRAM_BINS:
        raise ResultError(f"tap {tap.label!r} must have {HISTOGRAM_BINS} histogram bins")
    if tap.input and tap.input not in {one.name for one in result.inputs}:
        raise ResultError(f"tap {tap.label!r} was fed with {tap.input!r}, which inputs lacks")


def _check_hash(where: str, sha256: str) -> None:
    if not SHA256.fullmatch(sha256):
        raise ResultError(f"{where} must be 64 hexadecimal digits, not {sha256[:80]!r}")


def _check_loosened(result: Result) -> None:
    try:
        found = loosened(result.limits, result.verdict.outputs)
    except LimitsError as error:
        raise ResultError(f"limits: {error}") from None
    hidden = [one for one in found if one not in result.loosened]
    invented = [one for one in result.loosened if one not in found]
    if hidden:
        raise ResultError(f"loosened does not list {hidden[0]}: run samevoice parity again")
    if invented:
        raise ResultError(f"loosened lists {invented[0]}, which the limits do not say")


def _same(name: str, stored: object, found: object) -> None:
    if stored != found:
        raise ResultError(f"{name} is {stored!r}, but the figures say {found!r}: run it again")


# Writing ------------------------------------------------------------------------------------------


def write(path: str | Path, result: Result) -> None:
    """Write aside, read back, then rename; the same result always gives the same bytes."""
    path = Path(path)
    text = dumps(result)
    if dumps(loads(text, str(path))) != text:
        raise ResultError(f"{path}: the result does not survive being written")
    with file_written_aside(path, overwrite=True) as aside:
        with aside.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if aside.read_text(encoding="utf-8") != text:
            raise ResultError(f"{path} was not written as meant: is the disk full?")


def dumps(result: Result) -> str:
    """The text of result.json: keys sorted, one line an entry, so that two can be diffed."""
    check(result)
    document = _encoded(result, "result")
    lines = [f"{_line(key)}: {_block(value)}" for key, value in sorted(document.items())]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _block(value: Json) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n " + ",\n ".join(_line(one) for one in value) + "\n]"
    return _line(value)


def _line(value: Json) -> str:
    # Escapes keep file names that are not UTF-8.
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _encoded(value: Any, where: str) -> Json:
    if is_dataclass(value) and not isinstance(value, type):
        return {x.name: _encoded(getattr(value, x.name), where) for x in fields(value)}
    if isinstance(value, Mapping):
        if strange := [key for key in value if not isinstance(key, str)]:
            raise ResultError(f"{where} has the key {strange[0]!r}: keys must be strings")
        return {key: _encoded(one, f"{where}.{key}") for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_encoded(one, where) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise ResultError(f"{where} holds a {type(value).__name__}, which JSON does not know")


# Reading ------------------------------------------------------------------------------------------


def read(path: str | Path) -> Result:
    """A file -> a result whose verdict has been worked out again; anything else is refused."""
    return loads(read_named(Path(path), ResultError), str(path))


def loads(text: str, name: str = "result") -> Result:
    """The text of a result.json -> a checked result."""
    try:
        document = json.loads(text, object_pairs_hook=_no_key_twice, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ResultError(f"{name} is not JSON, or was cut off: {error}") from None
    except ResultError as error:
        raise ResultError(f"{name}: {error}") from None
    try:
        result: Result = _decoded(Result, _known_schema(document), "")
        check(result)
    except (ResultError, LimitsError) as error:
        raise ResultError(f"{name}: {error}") from None
    except RecursionError:
        raise ResultError(f"{name} is nested too deeply to be a result") from None
    return result


def _known_schema(document: Json) -> Json:
    if not isinstance(document, dict):
        raise ResultError("a result is a JSON object")
    schema = document.get("schema")
    if schema is None:
        raise ResultError("schema is missing: this is no samevoice result")
    if type(schema) is not int or schema < 1:
        raise ResultError(f"schema {schema!r} was never one")
    if schema > SCHEMA:
        raise ResultError(
            f"schema {schema} is newer than {SCHEMA}, the newest known here: upgrade samevoice"
        )
    return _upgraded(document, schema)


def _upgraded(document: dict[str, Any], schema: int) -> dict[str, Any]:
    """A document of an older schema, step by step; one that has no way is refused by its number."""
    for old in range(schema, SCHEMA):
        if old not in UPGRADES:
            raise ResultError(
                f"schema {schema} is older than {SCHEMA} and cannot be upgraded: "
                "run samevoice parity again"
            )
        document = UPGRADES[old](document) | {"schema": old + 1}
    return document


def _no_key_twice(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ResultError(f"the key {twice!r} stands there twice")
    return found


def _no_constant(text: str) -> Json:
    raise ResultError(f"{text} is not JSON: infinities and NaN are written as strings")


# How a value of each type is called where another stands in its place.
EXPECTED = {tuple: "a list", dict: "an object", float: "a number", int: "an integer", str: "text"}


def _decoded(kind: Any, value: Json, where: str) -> Any:
    """JSON -> the annotated type, naming the place of whatever does not fit."""
    if is_dataclass(kind):
        return _decoded_object(kind, value, where)
    if kind is Any:
        return _decoded_free(value)
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, types.UnionType):
        chosen = [one for one in inner if one is not type(None)]
        return None if value is None else _decoded(chosen[0], value, where)
    if origin is Literal:
        if value in inner and isinstance(value, str):
            return value
        raise ResultError(f"{where} must be one of {', '.join(inner)}, not {value!r}")
    if origin is tuple and isinstance(value, list):
        return tuple(_decoded(inner[0], one, f"{where}[{k}]") for k, one in enumerate(value))
    if origin is dict and isinstance(value, dict):
        return {key: _decoded(inner[1], one, f"{where}.{key}") for key, one in value.items()}
    if origin is float and isinstance(value, str) and value in NOT_FINITE:
        return NOT_FINITE[value]
    if origin is float and type(value) in (int, float):
        return _decoded_float(value, where)
    if type(value) is origin:
        return value
    expected = EXPECTED.get(origin, "a truth")
    raise ResultError(f"{where} must be {expected}, not {_kind_name(value)}")


def _decoded_object(kind: Any, value: Json, where: str) -> Any:
    dot = f"{where}." if where else ""
    if not isinstance(value, dict):
        raise ResultError(f"{where} must be an object, not {_kind_name(value)}")
    hints = _hints(kind)
    names = list(hints)
    if missing := [name for name in names if name not in value]:
        raise ResultError(f"{len(missing)} keys are missing, first {dot}{missing[0]}")
    if unknown := sorted(value.keys() - set(names)):
        raise ResultError(f"{len(unknown)} keys are unknown, first {dot}{unknown[0]}")
    return kind(**{name: _decoded(hints[name], value[name], f"{dot}{name}") for name in names})


@cache
def _hints(kind: type) -> dict[str, Any]:
    """Field -> its type, in order; resolved once, as thousands of taps ask."""
    hints = get_type_hints(kind)
    return {x.name: hints[x.name] for x in fields(kind)}


def _decoded_float(value: float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):  # JSON's 1e999
        raise ResultError(f"{where} is too large for a number")
    return number


def _decoded_free(value: Json) -> Json:
    """Parts without a fixed shape: the three strings are numbers there too."""
    if isinstance(value, dict):
        return {key: _decoded_free(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_decoded_free(one) for one in value]
    return NOT_FINITE.get(value, value) if isinstance(value, str) else value


def _kind_name(value: Json) -> str:
    names = {dict: "an object", list: "a list", str: f"{value!r:.60}", type(None): "null"}
    return names.get(type(value), repr(value)[:60])
