"""Statements of one call: what stands inside another, what is a loop, what has which name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from samevoice.port.graph import Call, PortError, Value
from samevoice.port.kinds import attribute, is_function, is_list
from samevoice.port.loops import rolled
from samevoice.port.orders import Order
from samevoice.port.text import Text

Words: TypeAlias = list[Any]  # and numbers
WIDTH = 92  # about, of a statement: what is longer is given a name


@dataclass
class Statement:
    """``names = text``; a remark says what the original does where nothing here does it."""

    targets: list[Value]
    code: Text
    hint: str = ""  # what it might be called
    named: bool = False  # by the original
    remark: tuple[str, ...] = ()
    path: str = ""  # of the module that does it
    changes: Value | None = None  # written over by this, which is no expression


@dataclass
class Frame:
    """One call of a module: what it takes, its statements, and what it gives."""

    call: Call
    names: list[str]
    inputs: list[Value]
    orders: tuple[Order, ...]  # of the inputs
    statements: list[Statement] = field(default_factory=list)
    result: Text = field(default_factory=lambda: Text(()))
    lines: list[Words] = field(default_factory=list)  # of all that, once names are given
    outputs: tuple[Order, ...] = ()
    unknown: list[str] = field(default_factory=list)  # operations without a form in MLX
    functions: dict[str, Text] = field(default_factory=dict)  # modules without weights, by path

    def is_function(self, path: str) -> bool:
        """Whether there is a module of torch's own without weights."""
        own = self.call.path
        return is_function(self.call.module.get_submodule(path[len(own) + 1 :] if own else path))

    def spelled(self, path: str) -> str:
        """A module below this one: "self.layer1[0].conv"."""
        own = self.call.path
        if own and not path.startswith(f"{own}."):
            raise PortError(f"{own} uses {path}, which is not inside it")
        spelled, module = "self", self.call.module
        for name in (path[len(own) + 1 :] if own else path).split("."):
            spelled += _part(name, module)
            module = getattr(module, name, None)
        return spelled


def _part(name: str, of: Any) -> str:
    """An attribute, or what stands in a list or under a name."""
    if isinstance(of, torch.nn.Module) and is_list(of):
        numbered = all(key.isdigit() for key, _ in of.named_children()) and not isinstance(
            of, torch.nn.ModuleDict
        )
        return f"[{name}]" if numbered else f'["{attribute(name)}"]'
    name = attribute(name)
    return f".{name}" if name.isidentifier() else f'["{name}"]'


def tidy(frame: Frame) -> None:
    """Expressions that are used once stand where they are used; the others are given names."""
    frame.statements = _needed(frame)
    _merge(frame)
    _roll(frame)
    _inline(frame)
    _name(frame)
    frame.lines = rolled(list(_lines_of(frame)))


def _lines_of(frame: Frame) -> Iterator[Words]:
    for one in frame.statements:
        for remark in one.remark:
            yield [f"# TODO: not written yet, the original has: {remark}"]
        if one.code.pieces == (one.hint,):  # a transpose that became nothing
            continue
        yield [*([] if one.changes is not None else [f"{one.hint} = "]), *one.code.pieces]
    yield ["return ", *frame.result.pieces]


def _uses(frame: Frame) -> dict[Value, int]:
    found: dict[Value, int] = {}
    for code in (*(one.code for one in frame.statements), frame.result):
        for value in code.values:
            found[value] = found.get(value, 0) + 1
    return found


def _merge(frame: Frame) -> None:
    """What is only another tensor, as it lies in MLX, is that tensor, unless it is written over."""
    changed = {one.changes for one in frame.statements}
    same: dict[Any, Any] = {}
    kept = []
    for one in frame.statements:
        one.code = Text(tuple(same.get(x, x) for x in one.code.pieces), one.code.atom)
        alone = one.code.pieces[0] if len(one.code.pieces) == 1 else None
        if isinstance(alone, Value) and not {alone, *one.targets} & changed:
            same[one.targets[0]] = alone
        else:
            kept.append(one)
    frame.statements = kept
    frame.result = Text(tuple(same.get(x, x) for x in frame.result.pieces), frame.result.atom)


def _inline(frame: Frame) -> None:
    uses = _uses(frame)
    made: list[Statement] = []
    waiting: dict[Value, Statement] = {}
    for number, one in enumerate(frame.statements):
        if one.changes is not None:  # what was computed before must not see it
            made += waiting.values()
            waiting.clear()
        one.code = _filled(one.code, waiting, made)
        single = len(one.targets) == 1 and uses.get(one.targets[0], 0) == 1
        own = one.named and not _goes_on(one, frame.statements[number + 1 :])
        if single and not own and not one.remark and one.changes is None:
            waiting[one.targets[0]] = one
        else:
            made.append(one)
    frame.result = _filled(frame.result, waiting, made)
    frame.statements = made


def _roll(frame: Frame) -> None:
    """Layers of a list that are called in turn are one statement."""
    uses = _uses(frame)
    made: list[Statement] = []
    left = list(frame.statements)
    while left:
        run = _run_of(left, uses, frame)
        if len(run) > 1:
            parent = run[0].path.rpartition(".")[0]
            made.append(_in_turn(run, parent, frame))
        else:
            made.append(left[0])
        del left[: max(len(run), 1)]
    frame.statements = made


def _run_of(
    statements: Sequence[Statement], uses: dict[Value, int], frame: Frame
) -> list[Statement]:
    """Statements, each of the next module of one list, each taking what the one before gave."""
    first = statements[0]
    parent = first.path.rpartition(".")[0]
    if not first.path or not _is_step(first):
        return []
    module = frame.call.module.get_submodule(_below(parent, frame.call.path))
    paths = [f"{parent}.{name}".lstrip(".") for name, _ in module.named_children()]
    if not isinstance(module, torch.nn.Sequential | torch.nn.ModuleList) or first.path not in paths:
        return []
    run: list[Statement] = []
    for path in paths:
        one = statements[len(run)] if len(run) < len(statements) else None
        if one is not None and one.path == path and _goes_in_turn(one, run, uses, frame):
            run.append(one)
        elif not frame.is_function(path):
            return []
    return run


def _goes_in_turn(
    one: Statement, run: list[Statement], uses: dict[Value, int], frame: Frame
) -> bool:
    """Whether it takes what the last one gave and nobody else, and beside it what the others do."""
    if not _is_step(one) or not run:
        return _is_step(one)
    before = run[-1].targets[0]
    if next(iter(one.code.values)) is not before or uses[before] != 1:
        return False
    whole = [x for x in (*run, one) if not frame.is_function(x.path)]
    return all(_rest(x) == _rest(whole[0]) for x in whole)


def _in_turn(run: list[Statement], parent: str, frame: Frame) -> Statement:
    for one in run:
        if frame.is_function(one.path):
            frame.functions[one.path] = one.code
    first, end = run[0], run[-1]
    layer = next((one for one in run if not frame.is_function(one.path)), first)
    given = list(first.code.values)[:1]
    more = _rest(layer) if not frame.is_function(layer.path) else ()
    code = Text((f"nn.in_turn({frame.spelled(parent)}, ", *given, *more, ")"))
    return Statement(end.targets, code, end.hint, end.named, path=parent)


def _is_step(one: Statement) -> bool:
    """Whether it gives one thing and takes one first, with its axes as they are."""
    pieces = one.code.pieces
    at = next((n for n, piece in enumerate(pieces) if isinstance(piece, Value)), -1)
    behind = pieces[at + 1] if at + 1 < len(pieces) else ""
    plain = isinstance(behind, str) and behind.startswith((")", ","))
    return len(one.targets) == 1 and not one.remark and at >= 0 and plain


def _rest(one: Statement) -> tuple[Any, ...]:
    """What a module is given beside its first tensor."""
    pieces = one.code.pieces
    at = next(n for n, piece in enumerate(pieces) if isinstance(piece, Value))
    return pieces[at + 1 : -1]


def _below(path: str, own: str) -> str:
    return path[len(own) + 1 :] if own else path


def _goes_on(one: Statement, rest: Sequence[Statement]) -> bool:
    """Whether the next statement is of the same line of the original, and takes this."""
    return (
        bool(rest)
        and rest[0].named
        and rest[0].hint == one.hint
        and one.targets[0] in rest[0].code.values
    )


def _filled(code: Text, waiting: dict[Value, Statement], made: list[Statement]) -> Text:
    """With what waits for its only use; where that gets too long, it is a statement of its own."""
    length = code.length
    pieces: list[Any] = []
    inlined = [one for one in code.values if one in waiting]
    for value in inlined:
        length += waiting[value].code.length - 3
    for value in inlined:
        if length <= WIDTH:
            break
        statement = waiting.pop(value)
        made.append(statement)
        length -= statement.code.length - 3
    for n, piece in enumerate(code.pieces):
        if isinstance(piece, Value) and piece in waiting:
            inner = waiting.pop(piece).code
            bare = inner.atom or _stands_alone(code.pieces, n)
            pieces += inner.pieces if bare else ["(", *inner.pieces, ")"]
        else:
            pieces.append(piece)
    return Text(tuple(pieces), code.atom if len(code.pieces) > 1 or not inlined else False)


def _stands_alone(pieces: Sequence[Any], at: int) -> bool:
    """Whether what stands there is an argument, or all that there is."""
    before = pieces[at - 1] if at else ""
    after = pieces[at + 1] if at + 1 < len(pieces) else ""
    opened = isinstance(before, str) and before.rstrip().endswith(("(", ",", "[", "="))
    compared = isinstance(before, str) and before.rstrip().endswith(("==", "!=", "<=", ">="))
    left = not at or (opened and not compared)
    right = at + 1 == len(pieces) or (
        isinstance(after, str) and after.lstrip().startswith((")", ",", "]"))
    )
    return left and right


def _needed(frame: Frame) -> list[Statement]:
    """Without those whose results nobody uses."""
    wanted, kept = set(frame.result.values), []
    for one in reversed(frame.statements):
        if one.changes is not None or one.remark or wanted & set(one.targets):
            kept.append(one)
            wanted |= set(one.code.values)
    return kept[::-1]


def _name(frame: Frame) -> None:
    """Names for what is left: the original's, and where that one is taken, a number behind it."""
    names = dict(zip(frame.inputs, frame.names, strict=True))
    for n, one in enumerate(frame.statements):
        later = {v for s in frame.statements[n + 1 :] for v in s.code.values} | set(
            frame.result.values
        )
        later |= {s.changes for s in frame.statements[n + 1 :] if s.changes is not None}
        alive = {names[v] for v in later if v in names and v not in one.targets}
        one.code = _spelled(one.code, names)
        if one.changes is not None:
            names[one.targets[0]] = names[one.changes]
            continue
        hints = one.hint.split(",")
        hints = hints if len(hints) == len(one.targets) else [hints[0]] * len(one.targets)
        several = len(one.targets) > 1
        for number, (value, hint) in enumerate(zip(one.targets, hints, strict=True)):
            if several and value not in later:
                names[value] = "_"
                continue
            names[value] = free(
                _identifier(hint), alive, number if several and len(set(hints)) == 1 else None
            )
            alive.add(names[value])
        one.hint = ", ".join(names[value] for value in one.targets)
    frame.result = _spelled(frame.result, names)


_WORDS = {"self", "mx", "nn", "n", "in", "is", "not", "and", "or", "lambda", "None", "input"}


def _identifier(hint: str) -> str:
    name = "".join(x if x.isalnum() or x == "_" else "_" for x in hint) or "x"
    name = name if not name[0].isdigit() else f"x{name}"
    return f"{name}_" if name in _WORDS else name


def free(name: str, taken_names: set[str], number: int | None) -> str:
    if number is not None:
        name = f"{name}_{number}"
    found, n = name, 2
    while found in taken_names:
        found, n = f"{name}_{n}", n + 1
    return found


def _spelled(code: Text, names: dict[Value, str]) -> Text:
    pieces = tuple(names[one] if isinstance(one, Value) else one for one in code.pieces)
    return Text(pieces, code.atom)
