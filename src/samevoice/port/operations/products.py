"""Products of matrices, attention, and layers whose weights are computed or shared."""

from __future__ import annotations

from typing import Any

from samevoice.port.frames import Form, FrameWriter
from samevoice.port.graph import Op, PortError
from samevoice.port.orders import Order, last, last_stays, one_or_all, plain
from samevoice.port.text import Number, Text, joined, text

_KERNEL = {3: (0, 2, 1), 4: (0, 2, 3, 1)}  # (O, I, K) -> (O, K, I)
_TURNED = {3: (1, 2, 0), 4: (1, 2, 3, 0)}  # of transposed convolutions, (I, O, K) -> (O, K, I)


def linear(frame: FrameWriter, op: Op) -> None:
    x, weight, *bias = op.args
    order = last_stays(frame.order_of(x))
    parts = [frame.ref(x, order), frame.ref(weight, plain(2))]
    parts += [frame.ref(one) for one in bias if one is not None]
    frame.give(op.outputs[0], text("nn.linear({})", joined(parts)), order, "y")


def matmul(frame: FrameWriter, op: Op) -> None:
    """The last two axes stand last; those before them as they are, where both agree."""
    one, two = op.args[:2]
    made = op.outputs[0]
    if one.rank == two.rank and one.rank > 2:
        order = _batched(frame.order_of(one))
        parts = [frame.ref(each, order) for each in (one, two)]
    else:
        order = plain(made.rank)
        parts = [frame.ref(each, plain(each.rank)) for each in (one, two)]
    frame.give(made, text("{!} @ {!}", *parts, atom=False), order, "y")


def _batched(order: Order) -> Order:
    rank = len(order)
    return (*(d for d in order if d < rank - 2), rank - 2, rank - 1)


def outer(frame: FrameWriter, op: Op) -> None:
    one, two = (frame.ref(each) for each in op.args[:2])
    frame.give(op.outputs[0], text("mx.outer({}, {})", one, two), plain(2), "y")


def inner(frame: FrameWriter, op: Op) -> None:
    one, two = (frame.ref(each, plain(each.rank)) for each in op.args[:2])
    frame.give(op.outputs[0], text("mx.inner({}, {})", one, two), plain(op.outputs[0].rank), "y")


def tensordot(frame: FrameWriter, op: Op) -> None:
    one, two, axes, others = op.args[:4]
    parts = (frame.ref(one, plain(one.rank)), frame.ref(two, plain(two.rank)))
    code = text("mx.tensordot({}, {}, ({}, {}))", *parts, str(list(axes)), str(list(others)))
    frame.give(op.outputs[0], code, plain(op.outputs[0].rank), "y")


def bilinear(frame: FrameWriter, op: Op) -> None:
    parts = joined([frame.ref(one, plain(one.rank)) for one in op.args if one is not None])
    made = op.outputs[0]
    frame.give(made, text("nn.bilinear({})", parts), plain(made.rank), "y")


def rms_norm(frame: FrameWriter, op: Op) -> None:
    x, shape, *rest = op.args
    weight, eps = (*rest, *(None, None)[len(rest) :])[:2]
    weight, eps = op.named.get("weight", weight), op.named.get("eps", eps)
    count = len(shape)
    first = (d for d in frame.order_of(x) if d < x.rank - count)
    order = (*first, *range(x.rank - count, x.rank))
    parts = [frame.ref(x, order)]
    parts += [frame.ref(weight, plain(weight.rank))] if weight is not None else []
    parts += [text("eps={}", eps)] if eps is not None else []
    parts += [text("axes={}", str(count))] if count != 1 else []
    frame.give(op.outputs[0], text("nn.rms_norm({})", joined(parts)), order, "y")


def added(frame: FrameWriter, op: Op) -> None:
    """addmm and baddbmm."""
    start, one, two = op.args[:3]
    beta, alpha = op.named.get("beta", 1), op.named.get("alpha", 1)
    parts = [frame.ref(each, plain(each.rank)) for each in (start, one, two)]
    more = "" if alpha == beta == 1 else f", {alpha}, {beta}"
    frame.give(
        op.outputs[0],
        text(f"mx.addmm({{}}, {{}}, {{}}{more})", *parts),
        plain(op.outputs[0].rank),
        "y",
    )


def einsum(frame: FrameWriter, op: Op) -> None:
    """The letters are put in the order that the tensors have."""
    formula, tensors = op.args[0].replace(" ", ""), op.args[1]
    left, _, right = formula.partition("->")
    if "." in left or not right:
        parts = [frame.ref(one, plain(one.rank)) for one in tensors]
        code = text('mx.einsum("' + formula + '", {})', joined(parts))
        frame.give(op.outputs[0], code, plain(op.outputs[0].rank), "y")
        return
    letters = []
    for names, one in zip(left.split(","), tensors, strict=True):
        letters.append(
            "".join(names[dim] for dim in frame.order_of(one)) if not one.weight else names
        )
    parts = [frame.ref(one, plain(one.rank) if one.weight else None) for one in tensors]
    code = text('mx.einsum("' + ",".join(letters) + "->" + right + '", {})', joined(parts))
    frame.give(op.outputs[0], code, plain(op.outputs[0].rank), "y")


def attention(frame: FrameWriter, op: Op) -> Any:
    q, k, v, *rest = op.args
    mask = rest[0] if rest else op.named.get("attn_mask")
    causal = rest[2] if len(rest) > 2 else op.named.get("is_causal", False)
    parts = [frame.ref(one, plain(one.rank)) for one in (q, k, v)]
    if op.named.get("enable_gqa"):  # several heads of queries share one of keys
        times = q.shapes[0][-3] // k.shapes[0][-3]
        shared = (text(f"mx.repeat({{}}, {times}, axis={q.rank - 3})", one) for one in parts[1:])
        parts = [parts[0], *shared]
    behind: list[Text] = []
    if mask is not None:
        behind.append(text("mask={}", frame.ref(mask, plain(mask.rank))))
    if causal:
        behind.append(text("causal=True"))
    if (scale := op.named.get("scale")) is not None:
        behind.append(text("scale={}", scale))
    frame.give(
        op.outputs[0], text("nn.attention({})", joined([*parts, *behind])), plain(q.rank), "y"
    )
    return None


# Layers as functions ------------------------------------------------------------------------------


def convolution(frame: FrameWriter, op: Op) -> Any:
    base = op.kind.partition(".")[0]
    x, weight, *rest = op.args
    dims = x.rank - 2
    if dims > 2:
        return False
    turned = base.startswith("conv_transpose")
    names = (
        "bias",
        "stride",
        "padding",
        *(("output_padding", "groups", "dilation") if turned else ("dilation", "groups")),
    )
    given = {**dict(zip(names, rest, strict=False)), **op.named}
    parts = [
        frame.ref(x, last(x.rank)),
        frame.ref(weight, (_TURNED if turned else _KERNEL)[x.rank]),
    ]
    if given.get("bias") is not None:
        parts.append(frame.ref(given["bias"]))
    plain_values = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "output_padding": 0}
    for name, usual in plain_values.items():
        value = one_or_all(given.get(name, usual), dims)
        if value == "same" or value == "valid":
            value = 0 if value == "valid" else "same"
        if value != usual:
            parts.append(text(f"{name}={{}}", Number(value, name)))
    frame.give(op.outputs[0], text(f"nn.{base}({{}})", joined(parts)), last(x.rank), "y")
    return None


def plain_convolution(frame: FrameWriter, op: Op) -> Any:
    """Of any kind, as torch has it below."""
    x, weight, bias, stride, padding, dilation, turned, more, groups = op.args
    rest = (more, groups, dilation) if turned else (dilation, groups)
    kind = f"conv{'_transpose' if turned else ''}{x.rank - 2}d"
    args = (x, weight, bias, stride, padding, *rest)
    return convolution(frame, Op(kind, args, {}, op.outputs, op.lines))


def batch_norm(frame: FrameWriter, op: Op) -> None:
    x, weight, bias, mean, var = op.args[:5]
    eps = op.args[7]
    parts = [
        frame.ref(x, last(x.rank)),
        *(text("None") if one is None else frame.ref(one) for one in (mean, var, weight, bias)),
    ]
    frame.give(
        op.outputs[0], text("nn.batch_norm({}, eps={})", joined(parts), eps), last(x.rank), "y"
    )


def layer_norm(frame: FrameWriter, op: Op) -> None:
    x, shape, *rest = op.args
    weight, bias, eps = (*rest, *(None, None, 1e-5)[len(rest) :])[:3]
    eps = op.named.get("eps", eps)
    count = len(shape)
    order = (*(d for d in frame.order_of(x) if d < x.rank - count), *range(x.rank - count, x.rank))
    parts = [frame.ref(x, order)]
    parts += [frame.ref(one, plain(one.rank)) for one in (weight, bias) if one is not None]
    behind = f", axes={count}" if count != 1 else ""
    frame.give(
        op.outputs[0], text("nn.layer_norm({}{}, eps={})", joined(parts), behind, eps), order, "y"
    )


def group_norm(frame: FrameWriter, op: Op) -> None:
    x, groups, *rest = op.args
    weight, bias, eps = (*rest, *(None, None, 1e-5)[len(rest) :])[:3]
    parts = [
        frame.ref(x, last(x.rank)),
        text("{}", groups),
        *(frame.ref(one) for one in (weight, bias) if one is not None),
    ]
    frame.give(
        op.outputs[0], text("nn.group_norm({}, eps={})", joined(parts), eps), last(x.rank), "y"
    )


def instance_norm(frame: FrameWriter, op: Op) -> None:
    x, weight, bias, mean, var, by_own = op.args[:6]
    given = [None if one is None else frame.ref(one) for one in (mean, var, weight, bias)]
    parts = [frame.ref(x, last(x.rank))]
    if by_own:
        parts += [one for one in given[2:] if one is not None]
    else:  # by what it learnt, as a batch norm
        parts += [text("None") if one is None else one for one in given]
    name = "nn.instance_norm" if by_own else "nn.batch_norm"
    code = text(f"{name}({{}}, eps={{}})", joined(parts), op.args[7])
    frame.give(op.outputs[0], code, last(x.rank), "y")


def embedding(frame: FrameWriter, op: Op) -> None:
    weight, indices = op.args[:2]
    order = (*frame.order_of(indices), indices.rank)
    frame.give(
        op.outputs[0], text("{!}[{}]", frame.ref(weight, plain(2)), frame.ref(indices)), order, "y"
    )


def one_hot(frame: FrameWriter, op: Op) -> None:
    x, classes = op.args
    frame.give(
        op.outputs[0],
        text("nn.one_hot({}, {})", frame.ref(x), classes),
        (*frame.order_of(x), x.rank),
        "y",
    )


def recurrent(frame: FrameWriter, op: Op) -> Any:
    """What torch's own layers have no counterpart of."""
    base = op.kind.partition(".")[0]
    raise PortError(
        f"{frame.inside or frame.call.path}: no form of {base} without bias or projected"
    )


# Pooling ------------------------------------------------------------------------------------------


def pool(frame: FrameWriter, op: Op) -> Any:
    base = op.kind.partition(".")[0]
    x, kernel, *rest = op.args
    dims = int(base[-2])
    if dims > 2 or x.rank != dims + 2:
        return False
    is_max = base.startswith("max")
    names = (
        "stride",
        "padding",
        *(
            ("dilation", "ceil_mode")
            if is_max
            else ("ceil_mode", "count_include_pad", "divisor_override")
        ),
    )
    given = {**dict(zip(names, rest, strict=False)), **op.named}
    size = one_or_all(kernel, dims)
    stride = one_or_all(given.get("stride") or kernel, dims)
    parts = [frame.ref(x, last(x.rank)), text("{}", Number(size, "kernel_size"))]
    if stride != size:
        parts.append(text("stride={}", Number(stride, "stride")))
    for name, usual in (
        ("padding", 0),
        ("dilation", 1),
        ("ceil_mode", False),
        ("count_include_pad", True),
        ("divisor_override", None),
    ):
        value = one_or_all(given.get(name, usual), dims)
        if value != usual:
            parts.append(text(f"{name}={{}}", Number(value, name)))
    frame.give(op.outputs[0], text(f"nn.{base}({{}})", joined(parts)), last(x.rank), "y")
    return None


def adaptive(frame: FrameWriter, op: Op) -> Any:
    base = op.kind.partition(".")[0]
    x, size = op.args[:2]
    dims = int(base[-2])
    if dims > 2 or x.rank != dims + 2:
        return False
    sizes = (size,) * dims if isinstance(size, int) else size
    order = last(x.rank)
    if set(sizes) == {1}:
        axes = "1" if dims == 1 else "(1, 2)"
        name = "nn.mean" if "avg" in base else "mx.max"
        code = text(f"{name}({{}}, axis={axes}, keepdims=True)", frame.ref(x, order))
    else:
        wanted = [None if one is None else frame.size(one, (x,)) for one in sizes]
        parts = [text("None") if one is None else one for one in wanted]
        code = text(
            f"nn.{base}({{}}, {{}})",
            frame.ref(x, order),
            joined(parts) if dims == 1 else text("({})", joined(parts)),
        )
    frame.give(op.outputs[0], code, order, "y")
    return None


def upsample(frame: FrameWriter, op: Op) -> Any:
    """interpolate: to a size, along the axes behind the channels."""
    base = op.kind.partition(".")[0]
    x, made = op.args[0], op.outputs[0]
    mode = base.removeprefix("upsample_").rstrip("d").rstrip("0123456789")
    mode = {
        "nearest": "nearest",
        "nearest_exact": "nearest-exact",
        "_upsample_nearest_exact": "nearest-exact",
        "linear": "linear",
        "bilinear": "linear",
    }.get(mode.lstrip("_"), "")
    if base.startswith("_upsample_nearest_exact"):
        mode = "nearest-exact"
    if not mode or x.rank > 4:
        return False
    corners = mode == "linear" and bool(
        op.args[2] if len(op.args) > 2 else op.named.get("align_corners", False)
    )
    scales = (
        op.args[-1] if not mode.startswith("linear") else (op.args[3] if len(op.args) > 3 else None)
    )
    order = last(x.rank)
    behind = [text('mode="{}"', mode)]
    if corners:
        behind.append(text("align_corners=True"))
    by_scale = isinstance(scales, tuple) and all(isinstance(one, float) for one in scales)
    if by_scale:
        behind.append(text("scales={}", scales))
    sizes = text("None")
    if not by_scale or op.args[1] is not None:
        sizes = text("({},)", joined([frame.size(one, (x,)) for one in made.dims[2:]]))
    code = text("nn.interpolate({}, {}, {})", frame.ref(x, order), sizes, joined(behind))
    frame.give(made, code, order, "y")
    return None


def computed_weight(frame: FrameWriter, op: Op) -> None:
    """A weight from its directions and norms, where the layer is not known as a whole."""
    v, g = op.args[:2]
    dim = op.args[2] if len(op.args) > 2 else 0
    code = text(
        "nn.weight_norm({}, {}, {})", frame.ref(v, plain(v.rank)), frame.ref(g, plain(g.rank)), dim
    )
    frame.give(op.outputs[0], code, plain(v.rank), "weight")


FORMS: dict[str, Form] = {
    **dict.fromkeys(("matmul", "bmm", "mm", "mv", "dot"), matmul),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), added),
    **dict.fromkeys(("conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d"), convolution),
    "convolution": plain_convolution,
    **dict.fromkeys(
        (
            "max_pool1d",
            "max_pool2d",
            "avg_pool1d",
            "avg_pool2d",
        ),
        pool,
    ),
    **dict.fromkeys(
        (
            "adaptive_avg_pool1d",
            "adaptive_avg_pool2d",
            "adaptive_max_pool1d",
            "adaptive_max_pool2d",
        ),
        adaptive,
    ),
    **dict.fromkeys(
        (
            "upsample_nearest1d",
            "upsample_nearest2d",
            "upsample_linear1d",
            "upsample_bilinear2d",
            "_upsample_nearest_exact1d",
            "_upsample_nearest_exact2d",
        ),
        upsample,
    ),
    **dict.fromkeys(("_weight_norm", "_weight_norm_interface"), computed_weight),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), recurrent),
    "linear": linear,
    "outer": outer,
    **dict.fromkeys(("inner", "vdot"), inner),
    "tensordot": tensordot,
    "bilinear": bilinear,
    "rms_norm": rms_norm,
    "einsum": einsum,
    "scaled_dot_product_attention": attention,
    "batch_norm": batch_norm,
    **dict.fromkeys(("layer_norm", "native_layer_norm"), layer_norm),
    "group_norm": group_norm,
    "instance_norm": instance_norm,
    "embedding": embedding,
    "one_hot": one_hot,
}
