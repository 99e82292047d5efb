"""The known bugs, injected one by one into a right port: the harness must find each where it sits.

A gate that has never been seen to fail proves nothing. Each bug here is one that ports have shipped
with, or nearly. A bug that truly changes nothing stands here too, with the reason why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from samevoice.models import layers
from samevoice.models.layers import fbank, lstm, pooling, sincnet
from samevoice.models.networks import pyannet  # isort: split

import mlx.core as mx
import numpy as np
from mlx.nn.layers.linear import Identity
from mlx.utils import tree_map

from samevoice.models.networks import wespeaker as resnet
from samevoice.parity.inputs import RATE, Example, batch, masks, noise, sample
from samevoice.parity.limits import limits_for
from samevoice.parity.run import ParityError, Trace, compare_traces, order_of, trace

if TYPE_CHECKING:
    from samevoice.parity.candidate import Candidate

Model = Any  # a PyanNet or a WeSpeakerResNet
Injection = Callable[[Model], AbstractContextManager[None]]


def _never(model: Model) -> bool:
    return False


@dataclass(frozen=True)
class Bug:
    """One mistake, the tap at which it must show first, and what users saw of it."""

    name: str
    family: str
    where: str  # "" where it changes nothing
    inject: Injection
    effect: str
    # Whether these weights leave the bug without effect, which the gallery then proves.
    idle: Callable[[Model], bool] = _never

    @property
    def may_idle(self) -> bool:
        """Whether there are weights that leave it without effect."""
        return self.idle is not _never


@contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    """``owner.name`` is ``value`` for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def attribute(path: str, change: Callable[[Any], Any]) -> Injection:
    """One tensor or layer of the model, changed: ``lstm.0.forward.Wx``."""
    *parents, last = path.split(".")

    def inject(model: Model) -> AbstractContextManager[None]:
        owner = model
        for part in parents:
            owner = owner[int(part)] if part.isdigit() else owner[part]
        return patched(owner, last, change(owner[last]))

    return inject


def code(owner: Any, name: str, value: Any) -> Injection:
    """A function, method or constant of the port, replaced."""
    return lambda model: patched(owner, name, value)


def every(kind: type, change: Callable[[Any], dict[str, mx.array]]) -> Injection:
    """All layers of one kind, changed."""

    @contextmanager
    def inject(model: Model) -> Iterator[None]:
        found: list[Any] = [module for module in model.modules() if isinstance(module, kind)]
        before = [{name: module[name] for name in change(module)} for module in found]
        for module in found:
            module.update(change(module))
        try:
            yield
        finally:
            for module, values in zip(found, before, strict=True):
                module.update(values)

    return inject


# --- embedding --------------------------------------------------------------------------------


def _behind_embedding(change: Callable[[mx.array], mx.array]) -> Injection:
    right = resnet.ResNet.embed

    def embed(self: Any, *given: Any) -> mx.array:
        return change(right(self, *given))

    return code(resnet.ResNet, "embed", embed)


def _standardised(y: mx.array) -> mx.array:
    flat = y.reshape(-1, y.shape[-1])
    return (y - flat.mean(axis=0)) / mx.sqrt(flat.var(axis=0) + 1e-5)


def _batch_statistics(self: layers.BatchNorm, x: mx.array) -> mx.array:
    axes = tuple(range(x.ndim - 1))
    y = (x - x.mean(axis=axes)) / mx.sqrt(x.var(axis=axes) + layers.EPSILON)
    return y * self.weight + self.bias


def _biased(x: mx.array, weights: mx.array) -> tuple[mx.array, mx.array]:
    w = weights[:, None, :, None]
    v1 = w.sum(axis=2) + pooling.TINY
    mean = (x * w).sum(axis=2) / v1
    return mean, mx.sqrt((mx.square(x - mean[:, :, None]) * w).sum(axis=2) / v1)


def _swapped_image() -> Injection:
    right = resnet.ResNet.frames
    return code(resnet.ResNet, "frames", lambda self, x: right(self, x.swapaxes(1, 2)))


def _pool_axes(change: Callable[..., tuple[mx.array, mx.array | None]]) -> Injection:
    right = pooling.stats_pool
    return code(resnet, "stats_pool", lambda x, masks=None: right(*change(x, masks)))


def _linear_masks(weights: mx.array, frames: int) -> mx.array:
    """(B, S, T') -> (B, S, frames): between the neighbours, as an image would be resized."""
    count = weights.shape[-1]
    place = np.clip((np.arange(frames) + 0.5) * count / frames - 0.5, 0, count - 1)
    left = np.floor(place).astype(np.int32)
    right = np.minimum(left + 1, count - 1)
    share = mx.array((place - left).astype(np.float32))
    return weights[..., mx.array(left)] * (1 - share) + weights[..., mx.array(right)] * share


def _fresh_statistics(norm: layers.BatchNorm) -> dict[str, mx.array]:
    zeros = mx.zeros_like(norm.running_mean)
    return {"running_mean": zeros, "running_var": zeros + 1}


def _oihw_reshaped(weight: mx.array) -> mx.array:
    """The torch weight, given MLX's shape without moving an axis."""
    return weight.transpose(0, 3, 1, 2).reshape(weight.shape)


def _fbank(**changes: Any) -> Injection:
    return lambda model: patched(model, "fbank", replace(model.fbank, **changes))


def _flat(x: mx.array) -> mx.array:
    return x.reshape(x.shape[0], -1)


def _rounded() -> Injection:
    """All weights through float16 and back."""

    @contextmanager
    def inject(model: Model) -> Iterator[None]:
        before = model.parameters()
        model.update(tree_map(lambda w: w.astype(mx.float16).astype(mx.float32), before))
        try:
            yield
        finally:
            model.update(before)

    return inject


EMBEDDING = (
    Bug(
        "a BatchNorm after the embedding",
        "embedding",
        "output",
        _behind_embedding(_standardised),
        "voices of one batch are pushed apart, whoever they are",
    ),
    Bug(
        "an untrained BatchNorm after the embedding",
        "embedding",
        "output",
        _behind_embedding(lambda y: y / mx.sqrt(mx.array(1 + 1e-5))),
        "a layer that nobody trained, five parts in a million off",
    ),
    Bug(
        "L2 normalisation of the embedding",
        "embedding",
        "output",
        _behind_embedding(lambda y: y / mx.linalg.norm(y, axis=-1, keepdims=True)),
        "cosines stay, PLDA breaks: it needs the length",
    ),
    Bug(
        "frequency and time swapped",
        "embedding",
        "resnet.conv1.input",
        _swapped_image(),
        "the image lies on its side",
    ),
    Bug(
        "pooling over frequency",
        "embedding",
        "resnet.pool",
        _pool_axes(lambda x, masks: (x.swapaxes(1, 2), masks)),
        "statistics over the wrong axis",
    ),
    Bug(
        "biased standard deviation",
        "embedding",
        "resnet.pool",
        code(pooling, "weighted_stats", _biased),
        "short turns drift most",
    ),
    Bug(
        "frequency-major flattening",
        "embedding",
        "resnet.pool",
        code(pooling, "flatten", _flat),
        "the same shape, other voices",
    ),
    Bug(
        "running statistics not loaded",
        "embedding",
        "resnet.bn1",
        every(layers.BatchNorm, _fresh_statistics),
        "the network hears another loudness at every layer",
    ),
    Bug(
        "train mode",
        "embedding",
        "resnet.bn1",
        code(layers.BatchNorm, "__call__", _batch_statistics),
        "an embedding depends on its neighbours in the batch",
    ),
    Bug(
        "BatchNorm with eps 1e-3",
        "embedding",
        "resnet.bn1",
        code(layers, "EPSILON", 1e-3),
        "quiet channels shrink",
    ),
    Bug(
        "a BatchNorm dropped",
        "embedding",
        "resnet.layer1.0.bn1",
        attribute("resnet.layer1.0.bn1", lambda norm: Identity()),
        "one layer's scale is lost",
    ),
    Bug(
        "convolution height and width swapped",
        "embedding",
        "resnet.conv1",
        attribute("resnet.conv1.weight", lambda w: w.transpose(0, 2, 1, 3)),
        "edges in time become edges in pitch",
    ),
    Bug(
        "convolution reshaped, not transposed",
        "embedding",
        "resnet.layer1.0.conv1",
        attribute("resnet.layer1.0.conv1.weight", _oihw_reshaped),
        "the right shape, scrambled kernels",
    ),
    Bug(
        "the first convolution reshaped, not transposed",
        "embedding",
        "",
        attribute("resnet.conv1.weight", _oihw_reshaped),
        "one input channel: both orders are the same bytes",
    ),
    Bug(
        "weights rounded to float16 and called float32",
        "embedding",
        "resnet.conv1",
        _rounded(),
        "eleven bits where twenty-four are claimed",
    ),
    Bug(
        "a tensor left at its initial values",
        "embedding",
        "resnet.seg_1",
        attribute("resnet.seg_1.bias", mx.zeros_like),
        "loaded with strict=False, nobody noticed",
    ),
    Bug(
        "fbank with Hann for Hamming",
        "embedding",
        "fbank",
        _fbank(window_type="hanning"),
        "every bin off a little",
    ),
    Bug(
        "fbank without the 2^15 scale",
        "embedding",
        "fbank",
        code(fbank, "FULL_SCALE", 1.0),
        "mean removal hides it, but for bins that reach the floor",
    ),
    Bug(
        "fbank without mean removal",
        "embedding",
        "fbank",
        code(fbank.Fbank, "center", lambda self, features: mx.zeros_like(features[:, :1])),
        "the microphone becomes part of the voice",
    ),
    Bug(
        "fbank without pre-emphasis",
        "embedding",
        "fbank",
        code(fbank, "PRE_EMPHASIS", 0.0),
        "high bands fade",
    ),
    Bug(
        "masks interpolated linearly",
        "embedding",
        "resnet.pool",
        code(pooling, "resample", _linear_masks),
        "frames at the edge of a turn count in part",
    ),
    Bug(
        "masks transposed",
        "embedding",
        "resnet.pool",
        _pool_axes(lambda x, masks: (x, None if masks is None else masks.swapaxes(1, 2))),
        "speakers and frames change places",
    ),
    Bug(
        "pooling without its 1e-8",
        "embedding",
        "resnet.pool",
        code(pooling, "TINY", 0.0),
        "an empty mask becomes NaN",
    ),
)

# --- segmentation -----------------------------------------------------------------------------


def _gates_permuted(weight: mx.array) -> mx.array:
    """i, f, g, o -> i, f, o, g: the order of another framework."""
    i, f, g, o = mx.split(weight, 4)
    return mx.concatenate([i, f, o, g])


def _reverse_once() -> Injection:
    """The input is turned round, the output is not turned back."""

    @contextmanager
    def inject(model: Model) -> Iterator[None]:
        right, calls = lstm.reverse, [0]

        def reverse(x: mx.array) -> mx.array:
            calls[0] += 1
            return right(x) if calls[0] % 2 else x

        with patched(lstm, "reverse", reverse):
            yield

    return inject


def _directions_swapped(model: Model) -> AbstractContextManager[None]:
    layer = model.lstm[0]
    return _both(layer, layer.forward, layer.backward)


@contextmanager
def _both(layer: Any, forward: Any, backward: Any) -> Iterator[None]:
    layer.forward, layer.backward = backward, forward
    try:
        yield
    finally:
        layer.forward, layer.backward = forward, backward


def _tensors_swapped(model: Model) -> AbstractContextManager[None]:
    @contextmanager
    def inject(low: mx.array, band: mx.array) -> Iterator[None]:
        sinc = model.sincnet.conv[0]
        sinc.low_hz, sinc.band_hz = band, low
        try:
            yield
        finally:
            sinc.low_hz, sinc.band_hz = low, band

    return inject(model.sincnet.conv[0].low_hz, model.sincnet.conv[0].band_hz)


class _Numpy:
    """numpy, but ``abs`` does nothing."""

    def __getattr__(self, name: str) -> Any:
        return (lambda x: x) if name == "abs" else getattr(np, name)


def _edges_swapped() -> Injection:
    """Filters built from the upper edge to the lower one."""

    def filters(low: Any, band: Any, window: Any, time: Any, nyquist: float) -> Any:
        start = sincnet.MIN_LOW_HZ + np.abs(low)
        end = np.clip(start + sincnet.MIN_BAND_HZ + np.abs(band), sincnet.MIN_LOW_HZ, nyquist)
        width = 2 * (start - end)
        taper = window / (time / 2)
        even = (np.sin(start @ time) - np.sin(end @ time)) * taper / width
        odd = (np.cos(end @ time) - np.cos(start @ time)) * taper / width
        cosines = np.concatenate([even, np.ones_like(width), even[:, ::-1]], axis=1)
        sines = np.concatenate([odd, np.zeros_like(width), -odd[:, ::-1]], axis=1)
        return np.concatenate([cosines, sines])

    return _refiltered(sincnet, "_filters", filters)


def _refiltered(owner: Any, name: str, value: Any) -> Injection:
    """Like ``code``, for what the filters are made with: they are kept between calls."""

    @contextmanager
    def inject(model: Model) -> Iterator[None]:
        sinc = model.sincnet.conv[0]
        with patched(sinc, "_made", None), patched(owner, name, value):
            yield

    return inject


def _rows_permuted(x: mx.array) -> mx.array:
    """Classes none, 0, 1, 2, 01, 02, 12 with the last two exchanged."""
    return x[mx.array([0, 1, 2, 3, 4, 6, 5])]


def _classes_permuted(model: Model) -> AbstractContextManager[None]:
    @contextmanager
    def inject(weight: mx.array, bias: mx.array) -> Iterator[None]:
        head = model.classifier
        head.weight, head.bias = _rows_permuted(weight), _rows_permuted(bias)
        try:
            yield
        finally:
            head.weight, head.bias = weight, bias

    return inject(model.classifier.weight, model.classifier.bias)


SEGMENTATION = (
    Bug(
        "LSTM gates permuted",
        "segmentation",
        "lstm.0.forward",
        attribute("lstm.0.forward.Wx", _gates_permuted),
        "cell and output gate change places",
    ),
    Bug(
        "a bias dropped",
        "segmentation",
        "lstm.1.forward",
        attribute("lstm.1.forward.bias", mx.zeros_like),
        "one of torch's two biases, or both, forgotten",
    ),
    Bug(
        "a bias added twice",
        "segmentation",
        "lstm.1.backward",
        attribute("lstm.1.backward.bias", lambda bias: 2 * bias),
        "two biases became one, which was then added for both",
    ),
    Bug(
        "the reverse direction not turned back",
        "segmentation",
        "lstm.0.backward",
        _reverse_once(),
        "the end of the clip is heard at its start",
    ),
    Bug(
        "directions swapped",
        "segmentation",
        "lstm.0.forward",
        _directions_swapped,
        "the future is read as the past",
    ),
    Bug(
        "ReLU for leaky ReLU in SincNet",
        "segmentation",
        "sincnet.conv.1.input",
        code(sincnet, "leaky_relu", layers.relu),
        "a hundredth of every negative value is missing",
    ),
    Bug(
        "ReLU for leaky ReLU between linear layers",
        "segmentation",
        "linear.1.input",
        code(pyannet, "leaky_relu", layers.relu),
        "a hundredth of every negative value is missing",
    ),
    Bug(
        "sinc low and band swapped",
        "segmentation",
        "sincnet.conv.0",
        _tensors_swapped,
        "other filters altogether",
    ),
    Bug(
        "sinc filters built from high to low",
        "segmentation",
        "",
        _edges_swapped(),
        "numerator and bandwidth change sign together",
    ),
    Bug(
        "sinc output without abs",
        "segmentation",
        "sincnet.norm.0.input",
        code(mx, "abs", lambda x: x),
        "the envelope is lost",
    ),
    Bug(
        "sinc frequencies without abs",
        "segmentation",
        "sincnet.conv.0",
        _refiltered(sincnet, "np", _Numpy()),
        "negative frequencies give other bands",
        idle=lambda model: (
            not bool((model.sincnet.conv[0].low_hz < 0).any())
            and not bool((model.sincnet.conv[0].band_hz < 0).any())
        ),
    ),
    Bug(
        "InstanceNorm without its affine",
        "segmentation",
        "sincnet.wav_norm",
        every(
            layers.InstanceNorm,
            lambda norm: {"weight": mx.ones_like(norm.weight), "bias": mx.zeros_like(norm.bias)},
        ),
        "learnt levels are lost",
    ),
    Bug(
        "log-softmax missing",
        "segmentation",
        "output",
        code(pyannet, "ACTIVATIONS", {"log_softmax": lambda x: x, "sigmoid": lambda x: x}),
        "scores that are no log-probabilities",
    ),
    Bug(
        "softmax for log-softmax",
        "segmentation",
        "output",
        code(pyannet, "ACTIVATIONS", {"log_softmax": lambda x: mx.softmax(x, axis=-1)}),
        "thresholds on log-probabilities mean something else",
    ),
    Bug(
        "powerset classes permuted",
        "segmentation",
        "classifier",
        _classes_permuted,
        "two pairs of speakers change places",
    ),
    Bug(
        "convolution reshaped, not transposed",
        "segmentation",
        "sincnet.conv.1",
        attribute("sincnet.conv.1.weight", lambda w: w.transpose(0, 2, 1).reshape(w.shape)),
        "the right shape, scrambled kernels",
    ),
    Bug(
        "a tensor left at its initial values",
        "segmentation",
        "linear.0",
        attribute("linear.0.weight", lambda w: mx.random.uniform(-0.06, 0.06, w.shape)),
        "loaded with strict=False, nobody noticed",
    ),
    Bug(
        "weights rounded to float16 and called float32",
        "segmentation",
        "sincnet.wav_norm",
        _rounded(),
        "eleven bits where twenty-four are claimed",
    ),
)

BUGS = (*SEGMENTATION, *EMBEDDING)

# --- the harness against them -----------------------------------------------------------------


@dataclass(frozen=True)
class Finding:
    """What the harness said of one bug."""

    bug: Bug
    where: str  # the tap at which it must show with these weights; "" where it changes nothing
    found: str  # the first tap that failed, "" if none did
    noise_ratio: float  # there, or the largest of all where nothing failed
    architecture: str = ""  # of the network that was spoilt

    @property
    def right(self) -> bool:
        """Caught at the tap where it sits; or, where it changes nothing, not called a bug."""
        return self.found == self.where


def examine(
    source: str | Path, *, progress: Callable[[str, int, int], None] = lambda *_: None
) -> list[Finding]:
    """Port the network at ``source``, see that the port is right, then spoil it bug by bug."""
    from samevoice.converters.convert import Options, convert, prepare
    from samevoice.parity.candidate import Candidate
    from samevoice.parity.reference import Reference

    part = prepare(source, model_type="auto", options=Options()).parts[0]
    reference = Reference.load(part)
    with TemporaryDirectory() as folder:
        convert(source, Path(folder) / "port")
        candidate = Candidate.load(Path(folder) / "port", "cpu")
        chosen = examples(part.family.role)
        traces, order = [trace(reference, one) for one in chosen], order_of(reference, chosen)
        bugs = [bug for bug in BUGS if bug.family == part.family.role]
        _refuse_wrong_port(_spoilt(RIGHT, candidate, traces, order))
        found = []
        for done, bug in enumerate(bugs):
            progress(bug.name, done, len(bugs))
            found.append(_spoilt(bug, candidate, traces, order))
    if part.family.role == "segmentation":
        found += [_decided(traces, dtype) for dtype in ("float32", "float16")]
    progress("", len(bugs), len(bugs))
    return [replace(one, architecture=str(part.config["architecture"])) for one in found]


# The port with nothing wrong in it: the harness must be silent about it.
RIGHT = Bug("nothing", "", "", lambda model: nullcontext(), "")


def _refuse_wrong_port(finding: Finding) -> None:
    if finding.found:
        raise ParityError(
            f"the port fails at {finding.found!r} before any bug was injected: mend it first"
        )


def _spoilt(bug: Bug, candidate: Candidate, traces: list[Trace], order: list[str]) -> Finding:
    """The verdict on the candidate with one bug in it."""
    family = str(candidate.network.config["model_type"])
    expected = "" if bug.idle(candidate.network) else bug.where
    with bug.inject(candidate.network):
        limits = limits_for(family, "float32", "cpu")
        verdict = compare_traces(traces, candidate, limits, order=order)
    first = verdict.failed[0] if verdict.failed else None
    ratio = first.judged_ratio if first else max(tap.judged_ratio for tap in verdict.taps)
    found = first.name if first else ("task" if verdict.task_reasons else "")
    return Finding(bug, expected, found, ratio)


def examples(family: str) -> list[Example]:
    """Few and short, but with all that a bug needs to show: speech, quiet, masks of every kind."""
    speech = sample()[7 * RATE : 8 * RATE]
    quiet = speech[: RATE // 2] * np.float32(2.0**-13)
    if family == "segmentation":
        heard = batch([speech, noise(len(speech), seed=3)])
        return [Example("speech and noise", heard, depth="full", labels=("", ""))]
    heard = batch([speech[: RATE // 2], speech[RATE // 2 :]])
    labels = tuple(f"voice {n}" for n in range(10))
    return [
        Example("masks", heard, masks(2, 29), depth="full", labels=labels),
        Example("soft masks", heard, _soft_masks(), depth="free"),
        Example("no masks", batch([quiet]), depth="free"),
    ]


def _soft_masks() -> np.ndarray:
    """(2, 1, 29): fractions, so that reading between two frames gives another value."""
    return np.random.default_rng(5).random((2, 1, 29)).astype(np.float32)


def _decided(traces: list[Trace], dtype: str) -> Finding:
    """Softmax before the argmax: it cannot move a maximum, but in few bits it makes ties."""
    logits = np.concatenate([one.plain.outputs["output"] for one in traces])
    soft = np.exp(logits - logits.max(axis=-1, keepdims=True)).astype(dtype)
    soft = (soft / soft.sum(axis=-1, keepdims=True, dtype=dtype)).astype(dtype)
    flips = int((soft.argmax(axis=-1) != logits.argmax(axis=-1)).sum())
    share = f"{flips} of {logits[..., 0].size} decisions fall into ties"
    bug = Bug(
        f"softmax before argmax in {dtype}",
        "segmentation",
        "decisions" if flips else "",
        RIGHT.inject,
        share if flips else "no decision changes on these inputs",
    )
    return Finding(bug, bug.where, bug.where, float(flips))
