"""What most likely went wrong, told from the figures: each known bug leaves its signature.

The table was made from the gallery's bugs. It says what an error looks like, never what it is: up
to three causes that fit, the likeliest first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median

from samevoice.parity.judge import TapVerdict
from samevoice.parity.result import Result

MOST = 3
INTO = ".input"
CANDIDATE_SHAPE = re.compile(r"the candidate has shape \(([\d, ]*)\), not ")


@dataclass(frozen=True)
class Diagnosis:
    """One likely cause: what it looks like, why one may think so, what to do next, and where."""

    headline: str
    why: str
    next_step: str
    tap: str


# What the figures show ----------------------------------------------------------------------------

KINDS = (
    ("norm", re.compile(r"(^|\.)(bn\d*|norm\.\d+|wav_norm|shortcut\.1|seg_bn_\d)$")),
    ("sinc", re.compile(r"(^|\.)sincnet\.conv\.0$")),
    ("conv", re.compile(r"(^|\.)(conv\d*(\.\d+)?|shortcut\.0)$")),
    ("lstm", re.compile(r"(^|\.)lstm\.\d+\.(forward|backward)$")),
    ("linear", re.compile(r"(^|\.)(linear\.\d+|seg_\d|classifier)$")),
    ("pool", re.compile(r"(^|\.)pool$")),
    ("fbank", re.compile(r"(^|\.)fbank$")),
    ("output", re.compile(r"^output(\..*)?$")),
)


def kind_of(name: str) -> str:
    """The kind of layer that a tap is of, as far as its name says."""
    bare = name.removesuffix(INTO)
    return next((kind for kind, pattern in KINDS if pattern.search(bare)), "")


@dataclass(frozen=True)
class Signs:
    """What a result shows at its first divergence, and how far that is true elsewhere."""

    result: Result
    name: str

    @cached_property
    def here(self) -> tuple[TapVerdict, ...]:
        return tuple(tap for tap in self.result.taps if tap.name == self.name)

    @cached_property
    def tap(self) -> TapVerdict:
        """The failed tap that says most: the layer alone, and with figures, if there is one."""
        failed = [tap for tap in self.here if not tap.passed]
        return min(failed, key=lambda tap: (not math.isfinite(tap.rms), tap.mode != "forced"))

    @cached_property
    def free(self) -> tuple[TapVerdict, ...]:
        """The same seam with every input, in the run as people run it."""
        return tuple(tap for tap in self.here if tap.mode == "free")

    @property
    def kind(self) -> str:
        return "seam" if self.seam else kind_of(self.name)

    @property
    def seam(self) -> bool:
        """Between two layers: what goes into the second is wrong, with the first one right."""
        return self.name.endswith(INTO)

    @cached_property
    def wrong_alone(self) -> tuple[str, ...]:
        """Layers that are wrong on the reference's own input, so not through those before."""
        taps = (tap for tap in self.result.verdict.failed if tap.mode == "forced")
        return tuple(dict.fromkeys(tap.name for tap in taps if not tap.name.endswith(INTO)))

    @property
    def adds_up(self) -> bool:
        """Layers were tried alone, and each of them is right."""
        forced = [tap for tap in self.result.taps if tap.mode == "forced"]
        return bool(forced) and all(tap.passed for tap in forced)

    def wrong(self, kind: str) -> list[str]:
        return [name for name in self.wrong_alone if kind_of(name) == kind]

    @cached_property
    def reasons(self) -> str:
        return "\n".join(words for tap in self.here for words in tap.reasons)

    # -- the error's size and form

    @property
    def error(self) -> float:
        """RMS of the error over RMS of the truth."""
        return math.sqrt(self.tap.nmse)

    @property
    def scale(self) -> float:
        return self.tap.norm_ratio

    @property
    def finite(self) -> bool:
        return math.isfinite(self.tap.rms) and math.isfinite(self.tap.nmse)

    @property
    def scaled(self) -> bool:
        """All of the error is one factor: the direction of every row is right."""
        off = abs(self.scale - 1)
        return self.finite and off > 1e-6 and math.isclose(self.error, off, rel_tol=5e-3)

    @property
    def permuted(self) -> bool:
        """The same values, elsewhere: their norm is right to the last digits."""
        # An error that owes nothing to a permutation moves the norm by half its square.
        within = max(1e-3 * self.tap.nmse, 1e-8)
        return self.finite and self.error > 1e-3 and abs(self.scale - 1) < min(within, 1e-5)

    @property
    def turned(self) -> bool:
        """Every row points the other way."""
        return self.finite and self.tap.cosine_mean < -0.99

    @property
    def faint(self) -> bool:
        """So small that numbers were rounded, or a constant is a little off."""
        return self.finite and self.error < 5e-3

    @property
    def rounded(self) -> bool:
        """Faint errors in layers that have little in common."""
        taps = [
            tap
            for tap in self.result.taps
            if tap.mode == "forced" and tap.name in self.wrong_alone and kind_of(tap.name)
        ]
        errors = [math.sqrt(tap.nmse) for tap in taps if math.isfinite(tap.nmse)]
        return len(taps) > 2 and len(errors) == len(taps) and median(errors) < 5e-3

    @property
    def rectified(self) -> bool:
        """Where it is worst, a negative value came out as zero."""
        worst = self.tap.worst
        return worst is not None and worst.truth < 0 and worst.candidate == 0

    @property
    def constant(self) -> bool:
        """The same error whatever goes in, as an offset makes."""
        gaps = [tap.max_abs for tap in self.free if not tap.passed]
        return len(gaps) > 1 and max(gaps) < 1.02 * min(gaps)

    @property
    def uneven(self) -> bool:
        """Some inputs err far more than others, for their size."""
        errors = [tap.nmse for tap in self.free if math.isfinite(tap.nmse)]
        return len(errors) > 1 and max(errors) > 10 * min(errors)

    @property
    def some_inputs(self) -> bool:
        """Other inputs pass here."""
        return any(tap.passed for tap in self.free) and any(not tap.passed for tap in self.free)

    @property
    def faded(self) -> bool:
        """An input of which nothing is left."""
        return any(tap.norm_ratio < 1e-3 for tap in self.free)

    @property
    def in_deviations(self) -> bool:
        """Worst in the second half of the last axis, where the deviations stand, and too small."""
        worst = self.tap.worst
        if worst is None or not worst.index or not self.finite:
            return False
        late = worst.index[-1] >= self.tap.shape[-1] / 2
        return late and abs(worst.candidate) < abs(worst.truth) and self.scale < 1

    # -- what makes figures impossible

    @property
    def missing(self) -> bool:
        return "missing in the candidate" in self.tap.reasons

    @property
    def not_finite(self) -> bool:
        return "the candidate holds" in self.reasons and "NaN or infinite" in self.reasons

    @property
    def other_type(self) -> bool:
        return any(words.startswith("the candidate is ") for words in self.tap.reasons)

    @cached_property
    def shape(self) -> tuple[int, ...] | None:
        """The candidate's shape where it is another."""
        found = CANDIDATE_SHAPE.search("\n".join(self.tap.reasons))
        return tuple(int(n) for n in found[1].split(",") if n.strip()) if found else None

    @property
    def axes_swapped(self) -> bool:
        return self.shape is not None and sorted(self.shape) == sorted(self.tap.shape)

    def other_axis(self, axis: int) -> bool:
        """Only this axis has another length."""
        if self.shape is None or len(self.shape) != len(self.tap.shape) or not self.shape:
            return False
        other = [
            k for k, (a, b) in enumerate(zip(self.shape, self.tap.shape, strict=True)) if a != b
        ]
        return other == [axis % len(self.shape)]

    @property
    def stopped(self) -> str:
        """With what message the port broke off."""
        errors = self.result.details.get("errors")
        messages = errors.values() if isinstance(errors, dict) else ()
        return next((str(words) for words in messages if isinstance(words, str)), "")

    @property
    def length(self) -> float:
        """Norm of a row of the candidate, if all are equally long."""
        rows = self.tap.shape[-1] if self.tap.shape else 1
        return self.tap.truth_rms * self.scale * math.sqrt(rows)

    @property
    def tf32(self) -> bool:
        return self.result.device != "cpu" and self.result.versions.get("MLX_ENABLE_TF32") != "0"

    @property
    def network(self) -> str:
        return self.result.model_type


# The signatures -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signature:
    """A cause, the kinds of tap at which it starts, and what its error looks like."""

    looks_like: str
    kinds: tuple[str, ...]  # none: any
    shows: Callable[[Signs], bool]
    why: str
    next_step: str


RULES = "the family's table of rules in converters/"
POOLING = "models/layers/pooling.py"
LSTM = "the LSTM's rules in converters/layers.py and models/layers/lstm.py"

# The likeliest first: what fits narrowly stands before what fits widely.
SIGNATURES: tuple[Signature, ...] = (
    # Numbers in too few bits, found in layers of every kind.
    Signature(
        "TF32 products",
        (),
        lambda x: x.tf32 and x.rounded and not x.wrong("norm"),
        "many layers err by a few parts in ten thousand, normalisations do not, and the device "
        "multiplies in TF32 unless told otherwise",
        "Set MLX_ENABLE_TF32=0 before the first product, and compare again.",
    ),
    Signature(
        "weights or arithmetic in half precision that are called float32",
        (),
        lambda x: x.rounded and len({kind_of(name) for name in x.wrong_alone} - {""}) > 1,
        "layers of several kinds are each wrong by a few parts in ten thousand, which is what 11 "
        "significant bits leave",
        "See in which dtype the tensors were stored: samevoice inspect names it; no cast belongs "
        "between checkpoint and bundle unless --dtype asks for it.",
    ),
    # Shapes.
    Signature(
        "frequency and time swapped",
        ("seam",),
        lambda x: x.axes_swapped and kind_of(x.name) == "conv",
        "the port has the same axes in another order",
        "Look at the transpose before this layer: MLX takes channels last, (B, F, T, C).",
    ),
    Signature(
        "two axes swapped",
        (),
        lambda x: x.axes_swapped,
        "the port has the same axes in another order",
        "Look for a transpose that is missing or stands twice; MLX takes channels last.",
    ),
    Signature(
        "masks transposed: speakers and frames changed places",
        ("pool",),
        lambda x: x.other_axis(1),
        "only the axis of the speakers has another length",
        f"Masks are (B, S, T); see what hands them over in {POOLING}.",
    ),
    Signature(
        "pooling over the wrong axis",
        ("pool",),
        lambda x: x.other_axis(-1),
        "the statistics come out in another number: those of frequencies, not of frames",
        f"See over which axis {POOLING} sums: time, then (C, F) is flattened.",
    ),
    Signature(
        "a layer of another size, or a wrong stride or padding",
        (),
        lambda x: x.shape is not None,
        "the port's shape is another",
        "Compare this layer's sizes in config.json with the checkpoint's, then stride and padding.",
    ),
    Signature(
        "another dtype",
        (),
        lambda x: x.other_type,
        "the port's array has another type than the reference's",
        "Look for a cast before this layer, and whether --dtype was meant.",
    ),
    # NaN.
    Signature(
        "a division by the sum of an empty mask: pooling without its 1e-8",
        ("pool",),
        lambda x: x.not_finite,
        "NaN or infinity comes first from the pooling",
        f"Keep the small constant beneath the division in {POOLING}.",
    ),
    Signature(
        "the logarithm of zero",
        ("fbank",),
        lambda x: x.not_finite,
        "NaN or infinity comes first from the features",
        "Floor the energies before the logarithm, as models/layers/fbank.py does.",
    ),
    Signature(
        "a division by zero, a root of a negative number, or an overflow",
        (),
        lambda x: x.not_finite,
        "the port's array holds NaN or infinity that the reference's does not",
        "Look at this layer's divisions, roots and exponentials, and at its dtype's range.",
    ),
    # Normalisation.
    Signature(
        "a normalisation with another eps",
        ("norm",),
        lambda x: _all_norms(x) and x.faint and x.scale < 1,
        "every normalisation is a little too small, and nothing else is wrong",
        "Take eps from the checkpoint's module (torch's default is 1e-5); see models/layers/.",
    ),
    Signature(
        "InstanceNorm without its learnt weight and bias",
        ("norm",),
        lambda x: _all_norms(x) and x.network == "segmentation",
        "every normalisation is wrong when it is fed with the right input, and no other layer",
        "See the rules for norm weights in converters/families/pyannet.py, and affine=True.",
    ),
    Signature(
        "train mode: BatchNorm with the batch's own statistics",
        ("norm",),
        lambda x: _all_norms(x) and x.network != "segmentation" and x.uneven,
        "every BatchNorm is wrong, and how wrong depends on what is in the batch",
        "Call eval() on the port, and use running_mean and running_var.",
    ),
    Signature(
        "running statistics that were not loaded",
        ("norm",),
        lambda x: _all_norms(x) and x.network != "segmentation",
        "every normalisation is wrong when it is fed with the right input, and no other layer",
        "See the rules for running_mean and running_var, and that loading is strict.",
    ),
    Signature(
        "train mode: BatchNorm with the batch's own statistics",
        ("norm",),
        lambda x: _all_norms(x) and x.network != "segmentation",
        "every BatchNorm is wrong, and no other layer",
        "Call eval() on the port, and use running_mean and running_var.",
    ),
    Signature(
        "one BatchNorm dropped, or its tensors not loaded",
        ("norm",),
        lambda x: len(x.wrong("norm")) == 1 and not x.faint,
        "this one normalisation is wrong, all others are right",
        f"See the rule for this very layer in {RULES}, and that the layer is called.",
    ),
    # Pooling.
    Signature(
        "frequency-major flattening",
        ("pool",),
        lambda x: x.permuted,
        "the values are right but stand elsewhere, as their norm is the same to the last digits; "
        "means and deviations in the other order would look so, too",
        f"Flatten (C, F), channels first, and means before deviations: see flatten in {POOLING}.",
    ),
    Signature(
        "a biased standard deviation",
        ("pool",),
        lambda x: x.in_deviations and x.tap.cosine_min > 0.9,
        "the deviations are a little too small, the means beside them are better",
        f"Divide by v1 - v2 / v1, not by v1: see weighted_stats in {POOLING}.",
    ),
    Signature(
        "masks that are read between frames: linear for nearest interpolation",
        ("pool",),
        lambda x: x.some_inputs and x.finite and x.scale < 1.05,
        "only inputs with certain masks are wrong",
        f"Masks are resampled to the nearest frame: see resample in {POOLING}.",
    ),
    Signature(
        "a biased standard deviation",
        ("pool",),
        lambda x: x.finite and x.scale < 1 and x.tap.cosine_min > 0.9,
        "the statistics point the right way and are a little too small",
        f"Divide by v1 - v2 / v1, not by v1: see weighted_stats in {POOLING}.",
    ),
    Signature(
        "weights that are used otherwise, or variances for deviations",
        ("pool",),
        lambda x: x.finite and not x.permuted and not x.faint,
        "the statistics are others",
        f"Weigh the mean and the deviation, and take the root: see weighted_stats in {POOLING}.",
    ),
    # Features.
    Signature(
        "filterbank features without mean removal",
        ("fbank",),
        lambda x: x.finite and x.scale > 1.5,
        "the features are several times too large",
        "Subtract each bin's mean over time: see center in models/layers/fbank.py.",
    ),
    Signature(
        "filterbank features without the scale of 2^15",
        ("fbank",),
        lambda x: x.faded or x.uneven,
        "quiet inputs are wrong most, as where energies lie beneath the floor of the logarithm",
        "Scale the waveform by 32768 first: see FULL_SCALE in models/layers/fbank.py.",
    ),
    Signature(
        "filterbank features without pre-emphasis",
        ("fbank",),
        lambda x: x.finite and 1.02 < x.scale < 1.5,
        "the features are near, and somewhat too large",
        "Subtract 0.97 times the sample before: see PRE_EMPHASIS in models/layers/fbank.py.",
    ),
    Signature(
        "another window (Hann for Hamming), or mel bins elsewhere",
        ("fbank",),
        lambda x: x.finite and x.scale < 1.5,
        "the features are near, and every bin is off a little",
        "Compare window, frame length and shift, mel edges and power in models/layers/fbank.py.",
    ),
    Signature(
        "filterbank features without pre-emphasis",
        ("fbank",),
        lambda x: x.finite and x.scale < 1.5,
        "the features are near, and every bin is off a little",
        "Subtract 0.97 times the sample before: see PRE_EMPHASIS in models/layers/fbank.py.",
    ),
    # SincNet's first layer.
    Signature(
        "sinc filters with low and band frequencies swapped",
        ("sinc",),
        lambda x: x.finite and not x.faint and abs(x.scale - 1) > 0.1,
        "the filters pass another amount of sound",
        "See the rules for low_hz_ and band_hz_ in converters/families/pyannet.py.",
    ),
    Signature(
        "sinc frequencies without their absolute value",
        ("sinc",),
        lambda x: x.finite and not x.faint,
        "some filters are wrong, others are right",
        "Trained frequencies may be negative: models/layers/sincnet.py takes their absolute value.",
    ),
    Signature(
        "a window or time axis of the filters that is a little off",
        ("sinc",),
        lambda x: x.faint,
        "the filters are almost right",
        "Compare window_ and n_ as stored in the checkpoint with sincnet.py.",
    ),
    # Between layers.
    Signature(
        "ReLU where the reference has leaky ReLU",
        ("seam",),
        lambda x: x.rectified and x.error < 0.1,
        "small negative values came out as zero between two layers that are both right",
        "Put leaky_relu (slope 0.01) between these two layers.",
    ),
    Signature(
        "an absolute value that is missing after the sinc filters",
        ("seam",),
        lambda x: x.finite and x.name.endswith("norm.0" + INTO),
        "the layer before is right, what reaches this one is not",
        "SincNet takes the absolute value of its first convolution, then pools: sincnet.py.",
    ),
    Signature(
        "something between two layers: an activation, a pooling, a padding or the order of axes",
        ("seam",),
        lambda x: True,
        "the layer before is right when it is fed with the right input, what reaches this one is "
        "not",
        "Read the reference's forward between these two layers, line by line.",
    ),
    # LSTM.
    Signature(
        "layers of the LSTM in another order",
        ("lstm",),
        lambda x: _whole_layers(x) > 1,
        "several layers are wrong in both directions when they are fed with the right input",
        f"Layer l{{i}} of the checkpoint is lstm.{{i}} of the port: see {LSTM}.",
    ),
    Signature(
        "both directions of the LSTM swapped",
        ("lstm",),
        lambda x: _whole_layers(x) == 1,
        "forward and backward of one layer are both wrong, and the other layers are right",
        f"Names that end in _reverse belong to backward: see {LSTM}.",
    ),
    Signature(
        "a reverse direction that is not turned back",
        ("lstm",),
        lambda x: x.name.endswith("backward") and (x.permuted or len(x.wrong("lstm")) > 1),
        "the values are right but stand at other times, only in the backward direction",
        f"Turn the input round, run, then turn the output round again: see {LSTM}.",
    ),
    Signature(
        "LSTM gates in another order",
        ("lstm",),
        lambda x: x.finite and x.tap.cosine_mean < 0.5,
        "the output of one direction has little to do with what it should be",
        f"torch and MLX both have i, f, g, o: see {LSTM}.",
    ),
    Signature(
        "a bias that was dropped or added twice",
        ("lstm",),
        lambda x: x.finite and not x.faint,
        "one direction is wrong when it is fed with the right input, and the others are right",
        f"torch has two biases, which are added once into one: see {LSTM}.",
    ),
    Signature(
        "LSTM gates in another order",
        ("lstm",),
        lambda x: x.finite and not x.faint,
        "one direction is wrong when it is fed with the right input",
        f"torch and MLX both have i, f, g, o: see {LSTM}.",
    ),
    # The end of a segmentation.
    Signature(
        "powerset classes in another order",
        ("linear",),
        lambda x: x.name.endswith("classifier") and x.permuted,
        "the scores are right but stand at other classes: their norm is the same",
        "The order is none, then single speakers, then pairs: see the classifier's rows.",
    ),
    Signature(
        "sigmoid where the reference has log-softmax",
        ("output",),
        lambda x: _scores(x) and 0 <= _worst(x) <= 1 and _evenness(x) < _rms(x) <= 1,
        "log-probabilities are never positive; these are, and too large in sum for probabilities "
        "of one class each",
        "See the activation in config.json and ACTIVATIONS in models/networks/pyannet.py.",
    ),
    Signature(
        "softmax where the reference has log-softmax",
        ("output",),
        lambda x: _scores(x) and 0 <= _worst(x) <= 1 and _rms(x) <= _evenness(x),
        "log-probabilities are never positive, and these all lie between 0 and 1",
        "See the activation in config.json and ACTIVATIONS in models/networks/pyannet.py.",
    ),
    Signature(
        "a log-softmax that is missing",
        ("output",),
        lambda x: _scores(x) and (_worst(x) > 0 or x.tap.argmax_agreement == 1),
        "the values are no log-probabilities, and the order of the classes is right",
        "See the activation in config.json and ACTIVATIONS in models/networks/pyannet.py.",
    ),
    Signature(
        "another activation of the scores",
        ("output",),
        lambda x: _scores(x),
        "the layer before is right, the scores are not",
        "See the activation in config.json and ACTIVATIONS in models/networks/pyannet.py.",
    ),
    # The end of an embedding.
    Signature(
        "L2 normalisation of the embedding",
        ("output",),
        lambda x: x.finite and math.isclose(x.length, 1, rel_tol=1e-3),
        "every embedding has length 1, and the right direction",
        "Hand the embedding out as it is: PLDA needs its length.",
    ),
    Signature(
        "an untrained BatchNorm after the embedding",
        ("output",),
        lambda x: x.scaled and math.isclose(x.scale, (1 + 1e-5) ** -0.5, abs_tol=1e-6),
        "all is five parts in a million too small: a variance of 1 with an eps of 1e-5",
        "seg_bn_1 is Identity in a checkpoint without two_emb_layer: drop the layer.",
    ),
    Signature(
        "a BatchNorm, or another layer too many, after the embedding",
        ("output",),
        lambda x: x.network == "embedding" and not x.scaled and "output" in x.wrong_alone,
        "the last layer's input is right, its output is not",
        "See what follows seg_1: nothing, in a checkpoint without two_emb_layer.",
    ),
    # Any layer.
    Signature(
        "a wrong factor",
        (),
        lambda x: x.scaled,
        "the direction is right, and everything is off by one and the same factor",
        "Look for a scale, a temperature or a normalisation that is missing or stands twice.",
    ),
    Signature(
        "a wrong sign",
        (),
        lambda x: x.turned and math.isclose(x.scale, 1, rel_tol=1e-3),
        "every value has the other sign",
        "Look for a minus that is missing or stands twice in this layer.",
    ),
    Signature(
        "a bias that is missing or left at its initial values",
        ("linear", "conv"),
        lambda x: x.constant and not x.rounded,
        "the error is the same whatever goes in, as an offset makes",
        f"See this layer's bias in {RULES}, and that loading is strict.",
    ),
    Signature(
        "a convolution whose height and width are swapped",
        ("conv",),
        lambda x: not x.faint and len(x.tap.shape) == 4 and x.name.endswith("resnet.conv1"),
        "this one convolution is wrong; it has one input channel, so that a mere reshape would "
        "change nothing",
        "torch has (O, I, H, W), MLX (O, H, W, I): see OIHW_TO_OHWI in converters/transforms.py.",
    ),
    Signature(
        "a kernel that was reshaped, not transposed, or turned round",
        ("conv",),
        lambda x: x.finite and not x.faint and not x.scaled,
        "this one convolution is wrong when it is fed with the right input",
        "torch has input channels second, MLX last: see this layer's Transform in converters/.",
    ),
    Signature(
        "values that stand elsewhere: an order of rows or channels",
        ("", "fbank", "sinc", "conv", "norm", "linear", "output"),
        lambda x: x.permuted,
        "the values are right but stand elsewhere: their norm is the same to the last digits",
        "Look for a reshape, a flattening or a permutation of rows before this tap.",
    ),
    Signature(
        "a tensor left at its initial values, or a matrix not transposed",
        ("linear", "conv", "sinc"),
        lambda x: x.finite and not x.faint and not x.scaled,
        "this one layer is wrong when it is fed with the right input",
        f"See this layer's rules in {RULES}, and that loading is strict.",
    ),
    Signature(
        "a bias that is missing or left at its initial values",
        ("linear",),
        lambda x: x.finite and not x.faint and not x.scaled,
        "this one layer is wrong when it is fed with the right input",
        f"See this layer's bias in {RULES}, and that loading is strict.",
    ),
    Signature(
        "a weight whose columns follow another order of its input",
        ("linear",),
        lambda x: x.finite and not x.faint and not x.scaled,
        "this one layer is wrong when it is fed with the right input",
        "If the layer before flattens (C, F), the columns of this weight must be in that order.",
    ),
    Signature(
        "arithmetic in fewer bits in this layer",
        (),
        lambda x: (
            x.faint
            and x.name in x.wrong_alone
            and not (x.rounded or x.scaled or x.permuted or x.constant)
        ),
        "this layer alone is wrong, by so little that its numbers may be rounded",
        "Look for a cast, an approximation or another eps in this layer.",
    ),
)


def _all_norms(x: Signs) -> bool:
    """Normalisations, and no layer of another kind."""
    kinds = {kind_of(name) for name in x.wrong_alone} - {"", "output"}
    return len(x.wrong("norm")) > 1 and kinds == {"norm"}


def _whole_layers(x: Signs) -> int:
    """How many LSTM layers are wrong in both directions."""
    layers = [name.rpartition(".")[0] for name in x.wrong("lstm")]
    return sum(layers.count(layer) > 1 for layer in set(layers))


def _scores(x: Signs) -> bool:
    return x.finite and x.network == "segmentation" and x.name in x.wrong_alone


def _worst(x: Signs) -> float:
    return x.tap.worst.candidate if x.tap.worst else math.nan


def _rms(x: Signs) -> float:
    """RMS of the candidate."""
    return x.tap.truth_rms * x.scale


def _evenness(x: Signs) -> float:
    """The largest RMS that rows of K probabilities can have: one is certain, the others nothing."""
    return 1.001 / math.sqrt(max(x.tap.shape[-1], 1) if x.tap.shape else 1)


# The diagnosis ------------------------------------------------------------------------------------


def diagnose(result: Result) -> list[Diagnosis]:
    """A red result -> what most likely went wrong, at most three, the likeliest first."""
    if result.passed:
        return []
    if not result.taps:
        return [_nothing_compared()]
    if result.first_divergence is None:
        return [_only_the_task(result)]
    signs = Signs(result, result.first_divergence)
    likeliest, *others = [*_special(signs), *_fitting(signs)] or [_unknown(signs)]
    return [_tried(likeliest, signs), *others][:MOST]


def _fitting(signs: Signs) -> Iterator[Diagnosis]:
    seen = set()
    for one in SIGNATURES:
        fits = not one.kinds or signs.kind in one.kinds
        if fits and one.looks_like not in seen and _shows(one, signs):
            seen.add(one.looks_like)
            headline = f"The error starts at {signs.name} and looks like {one.looks_like}"
            yield Diagnosis(headline, _sentence(one.why), one.next_step, signs.name)


def _shows(one: Signature, signs: Signs) -> bool:
    """A figure that is not there shows nothing."""
    try:
        return one.shows(signs)
    except (ArithmeticError, ValueError):
        return False


def _special(signs: Signs) -> Iterator[Diagnosis]:
    """What is told by where it fails and where not."""
    where = signs.name
    if signs.missing:
        yield _missing(signs)
    elif signs.network == "plda":
        yield Diagnosis(
            f"{where} is not the source's array",
            "These arrays are only copied, so that they must be equal to the last bit.",
            "Convert again; if that does not help, see its rule in converters/families/plda.py.",
            where,
        )
    elif where.startswith("output.") and not signs.wrong_alone:
        yield Diagnosis(
            f"Only {where} differs: two forms of the same network disagree",
            "The output of the plain run is right, this one is not.",
            "Compare the fast form of each layer with the one that is recorded.",
            where,
        )
    elif signs.finite and signs.adds_up and signs.kind != "pool":
        yield Diagnosis(
            f"From {where} on the errors add up, but no layer alone is wrong",
            "Each layer that was fed with the reference's own input keeps its limits.",
            "Compare with more inputs; then look at what the run does between layers, and at "
            "layers that no tap shows.",
            where,
        )


def _missing(signs: Signs) -> Diagnosis:
    where = signs.name
    if signs.stopped:
        return Diagnosis(
            f"The port broke off before {where}",
            f"It said: {signs.stopped}",
            "Run the port alone on this input, and mend what it says.",
            where,
        )
    return Diagnosis(
        f"The port has nothing at {where}",
        "The reference has a tap of this name, the port does not.",
        "Give the port's layer the name that the reference's has, or add the layer.",
        where,
    )


def _nothing_compared() -> Diagnosis:
    return Diagnosis(
        "Nothing was compared",
        "The result holds no tap, so nothing is proven.",
        "Run samevoice parity again, with inputs.",
        "",
    )


def _only_the_task(result: Result) -> Diagnosis:
    return Diagnosis(
        "Every layer keeps its limits, but the task does not",
        _sentence(result.verdict.task_reasons[0]),
        "Look at which decisions differ: near ties turn within the noise, and coarse weights turn "
        "more of them; then tighten the limits of the taps, or keep more bits.",
        "",
    )


def _unknown(signs: Signs) -> Diagnosis:
    return Diagnosis(
        f"The error starts at {signs.name} and looks like none of the known bugs",
        _sentence(signs.tap.reasons[0]),
        f"See this layer's rules in {RULES} and its code in models/.",
        signs.name,
    )


def _tried(one: Diagnosis, signs: Signs) -> Diagnosis:
    """The same, and how to see this layer alone; once is enough."""
    folder = signs.result.details.get("reproduction")
    if not isinstance(folder, str) or not folder:
        return one
    files: Sequence[str] = [f"{folder}/{side}.safetensors" for side in ("reference", "candidate")]
    step = f"{one.next_step} What came out here on both sides: samevoice judge {' '.join(files)}"
    return replace(one, next_step=step)


def _sentence(text: str) -> str:
    # The name of a figure keeps its small letter.
    first = text.partition(" ")[0]
    start = text[:1] if "_" in first else text[:1].upper()
    return start + text[1:] + ("" if text.endswith(".") else ".")
