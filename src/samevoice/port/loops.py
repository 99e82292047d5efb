"""Lines that repeat, but for an index that counts up, become a loop.

A loop does exactly what its lines did: they are the same text, and nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

from samevoice.port.text import Number

Line: TypeAlias = list[Any]  # words and numbers
# x[3], and self.block3 where a digit ends a module's name
_INDEX = re.compile(r"(?<=\[)\d+(?=\])|(?<=self\.)[A-Za-z_]*[A-Za-z_](?P<end>\d+)(?=[(\[])")
LEAST, LEAST_NAMED = 3, 4  # times that it must repeat
LONGEST = 8  # lines of a loop


@dataclass(frozen=True)
class _Index:
    """A number that may count up: ``x[number]``, or the end of a module's name."""

    number: int
    name: str = ""


def rolled(lines: Sequence[Line]) -> list[Line]:
    """The same lines, repetitions as loops."""
    atoms = [_atoms(line) for line in lines]
    made: list[Line] = []
    at = 0
    while at < len(lines):
        length, times = _best(atoms, at)
        if times:
            made += _loop([atoms[at : at + length], atoms[at + length : at + 2 * length]], times)
            at += length * times
        else:
            made.append(lines[at])
            at += 1
    return made


def _atoms(line: Line) -> list[Any]:
    found: list[Any] = []
    for piece in _joined(line):
        if not isinstance(piece, str):
            found.append(piece)
            continue
        end = 0
        for match in _INDEX.finditer(piece):
            name = match[0][: -len(match["end"])] if match["end"] else ""
            found += [piece[end : match.start()], _Index(int(match["end"] or match[0]), name)]
            end = match.end()
        found.append(piece[end:])
    return found


def _joined(line: Line) -> Line:
    """Words that stand side by side as one."""
    found: Line = []
    for piece in line:
        if isinstance(piece, str) and found and isinstance(found[-1], str):
            found[-1] += piece
        else:
            found.append(piece)
    return found


def _best(lines: list[list[Any]], at: int) -> tuple[int, int]:
    """How many lines repeat from here on, and how often; the most lines in all."""
    best = (0, 0)
    for length in range(1, min(LONGEST, (len(lines) - at) // 2) + 1):
        times = 1
        while _counts_up(lines, at, length, times):
            times += 1
        named = any(
            isinstance(x, _Index) and x.name for line in lines[at : at + length] for x in line
        )
        if times >= (LEAST_NAMED if named else LEAST) and length * times > best[0] * best[1]:
            best = (length, times)
    return best


def _counts_up(lines: list[list[Any]], at: int, length: int, times: int) -> bool:
    """Whether the next group is the first with some indices higher by one each time."""
    start = at + length * times
    if start + length > len(lines):
        return False
    moves = False
    for n in range(length):
        first, second, now = lines[at + n], lines[at + n + length], lines[start + n]
        if not len(first) == len(second) == len(now):
            return False
        for one, two, here in zip(first, second, now, strict=True):
            if isinstance(one, _Index) and isinstance(two, _Index) and isinstance(here, _Index):
                step = two.number - one.number
                if (
                    step not in (0, 1)
                    or here.number != one.number + step * times
                    or here.name != one.name
                ):
                    return False
                moves |= step == 1
            elif one != two or one != here:
                return False
    return moves


def _loop(groups: list[list[list[Any]]], times: int) -> list[Line]:
    """The head, and the lines of the first group with the index instead of its numbers."""
    first, second = groups
    moving = [
        (n, k)
        for n, line in enumerate(first)
        for k, one in enumerate(line)
        if isinstance(one, _Index) and second[n][k] != one
    ]
    least = min(first[n][k].number for n, k in moving)
    body = [list(line) for line in first]
    for n, k in moving:
        one = first[n][k]
        more = one.number - least
        index = f"n + {more}" if more else "n"
        if one.name:
            body[n][k] = f'["{one.name}{{{index}}}"]'
        else:
            body[n][k] = index
    return [_head(least, times), *(["    ", *_written(line)] for line in body)]


def _head(start: int, times: int) -> Line:
    count = Number(times, "count")
    if not start:
        return ["for n in range(", count, "):"]
    return ["for n in range(", str(start), ", ", count, f" + {start}):"]


def _written(line: list[Any]) -> Line:
    """Indices that stay as they were, and self["block{n}"] for a name."""
    words: Line = []
    for one in line:
        if isinstance(one, _Index):
            words.append(f"{one.name}{one.number}")
        elif isinstance(one, str) and one.startswith('["') and "{n" in one:
            before = words.pop() if words else ""
            words += [before.removesuffix("self.") + "self", f"[f{one[1:-1]}]"]
        else:
            words.append(one)
    return words


# Where modules are built --------------------------------------------------------------------------


def built(parts: Sequence[tuple[str, Line]]) -> list[Line]:
    """Lines that set attributes; those whose names count up are a loop."""
    made: list[Line] = []
    at = 0
    while at < len(parts):
        count = _counted(parts, at)
        if count >= LEAST_NAMED:
            made += _built_loop(parts[at : at + count])
            at += count
        else:
            name, pieces = parts[at]
            target = f"self.{name}" if name.isidentifier() else f'self["{name}"]'
            made.append([f"{target} = ", *pieces])
            at += 1
    return made


def _split(name: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.*?)(\d+)", name)
    return (match[1], int(match[2])) if match else (name, -1)


def _counted(parts: Sequence[tuple[str, Line]], at: int) -> int:
    """How many attributes from here on are the same but for numbers that grow evenly."""
    name, number = _split(parts[at][0])
    if number < 0:
        return 1
    run = [parts[at][1]]
    for other, pieces in parts[at + 1 :]:
        if _split(other) != (name, number + len(run)) or not evenly([*run, pieces]):
            break
        run.append(pieces)
    return len(run)


def evenly(rows: Sequence[Line]) -> bool:
    """Whether they are the same but for whole numbers that grow by the same step."""
    first = rows[0]
    if any(len(row) != len(first) for row in rows):
        return False
    for column in zip(*rows, strict=True):
        if all(one == column[0] for one in column):
            continue
        if not all(isinstance(one, Number) and type(one.value) is int for one in column):
            return False
        values = [one.value for one in column]
        if len({b - a for a, b in pairwise(values)}) > 1:
            return False
        if any(
            (one.keyword, one.value == one.usual) != (column[0].keyword, False)
            for one in column
            if one.keyword
        ):
            return False
    return True


def grown(rows: Sequence[Line], start: int, name: str = "n") -> Line:
    """The first of them, with ``128 + 32 * (n - 1)`` for a number that grows."""
    made: Line = []
    for column in zip(*rows, strict=True):
        one = column[0]
        if all(other == one for other in column):
            made.append(one)
            continue
        step = column[1].value - one.value
        index = (
            f"({name} - {start})" if start and step != 1 else f"{name} - {start}" if start else name
        )
        made += [f", {one.keyword}="] if one.keyword else []
        made += [Number(one.value, one.hint), " + "] if one.value else []
        made += [index] if step == 1 else [Number(step, f"{one.hint}_step"), f" * {index}"]
    return made


def _built_loop(parts: Sequence[tuple[str, Line]]) -> list[Line]:
    name, start = _split(parts[0][0])
    return [
        _head(start, len(parts)),
        [f'    self[f"{name}{{n}}"] = ', *grown([pieces for _, pieces in parts], start)],
    ]
