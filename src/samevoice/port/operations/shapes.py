"""Operations that move numbers and change none."""

from __future__ import annotations

from math import prod
from typing import Any

from samevoice.port.frames import Form, FrameWriter
from samevoice.port.graph import Dim, Op, Size, Value
from samevoice.port.operations.pairs import aligned
from samevoice.port.orders import Order, plain
from samevoice.port.text import Text, joined, text

_PAIRS = ("mul", "add", "sub", "div", "expand_as")
# What wants its input's channels last.
_CHANNELS = (
    "conv1d",
    "conv2d",
    "batch_norm",
    "instance_norm",
    "group_norm",
    "max_pool1d",
    "max_pool2d",
    "conv_transpose1d",
    "conv_transpose2d",
)


def shape_of(frame: FrameWriter, dims: tuple[Dim, ...], of: tuple[Value, ...] = ()) -> list[Text]:
    return [frame.size(one, of) for one in dims]


# New shapes ---------------------------------------------------------------------------------------


def reshape(frame: FrameWriter, op: Op) -> None:
    """The axes that are left alone keep their places; the others are as the original has them."""
    x, made = op.args[0], op.outputs[0]
    if made.rank == x.rank and made.dims == x.dims:
        frame.give(made, frame.ref(x), frame.order_of(x), "y")
        return
    order, wanted = frame.order_of(x), plain(x.rank)
    if (kept := _only_front_merges(x, made, order)) is not None:
        code = _reshaped(frame, frame.ref(x), [made.dims[dim] for dim in kept], x)
        frame.give(made, code, kept, "y")
        return
    code = _reshaped(frame, frame.ref(x, wanted), list(made.dims), x)
    frame.give(made, code, plain(made.rank), "y")


def _only_front_merges(x: Value, made: Value, order: Order) -> Order | None:
    """The new order, where only axes are split or joined that lie together in the same order."""
    groups = _groups(x.dims, made.dims)
    if groups is None or order == plain(x.rank):
        return None
    found: list[int] = []
    left = list(order)
    while left:
        group = next((one for one in groups if left[0] in one[0]), None)
        if group is None or tuple(left[: len(group[0])]) != group[0]:
            return None
        found += group[1]
        left = left[len(group[0]) :]
    found += [dim for _, new in groups if not _ for dim in new]
    return tuple(found) if len(found) == made.rank else None


def _groups(
    before: tuple[Dim, ...], after: tuple[Dim, ...]
) -> list[tuple[tuple[int, ...], tuple[int, ...]]] | None:
    """Which axes become which: ((1,), (1, 2)) is an axis that is split."""
    runs = len(next((d.values for d in (*before, *after) if isinstance(d, Size)), (0,)))

    def numbers(dim: Dim) -> tuple[int, ...]:
        return dim.values if isinstance(dim, Size) else (dim,) * runs

    found, i, j = [], 0, 0
    while i < len(before) or j < len(after):
        a, b = [i] if i < len(before) else [], [j] if j < len(after) else []
        i, j = i + len(a), j + len(b)
        while True:
            have = [prod(numbers(before[n])[r] for n in a) for r in range(runs)]
            want = [prod(numbers(after[n])[r] for n in b) for r in range(runs)]
            if have == want and a and b:
                break
            if (not a or have[0] < want[0] or (have[0] == want[0] and not a)) and i < len(before):
                a.append(i)
                i += 1
            elif j < len(after):
                b.append(j)
                j += 1
            elif i < len(before):
                a.append(i)
                i += 1
            else:
                break
        found.append((tuple(a), tuple(b)))
    return found


def _reshaped(frame: FrameWriter, code: Text, dims: list[Dim], x: Value) -> Text:
    """With -1 for one size that follows from the others."""
    sizes = [n for n, one in enumerate(dims) if isinstance(one, Size)]
    free = None
    if sizes:
        lookups = [n for n in sizes if any(dims[n] in value.dims for value in frame.known)]
        rest = [n for n in sizes if n not in lookups]
        free = (rest or sizes[-1:])[0]
    parts = ["-1" if n == free else frame.size(one, (x,)) for n, one in enumerate(dims)]
    return text("{!}.reshape({})", code, joined(parts))


def permute(frame: FrameWriter, op: Op) -> None:
    x = op.args[0]
    dims = [d % x.rank for d in op.args[1]]
    order = frame.order_of(x)
    frame.give(op.outputs[0], frame.ref(x), tuple(dims.index(dim) for dim in order), "y")


def transpose(frame: FrameWriter, op: Op) -> None:
    x, *given = op.args
    a, b = (d % x.rank for d in given) if given else ((x.rank - 2, x.rank - 1))
    swap = {a: b, b: a}
    order = tuple(swap.get(dim, dim) for dim in frame.order_of(x))
    frame.give(op.outputs[0], frame.ref(x), order, "y")


def movedim(frame: FrameWriter, op: Op) -> None:
    x, source, target = op.args
    sources = [source] if isinstance(source, int) else list(source)
    targets = [target] if isinstance(target, int) else list(target)
    sources, targets = [s % x.rank for s in sources], [t % x.rank for t in targets]
    rest = iter(d for d in range(x.rank) if d not in sources)
    dims = [sources[targets.index(n)] if n in targets else next(rest) for n in range(x.rank)]
    frame.give(op.outputs[0], frame.ref(x), tuple(dims.index(d) for d in frame.order_of(x)), "y")


def unsqueeze(frame: FrameWriter, op: Op) -> None:
    x, dim = op.args
    dim %= x.rank + 1
    order = tuple(d + (d >= dim) for d in frame.order_of(x))
    # As what it meets lies, if that is known. Else a channel stands last, and any other axis before
    # the one that it stands before in the original.
    if (beside := _beside(frame, op)) is not None and tuple(d for d in beside if d != dim) == order:
        at = beside.index(dim)
    elif dim == 1 and x.rank in (2, 3) and _goes_to_channels(frame, op):
        at = len(order)
    else:
        at = _before(order, dim)
    new = (*order[:at], dim, *order[at:])
    code = frame.ref(x)
    index = "..., None" if at == len(order) else ", ".join([":"] * at + ["None"])
    frame.give(op.outputs[0], text("{!}[" + index + "]", code), new, "y")


def _beside(frame: FrameWriter, op: Op) -> Order | None:
    """The order of the tensor that it meets next in an operation on pairs."""
    from samevoice.port.graph import Call, taken

    made = op.outputs[0]
    for item in frame.call.body:
        if made not in taken(item):
            continue
        if isinstance(item, Call) or item.kind.partition(".")[0] not in _PAIRS:
            return None
        others = [one for one in taken(item) if one is not made and one.rank == made.rank]
        return frame.order_of(others[0]) if others and others[0] in frame.order else None
    return None


def _before(order: Order, dim: int) -> int:
    behind = [n for n, d in enumerate(order) if d == dim + 1]
    return behind[0] if behind else len(order)


def _goes_to_channels(frame: FrameWriter, op: Op) -> bool:
    from samevoice.port.graph import Call, taken

    made = op.outputs[0]
    for item in frame.call.body:
        if made in taken(item):
            if isinstance(item, Call):
                return True
            return item.kind.partition(".")[0] in _CHANNELS
    return False


def squeeze(frame: FrameWriter, op: Op) -> None:
    x = op.args[0]
    dims = _dims(op.args[1], x) if len(op.args) > 1 else [n for n, d in enumerate(x.dims) if d == 1]
    dims = [d for d in dims if x.dims[d] == 1]
    if not dims:
        frame.give(op.outputs[0], frame.ref(x), frame.order_of(x), "y")
        return
    order = frame.order_of(x)
    code = text("{!}.squeeze({})", frame.ref(x), _axes([order.index(d) for d in dims]))
    frame.give(op.outputs[0], code, without(order, dims), "y")


def _dims(given: Any, x: Value) -> list[int]:
    return [d % x.rank for d in ([given] if isinstance(given, int) else given)]


def _axes(axes: list[int]) -> str:
    return str(axes[0]) if len(axes) == 1 else f"({', '.join(map(str, sorted(axes)))})"


def without(order: Order, dims: list[int]) -> Order:
    """The order once these axes are gone."""
    kept = [d for d in order if d not in dims]
    return tuple(d - sum(x < d for x in dims) for d in kept)


def expand(frame: FrameWriter, op: Op) -> None:
    x, made = op.args[0], op.outputs[0]
    if made.dims == x.dims:
        frame.give(made, frame.ref(x), frame.order_of(x), "y")
        return
    like = op.args[1] if isinstance(op.args[1], Value) else None
    (code, *_), order = aligned(frame, [x, like] if like is not None else [x])
    if like is not None and frame.order_of(like) == order and like.dims == made.dims:
        frame.give(made, text("mx.broadcast_to({}, {}.shape)", code, frame.ref(like)), order, "y")
        return
    if x.rank != made.rank:
        code, order = frame.ref(x, plain(x.rank)), plain(made.rank)
    dims = [made.dims[d] for d in order]
    frame.give(
        made,
        text("mx.broadcast_to({}, {})", code, _tuple(shape_of(frame, tuple(dims), (x,)))),
        order,
        "y",
    )


def _tuple(parts: list[Text]) -> Text:
    return text("({},)" if len(parts) == 1 else "({})", joined(parts))


def repeat(frame: FrameWriter, op: Op) -> None:
    x, times = op.args[0], op.args[1]
    made = op.outputs[0]
    times = (*(1,) * (x.rank - len(times)), *times)
    order = frame.order_of(x) if made.rank == x.rank else plain(made.rank)
    code = frame.ref(x, None if made.rank == x.rank else plain(x.rank))
    counts = [times[d] for d in order]
    frame.give(
        made,
        text("mx.tile({}, {})", code, _tuple(shape_of(frame, tuple(counts), (x,)))),
        order,
        "y",
    )


def broadcast(frame: FrameWriter, op: Op) -> None:
    """broadcast_tensors."""
    parts, order = aligned(frame, op.args[0])
    code = text("mx.broadcast_arrays({})", joined(parts))
    frame.several(op.outputs, code, [order] * len(op.outputs))


_RESHAPE = (
    *("view", "reshape", "_unsafe_view", "flatten", "unflatten", "view_as", "reshape_as", "ravel"),
    "_reshape_alias",
)
FORMS: dict[str, Form] = {
    **dict.fromkeys(_RESHAPE, reshape),
    **dict.fromkeys(
        ("transpose", "t", "swapaxes", "swapdims", "numpy_T", "mT", "adjoint"), transpose
    ),
    **dict.fromkeys(("squeeze", "squeeze_copy"), squeeze),
    **dict.fromkeys(("expand", "expand_as", "broadcast_to"), expand),
    **dict.fromkeys(("repeat", "tile"), repeat),
    **dict.fromkeys(("movedim", "moveaxis"), movedim),
    "permute": permute,
    "broadcast_tensors": broadcast,
    "unsqueeze": unsqueeze,
}
