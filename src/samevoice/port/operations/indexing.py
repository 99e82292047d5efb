"""What is read and written by indices."""

from __future__ import annotations

from typing import Any

from samevoice.port.frames import Form, FrameWriter
from samevoice.port.graph import Op, PortError, Value
from samevoice.port.operations.elementwise import as_type
from samevoice.port.operations.pairs import aligned
from samevoice.port.orders import plain
from samevoice.port.text import Text, joined, text


def refused(frame: FrameWriter, op: Op, why: str) -> PortError:
    where = next((one for one in op.lines[::-1] if "/torch/" not in one.file), None)
    return PortError(
        f"{op.kind.partition('.')[0]}: {why}" + (f", at {where}: {where.code}" if where else "")
    )


def depends(frame: FrameWriter, op: Op) -> Any:
    """What gives more or less for other values has no form that anything could be compared by."""
    raise refused(frame, op, "how much it gives depends on the values that it is fed")


def index(frame: FrameWriter, op: Op) -> Any:
    """x[:, i, j] with tensors for indices."""
    x, indices = op.args[0], list(op.args[1])
    given = [n for n, one in enumerate(indices) if one is not None]
    if any(indices[n].dtype == "bool" for n in given):
        raise refused(frame, op, "which of its numbers are taken depends on what it is fed")
    code = frame.ref(x, plain(x.rank))
    parts = [":" if one is None else frame.ref(one, plain(one.rank)) for one in indices]
    frame.give(op.outputs[0], text("{!}[{}]", code, joined(parts)), plain(op.outputs[0].rank), "y")
    return None


def index_select(frame: FrameWriter, op: Op) -> None:
    x, dim, which = op.args
    axis = frame.axis(x, dim)
    at = f", axis={axis}"
    frame.give(
        op.outputs[0],
        text(f"mx.take({{}}, {{}}{at})", frame.ref(x), frame.ref(which)),
        frame.order_of(x),
        "y",
    )


def gather(frame: FrameWriter, op: Op) -> Any:
    x, dim, which = op.args[:3]
    order = frame.order_of(x)
    axis = order.index(dim % x.rank)
    code = text("nn.gather({}, {}, axis={})", frame.ref(x), frame.ref(which, order), str(axis))
    frame.give(op.outputs[0], code, order, "y")


def take_along(frame: FrameWriter, op: Op) -> Any:
    if len(op.args) < 3 or op.args[2] is None:
        return False
    x, which, dim = op.args
    order = frame.order_of(x)
    parts = (frame.ref(x), frame.ref(which, order), str(order.index(dim % x.rank)))
    frame.give(op.outputs[0], text("nn.gather({}, {}, axis={})", *parts), order, "y")
    return None


def take(frame: FrameWriter, op: Op) -> None:
    x, which = op.args
    code = text("mx.take({}, {})", frame.ref(x, plain(x.rank)), frame.ref(which))
    frame.give(op.outputs[0], code, frame.order_of(which), "y")


def scatter(frame: FrameWriter, op: Op) -> Any:
    """Written over, or added to, at places of one axis."""
    base = op.kind.partition(".")[0]
    x, dim, which, value = op.args[:4]
    if len(op.args) > 4 or op.named.get("reduce"):
        return False
    order = frame.order_of(x)
    if isinstance(value, Value) and value.rank:
        index = [text(":{}.shape[{}]", which, str(frame.order_of(which).index(d))) for d in order]
        whole = value.shapes == which.shapes
        given = frame.ref(value, order)
        given = given if whole else text("{!}[{}]", given, joined(index))
    else:
        given = frame.ref(value) if isinstance(value, Value) else text("{}", value)
    name = "nn.add_along" if base == "scatter_add" else "nn.put_along"
    parts = (frame.ref(x), frame.ref(which, order), given, str(order.index(dim % x.rank)))
    frame.give(op.outputs[0], text(f"{name}({{}}, {{}}, {{}}, axis={{}})", *parts), order, "y")
    return None


def put_at(frame: FrameWriter, op: Op) -> Any:
    """x[i, j] = value, or where a mask says so."""
    x, indices, value = op.args[:3]
    add = bool(op.args[3] if len(op.args) > 3 else op.named.get("accumulate", False))
    if any(one is not None and one.dtype == "bool" for one in indices):
        return _put_where(frame, op, add)
    places = joined(
        [text("slice(None)") if one is None else frame.ref(one, plain(one.rank)) for one in indices]
    )
    code = frame.ref(x, plain(x.rank))
    given = frame.ref(value, plain(value.rank))
    name = "nn.put_added" if add else "nn.put"
    frame.give(
        op.outputs[0], text(f"{name}({{}}, ({{}},), {{}})", code, places, given), plain(x.rank), "y"
    )
    return None


def _put_where(frame: FrameWriter, op: Op, add: bool) -> Any:
    x, indices, value = op.args[:3]
    if len(indices) != 1 or value.rank or add:
        return False
    mask = indices[0]
    if mask.rank != x.rank:
        return False
    (code, where), order = aligned(frame, [x, mask])
    made = text("mx.where({}, {}, {})", where, frame.ref(value), code)
    frame.give(op.outputs[0], made, order, "y")
    return None


def index_written(frame: FrameWriter, op: Op) -> None:
    """index_add, index_copy and index_fill."""
    base = op.kind.partition(".")[0]
    x, dim, which, value = op.args[:4]
    order = frame.order_of(x)
    axis = order.index(dim % x.rank)
    given: Text = text("{}", value)
    if isinstance(value, Value):
        given = frame.ref(value, order) if value.rank else frame.ref(value)
    name = "nn.put_added" if base == "index_add" else "nn.put"
    places = "slice(None), " * axis
    made = text(f"{name}({{}}, ({places}{{}},), {{}})", frame.ref(x), frame.ref(which), given)
    frame.give(op.outputs[0], made, order, "y")


def bucket(frame: FrameWriter, op: Op) -> Any:
    """Into which of the stretches between a row of numbers each falls."""
    base = op.kind.partition(".")[0]
    x, edges = op.args[:2] if base == "bucketize" else op.args[1::-1]
    right = bool(op.named.get("right", False)) or op.named.get("side") == "right"
    if not isinstance(x, Value) or edges.rank != 1:
        return False
    sign = ">=" if right else ">"
    code = text(f"({{!}}[..., None] {sign} {{}}).sum(axis=-1)", frame.ref(x), frame.ref(edges))
    frame.give(op.outputs[0], as_type(code, "int32", op.outputs[0].dtype), frame.order_of(x), "y")
    return None


FORMS: dict[str, Form] = {
    **dict.fromkeys(("scatter", "scatter_add"), scatter),
    **dict.fromkeys(("index_add", "index_copy", "index_fill"), index_written),
    **dict.fromkeys(("bucketize", "searchsorted"), bucket),
    **dict.fromkeys(
        ("masked_select", "nonzero", "unique_dim", "_unique2", "unique_consecutive"), depends
    ),
    "index": index,
    "index_select": index_select,
    "index_put": put_at,
    "gather": gather,
    "take_along_dim": take_along,
    "take": take,
}
