"""Parts of tensors, and tensors put together; what stands at their edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from samevoice.port.frames import Form, FrameWriter
from samevoice.port.graph import Dim, Op, Size, Value, taken
from samevoice.port.operations.shapes import _before, _dims, _tuple, shape_of, without
from samevoice.port.orders import last, plain
from samevoice.port.statements import Statement
from samevoice.port.text import Text, joined, text


def _at(axis: int, inside: Text | str) -> Text:
    return text("[" + ":, " * axis + "{}]", inside)


def select(frame: FrameWriter, op: Op) -> None:
    x, dim, index = op.args
    order = frame.order_of(x)
    axis = order.index(dim % x.rank)
    inside = frame.size(index, (x,))
    if axis == x.rank - 1 and axis > 1:
        code = text("{!}[..., {}]", frame.ref(x), inside)
    else:
        code = text("{!}{}", frame.ref(x), _at(axis, inside))
    frame.give(op.outputs[0], code, without(order, [dim % x.rank]), "y")


def _slice(frame: FrameWriter, x: Value, given: tuple[Any, ...]) -> tuple[int, Text | None]:
    """Which of the original's axes, and what stands in the brackets; None for all of it."""
    usual: tuple[Any, ...] = (0, None, None, 1)
    dim, start, end, step = (*given, *usual[len(given) :])
    dim %= x.rank
    size = x.dims[dim]
    least = min(size.values) if isinstance(size, Size) else size
    if (isinstance(end, int) and (end >= least or end >= 1 << 40)) or end == size:
        end = None
    start = 0 if start is None else start
    if not start and end is None and step == 1:
        return dim, None
    first = text("") if not start else frame.size(start, (x,))
    until = text("") if end is None else frame.size(end, (x,))
    return dim, text("{}:{}", first, until) if step == 1 else text("{}:{}:{}", first, until, step)


def slice_(frame: FrameWriter, op: Op) -> None:
    x = op.args[0]
    if op.kind.startswith("narrow"):
        dim, start, length = op.args[1:]
        end = start + length if isinstance(start, int) and isinstance(length, int) else None
        given = (dim, start, end)
        if end is None:
            first = frame.size(start, (x,))
            part = (
                text("{}:{} + {}", first, first, frame.size(length, (x,)))
                if start
                else text(":{}", frame.size(length, (x,)))
            )
            axis = frame.axis(x, dim)
            frame.give(
                op.outputs[0],
                text("{!}{}", frame.ref(x), _at(axis, part)),
                frame.order_of(x),
                "y",
            )
            return
    else:
        given = op.args[1:]
    dim, inside = _slice(frame, x, given)
    code = frame.ref(x)
    if inside is not None:
        axis = frame.axis(x, dim)
        code = (
            text("{!}[..., {}]", code, inside)
            if axis == x.rank - 1 and axis > 1
            else text("{!}{}", code, _at(axis, inside))
        )
    frame.give(op.outputs[0], code, frame.order_of(x), "y")


def put(frame: FrameWriter, op: Op) -> None:
    """A part that is written over; the tensor is another one from here on."""
    old, index, written = op.args
    order = frame.order_of(old)
    if _is_seen_elsewhere(frame, op, old):  # who has it must not see the change
        copy = Value(old.shapes, old.dtype)
        frame.give(copy, text("mx.array({})", frame.ref(old, order)), order, "y")
        old = copy
    inside: dict[int, Text] = {}
    dims = list(range(old.rank))  # that are left, as a view of a view counts them
    for base, *given in index:
        if base == "select":
            dim, at = given
            inside[dims.pop(dim % len(dims))] = frame.size(at, (old,))
        elif base == "slice":
            view = Value(tuple(tuple(s[d] for d in dims) for s in old.shapes), old.dtype)
            dim, what = _slice(frame, view, tuple(given))
            if what is not None:
                inside[dims[dim]] = what
    parts = [inside.get(dim, text(":")) for dim in order]
    kept = [dim for dim in order if dim in dims]
    if isinstance(written, Value):
        lacking = len(dims) - written.rank
        inner = [dims.index(dim) - lacking for dim in kept if dims.index(dim) >= lacking]
        code = frame.ref(written, tuple(inner)) if written.rank else frame.ref(written)
    else:
        code = text("{}", written)
    new = op.outputs[0]
    frame.order[new] = order
    frame.known.append(new)
    frame.frame.statements.append(
        Statement([new], text("{}[{}] = {}", old, joined(parts), code), changes=old)
    )


def _is_seen_elsewhere(frame: FrameWriter, op: Op, value: Value) -> bool:
    """Whether it is given from outside, or taken after this as it was before."""
    at = next(n for n, item in enumerate(frame.call.body) if item is op)
    later = [one for item in frame.call.body[at + 1 :] for one in taken(item)]
    outside = value.weight or value.data is not None or value in frame.frame.inputs
    return bool(outside) or any(one is value for one in (*later, *frame.call.outputs))


def split(frame: FrameWriter, op: Op) -> None:
    x = op.args[0]
    dim = op.args[2] if len(op.args) > 2 else op.named.get("dim", 0)
    dim = 1 if op.kind.startswith("hsplit") and x.rank > 1 else dim
    axis, order = frame.axis(x, dim), frame.order_of(x)
    at = f", axis={axis}" if axis else ""
    lengths = [one.dims[dim % x.rank] for one in op.outputs]
    if all(one == lengths[0] for one in lengths):
        code = text(f"mx.split({{}}, {{}}{at})", frame.ref(x), len(lengths))
    else:
        ends: list[Any] = []
        for one in lengths[:-1]:
            previous = ends[-1] if ends else 0
            if isinstance(one, Size) or isinstance(previous, Size):
                raise_sizes = tuple(
                    (one.values[n] if isinstance(one, Size) else one)
                    + (previous.values[n] if isinstance(previous, Size) else previous)
                    for n in range(len(x.shapes))
                )
                ends.append(Size(raise_sizes))
            else:
                ends.append(previous + one)
        code = text(
            f"mx.split({{}}, [{{}}]{at})", frame.ref(x), joined(shape_of(frame, tuple(ends), (x,)))
        )
    frame.several(op.outputs, code, [order] * len(op.outputs))


def unbind(frame: FrameWriter, op: Op) -> None:
    x, dim = op.args[0], op.args[1] if len(op.args) > 1 else 0
    order = frame.order_of(x)
    axis = order.index(dim % x.rank)
    code = (
        text("nn.unbind({})", frame.ref(x))
        if not axis
        else text("nn.unbind({}, axis={})", frame.ref(x), str(axis))
    )
    frame.several(op.outputs, code, [without(order, [dim % x.rank])] * len(op.outputs))


def cat(frame: FrameWriter, op: Op) -> Any:
    parts = [one for one in op.args[0] if one.shapes[0] != (0,)]
    base = op.kind.partition(".")[0]
    dim = op.args[1] if len(op.args) > 1 else op.named.get("dim", 0)
    dim = 1 if base == "hstack" and parts[0].rank > 1 else dim
    if base == "vstack" and parts[0].rank < 2:
        return False
    order = frame.order_of(
        next((one for one in parts if not one.weight and one.data is None), parts[0])
    )
    axis = order.index(dim % parts[0].rank)
    inner = joined([frame.ref(one, order) for one in parts])
    where = f", axis={axis}" if axis != len(order) - 1 or len(order) < 2 else ", axis=-1"
    frame.give(
        op.outputs[0], text(f"mx.concatenate([{{}}]{where if axis else ''})", inner), order, "y"
    )
    return None


def stack(frame: FrameWriter, op: Op) -> None:
    parts = op.args[0]
    dim = (op.args[1] if len(op.args) > 1 else op.named.get("dim", 0)) % (parts[0].rank + 1)
    order = frame.order_of(parts[0])
    moved = tuple(d + (d >= dim) for d in order)
    at = _before(moved, dim)
    inner = joined([frame.ref(one, order) for one in parts])
    code = (
        text("mx.stack([{}])", inner) if not at else text("mx.stack([{}], axis={})", inner, str(at))
    )
    frame.give(op.outputs[0], code, (*moved[:at], dim, *moved[at:]), "y")


def flip(frame: FrameWriter, op: Op) -> None:
    base, (x, *rest) = op.kind.partition(".")[0], op.args
    dims = rest[0] if rest else {"fliplr": 1, "flipud": 0}[base]
    axes = {frame.axis(x, d) for d in _dims(dims, x)}
    parts = ["::-1" if n in axes else ":" for n in range(max(axes) + 1)]
    frame.give(
        op.outputs[0], text("{!}[" + ", ".join(parts) + "]", frame.ref(x)), frame.order_of(x), "y"
    )


def roll(frame: FrameWriter, op: Op) -> None:
    x, shifts = op.args[0], op.args[1]
    dims = op.args[2] if len(op.args) > 2 else ()
    if not dims:
        code = text("mx.roll({}, {})", frame.ref(x, plain(x.rank)), shifts[0])
        frame.give(op.outputs[0], code, plain(x.rank), "y")
        return
    axes = [frame.axis(x, d) for d in _dims(dims, x)]
    given = [
        frame.size(one, (x,)) for one in ([shifts] if isinstance(shifts, int | Size) else shifts)
    ]
    code = (
        text("nn.roll({}, {}, axis={})", frame.ref(x), given[0], str(axes[0]))
        if len(axes) == 1
        else text(
            "nn.roll({}, {}, axis={})",
            frame.ref(x),
            _tuple(given),
            f"({', '.join(map(str, axes))})",
        )
    )
    frame.give(op.outputs[0], code, frame.order_of(x), "y")


def pad(frame: FrameWriter, op: Op) -> None:
    """torch says the last axis first."""
    base = op.kind.partition(".")[0]
    x, widths = op.args[0], op.args[1]
    mode = {"reflection": "reflect", "replication": "edge"}.get(base.partition("_")[0], "constant")
    value: Any = 0
    if base == "pad":
        mode = op.args[2] if len(op.args) > 2 else op.named.get("mode", "constant")
        value = op.args[3] if len(op.args) > 3 else op.named.get("value")
    elif mode == "constant":
        value = op.args[2] if len(op.args) > 2 else op.named.get("value", 0)
    mode = {"replicate": "edge"}.get(mode, mode)
    order = frame.order_of(x)
    if not any(widths):
        frame.give(op.outputs[0], frame.ref(x), order, "y")
        return
    pairs: dict[int, tuple[Any, Any]] = {}
    for n in range(len(widths) // 2):
        pairs[order.index(x.rank - 1 - n)] = (widths[2 * n], widths[2 * n + 1])
    rows = [
        text("({}, {})", *shape_of(frame, pairs.get(axis, (0, 0)), (x,))) for axis in range(x.rank)
    ]
    code = text("nn.pad({}, [{}]", frame.ref(x), joined(rows))
    if mode != "constant":
        code = text('{}, "{}")', code, str(mode))
    else:
        code = text("{}, value={})", code, value) if value else text("{})", code)
    frame.give(op.outputs[0], code, order, "y")


def repeat_interleave(frame: FrameWriter, op: Op) -> Any:
    x, times = op.args[0], op.args[1]
    dim = op.args[2] if len(op.args) > 2 else op.named.get("dim")
    if isinstance(times, Value):
        return False
    if dim is None:
        code = text("mx.repeat({}, {})", frame.ref(x, plain(x.rank)), frame.size(times, (x,)))
        frame.give(op.outputs[0], code, (0,), "y")
        return None
    axis = frame.axis(x, dim)
    frame.give(
        op.outputs[0],
        text("mx.repeat({}, {}, axis={})", frame.ref(x), frame.size(times, (x,)), str(axis)),
        frame.order_of(x),
        "y",
    )
    return None


def unfold(frame: FrameWriter, op: Op) -> None:
    """Windows of an axis, which stand in a new axis at the end."""
    x, dim, size, step = op.args
    order = frame.order_of(x)
    axis = order.index(dim % x.rank)
    code = text(
        "nn.unfold({}, {}, {}, axis={})",
        frame.ref(x),
        frame.size(size, (x,)),
        frame.size(step, (x,)),
        str(axis),
    )
    frame.give(op.outputs[0], code, (*order, x.rank), "y")


def strided(frame: FrameWriter, op: Op) -> bool:
    """Windows of the last axis; other strides than theirs have no form."""
    x, sizes, strides = op.args[:3]
    runs = range(len(x.shapes))
    made, steps = ([_each(one, n) for n in runs] for one in (sizes, strides))
    rows = [[math.prod(shape[k + 1 :]) for k in range(len(shape) - 1)] for shape in x.shapes]
    windows = all(
        made[n][:-2] == [*x.shapes[n][:-1]]
        and steps[n][:-2] == rows[n]
        and steps[n][-1] == 1
        and made[n][-2] == (x.shapes[n][-1] - made[n][-1]) // steps[n][-2] + 1
        for n in runs
    )
    if not windows or (len(op.args) > 3 and op.args[3]):
        return False
    unfold(frame, Op("unfold", (x, -1, sizes[-1], strides[-2]), {}, op.outputs, op.lines))
    return True


def _each(dims: Sequence[Dim], run: int) -> list[int]:
    return [one.values[run] if isinstance(one, Size) else one for one in dims]


def triangle(frame: FrameWriter, op: Op) -> None:
    x = op.args[0]
    k = op.args[1] if len(op.args) > 1 else op.named.get("diagonal", 0)
    base = op.kind.partition(".")[0]
    code = text(
        f"mx.{base}({{}}, {{}})" if k else f"mx.{base}({{}})",
        frame.ref(x, plain(x.rank)),
        *([k] if k else []),
    )
    frame.give(op.outputs[0], code, plain(x.rank), "y")


def diagonal(frame: FrameWriter, op: Op) -> None:
    x = op.args[0]
    usual: tuple[Any, ...] = (0, 0, 1)
    offset, one, two = (*op.args[1:], *usual[len(op.args) - 1 :])
    frame.give(
        op.outputs[0],
        text("mx.diagonal({}, {}, {}, {})", frame.ref(x, plain(x.rank)), offset, one, two),
        plain(op.outputs[0].rank),
        "y",
    )


def shuffle(frame: FrameWriter, op: Op) -> None:
    x, by = op.args[:2]
    base = op.kind.partition(".")[0]
    frame.give(
        op.outputs[0], text(f"nn.{base}({{}}, {{}})", frame.ref(x, last(4)), by), last(4), "y"
    )


_RESHAPE = (
    "view",
    "reshape",
    "_unsafe_view",
    "flatten",
    "unflatten",
    "view_as",
    "reshape_as",
    "ravel",
    "_reshape_alias",
)


def channel_shuffle(frame: FrameWriter, op: Op) -> None:
    x, groups = op.args[:2]
    order = last(x.rank)
    code = text("nn.channel_shuffle({}, {})", frame.ref(x, order), groups)
    frame.give(op.outputs[0], code, order, "y")


def columns(frame: FrameWriter, op: Op) -> None:
    """im2col and col2im: F.unfold and F.fold."""
    base = op.kind.partition(".")[0]
    x, *given = op.args
    size = [] if base == "im2col" else [given.pop(0)]
    kernel, dilation, padding, stride = given
    parts = [frame.ref(x, plain(x.rank))]
    parts += [
        _tuple(shape_of(frame, tuple(one), (x,)))
        for one in (*size, kernel, stride, padding, dilation)
    ]
    name = "nn.columns" if base == "im2col" else "nn.overlapped"
    frame.give(op.outputs[0], text(f"{name}({{}})", joined(parts)), plain(op.outputs[0].rank), "y")


def rotated(frame: FrameWriter, op: Op) -> None:
    """rot90: a swap of both axes, or a reversal, or both."""
    x, k, dims = (*op.args, *(1, (0, 1))[len(op.args) - 1 :])[:3]
    a, b = _dims(dims, x)
    order = list(frame.order_of(x))
    flipped = {0: [], 1: [b], 2: [a, b], 3: [a]}[k % 4]
    axes = {order.index(d) for d in flipped}
    index = ["::-1" if n in axes else ":" for n in range(max(axes, default=-1) + 1)]
    code = text("{!}[" + ", ".join(index) + "]", frame.ref(x)) if axes else frame.ref(x)
    swap = {a: b, b: a} if k % 2 else {}
    frame.give(op.outputs[0], code, tuple(swap.get(d, d) for d in order), "y")


def grids(frame: FrameWriter, op: Op) -> None:
    """meshgrid."""
    parts = joined([frame.ref(one) for one in op.args[0]])
    by = op.named.get("indexing", op.args[1] if len(op.args) > 1 else "ij")
    orders = [plain(one.rank) for one in op.outputs]
    frame.several(op.outputs, text(f'mx.meshgrid({{}}, indexing="{by}")', parts), orders)


def differences(frame: FrameWriter, op: Op) -> Any:
    """diff, once."""
    x = op.args[0]
    n = op.args[1] if len(op.args) > 1 else op.named.get("n", 1)
    dim = op.args[2] if len(op.args) > 2 else op.named.get("dim", -1)
    if n != 1 or len(op.args) > 3:
        return False
    axis = frame.axis(x, dim)
    code = frame.ref(x)
    parts = (text("{!}{}", code, _at(axis, part)) for part in ("1:", ":-1"))
    frame.give(op.outputs[0], text("{} - {}", *parts, atom=False), frame.order_of(x), "y")
    return None


def diag(frame: FrameWriter, op: Op) -> None:
    x = op.args[0]
    k = op.args[1] if len(op.args) > 1 else 0
    code = text(
        "mx.diag({}, {})" if k else "mx.diag({})", frame.ref(x, plain(x.rank)), *([k] if k else [])
    )
    frame.give(op.outputs[0], code, plain(op.outputs[0].rank), "y")


FORMS: dict[str, Form] = {
    **dict.fromkeys(("slice", "narrow"), slice_),
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "tensor_split", "hsplit"), split),
    **dict.fromkeys(("cat", "concat", "concatenate", "hstack", "vstack"), cat),
    **dict.fromkeys(("pad", "constant_pad_nd"), pad),
    **dict.fromkeys(("reflection_pad1d", "reflection_pad2d"), pad),
    **dict.fromkeys(("replication_pad1d", "replication_pad2d"), pad),
    **dict.fromkeys(("tril", "triu"), triangle),
    **dict.fromkeys(("pixel_shuffle", "pixel_unshuffle"), shuffle),
    "select": select,
    "put": put,
    "unbind": unbind,
    "stack": stack,
    **dict.fromkeys(("flip", "fliplr", "flipud"), flip),
    "roll": roll,
    "repeat_interleave": repeat_interleave,
    "unfold": unfold,
    "as_strided": strided,
    "diagonal": diagonal,
    "diag": diag,
    "diff": differences,
    "meshgrid": grids,
    "rot90": rotated,
    "channel_shuffle": channel_shuffle,
    "im2col": columns,
    "col2im": columns,
}
