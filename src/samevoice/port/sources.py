"""The original's own code: which line does something, and what it calls what it computes."""

from __future__ import annotations

import ast
import linecache
from functools import cache
from inspect import getsourcefile, getsourcelines
from pathlib import Path

import torch

from samevoice.port.graph import Call, Line

_LIBRARIES = tuple(f"{Path(file).parent}/" for file in (torch.__file__, __file__))


def own_line(lines: tuple[Line, ...], call: Call) -> Line | None:
    """The innermost line of the authors' own: of the module itself, if it is there."""
    file, first, end = _span(call.kind)
    inside = [one for one in lines if one.file == file and first <= one.number < end]
    others = of_authors(lines)
    return inside[-1] if inside else others[-1] if others else None


def of_authors(lines: tuple[Line, ...]) -> list[Line]:
    """Without torch's own lines, and those here."""
    return [one for one in lines if not one.file.startswith(_LIBRARIES)]


@cache
def _span(kind: type) -> tuple[str, int, int]:
    try:
        code, first = getsourcelines(kind.forward)  # type: ignore[attr-defined]
        return getsourcefile(kind.forward) or "", first, first + len(code)  # type: ignore[attr-defined]
    except (OSError, TypeError):
        return "", 0, 0


def assigned_or(lines: tuple[Line, ...], call: Call, name: str) -> str:
    line = own_line(lines, call)
    return (assigned(line) if line else "").partition(",")[0] or name


def assigned(line: Line) -> str:
    """The name that the statement at a line gives what it computes, or nothing."""
    for node in _assignments(line.file):
        if node.lineno <= line.number <= (node.end_lineno or node.lineno):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name):
                return target.id
            if isinstance(target, ast.Tuple) and all(isinstance(x, ast.Name) for x in target.elts):
                return ",".join(x.id for x in target.elts)  # type: ignore[attr-defined]
    return ""


@cache
def _assignments(file: str) -> list[ast.Assign | ast.AugAssign | ast.AnnAssign]:
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return []
    return [
        one for one in ast.walk(tree) if isinstance(one, ast.Assign | ast.AugAssign | ast.AnnAssign)
    ]
