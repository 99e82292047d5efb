"""What a module's call becomes: statements in MLX, channels last where its layers want them so.

A tensor of the original lies in MLX in an order of its own. So a transpose is no operation at all,
until a layer wants its input in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from samevoice.port.graph import (
    Call,
    Dim,
    Item,
    Line,
    Op,
    PortError,
    Size,
    SizesError,
    Value,
    free_values,
    taken,
    values_in,
)
from samevoice.port.kinds import is_chain, is_function
from samevoice.port.layers import ATTENTION, RECURRENT, layer_of
from samevoice.port.orders import Order, last, plain, turned
from samevoice.port.sources import assigned, assigned_or, own_line
from samevoice.port.statements import Frame, Statement, free, tidy
from samevoice.port.text import Number, Text, joined, text

Form: TypeAlias = Callable[["FrameWriter", Op], Any]


@dataclass
class Writer:
    """All frames of one run, by the path of their module."""

    operation: Form  # writes an operation, if it has a form
    pointwise: Container[str]  # operations that do not care for the order of axes
    orders: dict[Value, Order] = field(default_factory=dict)
    frames: dict[str, Frame] = field(default_factory=dict)
    leaves: dict[str, Call] = field(default_factory=dict)
    weights: dict[str, Value] = field(default_factory=dict)  # that are used by name, path -> value
    kinds: dict[tuple[type, tuple[int, ...]], tuple[Order, ...]] = field(default_factory=dict)
    taps: dict[str, tuple[Order | None, Order | None]] = field(default_factory=dict)

    constants: dict[str, np.ndarray] = field(default_factory=dict)  # in the order of MLX
    held: frozenset[str] = frozenset()  # what a checkpoint holds

    def write(self, root: Call) -> None:
        self.root = root
        self.held = frozenset(root.module.state_dict())
        orders = [plain(one.rank) for one in root.inputs]
        self.frames[root.path] = self.frame(root, orders, whole=True)

    def is_constant(self, value: Value) -> bool:
        """Whether it belongs to the code: no checkpoint holds it, or only as integers."""
        floats = value.dtype.startswith(("float", "bfloat"))
        return value.data is not None or value.weight not in self.held or not floats

    def frame(self, call: Call, orders: Sequence[Order], *, whole: bool = False) -> Frame:
        return FrameWriter(self, call, tuple(orders), whole).write()


class FrameWriter:
    """Writes one frame; operations and layers write through it."""

    def __init__(self, writer: Writer, call: Call, orders: tuple[Order, ...], whole: bool) -> None:
        self.writer, self.call, self.whole = writer, call, whole
        outside = free_values(call)
        inputs = [*call.inputs, *outside]
        names = [*call.names, *(f"given_{n}" for n, _ in enumerate(outside))]
        self.frame = Frame(call, names, inputs, orders)
        self.order = dict(zip(inputs, orders, strict=True))
        self.known: list[Value] = list(inputs)
        self.lines: tuple[Line, ...] = ()
        self.inside = ""  # the module of torch's own that is written now

    def write(self) -> Frame:
        if self.whole:
            self._turn_inputs()
        for item in self.call.body:
            self._item(item)
        self.frame.outputs = tuple(
            plain(one.rank) if self.whole else self.order_of(one) for one in self.call.outputs
        )
        self.frame.result = self._result(self.call.result if self.whole else self.call.flat)
        tidy(self.frame)
        return self.frame

    def _turn_inputs(self) -> None:
        """The whole takes what the original takes; what layers want otherwise is turned once."""
        for name, value in zip(self.frame.names, self.frame.inputs, strict=True):
            order = last(value.rank)
            if value.rank > 2 and wants(self.call, value, self.writer.pointwise) == order:
                code = turned(text("{}", value), plain(value.rank), order)
                self.frame.statements.append(Statement([value], code, name, named=True))
                self.order[value] = order

    def _result(self, structure: Any) -> Text:
        if structure is None:
            return text("None")
        if isinstance(structure, int):
            value = self.call.outputs[structure]
            if value.data is not None and not value.rank:
                return text("mx.array({})", self.ref(value))
            return self.ref(value, plain(value.rank) if self.whole else None)
        if isinstance(structure, dict):
            pairs = [
                text('"{}": {}', str(key), self._result(one)) for key, one in structure.items()
            ]
            return Text(("{", *joined(pairs).pieces, "}"))
        parts = [self._result(one) for one in structure]
        return joined(parts) if len(parts) > 1 else text("({},)", parts[0])

    # What is done ---------------------------------------------------------------------------------

    def _item(self, item: Item) -> None:
        self.lines = item.lines
        if isinstance(item, Op):
            if not self.writer.operation(self, item):
                self._unknown(item)
            return
        if is_chain(item.module):
            for inner in item.body:
                self._item(inner)
            self._note(item)
            return
        self.inside = item.path
        if layer_of(item.module) is not None:
            self.writer.leaves.setdefault(item.path, item)
            given = self._layer(item)
            self._note(item, given)
        elif is_function(item.module) or not item.body:
            for inner in item.body:
                self._item(inner)
            self._note(item)  # without a body it passes on what it is given
        else:
            self._call(item)
        self.inside = ""

    def _layer(self, call: Call) -> Order:
        """A layer of torch's own; gives the order that its input has there."""
        layer = layer_of(call.module)
        assert layer is not None
        x = call.inputs[0]
        if layer.name in RECURRENT:
            return self._recur(call, x)
        if layer.name == ATTENTION:
            return self._attend(call, x)
        order = layer.order(self.order_of(x))
        code = text("{}({})", self.path(call.path), self.ref(x, order))
        made = (*order, x.rank) if layer.name == "Embedding" else order
        self.give(call.outputs[0], code, made, call.path.rpartition(".")[2])
        return order

    def _recur(self, call: Call, x: Value) -> Order:
        """Its states, too, where somebody gives or takes them."""
        module: Any = call.module
        order = (1, 0, 2) if not module.batch_first and x.rank == 3 else plain(x.rank)
        if x.rank != 3:
            raise PortError(f"{call.path} is given no batch: (T, D) instead of (B, T, D)")
        made, *states = call.outputs
        given = call.inputs[1:]
        parts = [self.ref(x, order), *(self.ref(one, plain(one.rank)) for one in given)]
        if given or _are_taken(states, call, self.writer.root):
            code = text("{}.states({})", self.path(call.path), joined(parts))
            self.several(call.outputs, code, [order, *(plain(one.rank) for one in states)])
            return order
        code = text("{}({})", self.path(call.path), joined(parts))
        self.give(made, code, order, call.path.rpartition(".")[2])
        return order

    def _attend(self, call: Call, x: Value) -> Order:
        """Key and value are left out where they are the query, or the value is the key."""
        module: Any = call.module
        if x.rank != 3:
            raise PortError(f"{call.path} is given no batch: (T, D) instead of (B, T, D)")
        order = plain(3) if module.batch_first else (1, 0, 2)
        given = dict(zip(call.names, call.inputs, strict=True))
        query, key, value = (given.pop(name) for name in ("query", "key", "value"))
        parts = [self.ref(query, order)]
        if key is not query or value is not query:
            parts.append(self.ref(key, order))
        if value is not key:
            parts.append(self.ref(value, order))
        for name, mask in given.items():
            parts.append(text(f"{name}={{}}", self.ref(mask, plain(mask.rank))))
        made, *weights = call.outputs
        path, hint = self.path(call.path), call.path.rpartition(".")[2]
        if _are_taken(weights, call, self.writer.root):
            if weights[0].rank != 3:
                raise PortError(f"{call.path}: the weights of each head are taken, not their mean")
            code = text("{}.with_weights({})", path, joined(parts))
            self.several(call.outputs, code, [order, plain(3)])
        else:
            self.give(made, text("{}({})", path, joined(parts)), order, hint)
        return order

    def _note(self, call: Call, given: Order | None = None) -> None:
        """Where a module has its axes, for who compares."""
        given = given or (self.order.get(call.inputs[0]) if call.inputs else None)
        made = self.order.get(call.outputs[0]) if call.outputs else None
        self.writer.taps.setdefault(call.path, (given, made))

    def _call(self, call: Call) -> None:
        """Another class of the authors."""
        outside = free_values(call)
        inputs = [*call.inputs, *outside]
        key = (call.kind, tuple(one.rank for one in inputs))
        wanted = tuple(
            wants(call, one, self.writer.pointwise) or self.order_of(one) for one in inputs
        )
        orders = self.writer.kinds.setdefault(key, wanted)
        given = [self.ref(one, order) for one, order in zip(inputs, orders, strict=True)]
        frame = self.writer.frame(call, orders)
        frame = self.writer.frames.setdefault(call.path, frame)
        self.writer.taps.setdefault(
            call.path, (orders[0] if orders else None, frame.outputs[0] if frame.outputs else None)
        )
        code = text("{}({})", self.path(call.path), joined(given))
        if len(call.outputs) == 1:
            self.give(
                self._new(call.outputs[0]), code, frame.outputs[0], hint=_last_name(call.path)
            )
        elif call.outputs:
            self.several([self._new(one) for one in call.outputs], code, frame.outputs)

    def _new(self, value: Value) -> Value:
        """The tensor, or where it was only handed through, one that nobody takes."""
        return Value(value.shapes, value.dtype) if value in self.order else value

    def _unknown(self, op: Op) -> None:
        where = own_line(self.lines, self.call)
        self.frame.unknown.append(f"{op.kind} at {where}" if where else op.kind)
        remark = (f"{where}: {where.code}" if where else op.kind,)
        hint = "left"
        for one in op.outputs:
            self.order[one] = plain(one.rank)
            self.known.append(one)
        given = joined([self.ref(one, plain(one.rank)) for one in taken(op)])
        code = text('nn.missing("{}"{}{})', op.kind, ", " if given.pieces else "", given)
        self.frame.statements.append(Statement(list(op.outputs), code, hint, remark=remark))

    # For operations and layers --------------------------------------------------------------------

    def path(self, path: str) -> str:
        return self.frame.spelled(path)

    def order_of(self, value: Value) -> Order:
        return self.order.get(value, plain(value.rank))

    def axis(self, value: Value, dim: int) -> int:
        """Where one of the original's axes lies."""
        return self.order_of(value).index(dim % max(value.rank, 1))

    def ref(self, value: Value, order: Order | None = None) -> Text:
        """The tensor, its axes in an order if one is wanted."""
        if value.data is not None and not value.rank:
            return text("{}", value.data.item())
        if value.weight or value.data is not None:
            return self._weight(value, order)
        there = self.order_of(value)
        return (
            text("{}", value) if order in (None, there) else turned(text("{}", value), there, order)
        )

    def _weight(self, value: Value, order: Order | None) -> Text:
        """A parameter or a buffer; what no checkpoint holds is a constant of the code."""
        wanted = order or plain(value.rank)
        if self.writer.is_constant(value):
            key = self._constant(value, wanted)
            return text("CONSTANTS[{}]", Number(key, "constant"))
        self.writer.weights.setdefault(value.weight, value)
        there = self.writer.orders.setdefault(value, wanted)
        self.order[value] = there
        code = text(self.path(value.weight))
        return code if order in (None, there) else turned(code, there, order)

    def _constant(self, value: Value, order: Order) -> str:
        """Its name; what is the same everywhere is one."""
        self.order[value] = order
        held = value.data
        if held is None:
            module = self.writer.root.module
            held = dict(module.named_buffers())[value.weight].detach().numpy()
        held = np.ascontiguousarray(held.transpose(order))
        for name, one in self.writer.constants.items():
            if one.dtype == held.dtype and np.array_equal(one, held):
                return name
        own = value.weight.rpartition(".")[2] or assigned_or(self.lines, self.call, "constant")
        name = free(own, set(self.writer.constants), None)
        self.writer.constants[name] = held
        return name

    def give(self, value: Value, code: Text, order: Order, hint: str = "") -> None:
        """One tensor is that expression."""
        self.order[value] = order
        self.known.append(value)
        name, named = self._name(hint)
        self.frame.statements.append(Statement([value], code, name, named, path=self.inside))

    def several(self, values: list[Value], code: Text, orders: Sequence[Order]) -> None:
        """Several are what that expression gives."""
        for value, order in zip(values, orders, strict=True):
            self.order[value] = order
            self.known.append(value)
        name, named = self._name("parts")
        self.frame.statements.append(Statement(list(values), code, name, named, path=self.inside))

    def size(self, dim: Dim | Number, of: Iterable[Value] = ()) -> Text:
        """A number, or where it follows from the sizes, an expression of one that is there."""
        if not isinstance(dim, Size):
            return text("{}", dim)
        for value in (*of, *self.known):
            if dim in value.dims and not value.weight:
                axis = self.order_of(value).index(value.dims.index(dim))
                return text("{}.shape[{}]", value, str(axis))
        found = self._derived(dim)
        if found is None:
            raise SizesError(
                f"a size of {dim.values} follows from no size that is there, at "
                f"{own_line(self.lines, self.call)}"
            )
        return found

    def _derived(self, dim: Size) -> Text | None:
        """From one that is there by a factor, a divisor or a difference, or from two."""
        there = [d for value in self.known if not value.weight for d in value.dims]
        seen = list(dict.fromkeys(d for d in reversed(there) if isinstance(d, Size)))
        for other in seen:
            for form in (_scaled, _divided, _remaining):
                if (found := form(other.values, dim.values)) is not None:
                    before, behind, atom = found
                    return text(f"{before}{{!}}{behind}", self.size(other), atom=atom)
        for n, one in enumerate(seen):
            for two in seen[n:]:
                values = zip(one.values, two.values, dim.values, strict=True)
                over = {z - x * y for x, y, z in values}
                if len(over) == 1:
                    (more,) = over
                    behind = f" {'+' if more > 0 else '-'} {abs(more)}" if more else ""
                    code = f"{{!}} * {{!}}{behind}"
                    return text(code, self.size(one), self.size(two), atom=False)
        return None

    def _name(self, hint: str) -> tuple[str, bool]:
        line = own_line(self.lines, self.call)
        name = assigned(line) if line else ""
        return (name, True) if name else (hint, False)


Sizes: TypeAlias = tuple[int, ...]
Around: TypeAlias = "tuple[str, str, bool] | None"  # what stands before and behind a size


def _scaled(have: Sizes, want: Sizes) -> Around:
    """2 * T + 1"""
    if have[1] == have[0]:
        return None
    a, rest = divmod(want[1] - want[0], have[1] - have[0])
    b = want[0] - a * have[0]
    if rest or a <= 0 or any(a * x + b != y for x, y in zip(have, want, strict=True)):
        return None
    more = f" {'+' if b > 0 else '-'} {abs(b)}" if b else ""
    return ("" if a == 1 else f"{a} * "), more, False


def _divided(have: Sizes, want: Sizes) -> Around:
    """(T + 1) // 2"""
    for k in range(2, 4097):
        for more in (0, 1, -1, k - 1, k // 2):
            if all((x + more) // k == y for x, y in zip(have, want, strict=True)):
                if not more:
                    return "", f" // {k}", False
                return "(", f" {'+' if more > 0 else '-'} {abs(more)}) // {k}", False
    return None


def _remaining(have: Sizes, want: Sizes) -> Around:
    """What is left over, or lacking, once it is divided: T % 8, -T % 8."""
    if min(want) < 0:
        return None
    for k in range(max(want) + 1, 4097):
        if all(x % k == y for x, y in zip(have, want, strict=True)):
            return "", f" % {k}", False
        if all(-x % k == y for x, y in zip(have, want, strict=True)):
            return "-", f" % {k}", False
    return None


def _last_name(path: str) -> str:
    parts = [one for one in path.split(".") if not one.isdigit()]
    return parts[-1] if parts else "x"


def wants(call: Call, value: Value, pointwise: Container[str]) -> Order | None:
    """The order that the first layer wants it in, if what comes before does not care."""
    for item in call.body:
        if value not in taken(item):
            continue
        if isinstance(item, Call):
            layer = layer_of(item.module)
            if layer is not None:
                order = layer.order(plain(value.rank))
                return order if order != plain(value.rank) else None
            if item.body:
                return wants(item, value, pointwise)
        elif item.kind.partition(".")[0] in pointwise and item.outputs[0].rank == value.rank:
            return wants(call, item.outputs[0], pointwise)
        else:
            return None
    return None


def _are_taken(values: list[Value], own: Call, inside: Call) -> bool:
    """Whether anybody but the call that gives them takes them or hands them on."""
    if inside is own:
        return False
    wanted = set(map(id, values))
    for item in inside.body:
        if isinstance(item, Call):
            if wanted & set(map(id, item.inputs)) or _are_taken(values, own, item):
                return True
        elif wanted & {id(one) for one in values_in((item.args, item.named))}:
            return True
    return bool(wanted & set(map(id, inside.outputs)))
