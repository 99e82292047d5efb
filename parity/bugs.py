"""The mistakes that ports make, by kind of layer: each one small change of a layer as data.

Put into a right port they are the gallery (spoiling.py). Held against a wrong port they name the
cause (causes.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ml_dtypes import bfloat16

from samevoice.parity.metrics import Array
from samevoice.parity.textbook import FUNCTIONS, NOTHING, Layer

Change = Callable[[Layer], Layer | None]  # None where there is nothing to get wrong

CONV, NORM = ("conv1d", "conv2d"), ("batch norm", "norm")
POOLS = ("pool", "attentive pool")
WITH_WEIGHTS = (*CONV, "linear", "lstm", "gru")


@dataclass(frozen=True)
class Bug:
    """One mistake that a layer of these kinds can have, and what users see of it."""

    name: str
    kinds: tuple[str, ...]
    change: Change
    effect: str
    # Whether there are weights or inputs that leave it without effect.
    may_idle: bool = False


@dataclass(frozen=True)
class Case:
    """A bug in one layer of a network."""

    bug: Bug
    layer: Layer
    wrong: Layer

    @property
    def name(self) -> str:
        return f"{self.layer.path}: {self.bug.name}" if self.layer.path else self.bug.name


# Changes ------------------------------------------------------------------------------------------


def tensors(change: Callable[[Array], Array | None], *names: str) -> Change:
    """Each of these tensors changed, where the layer has all of them; without names, every one."""

    def changed(layer: Layer) -> Layer | None:
        chosen = (name for name in names or layer.tensors if name in layer.tensors)
        made = {name: change(layer.tensors[name]) for name in chosen}
        if len(made) < len(names) or any(one is None for one in made.values()):
            return None
        return layer.with_tensors(**{name: x for name, x in made.items() if x is not None})

    return changed


def setting(**values: Any) -> Change:
    return lambda layer: layer.having(**values)


def _reshaped(w: Array) -> Array:
    """The torch weight, given MLX's shape without moving an axis."""
    return np.moveaxis(w, -1, 1).reshape(w.shape)


def _lying(w: Array) -> Array | None:
    square = w.ndim == 4 and w.shape[1] == w.shape[2] > 1
    return w.swapaxes(1, 2) if square else None


def _turned_round(w: Array) -> Array | None:
    axes = tuple(range(1, w.ndim - 1))
    return np.flip(w, axes) if math.prod(w.shape[a] for a in axes) > 1 else None


def _other_side(layer: Layer) -> Layer | None:
    padding = layer.settings.get("padding", ())
    moved = tuple((a + b, 0) for a, b in padding)
    return layer.having(padding=moved) if any(map(sum, padding)) else None


def _zeros_at_the_edges(layer: Layer) -> Layer | None:
    mirrored = layer.settings.get("pads") == "reflect" and any(map(sum, layer.settings["padding"]))
    return layer.having(pads="zeros") if mirrored else None


def _dense(layer: Layer) -> Layer | None:
    """Without dilation, padded so that the shape stays."""
    dilation = layer.settings.get("dilation", ())
    if not any(d > 1 for d in dilation):
        return None
    kernel = layer.tensors["weight"].shape[1:-1]
    less = [(d - 1) * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    padding = layer.settings.get("padding", [(0, 0)] * len(less))
    moved = [(a - n // 2, b - (n - n // 2)) for (a, b), n in zip(padding, less, strict=True)]
    if any(min(pair) < 0 for pair in moved):
        return None
    return layer.having(dilation=(1,) * len(less), padding=tuple(moved))


def _transposed(w: Array) -> Array | None:
    return w.T if w.shape[0] == w.shape[1] else None


def _initial(layer: Layer) -> Layer:
    """Its tensors as a new layer has them."""
    rng = np.random.default_rng(0)
    made = {}
    for name, x in sorted(layer.tensors.items()):
        bound = 1 / math.sqrt(max(1, math.prod(x.shape[1:]) if x.ndim > 1 else x.shape[0]))
        made[name] = rng.uniform(-bound, bound, x.shape).astype(x.dtype)
    return layer.with_tensors(**made)


def _rounded(dtype: type) -> Change:
    return tensors(lambda x: x.astype(dtype).astype(x.dtype))


def _frequency_major(layer: Layer) -> Layer | None:
    image = layer.settings.get("image", layer.settings.get("rows") != 1)
    return layer.having(flatten="frequency") if image else None


def _where(name: str, **values: Any) -> Change:
    """Where that setting is on."""
    return lambda layer: layer.having(**values) if layer.settings[name] else None


def _other_ends(layer: Layer) -> Layer | None:
    other = "reflect" if layer.settings["pad_mode"] == "constant" else "constant"
    return layer.having(pad_mode=other) if layer.settings["reach"] else None


def _natural(layer: Layer) -> Layer | None:
    return layer.having(log="natural") if layer.settings["log"] == "decibels" else None


def _not_orthonormal(cosines: Array) -> Array:
    """As scipy and torchaudio give them without a norm."""
    scale = np.full(cosines.shape[1], math.sqrt(2 * len(cosines)))
    scale[0] *= math.sqrt(2)
    found: Array = (cosines * scale).astype(cosines.dtype)
    return found


def _with_masks(**values: Any) -> Change:
    """Where the pooling takes masks at all."""
    return lambda layer: layer.having(**values) if layer.settings.get("masked", True) else None


def _without_floor(layer: Layer) -> Layer | None:
    """Nobody could tell where the floor lies below what float32 rounds off."""
    return layer.having(least=0.0) if layer.settings["floor"] > 1e-9 else None


def _other_context(layer: Layer) -> Layer | None:
    other = {"biased": "unbiased", "unbiased": "biased"}.get(layer.settings["context"])
    return layer.having(context=other) if other else None


def _kaldi_scale(wrong: float) -> Change:
    """Kaldi counts samples as 16-bit integers; a bug only where that counts, or must not."""
    return lambda layer: layer.having(scale=wrong) if layer.settings["scale"] != wrong else None


def _unscaled(layer: Layer) -> Layer | None:
    if "weight" not in layer.tensors:
        return None
    ones, zeros = np.ones_like(layer.tensors["weight"]), np.zeros_like(layer.tensors["weight"])
    return layer.with_tensors(weight=ones, bias=zeros)


def _fresh(layer: Layer) -> Layer:
    mean = layer.tensors["running_mean"]
    return layer.with_tensors(running_mean=np.zeros_like(mean), running_var=np.ones_like(mean))


def _exchanged(one: str, other: str) -> Change:
    def changed(layer: Layer) -> Layer | None:
        held = layer.tensors
        pairs = {a: other + a.removeprefix(one) for a in held if a.startswith(one)}
        if not pairs or any(
            b not in held or held[a].shape != held[b].shape for a, b in pairs.items()
        ):
            return None
        both = {**pairs, **{b: a for a, b in pairs.items()}}
        return layer.with_tensors(**{a: held[b] for a, b in both.items()})

    return changed


def gates(*order: int) -> Change:
    """Blocks of rows in another order, in every tensor that has them."""

    def changed(layer: Layer) -> Layer:
        blocks = (np.split(x, len(order)) for x in layer.tensors.values())
        moved = (np.concatenate([each[k] for k in order]) for each in blocks)
        return layer.with_tensors(**dict(zip(layer.tensors, moved, strict=True)))

    return changed


def _gates_of(*order: int) -> Bug:
    letters = "ifgo"
    return Bug(
        f"gates {', '.join(letters[k] for k in order)} for i, f, g, o",
        ("lstm",),
        gates(*order),
        "the order of another framework: the memory is filled with something else",
    )


def _last_two(x: Array) -> Array | None:
    return np.concatenate([x[:-2], x[-1:], x[-2:-1]]) if len(x) > 2 else None


def _backward(change: Change) -> Change:
    return lambda layer: change(layer) if layer.settings.get("backward") else None


def _by_head(x: Array, heads: int) -> Array:
    """Rows that lie head by head, as if they lay interleaved."""
    parted = x.reshape(heads, -1, *x.shape[1:])
    return parted.swapaxes(0, 1).reshape(x.shape)


def _interleaved(layer: Layer) -> Layer | None:
    heads = int(layer.settings.get("heads", 1))
    made = {
        name: _by_head(x, heads)
        for name, x in layer.tensors.items()
        if name.startswith(("query", "key", "value"))
    }
    return layer.with_tensors(**made) if heads > 1 else None


def _query_times(power: float) -> Change:
    """As if the products were scaled otherwise: the scale is the root of a head's width."""

    def changed(layer: Layer) -> Layer:
        width = layer.tensors["query_proj.weight"].shape[0] // int(layer.settings.get("heads", 1))
        factor = np.float32(width**power)
        query = {name: x * factor for name, x in layer.tensors.items() if name.startswith("query")}
        return layer.with_tensors(**query)

    return changed


def _with(needed: str, **values: Any) -> Change:
    """A setting, where the layer has another."""
    return lambda layer: layer.having(**values) if needed in layer.settings else None


def _ungated(layer: Layer) -> Layer | None:
    return layer.having(ungated=True) if "gru_rel_pos_const" in layer.tensors else None


def _other_axis(layer: Layer) -> Layer:
    return layer.having(over="last" if layer.settings["over"] == "time" else "time")


# The table ----------------------------------------------------------------------------------------

OTHER_WEIGHTS = Bug(
    "weights that are not the source's",
    WITH_WEIGHTS,
    _initial,
    "left at their initial values: loaded with strict=False, nobody noticed",
)

BUGS: tuple[Bug, ...] = (
    # Convolutions and linear layers.
    Bug("the kernel reshaped, not transposed", CONV, tensors(_reshaped, "weight"),
        "the right shape, scrambled kernels", may_idle=True),
    Bug("the kernel's height and width swapped", ("conv2d",), tensors(_lying, "weight"),
        "edges in time become edges in pitch"),
    Bug("the kernel turned round", CONV, tensors(_turned_round, "weight"),
        "a convolution where torch correlates"),
    Bug("padding all on one side", CONV, _other_side, "everything comes a frame late"),
    Bug("zeros for a mirror at the edges", ("conv1d",), _zeros_at_the_edges,
        "the first and the last frames hear something else"),
    Bug("the dilation forgotten", CONV, _dense, "neighbours are heard for distant frames"),
    Bug("the matrix not transposed", ("linear",), tensors(_transposed, "weight"),
        "a square matrix fits both ways"),
    Bug("the last two outputs exchanged", ("linear",), tensors(_last_two, "weight", "bias"),
        "of a classifier two classes change places"),
    Bug("the bias dropped", WITH_WEIGHTS, tensors(np.zeros_like, "bias"),
        "an offset is missing, whatever goes in", may_idle=True),
    Bug("the bias added twice", WITH_WEIGHTS, tensors(lambda b: 2 * b, "bias"),
        "two biases became one, which was then added for both", may_idle=True),
    OTHER_WEIGHTS,
    Bug("weights rounded to float16 and called float32", WITH_WEIGHTS, _rounded(np.float16),
        "eleven bits where twenty-four are claimed", may_idle=True),
    Bug("weights rounded to bfloat16 and called float32", WITH_WEIGHTS, _rounded(bfloat16),
        "eight bits where twenty-four are claimed", may_idle=True),
    # Normalisations.
    Bug("its running statistics not loaded", ("batch norm",), _fresh,
        "the network hears another loudness"),
    Bug("the batch's own statistics (train mode)", ("batch norm",), setting(batch=True),
        "an embedding depends on its neighbours in the batch"),
    Bug("folded twice", ("batch norm",), setting(times=2), "scale and shift stand there squared"),
    Bug("the variance taken for the deviation", ("batch norm",), setting(no_root=True),
        "loud channels vanish"),
    Bug("eps 1e-3", NORM, setting(eps=1e-3), "quiet channels shrink", may_idle=True),
    Bug("the layer left out", (*NORM, "simam", "clipped", "activation"), setting(left_out=True),
        "one layer's scale is lost"),
    Bug("its scale and shift forgotten", NORM, _unscaled, "learnt levels are lost", may_idle=True),
    Bug("over the other axis", ("norm",), _other_axis, "time is taken for channels"),
    Bug("the unbiased variance", ("norm",), setting(ddof=1),
        "short inputs come out too small", may_idle=True),
    # LSTM and GRU.
    _gates_of(0, 1, 3, 2),
    _gates_of(0, 3, 1, 2),
    _gates_of(0, 2, 1, 3),
    _gates_of(1, 0, 2, 3),
    Bug("gates z, r, n for r, z, n", ("gru",), gates(1, 0, 2), "the order of another framework"),
    Bug("its output not turned back", ("lstm",), _backward(setting(turned_back=False)),
        "the end of the clip is heard at its start"),
    Bug("its input not turned round", ("lstm",), _backward(setting(turned=False)),
        "the past is read as the future"),
    Bug("directions swapped", ("bilstm",), _exchanged("forward.", "backward."),
        "the future is read as the past"),
    # Attention.
    Bug("query and key exchanged", ("attention",), _exchanged("query_proj.", "key_proj."),
        "who looks at whom is turned round"),
    Bug("heads interleaved", ("attention",), _interleaved, "each head sees a part of every other"),
    Bug("the scale forgotten", ("attention",), _query_times(0.5), "only the nearest is seen"),
    Bug("the scale squared", ("attention",), _query_times(-0.5), "all is seen alike"),
    Bug("softmax over who looks", ("attention",), setting(over="who looks"),
        "a frame's shares do not add up to one"),
    Bug("the position bias dropped", ("attention",), _with("positions", unbiased=True),
        "how far frames lie apart no longer counts"),
    Bug("positions counted the other way", ("attention",), _with("positions", mirrored=True),
        "what lies behind is taken for what lies before"),
    Bug("the gates of the position bias dropped", ("attention",), _ungated,
        "every frame looks as far as any other"),
    # Mixtures of layers.
    Bug("softmax of the weights forgotten", ("mixture",), setting(raw=True),
        "the sum of layers has another level"),
    Bug("an even mean of the layers", ("mixture",), setting(even=True), "what was learnt is lost"),
    Bug("the layers in reverse", ("mixture",), tensors(lambda w: w[::-1], "weight"),
        "the last layer has the first one's weight"),
    # Filters and features.
    Bug("low and band frequencies swapped", ("sinc",), _exchanged("low_hz", "band_hz"),
        "other filters altogether"),
    Bug("frequencies without their absolute value", ("sinc",), setting(abs=False),
        "negative frequencies give other bands", may_idle=True),
    Bug("filters built from high to low", ("sinc",), setting(high_first=True),
        "numerator and bandwidth change sign together", may_idle=True),
    Bug("Hann for Hamming", ("fbank",), setting(window_type="hanning"), "every bin off a little"),
    Bug("without the scale of 2^15", ("fbank",), _kaldi_scale(1.0),
        "mean removal hides it, but for bins that reach the floor"),
    Bug("without mean removal", ("fbank",), setting(centred=False),
        "the microphone becomes part of the voice"),
    Bug("without pre-emphasis", ("fbank",), setting(emphasis=0.0), "high bands fade"),
    Bug("amplitudes for powers", ("fbank", "mel"), setting(power=1), "half the range of levels"),
    Bug("the decimal logarithm", ("fbank",), setting(log10=True), "every level times 0.43"),
    Bug("without mean removal", ("mel",), _where("centred", centred=False),
        "the microphone becomes part of the voice"),
    Bug("a symmetric window for a periodic one", ("mel",), setting(symmetric=True),
        "every band off a little"),
    Bug("the other padding at the ends", ("mel",), _other_ends,
        "the first and the last frame hear something else"),
    Bug("the natural logarithm for decibels", ("mel",), _natural, "every level times 0.23"),
    Bug("quiet bands without their bound of 80 dB", ("mel",), setting(range=math.inf),
        "silence counts", may_idle=True),
    Bug("cosines that are not orthonormal", ("mel",), tensors(_not_orthonormal, "cosines"),
        "loudness and timbre have other weights"),
    # Statistics pooling.
    Bug("over frequency", ("pool",), setting(over="frequency"), "statistics over the wrong axis"),
    Bug("a biased deviation", ("pool",), setting(biased=True), "short turns drift most"),
    Bug("variances for deviations", POOLS, setting(variance=True), "loud parts count squared"),
    Bug("frequency-major flattening", POOLS, _frequency_major,
        "the same shape, other voices"),
    Bug("deviations before means", POOLS, setting(deviations_first=True),
        "the same shape, other voices"),
    Bug("masks interpolated linearly", POOLS, _with_masks(linear_masks=True),
        "frames at the edge of a turn count in part"),
    Bug("masks transposed", POOLS, _with_masks(masks_transposed=True),
        "speakers and frames change places"),
    Bug("masks ignored", POOLS, _with_masks(unweighted=True), "everybody has everybody's voice"),
    Bug("without its 1e-8", POOLS, _with_masks(tiny=0.0), "an empty mask becomes NaN"),
    # Attentive pooling.
    Bug("the softmax forgotten", ("attentive pool",), setting(no_softmax=True),
        "scores count as weights, whatever they add up to"),
    Bug("the softmax over channels", ("attentive pool",), setting(over="channels"),
        "channels compete where frames should"),
    Bug("no tanh before the last layer", ("attentive pool",), _where("has_tanh", has_tanh=False),
        "a few frames get all of the weight"),
    Bug("the context dropped", ("attentive pool",), _where("context", no_context=True),
        "a frame is weighed without the recording around it"),
    Bug("the context's deviation before its mean", ("attentive pool",),
        _where("context", context_exchanged=True), "the same shape, other weights"),
    Bug("the other deviation in the context", ("attentive pool",), _other_context,
        "biased for unbiased, or the other way: short turns drift most"),
    Bug("the variance without its floor", ("attentive pool",), _without_floor,
        "a channel that never changes becomes NaN or 0", may_idle=True),
    Bug("masks without a new sum", ("attentive pool",), _where("masked", as_they_are=True),
        "who speaks less has a smaller mean"),
    # SimAM.
    Bug("the mean over time alone", ("simam",), setting(over="time"),
        "each frequency is weighed for itself"),
    Bug("the biased variance", ("simam",), setting(biased=True),
        "short inputs are weighed a little too much", may_idle=True),
    Bug("without its half", ("simam",), setting(half=0.0), "every weight is too small"),
    Bug("without its sigmoid", ("simam",), setting(linear=True), "what stands out explodes"),
    # A ReLU with a ceiling, and two images that are fused.
    Bug("GELU for its tanh form", ("activation",), setting(name="GELU"),
        "off by a ten-thousandth, where both are called GELU"),
    Bug("without its ceiling", ("clipped",), setting(ceiling=math.inf),
        "loud parts weigh more than in training", may_idle=True),
    Bug("the two inputs exchanged", ("fusion",), setting(exchanged=True),
        "each image has the other's weights"),
    Bug("both weighed alike", ("fusion",), setting(alike=True),
        "the weight of one is not what the other lacks"),
    Bug("weights that are not around 1", ("fusion",), setting(alone=True),
        "what nothing speaks for is lost"),
    # All weights of a network.
    Bug("all weights rounded to float16 and called float32", ("network",), _rounded(np.float16),
        "eleven bits where twenty-four are claimed", may_idle=True),
)  # fmt: skip

# What stands behind a layer -> what ports have put there instead.
INSTEAD: Mapping[str, tuple[str, ...]] = {
    "ReLU": (NOTHING, "leaky ReLU", "GELU"),
    "leaky ReLU": ("ReLU", NOTHING),
    "GELU": ("GELU's tanh form", "ReLU"),
    "GELU's tanh form": ("GELU",),
    "SiLU": ("ReLU", NOTHING),
    "GLU": ("GLU with its halves exchanged", "GLU without its gate"),
    "an absolute value": (NOTHING,),
    "log-softmax": (NOTHING, "softmax"),
    "softmax": (NOTHING, "log-softmax"),
    "sigmoid": (NOTHING, "softmax"),
    NOTHING: ("ReLU",),
}
# Behind the last layer, where nothing belongs.
BEHIND = ("L2 normalisation", "an untrained BatchNorm", "a BatchNorm over the batch")


LYING = Bug("frequency and time swapped", ("function",), setting(image="time by frequency"),
            "the image lies on its side")  # fmt: skip


def function_bug(right: str, wrong: str) -> Bug:
    """One function for another between two layers."""
    if wrong == NOTHING:
        name = f"{right} missing"
    elif right == NOTHING:
        name = f"{wrong} where nothing belongs"
    else:
        name = f"{wrong} for {right}"
    effect = "what a layer gives reaches the next one as something else"
    return Bug(name, ("function",), setting(name=wrong), effect, may_idle=True)


def bugs_of(layer: Layer) -> tuple[Bug, ...]:
    """All that can be wrong with a layer of this kind."""
    if layer.kind == "function":
        right = layer.settings["name"]
        others = tuple(function_bug(right, wrong) for wrong in FUNCTIONS if wrong != right)
        return (*others, LYING) if "image" in layer.settings else others
    return tuple(bug for bug in BUGS if layer.kind in bug.kinds)
