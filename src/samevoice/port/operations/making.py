"""Tensors that are made of nothing but sizes, and sounds as spectra."""

from __future__ import annotations

from typing import Any

import torch

from samevoice.port.frames import Form, FrameWriter
from samevoice.port.graph import Op, Size
from samevoice.port.operations.elementwise import type_name
from samevoice.port.operations.shapes import _tuple, shape_of
from samevoice.port.orders import plain
from samevoice.port.text import Text, joined, text


def filled(frame: FrameWriter, op: Op) -> None:
    """zeros, ones and full, by a shape or like another tensor."""
    base = op.kind.partition(".")[0]
    made = op.outputs[0]
    name = base.removeprefix("new_").removesuffix("_like")
    of = (op.args[0],) if hasattr(op.args[0], "rank") else ()
    shape = _tuple(shape_of(frame, made.dims, of)) if made.rank else text("()")
    kind = "" if made.dtype == "float32" else f", dtype=mx.{type_name(made.dtype)}"
    if name.startswith("full"):
        value = op.args[1] if not base.startswith("new_") else op.args[2]
        given: Text = frame.ref(value) if hasattr(value, "rank") else frame.size(value)
        kind = kind or ", dtype=mx.float32"
        code = text(f"mx.full({{}}, {{}}{kind})", shape, given)
    else:
        name = "zeros" if name == "empty" else name
        code = text(f"mx.{name}({{}}{kind})", shape)
    frame.give(made, code, plain(made.rank), name)


def arange(frame: FrameWriter, op: Op) -> None:
    made = op.outputs[0]
    given = [frame.size(one) for one in op.args]
    kind = type_name(made.dtype)
    frame.give(
        made, text(f"mx.arange({{}}, dtype=mx.{kind})", joined(given)), plain(1), "positions"
    )


def linspace(frame: FrameWriter, op: Op) -> None:
    given = [frame.size(one) for one in op.args[:3]]
    frame.give(op.outputs[0], text("mx.linspace({})", joined(given)), plain(1), "steps")


def eye(frame: FrameWriter, op: Op) -> None:
    frame.give(
        op.outputs[0],
        text("mx.eye({})", joined([frame.size(one) for one in op.args])),
        plain(2),
        "eye",
    )


def scalar(frame: FrameWriter, op: Op) -> None:
    frame.give(
        op.outputs[0],
        text(f"mx.array({{}}, dtype=mx.{type_name(op.outputs[0].dtype)})", frame.size(op.args[0])),
        (),
        "number",
    )


def stft(frame: FrameWriter, op: Op) -> Any:
    x, size = op.args[:2]
    names: tuple[str, ...] = (
        *("hop_length", "win_length", "window", "center", "pad_mode", "normalized", "onesided"),
        "return_complex",
    )
    if op.kind == "stft":
        names = (
            "hop_length",
            "win_length",
            "window",
            "normalized",
            "onesided",
            "return_complex",
            "align_to_window",
        )
    given = {**dict(zip(names, op.args[2:], strict=False)), **op.named}
    if given.get("center") or x.rank > 2:
        return False
    hop, length = given.get("hop_length") or size // 4, given.get("win_length") or size
    window = given.get("window")
    parts = [frame.ref(x, plain(x.rank)), text("{}", size), text("{}", hop)]
    if window is not None:
        parts.append(text("window={}", frame.ref(window)))
    if length != size:
        parts.append(text("length={}", length))
    if given.get("normalized"):
        parts.append(text("normalized=True"))
    if given.get("onesided") is False:
        parts.append(text("onesided=False"))
    rank = op.outputs[0].rank if given.get("return_complex", True) else op.outputs[0].rank - 1
    order = (*range(rank - 2), rank - 1, rank - 2)  # frames first, as MLX transforms the last axis
    code = text("nn.stft({})", joined(parts))
    if not given.get("return_complex", True):
        code = text("nn.as_pairs({})", code)
        order = (*order, rank)
    frame.give(op.outputs[0], code, order, "spectrum")
    return None


def as_pairs(frame: FrameWriter, op: Op) -> None:
    x = op.args[0]
    base = op.kind.partition(".")[0]
    order = frame.order_of(x)
    if base == "view_as_real":
        frame.give(op.outputs[0], text("nn.as_pairs({})", frame.ref(x)), (*order, x.rank), "pairs")
    else:
        wanted = (*(d for d in order if d != x.rank - 1), x.rank - 1)
        frame.give(
            op.outputs[0], text("nn.as_complex({})", frame.ref(x, wanted)), wanted[:-1], "spectrum"
        )


_WINDOWS = ("hann", "hamming", "blackman", "bartlett", "kaiser")
_NAMES = ("rfft", "irfft", "fft", "ifft")
_NORMS = ("backward", "ortho", "forward")


def transform(frame: FrameWriter, op: Op) -> None:
    """A Fourier transform of one axis."""
    x = op.args[0]
    n, dim, norm = (*op.args[1:], *(None, -1, None)[len(op.args) - 1 :])[:3]
    n, dim = op.named.get("n", n), op.named.get("dim", dim)
    parts = [frame.ref(x)]
    if n is not None:
        parts.append(text("n={}", frame.size(n, (x,))))
    axis = frame.axis(x, dim)
    if axis != x.rank - 1:
        parts.append(text("axis={}", str(axis)))
    _give_spectrum(frame, op, parts, op.named.get("norm", norm))


def transform_of_several(frame: FrameWriter, op: Op) -> None:
    """One of several axes, the last of which is of one side where it is."""
    base = op.kind.partition(".")[0]
    x = op.args[0]
    usual = (-2, -1) if base.endswith("2") else None
    s, dims, norm = (*op.args[1:], *(None, usual, None)[len(op.args) - 1 :])[:3]
    s, dims = op.named.get("s", s), op.named.get("dim", dims)
    count = len(s) if s is not None else x.rank
    dims = tuple(range(-count, 0)) if dims is None else dims
    order = frame.order_of(x)
    axes = ", ".join(str(order.index(d % x.rank)) for d in dims)
    parts = [frame.ref(x)]
    if s is not None:
        parts.append(text("s={}", _tuple(shape_of(frame, tuple(s), (x,)))))
    parts.append(text("axes={}", f"({axes},)"))
    _give_spectrum(frame, op, parts, op.named.get("norm", norm))


def plain_transform(frame: FrameWriter, op: Op) -> None:
    """The same as torch has them below: from real to complex, between complex, back to real."""
    x, dims, norm, more = op.args
    kind = op.kind.partition(".")[0]
    back = kind == "_fft_c2r" or (kind == "_fft_c2c" and not more)
    half = "r" if kind != "_fft_c2c" and more else ""
    name = f"{'i' if back else ''}{half}fft"
    sizes = (*(x.dims[d] for d in dims[:-1]), more) if kind == "_fft_c2r" else None
    norm = _NORMS[2 - norm if back else norm]
    if len(dims) == 1:
        one = Op(f"fft_{name}", (x, sizes and sizes[0], dims[0], norm), {}, op.outputs, op.lines)
        transform(frame, one)
    else:
        several = Op(f"fft_{name}n", (x, sizes, dims, norm), {}, op.outputs, op.lines)
        transform_of_several(frame, several)


def _give_spectrum(frame: FrameWriter, op: Op, parts: list[Text], norm: Any) -> None:
    name = op.kind.partition(".")[0].removeprefix("fft_")
    name = f"{name[:-1]}n" if name.endswith("2") else name
    if norm not in (None, "backward"):
        parts.append(text("norm={}", f'"{norm}"'))
    order = frame.order_of(op.args[0])
    frame.give(op.outputs[0], text(f"mx.fft.{name}({{}})", joined(parts)), order, "spectrum")


def shifted(frame: FrameWriter, op: Op) -> None:
    """fftshift and back."""
    x = op.args[0]
    dims = op.args[1] if len(op.args) > 1 else op.named.get("dim")
    dims = range(x.rank) if dims is None else [dims] if isinstance(dims, int) else dims
    axes = ", ".join(str(frame.axis(x, d)) for d in dims)
    name = op.kind.partition(".")[0].removeprefix("fft_")
    code = text(f"mx.fft.{name}({{}}, axes=({axes},))", frame.ref(x))
    frame.give(op.outputs[0], code, frame.order_of(x), "y")


def inverse_stft(frame: FrameWriter, op: Op) -> Any:
    x, size = op.args[:2]
    names = ("hop_length", "win_length", "window", "center", "normalized", "onesided", "length")
    given = {**dict(zip(names, op.args[2:], strict=False)), **op.named}
    window = given.get("window")
    if window is None or given.get("onesided") is False or given.get("return_complex"):
        return False
    order = (*range(x.rank - 2), x.rank - 1, x.rank - 2)
    hop = given.get("hop_length") or size // 4
    parts = [frame.ref(x, order), text("{}", size), text("{}", hop), frame.ref(window)]
    if given.get("center") is False:
        parts.append(text("center=False"))
    if given.get("length") is not None:
        parts.append(text("length={}", frame.size(given["length"])))
    if given.get("normalized"):
        parts.append(text("normalized=True"))
    made = op.outputs[0]
    frame.give(made, text("nn.istft({})", joined(parts)), plain(made.rank), "y")
    return None


def constant(frame: FrameWriter, op: Op) -> Any:
    """What takes nothing but numbers is computed once, by torch, and is a constant of the code."""
    base, _, overload = op.kind.partition(".")
    if any(isinstance(one, Size) for one in (*op.args, *op.named.values())):
        return False
    function = getattr(getattr(torch.ops.aten, base), overload or "default")
    made = function(*op.args)
    op.outputs[0].data = made.numpy()
    return None


FORMS: dict[str, Form] = {
    **dict.fromkeys(
        (
            "zeros",
            "ones",
            "full",
            "empty",
            "zeros_like",
            "ones_like",
            "full_like",
            "empty_like",
            "new_zeros",
            "new_ones",
            "new_full",
            "new_empty",
        ),
        filled,
    ),
    **{f"fft_{name}": transform for name in _NAMES},
    **{f"fft_{name}{n}": transform_of_several for name in _NAMES for n in "2n"},
    **dict.fromkeys(("_fft_r2c", "_fft_c2c", "_fft_c2r"), plain_transform),
    **dict.fromkeys(("fft_fftshift", "fft_ifftshift"), shifted),
    **dict.fromkeys(("fft_fftfreq", "fft_rfftfreq", "logspace"), constant),
    **{f"{name}_window": constant for name in _WINDOWS},
    **dict.fromkeys(("view_as_real", "view_as_complex"), as_pairs),
    "arange": arange,
    "linspace": linspace,
    "eye": eye,
    "scalar_tensor": scalar,
    "stft": stft,
    "istft": inverse_stft,
}
