"""Operations on each number alone."""

from __future__ import annotations

from typing import Any

from samevoice.port.frames import Form, FrameWriter
from samevoice.port.graph import Op
from samevoice.port.text import Number, Text, text

# ATen's name -> MLX's, where both do the same.
_OF_MLX = {
    **{
        name: name
        for name in (
            *("abs", "ceil", "cos", "cosh", "exp", "expm1", "floor", "isfinite", "isinf", "isnan"),
            *("log", "log10", "log1p", "log2", "logical_not", "reciprocal", "round", "rsqrt"),
            *("sigmoid", "sign", "sin", "sinh", "sqrt", "square", "tan", "tanh", "real", "imag"),
        )
    },
    **{name: f"arc{name[1:]}" for name in ("acos", "asin", "atan", "acosh", "asinh", "atanh")},
    **{f"arc{name}": f"arc{name}" for name in ("cos", "sin", "tan", "cosh", "sinh", "tanh")},
    **{"absolute": "abs", "special_expit": "sigmoid", "special_expm1": "expm1"},
    **{"special_log1p": "log1p", "conj": "conjugate", "_conj": "conjugate"},
    **{"conj_physical": "conjugate", "deg2rad": "radians", "rad2deg": "degrees"},
    **{"erfinv": "erfinv", "special_erfinv": "erfinv"},
}
_OF_NN = (
    *("relu", "relu6", "silu", "selu", "mish", "hardswish", "hardsigmoid", "log_sigmoid"),
    *("trunc", "frac", "angle", "erf", "erfc", "sinc", "exp2"),
)
_UNARY = {
    **{name: f"mx.{mlx}" for name, mlx in _OF_MLX.items()},
    **{name: f"nn.{name}" for name in _OF_NN},
    **{f"special_{name}": f"nn.{name}" for name in ("erf", "erfc", "sinc", "exp2")},
    "fix": "nn.trunc",
}
# With numbers behind the tensor, and what they are where they are not said.
_WITH_NUMBERS: dict[str, tuple[str, tuple[tuple[str, Any], ...]]] = {
    "leaky_relu": ("nn.leaky_relu", (("negative_slope", 0.01),)),
    "elu": ("nn.elu", (("alpha", 1.0),)),
    "celu": ("nn.celu", (("alpha", 1.0),)),
    "softplus": ("nn.softplus", (("beta", 1), ("threshold", 20))),
    "hardtanh": ("nn.hardtanh", (("min_val", -1.0), ("max_val", 1.0))),
    "hardshrink": ("nn.hardshrink", (("lambd", 0.5),)),
    "softshrink": ("nn.softshrink", (("lambd", 0.5),)),
    "threshold": ("nn.threshold", (("threshold", 0), ("value", 0))),
    "nan_to_num": ("nn.nan_to_num", (("nan", None), ("posinf", None), ("neginf", None))),
    "logit": ("nn.logit", (("eps", None),)),
}


def unary(frame: FrameWriter, op: Op) -> None:
    x = op.args[0]
    name = _UNARY[op.kind.partition(".")[0]]
    if x.dtype.startswith("complex"):
        name = {"mx.abs": "nn.magnitude", "mx.sign": "nn.direction"}.get(name, name)
    code = frame.ref(x)
    whole = x.dtype.startswith(("int", "uint", "bool"))
    if whole and op.outputs[0].dtype == "float32":
        code = as_type(code, x.dtype, "float32")
    frame.give(op.outputs[0], text(f"{name}({{}})", code), frame.order_of(x), "y")


def rounded(frame: FrameWriter, op: Op) -> None:
    x, decimals = op.args[0], op.named.get("decimals", 0)
    code = text("nn.round_to({}, {})", frame.ref(x), decimals)
    code = code if decimals else text("mx.round({})", frame.ref(x))
    frame.give(op.outputs[0], code, frame.order_of(x), "y")


def sign(frame: FrameWriter, op: Op) -> None:
    x = op.args[0]
    name = "nn.direction" if x.dtype.startswith("complex") else "mx.sign"
    frame.give(op.outputs[0], text(f"{name}({{}})", frame.ref(x)), frame.order_of(x), "y")


def inverted(frame: FrameWriter, op: Op) -> None:
    x = op.args[0]
    name = "mx.logical_not" if x.dtype == "bool" else "mx.bitwise_invert"
    frame.give(op.outputs[0], text(f"{name}({{}})", frame.ref(x)), frame.order_of(x), "y")


def negative(frame: FrameWriter, op: Op) -> None:
    """Its sign; a zero has none here."""
    x = op.args[0]
    code = text("{!} < 0", frame.ref(x), atom=False)
    frame.give(op.outputs[0], code, frame.order_of(x), "y")


def neg(frame: FrameWriter, op: Op) -> None:
    x = op.args[0]
    frame.give(op.outputs[0], text("-{!}", frame.ref(x), atom=False), frame.order_of(x), "y")


def with_numbers(frame: FrameWriter, op: Op) -> None:
    name, defaults = _WITH_NUMBERS[op.kind.partition(".")[0]]
    x, *given = op.args
    given += [op.named.get(key, default) for key, default in defaults[len(given) :]]
    code = text(f"{name}({{}})", frame.ref(x))
    if given != [default for _, default in defaults]:
        numbers = [Number(one, key) for one, (key, _) in zip(given, defaults, strict=False)]
        places = ", ".join(["{}"] * len(numbers))
        code = text(f"{name}({{}}, {places})", frame.ref(x), *numbers)
    frame.give(op.outputs[0], code, frame.order_of(x), "y")


def random_relu(frame: FrameWriter, op: Op) -> None:
    """Without training its slope is the middle of both ends."""
    x, lower, upper = (*op.args, *(0.125, 1 / 3)[len(op.args) - 1 :])[:3]
    code = text("nn.leaky_relu({}, {})", frame.ref(x), (lower + upper) / 2)
    frame.give(op.outputs[0], code, frame.order_of(x), "y")


def gelu(frame: FrameWriter, op: Op) -> None:
    x = op.args[0]
    name = "nn.gelu_tanh" if op.named.get("approximate") == "tanh" else "nn.gelu"
    frame.give(op.outputs[0], text(f"{name}({{}})", frame.ref(x)), frame.order_of(x), "y")


def prelu(frame: FrameWriter, op: Op) -> None:
    x, weight = op.args
    order = frame.order_of(x)
    slope = frame.ref(weight)
    if weight.shapes[0] != (1,) and x.rank > 1:
        behind = len(order) - 1 - order.index(1)
        slope = text("{!}[:" + ", None" * behind + "]", slope) if behind else slope
    frame.give(op.outputs[0], text("nn.prelu({}, {})", frame.ref(x), slope), order, "y")


def glu(frame: FrameWriter, op: Op) -> None:
    x, dim = op.args[0], op.args[1] if len(op.args) > 1 else -1
    axis, order = frame.axis(x, dim), frame.order_of(x)
    code = text("nn.glu({})", frame.ref(x))
    if axis != x.rank - 1:
        code = text("nn.glu({}, axis={})", frame.ref(x), str(axis))
    frame.give(op.outputs[0], code, order, "y")


# Types --------------------------------------------------------------------------------------------

MLX_TYPES = {
    "bool": "bool_",
    **{"float64": "float32", "double": "float32", "complex128": "complex64"},
}


def cast(frame: FrameWriter, op: Op) -> None:
    """To another type, or nothing where it is that already."""
    x, made = op.args[0], op.outputs[0]
    frame.give(made, as_type(frame.ref(x), x.dtype, made.dtype), frame.order_of(x), "y")


def type_name(dtype: str) -> str:
    return MLX_TYPES.get(dtype, dtype)


def as_type(code: Text, there: str, wanted: str) -> Text:
    if type_name(there) == type_name(wanted):
        return code
    return text(f"{{!}}.astype(mx.{type_name(wanted)})", code)


def same(frame: FrameWriter, op: Op) -> None:
    frame.give(op.outputs[0], frame.ref(op.args[0]), frame.order_of(op.args[0]), "y")


FORMS: dict[str, Form] = {
    **dict.fromkeys(_UNARY, unary),
    **dict.fromkeys(_WITH_NUMBERS, with_numbers),
    **dict.fromkeys(("to", "_to_copy", "type_as"), cast),
    **dict.fromkeys(("resolve_conj", "resolve_neg"), same),
    **dict.fromkeys(("round", "special_round"), rounded),
    **dict.fromkeys(("neg", "negative"), neg),
    **dict.fromkeys(("rrelu",), random_relu),
    "sgn": sign,
    "bitwise_not": inverted,
    "signbit": negative,
    "gelu": gelu,
    "prelu": prelu,
    "glu": glu,
}
