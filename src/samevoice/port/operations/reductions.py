"""Operations over a whole axis: sums, means, extremes, and what is summed up on the way."""

from __future__ import annotations

from typing import Any

from samevoice.port.frames import Form, FrameWriter
from samevoice.port.graph import Op, Value
from samevoice.port.operations.elementwise import as_type
from samevoice.port.operations.pairs import aligned
from samevoice.port.operations.shapes import without
from samevoice.port.orders import plain
from samevoice.port.text import Text, text

_PLAIN = {
    **{"mean": "nn.mean", "sum": "nn.total", "amax": "mx.max", "amin": "mx.min"},
    **{"prod": "mx.prod", "logsumexp": "nn.logsumexp", "any": "mx.any", "all": "mx.all"},
    **{"argmax": "mx.argmax", "argmin": "mx.argmin"},
}


def _axes(frame: FrameWriter, x: Value, dims: Any) -> list[int]:
    """None where all of them are meant."""
    if dims is None or dims == ():
        return []
    given = [dims] if isinstance(dims, int) else list(dims)
    return [d % x.rank for d in given]


def _behind(frame: FrameWriter, x: Value, dims: list[int], keep: bool) -> str:
    """What stands behind the tensor: ", axis=1, keepdims=True"."""
    order = frame.order_of(x)
    axes = sorted(order.index(d) for d in dims)
    if not dims:
        return ", keepdims=True" if keep else ""
    if axes == [x.rank - 1]:
        axes = [-1]
    at = str(axes[0]) if len(axes) == 1 else f"({', '.join(map(str, axes))})"
    return f", axis={at}" + (", keepdims=True" if keep else "")


def _give(
    frame: FrameWriter, made: Value, code: Text, x: Value, dims: list[int], keep: bool
) -> None:
    order = frame.order_of(x)
    if not dims and not keep:
        order = ()
    elif not keep:
        order = without(order, dims)
    frame.give(made, code, order, "y")


def reduced(frame: FrameWriter, op: Op) -> None:
    base = op.kind.partition(".")[0]
    x = op.args[0]
    dims = _axes(frame, x, op.args[1] if len(op.args) > 1 else op.named.get("dim"))
    keep = bool(op.args[2] if len(op.args) > 2 else op.named.get("keepdim", False))
    if base in ("argmax", "argmin") and not dims:
        code = text(f"{_PLAIN[base]}({{}})", frame.ref(x, plain(x.rank)))
    else:
        given = frame.ref(x)
        if op.named.get("dtype") is not None:
            given = as_type(given, x.dtype, op.named["dtype"])
        code = text(f"{_PLAIN[base]}({{}}{_behind(frame, x, dims, keep)})", given)
    _give(frame, op.outputs[0], code, x, dims, keep)


def spread(frame: FrameWriter, op: Op) -> None:
    """Variance or deviation: unbiased, unless it says otherwise."""
    base, _, overload = op.kind.partition(".")
    x, rest = op.args[0], list(op.args[1:])
    correction: Any = 1
    dims: Any = None
    keep = False
    if overload == "correction":
        dims = rest[0] if rest else op.named.get("dim")
        correction = op.named.get("correction", 1)
        correction = 1 if correction is None else correction
        keep = op.named.get("keepdim", False)
    elif overload == "dim":
        usual: tuple[Any, ...] = (None, True, False)
        dims, unbiased, keep = (*rest, *usual[len(rest) :])
        correction = int(op.named.get("unbiased", unbiased))
        keep = op.named.get("keepdim", keep)
    else:
        correction = int(rest[0]) if rest else 1
    axes = _axes(frame, x, dims)
    behind = _behind(frame, x, axes, keep) + (
        f", ddof={int(correction)}" if correction != 1 else ""
    )
    if base == "var_mean" or base == "std_mean":
        for made, name in zip(op.outputs, (base.partition("_")[0], "mean"), strict=True):
            rear = behind if name != "mean" else _behind(frame, x, axes, keep)
            _give(frame, made, text(f"nn.{name}({{}}{rear})", frame.ref(x)), x, axes, keep)
        return
    _give(frame, op.outputs[0], text(f"nn.{base}({{}}{behind})", frame.ref(x)), x, axes, keep)


def norm(frame: FrameWriter, op: Op) -> Any:
    x = op.args[0]
    base = op.kind.partition(".")[0]
    power = op.args[1] if len(op.args) > 1 else op.named.get("ord", None)
    dims = _axes(frame, x, op.args[2] if len(op.args) > 2 else op.named.get("dim"))
    keep = bool(op.args[3] if len(op.args) > 3 else op.named.get("keepdim", False))
    matrix = base == "linalg_norm" and len(dims) == 2 and power is not None
    power = {"fro": 2, None: 2}.get(power, power)
    if not isinstance(power, int | float) or matrix:
        return False
    if power not in (1, 2):
        return _other_norm(frame, op, power, dims, keep)
    inner = text(
        "nn.total(mx.abs({}){})" if power == 1 else "nn.total(mx.square({}){})",
        frame.ref(x),
        _behind(frame, x, dims, keep),
    )
    code = inner if power == 1 else text("mx.sqrt({})", inner)
    _give(frame, op.outputs[0], code, x, dims, keep)
    return None


def _other_norm(frame: FrameWriter, op: Op, power: float, dims: list[int], keep: bool) -> Any:
    x = op.args[0]
    behind = _behind(frame, x, dims, keep)
    if abs(power) == float("inf"):
        code = text(f"mx.{'max' if power > 0 else 'min'}(mx.abs({{}}){behind})", frame.ref(x))
    elif power == 0:
        return False
    else:
        inner = text(f"nn.total(mx.abs({{}}) ** {{}}{behind})", frame.ref(x), power)
        code = text("{} ** {}", inner, 1 / power, atom=False)
    _give(frame, op.outputs[0], code, x, dims, keep)
    return None


def extreme(frame: FrameWriter, op: Op) -> None:
    """max and min over an axis give where it was, too."""
    base = op.kind.partition(".")[0]
    x = op.args[0]
    if len(op.args) == 1 and len(op.outputs) == 1:
        _give(frame, op.outputs[0], text(f"mx.{base}({{}})", frame.ref(x)), x, [], False)
        return
    if isinstance(op.args[1], Value):
        parts, order = aligned(frame, op.args[:2])
        frame.give(op.outputs[0], text(f"mx.{base}imum({{}}, {{}})", *parts), order, "y")
        return
    dims = _axes(frame, x, op.args[1])
    keep = bool(op.args[2] if len(op.args) > 2 else op.named.get("keepdim", False))
    behind = _behind(frame, x, dims, keep)
    for made, name in zip(op.outputs, (base, f"arg{base}"), strict=True):
        _give(frame, made, text(f"mx.{name}({{}}{behind})", frame.ref(x)), x, dims, keep)


_ALONG = {
    **{"softmax": "nn.softmax", "log_softmax": "nn.log_softmax", "cumsum": "nn.cumsum"},
    **{"cumprod": "nn.cumprod", "logcumsumexp": "mx.logcumsumexp"},
}


def along(frame: FrameWriter, op: Op) -> None:
    """What keeps its shape: softmax, cumulative sums, sorting."""
    base = op.kind.partition(".")[0].strip("_")
    x = op.args[0]
    dim = op.args[1] if len(op.args) > 1 else op.named.get("dim", -1)
    axis = frame.axis(x, dim)
    name = _ALONG[base]
    at = "-1" if axis == x.rank - 1 else str(axis)
    frame.give(
        op.outputs[0], text(f"{name}({{}}, axis={at})", frame.ref(x)), frame.order_of(x), "y"
    )


def _sorting(op: Op) -> tuple[int, bool]:
    """Along which axis, and whether the largest comes first, by any of its overloads."""
    names = ("stable", "dim", "descending") if "stable" in op.kind else ("dim", "descending")
    given = {**dict(zip(names, op.args[1:], strict=False)), **op.named}
    return given.get("dim", -1), bool(given.get("descending", False))


def sort(frame: FrameWriter, op: Op) -> None:
    x = op.args[0]
    dim, descending = _sorting(op)
    axis, order = frame.axis(x, dim), frame.order_of(x)
    code = text(f"nn.sort({{}}, axis={axis}{', descending=True' * descending})", frame.ref(x))
    if op.kind.startswith("argsort"):
        frame.give(op.outputs[0], text("{}[1]", code), order, "order")
        return
    frame.several(op.outputs, code, [order] * 2)


def sorted_first(frame: FrameWriter, op: Op) -> None:
    """msort."""
    x = op.args[0]
    code = text("mx.sort({}, axis={})", frame.ref(x), str(frame.axis(x, 0)))
    frame.give(op.outputs[0], code, frame.order_of(x), "y")


def topk(frame: FrameWriter, op: Op) -> None:
    x, k = op.args[:2]
    names = ("dim", "largest", "sorted")
    given = {**dict(zip(names, op.args[2:], strict=False)), **op.named}
    axis, order = frame.axis(x, given.get("dim", -1)), frame.order_of(x)
    behind = ", largest=False" if given.get("largest") is False else ""
    code = text(f"nn.topk({{}}, {{}}, axis={axis}{behind})", frame.ref(x), frame.size(k, (x,)))
    frame.several(op.outputs, code, [order] * 2)


def ranked(frame: FrameWriter, op: Op) -> Any:
    """median and kthvalue, along an axis."""
    base = op.kind.partition(".")[0]
    x, *rest = op.args
    k = rest.pop(0) if base == "kthvalue" else None
    if len(op.outputs) != 2:
        return False
    dim = rest[0] if rest else op.named.get("dim", -1)
    keep = bool(rest[1] if len(rest) > 1 else op.named.get("keepdim", False))
    axis, order = frame.axis(x, dim), frame.order_of(x)
    parts = (frame.ref(x),) if k is None else (frame.ref(x), k)
    name = "nn.median({}" if k is None else "nn.ranked({}, {}"
    if keep:
        return False
    code = text(f"{name}, axis={axis})", *parts)
    frame.several(op.outputs, code, [without(order, [dim % x.rank])] * 2)
    return None


def so_far(frame: FrameWriter, op: Op) -> None:
    """cummax and cummin."""
    x, dim = op.args
    axis, order = frame.axis(x, dim), frame.order_of(x)
    name = "highest" if op.kind.startswith("cummax") else "lowest"
    frame.several(op.outputs, text(f"nn.{name}({{}}, axis={axis})", frame.ref(x)), [order] * 2)


def both_extremes(frame: FrameWriter, op: Op) -> None:
    """aminmax."""
    x = op.args[0]
    dim = op.named.get("dim")
    dims = [] if dim is None else [dim % x.rank]
    keep = bool(op.named.get("keepdim", False))
    for made, name in zip(op.outputs, ("min", "max"), strict=True):
        behind = _behind(frame, x, dims, keep)
        _give(frame, made, text(f"mx.{name}({{}}{behind})", frame.ref(x)), x, dims, keep)


def counted(frame: FrameWriter, op: Op) -> None:
    """count_nonzero."""
    x = op.args[0]
    dims = _axes(frame, x, op.args[1] if len(op.args) > 1 else op.named.get("dim"))
    code = text("({!} != 0).sum({})", frame.ref(x), _behind(frame, x, dims, False)[2:])
    _give(frame, op.outputs[0], code, x, dims, False)


def similarity(frame: FrameWriter, op: Op) -> None:
    """cosine_similarity."""
    dim = op.args[2] if len(op.args) > 2 else op.named.get("dim", 1)
    eps = op.args[3] if len(op.args) > 3 else op.named.get("eps", 1e-8)
    parts, order = aligned(frame, op.args[:2])
    axis = order.index(dim % len(order))
    behind = f", axis={axis}" + (f", eps={eps!r}" if eps != 1e-8 else "")
    code = text(f"nn.cosine_similarity({{}}, {{}}{behind})", *parts)
    frame.give(op.outputs[0], code, without(order, [dim % len(order)]), "y")


def distance(frame: FrameWriter, op: Op) -> Any:
    """pairwise_distance and dist, by squares."""
    base = op.kind.partition(".")[0]
    p = op.args[2] if len(op.args) > 2 else 2
    eps = op.args[3] if len(op.args) > 3 else 1e-6
    if p != 2 or len(op.args) > 4:
        return False
    (one, two), order = aligned(frame, op.args[:2])
    if base == "dist":
        code = text("mx.sqrt(nn.total(mx.square({} - {!})))", one, two)
        frame.give(op.outputs[0], code, (), "y")
        return None
    rank = len(order)
    axis = order.index(rank - 1)
    code = text(f"mx.sqrt(nn.total(mx.square({{}} - {{!}} + {{}}), axis={axis}))", one, two, eps)
    frame.give(op.outputs[0], code, without(order, [rank - 1]), "y")
    return None


FORMS: dict[str, Form] = {
    **dict.fromkeys(_PLAIN, reduced),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean"), spread),
    **dict.fromkeys(("norm", "linalg_vector_norm", "linalg_norm"), norm),
    **dict.fromkeys(("max", "min"), extreme),
    **dict.fromkeys(
        (
            "softmax",
            "_softmax",
            "log_softmax",
            "_log_softmax",
            "cumsum",
            "cumprod",
            "logcumsumexp",
            "argsort",
        ),
        along,
    ),
    "sort": sort,
    "argsort": sort,
    "msort": sorted_first,
    "topk": topk,
    "median": ranked,
    "kthvalue": ranked,
    "cummax": so_far,
    "cummin": so_far,
    "aminmax": both_extremes,
    "count_nonzero": counted,
    "cosine_similarity": similarity,
    "pairwise_distance": distance,
    "dist": distance,
}
