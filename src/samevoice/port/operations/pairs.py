"""Operations on pairs of numbers, and choices between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from samevoice.port.frames import Form, FrameWriter
from samevoice.port.graph import Op, Size, Value
from samevoice.port.operations.elementwise import as_type
from samevoice.port.orders import Order
from samevoice.port.text import Text, text

_INFIX = {
    **{"mul": "*", "multiply": "*", "div": "/", "divide": "/", "true_divide": "/"},
    **{"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="},
    **{"__and__": "&", "bitwise_and": "&", "__or__": "|", "bitwise_or": "|"},
    **{"__xor__": "^", "bitwise_xor": "^", "__lshift__": "<<", "__rshift__": ">>"},
    **{"bitwise_left_shift": "<<", "bitwise_right_shift": ">>", "remainder": "%"},
}
_BY_NAME = {
    **{"maximum": "mx.maximum", "minimum": "mx.minimum"},
    **{"fmax": "mx.maximum", "fmin": "mx.minimum"},
    **{"atan2": "mx.arctan2", "arctan2": "mx.arctan2", "logaddexp": "mx.logaddexp"},
    **{"logical_and": "mx.logical_and", "logical_or": "mx.logical_or"},
    **{"complex": "nn.complex_of", "polar": "nn.polar", "fmod": "nn.fmod", "hypot": "nn.hypot"},
    **{"copysign": "nn.copysign", "xlogy": "nn.xlogy", "special_xlogy": "nn.xlogy"},
    **{"isclose": "nn.isclose"},
}


def aligned(frame: FrameWriter, given: Sequence[Any]) -> tuple[list[Text], Order]:
    """Tensors and numbers as they broadcast against each other, and the order that they have."""
    tensors = [one for one in given if isinstance(one, Value)]
    rank = max((one.rank for one in tensors), default=0)
    full = [one for one in tensors if one.rank == rank]
    computed = [one for one in full if not one.weight and one.data is None]
    order = frame.order_of((computed or full)[0]) if full else ()
    return [_as(frame, one, rank, order) for one in given], order


def _as(frame: FrameWriter, one: Any, rank: int, order: Order) -> Text:
    if not isinstance(one, Value):
        return frame.size(one) if isinstance(one, Size) else text("{}", one)
    if one.rank in (0, rank):
        return frame.ref(one, order) if one.rank else frame.ref(one)
    lacking = rank - one.rank
    inner = tuple(dim - lacking for dim in order if dim >= lacking)
    code = frame.ref(one, inner)
    index = [":" if dim >= lacking else "None" for dim in order]
    while index and index[0] == "None":
        index.pop(0)
    if all(part == ":" for part in index):
        return code
    return text("{!}[" + ", ".join(index) + "]", code)


def _type(one: Any) -> str:
    return one.dtype if isinstance(one, Value) else type(one).__name__


def infix(frame: FrameWriter, op: Op) -> None:
    base = op.kind.partition(".")[0]
    rounding = op.named.get("rounding_mode")
    if rounding is not None or base == "floor_divide":
        divided(frame, op, "nn.truncated" if rounding == "trunc" else "nn.floored")
        return
    parts, order = aligned(frame, op.args[:2])
    sign = _INFIX[base]
    if sign == "^" and op.outputs[0].dtype == "bool":
        sign = "!="
    frame.give(op.outputs[0], text(f"{{!}} {sign} {{!}}", *parts, atom=False), order, "y")


def divided(frame: FrameWriter, op: Op, name: str) -> None:
    """Rounded down, or towards nothing."""
    parts, order = aligned(frame, op.args[:2])
    frame.give(op.outputs[0], text(f"{name}({{}}, {{}})", *parts), order, "y")


def plus(frame: FrameWriter, op: Op) -> None:
    given = list(op.args[:2])
    base = op.kind.partition(".")[0]
    parts, order = aligned(frame, given)
    alpha = op.named.get("alpha", op.args[2] if len(op.args) > 2 else 1)
    if base == "rsub":  # the second, less alpha times the first
        parts = parts[::-1]
    if alpha != 1:
        parts[1] = text("{} * {!}", alpha, parts[1], atom=False)
    sign = "+" if base == "add" else "-"
    left = "{}" if sign == "+" or parts[0].atom else "{!}"
    right = "{!}" if sign == "-" or not parts[1].atom else "{}"
    frame.give(op.outputs[0], text(f"{left} {sign} {right}", *parts, atom=False), order, "y")


def by_name(frame: FrameWriter, op: Op) -> None:
    parts, order = aligned(frame, op.args[:2])
    name = _BY_NAME[op.kind.partition(".")[0]]
    frame.give(op.outputs[0], text(f"{name}({{}}, {{}})", *parts), order, "y")


def exclusive(frame: FrameWriter, op: Op) -> None:
    parts, order = aligned(frame, op.args[:2])
    kinds = map(_type, op.args[:2])
    one, two = (as_type(part, kind, "bool") for part, kind in zip(parts, kinds, strict=True))
    frame.give(op.outputs[0], text("mx.not_equal({}, {})", one, two), order, "y")


def scaled_by_power(frame: FrameWriter, op: Op) -> None:
    """ldexp."""
    parts, order = aligned(frame, op.args[:2])
    parts[1] = as_type(parts[1], _type(op.args[1]), "float32")
    frame.give(op.outputs[0], text("{!} * nn.exp2({})", *parts, atom=False), order, "y")


def power(frame: FrameWriter, op: Op) -> None:
    parts, order = aligned(frame, op.args[:2])
    by = op.args[1]
    if by == 2:
        code = text("mx.square({})", parts[0])
    elif by == 0.5:
        code = text("mx.sqrt({})", parts[0])
    elif by == -1 and op.outputs[0].dtype.startswith("float"):
        code = text("mx.reciprocal({})", parts[0])
    elif isinstance(by, int) and by == 3:
        code = text("nn.cube({})", parts[0])
    else:
        code = text("{!} ** {!}", *parts, atom=False)
    frame.give(op.outputs[0], code, order, "y")


def clamp(frame: FrameWriter, op: Op) -> None:
    x = op.args[0]
    least, most = ([*op.args[1:], None, None])[:2]
    least, most = op.named.get("min", least), op.named.get("max", most)
    if op.kind.startswith("clamp_min"):
        most = None
    if op.kind.startswith("clamp_max"):
        least, most = None, op.args[1]
    parts, order = aligned(frame, [x, *(one for one in (least, most) if one is not None)])
    code = parts.pop(0)
    if least is not None:
        code = text("mx.maximum({}, {})", code, parts.pop(0))
    if most is not None:
        code = text("mx.minimum({}, {})", code, parts.pop(0))
    frame.give(op.outputs[0], code, order, "y")


def where(frame: FrameWriter, op: Op) -> Any:
    if len(op.args) < 3:
        return False
    parts, order = aligned(frame, op.args[:3])
    frame.give(op.outputs[0], text("mx.where({}, {}, {})", *parts), order, "y")
    return None


def masked_fill(frame: FrameWriter, op: Op) -> None:
    (x, mask, value), order = aligned(frame, op.args[:3])
    frame.give(op.outputs[0], text("mx.where({}, {}, {})", mask, value, x), order, "y")


def lerp(frame: FrameWriter, op: Op) -> None:
    (start, end, weight), order = aligned(frame, op.args[:3])
    code = text("{} + {!} * ({} - {!})", start, weight, end, start, atom=False)
    frame.give(op.outputs[0], code, order, "y")


def addcmul(frame: FrameWriter, op: Op) -> None:
    parts, order = aligned(frame, op.args[:3])
    value = op.named.get("value", 1)
    sign = "*" if op.kind.startswith("addcmul") else "/"
    inner = text(f"{{!}} {sign} {{!}}", *parts[1:], atom=False)
    inner = inner if value == 1 else text("{} * ({})", value, inner, atom=False)
    frame.give(op.outputs[0], text("{} + {}", parts[0], inner, atom=False), order, "y")


def step(frame: FrameWriter, op: Op) -> None:
    """heaviside."""
    (x, middle), order = aligned(frame, op.args[:2])
    code = text("mx.where({!} == 0, {}, ({!} > 0).astype(mx.float32))", x, middle, x)
    frame.give(op.outputs[0], code, order, "y")


FORMS: dict[str, Form] = {
    **dict.fromkeys((*_INFIX, "floor_divide"), infix),
    **dict.fromkeys(_BY_NAME, by_name),
    **dict.fromkeys(("add", "sub", "rsub", "subtract"), plus),
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max", "clip"), clamp),
    **dict.fromkeys(("addcmul", "addcdiv"), addcmul),
    "logical_xor": exclusive,
    "ldexp": scaled_by_power,
    "pow": power,
    "float_power": power,
    "where": where,
    "masked_fill": masked_fill,
    "lerp": lerp,
    "heaviside": step,
}
