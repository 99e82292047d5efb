"""The engine: a table of rules, the one loop that applies it, and the one that takes it back.

A table holds facts about one family of checkpoints. ``plan`` lays it over the tensors that are
there and refuses whatever does not fit, before a single value is read:

- every source tensor is used, derived from, or dropped for a written reason;
- every target parameter is filled, by exactly one rule, in the shape that the MLX model has.

``convert`` and ``invert`` then stream the values, one rule at a time.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from samevoice.converters.transforms import SAME, Array, Transform
from samevoice.errors import ConversionError

Shape = tuple[int, ...]
FATES = ("used", "derived", "dropped", "identity")
FLOATS = ("float64", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Tensor:
    """A named array that is read only when asked for."""

    shape: Shape
    dtype: str
    load: Callable[[], Array]

    @staticmethod
    def of(array: Array) -> Tensor:
        return Tensor(tuple(array.shape), array.dtype.name, lambda: array)


@dataclass(frozen=True, init=False)
class Rule:
    """Source tensors -> target parameters.

    ``{i}`` in a name stands for each value given as ``i=...``. ``exact`` is the reason why these
    values keep their own dtype whatever ``--dtype`` says; without it they follow ``--dtype``.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    transform: Transform
    exact: str
    over: tuple[tuple[str, tuple[object, ...]], ...]

    def __init__(
        self,
        source: str | tuple[str, ...],
        target: str | tuple[str, ...],
        transform: Transform = SAME,
        *,
        exact: str = "",
        **over: Iterable[object],
    ) -> None:
        put = object.__setattr__
        put(self, "sources", (source,) if isinstance(source, str) else source)
        put(self, "targets", (target,) if isinstance(target, str) else target)
        put(self, "transform", transform)
        put(self, "exact", exact)
        put(self, "over", tuple((name, tuple(values)) for name, values in over.items()))

    def moves(self) -> Iterator[Move]:
        """The rule once for each combination of its indices."""
        names = [name for name, _ in self.over]
        for values in itertools.product(*(values for _, values in self.over)):
            fill = dict(zip(names, values, strict=True))
            yield Move(
                self,
                tuple(source.format(**fill) for source in self.sources),
                tuple(target.format(**fill) for target in self.targets),
            )


@dataclass(frozen=True)
class Drop:
    """Source tensors that the MLX model has no use for; ``{path}`` stands for any name part."""

    source: str
    why: str

    def matches(self, name: str) -> bool:
        literal, *rest = self.source.split("{path}")
        pattern = re.escape(literal) + "".join(".+" + re.escape(part) for part in rest)
        return re.fullmatch(pattern, name) is not None


@dataclass(frozen=True)
class Identity:
    """A torch module that passes its input on: recorded, never made into a layer."""

    name: str
    why: str


Table = tuple[Rule | Drop | Identity, ...]


def each(table: Table, **over: Iterable[object]) -> Table:
    """The rules of ``table``, repeated for every combination of the indices given."""
    indices = {name: tuple(values) for name, values in over.items()}
    return tuple(
        Rule(
            rule.sources,
            rule.targets,
            rule.transform,
            exact=rule.exact,
            **(dict(rule.over) | indices),
        )
        if isinstance(rule, Rule)
        else rule
        for rule in table
    )


@dataclass(frozen=True)
class Move:
    """One rule with its indices filled in."""

    rule: Rule
    sources: tuple[str, ...]
    targets: tuple[str, ...]

    def apply(self, arrays: Iterable[Array]) -> Iterator[tuple[str, Array]]:
        return zip(self.targets, self.rule.transform.forward(*arrays), strict=True)


@dataclass(frozen=True)
class Row:
    """One line of the tally: what became of a source tensor, or where a parameter came from."""

    fate: str  # one of FATES
    rule: str
    source: str
    source_shape: Shape | None
    source_dtype: str
    target: str
    target_shape: Shape | None
    target_dtype: str
    why: str = ""


@dataclass(frozen=True)
class Plan:
    """A table laid over one checkpoint: complete, checked, nothing read yet."""

    moves: tuple[Move, ...]
    dropped: Mapping[str, str]  # source name -> why
    identities: tuple[Identity, ...]
    sources: Mapping[str, Tensor]
    shapes: Mapping[str, Shape]  # target name -> shape

    @property
    def kept(self) -> tuple[str, ...]:
        """Sources that the targets cannot give back: the bundle carries them beside the weights."""
        lossy = (move.sources for move in self.moves if move.rule.transform.inverse is None)
        return tuple(sorted({*itertools.chain.from_iterable(lossy), *self.dropped}))

    def digest(self) -> str:
        """sha256 over what was done to which name: two plans that differ anywhere differ here."""
        said = {
            "moves": [
                [m.sources, m.targets, m.rule.transform.name, m.rule.exact] for m in self.moves
            ],
            "dropped": dict(self.dropped),
            "identities": [[identity.name, identity.why] for identity in self.identities],
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def plan(table: Table, sources: Mapping[str, Tensor], targets: Mapping[str, Shape]) -> Plan:
    """Lay ``table`` over the source tensors and the parameters that the MLX model has."""
    moves = [move for rule in table if isinstance(rule, Rule) for move in rule.moves()]
    drops = [rule for rule in table if isinstance(rule, Drop)]
    _refuse_twice(moves)
    claimed = {name for move in moves for name in move.sources}
    dropped = {
        name: next((drop.why for drop in drops if drop.matches(name)), "")
        for name in sources
        if name not in claimed
    }
    _refuse(
        [name for name, why in dropped.items() if not why],
        "matched by no rule",
        "add a Rule, or a Drop with its reason",
    )
    _refuse(sorted(claimed - sources.keys()), *_MISSING)
    _refuse(
        [name for name in sorted(claimed) if sources[name].dtype not in FLOATS],
        "of a type that no network computes with",
        f"{', '.join(FLOATS)} are converted",
    )
    filled = {name for move in moves for name in move.targets}
    _refuse(sorted(targets.keys() - filled), "of the MLX model filled by no rule", "add a Rule")
    _refuse(sorted(filled - targets.keys()), "unknown to the MLX model", "mend the Rule")
    return Plan(
        tuple(moves),
        dropped,
        tuple(rule for rule in table if isinstance(rule, Identity)),
        sources,
        _checked_shapes(moves, sources, targets),
    )


def convert(plan: Plan) -> Iterator[tuple[str, Array]]:
    """Every target parameter, in the plan's order, its sources read only when its turn comes."""
    for move in plan.moves:
        yield from move.apply(plan.sources[name].load() for name in move.sources)


def invert(
    table: Table, targets: Mapping[str, Tensor], kept: Mapping[str, Tensor]
) -> Iterator[tuple[str, Array]]:
    """Every source tensor again: the kept ones as they were, the others through the inverses."""
    for name, tensor in kept.items():
        yield name, tensor.load()
    for rule in (rule for rule in table if isinstance(rule, Rule)):
        inverse = rule.transform.inverse
        if inverse is None:
            continue
        for move in rule.moves():
            arrays = inverse(*(targets[name].load() for name in move.targets))
            yield from zip(move.sources, arrays, strict=True)


def tally(plan: Plan, dtype_of: Callable[[str], str]) -> tuple[Row, ...]:
    """The plan as lines to read; ``dtype_of`` tells the dtype a target is written in."""
    rows = [row for move in plan.moves for row in _rows(plan, move, dtype_of)]
    for name, why in plan.dropped.items():
        source = plan.sources[name]
        rows.append(Row("dropped", "drop", name, source.shape, source.dtype, "", None, "", why))
    for identity in plan.identities:
        rows.append(
            Row("identity", "identity", identity.name, None, "", "", None, "", identity.why)
        )
    return tuple(rows)


def modules(plan: Plan) -> dict[str, str]:
    """torch module -> MLX module, by the tensors that go from the one into the other.

    For ``parity.compare``. The outermost module is left out, and so is one that becomes several (an
    LSTM of many layers): only its port knows which of them to hold against it.
    """
    found: dict[str, set[str]] = {}
    for move in plan.moves:
        for source, target in itertools.product(move.sources, move.targets):
            found.setdefault(_owner(source), set()).add(_owner(target))
    return {theirs: ours.pop() for theirs, ours in found.items() if theirs and len(ours) == 1}


def _owner(tensor: str) -> str:
    return tensor.rpartition(".")[0]


def count(rows: Iterable[Row]) -> Counter[str]:
    """How many source tensors met which fate, and how many modules are identities."""
    return Counter({row.source: row.fate for row in rows}.values())


def _rows(plan: Plan, move: Move, dtype_of: Callable[[str], str]) -> Iterator[Row]:
    """One line for each source and target: of two biases, both are in what they became."""
    exact = move.rule.transform.inverse is not None
    for source, target in itertools.product(move.sources, move.targets):
        tensor = plan.sources[source]
        yield Row(
            "used" if exact else "derived",
            move.rule.transform.name,
            source,
            tensor.shape,
            tensor.dtype,
            target,
            plan.shapes[target],
            dtype_of(target),
            move.rule.exact,
        )


def _checked_shapes(
    moves: Iterable[Move], sources: Mapping[str, Tensor], targets: Mapping[str, Shape]
) -> dict[str, Shape]:
    """The shape of every target, each equal to the MLX model's."""
    shapes: dict[str, Shape] = {}
    for move in moves:
        blanks = [_blank(sources[name]) for name in move.sources]
        given = ", ".join(f"{n!r} {list(sources[n].shape)}" for n in move.sources)
        try:
            made = {name: tuple(array.shape) for name, array in move.apply(blanks)}
        except (ValueError, IndexError) as error:
            raise ConversionError(
                f"{given} has a shape that rule {move.rule.transform.name!r} cannot take: {error}"
            ) from error
        for name, shape in made.items():
            if shape != targets[name]:
                raise ConversionError(
                    f"wrong shape: {given} becomes {list(shape)} by rule "
                    f"{move.rule.transform.name!r}, but {name!r} of the MLX model is "
                    f"{list(targets[name])}"
                )
        shapes |= made
    return shapes


def _blank(tensor: Tensor) -> Array:
    """An array of the tensor's shape that takes no memory, to learn a transform's result shape."""
    blank: np.ndarray[Any, Any] = np.broadcast_to(np.zeros((), np.float32), tensor.shape)
    return blank


def _refuse_twice(moves: Iterable[Move]) -> None:
    """A name claimed by two rules is a slip in the table, on either side."""
    moves = tuple(moves)
    for names, side in (
        ([name for move in moves for name in move.sources], "read"),
        ([name for move in moves for name in move.targets], "filled"),
    ):
        twice = sorted(name for name, times in Counter(names).items() if times > 1)
        _refuse(twice, f"{side} by two rules", "a table names each once")


_MISSING = ("missing from the checkpoint", "it is incomplete, or of another architecture")


def missing(name: str) -> ConversionError:
    """For a table that needs a tensor before its rules can be written."""
    return ConversionError(f"1 tensor {_MISSING[0]}, first {name!r}: {_MISSING[1]}")


def shape_of(tensors: Mapping[str, Tensor], name: str) -> Shape:
    """Of a tensor that the hyper-parameters are read from; one without axes tells nothing."""
    if name not in tensors or not tensors[name].shape:
        raise missing(name)
    return tensors[name].shape


def count_of(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers the names that begin with ``pattern`` hold."""
    found = (re.match(pattern, name) for name in tensors)
    return len({match[1] for match in found if match})


def _refuse(names: list[str], what: str, then: str) -> None:
    if names:
        many = "1 tensor" if len(names) == 1 else f"{len(names)} tensors"
        raise ConversionError(f"{many} {what}, first {names[0]!r}: {then}")
