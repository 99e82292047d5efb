"""``samevoice doctor --self-test``: is the fast code right on every device of this machine?

Each fast form runs beside the plain form that it replaces, and both are compared with float64 on
the host. Then PyTorch's outputs of a release are replayed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samevoice.doctor import State
from samevoice.models import backend, fast  # isort: split

import mlx.core as mx

from samevoice.converters.bundle import SUMS
from samevoice.errors import SamevoiceError
from samevoice.models.diarization import compiled, powerset
from samevoice.models.fast import lstm_kernel
from samevoice.models.fast.check import CheckResult, check, first_line
from samevoice.models.layers import BatchNorm, Conv2d, Module, as_float64, lstm
from samevoice.models.layers.lstm import LSTM
from samevoice.models.layers.residual import Block
from samevoice.models.networks.wespeaker import LAYOUTS, ResNet
from samevoice.parity import golden, replay, textbook

if TYPE_CHECKING:
    from samevoice.models.backend import Choice

UNITS = 128  # of pyannote's segmentation
TF32 = "MLX_ENABLE_TF32"
# What a plain form may err by, over the truth's RMS. Right ones measured on a CPU: float32 2e-7 at
# most, float16 6e-4, bfloat16 6e-3; TF32 has float16's digits. What is wrong errs by 0.1 and more.
MOST = {"float32": 1e-5, "tf32": 0.02, "float16": 0.02, "bfloat16": 0.05}


@dataclass(frozen=True)
class Finding:
    """One line: the device, what was checked, how far off it is, and the verdict.

    ``error`` is a noise ratio: RMS error over that of the plain form; None where there is none.
    """

    device: str
    name: str
    state: State
    error: float | None
    found: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def self_test(releases: Sequence[Path] = ()) -> Iterator[Finding]:
    """One result for each form and device, as each is done."""
    for choice in _devices():
        device = backend.device(choice)
        name = backend.device_name(device)
        for form, test in FORMS:
            with backend.using(device):
                tested = _guarded(name, form, test)
            yield tested
        for release in releases:
            yield _guarded(name, f"golden {release.name}", partial(_replayed, release, choice))
    if not releases:
        yield Finding(
            "-", "golden replay", "missing", None,
            "left out: samevoice doctor --self-test RELEASE",
        )  # fmt: skip


def _devices() -> tuple[Choice, ...]:
    return ("cpu", "gpu") if mx.is_available(mx.Device(mx.gpu)) else ("cpu",)


# What a test finds: the error's figure, the state, and words.
Found = tuple[float | None, State, str]


def _guarded(device: str, name: str, test: Callable[[], Found]) -> Finding:
    """A form that raises is broken, and the others are still tested."""
    try:
        error, state, found = test()
    except SamevoiceError as fault:
        error, state, found = None, "broken", str(fault)
    except Exception as fault:
        error, state, found = None, "broken", first_line(fault)
    return Finding(device, name, state, error, found)


def _judged(result: CheckResult, kind: str, form: str, *, optional: bool = False) -> Found:
    """``optional``: the form is checked before it is used, and left out if it is wrong."""
    off = f"plain form {result.plain:.0e} off"
    if not result.plain <= most(kind):
        return None, "broken", f"{off} float64: wrong on this device"
    if not result.fault:
        return result.ratio, "good", f"{form}, noise ratio {result.ratio:.2f}; {off}"
    error = result.ratio if np.isfinite(result.ratio) else None
    if optional:
        return error, "missing", f"{form} left out: {result.fault}; {off}"
    return error, "broken", f"{form} differs: {result.fault}; {off}"


def most(kind: str) -> float:
    """What a plain form may err by here, relative to the truth."""
    rounds = not backend.on_cpu() and os.environ.get(TF32) != "0"
    return MOST["tf32" if kind == "float32" and rounds else kind]


# The LSTM -----------------------------------------------------------------------------------------


def _lstm(dtype: mx.Dtype) -> Found:
    kind = str(dtype).rpartition(".")[2]
    if backend.on_cpu():
        return _judged(_on_host(dtype), kind, "host form")
    written_in = lstm_kernel.language()
    if written_in is None:
        raise RuntimeError("this GPU is neither Metal's nor CUDA's")
    result = lstm_kernel.examine(written_in, dtype, UNITS, lstm.steps)
    return _judged(result, kind, f"{written_in.maker.partition('_')[0]} kernel", optional=True)


def _on_host(dtype: mx.Dtype) -> CheckResult:
    """The same sample as the kernel's, for the form that takes its inputs before Wx."""
    gates, wh = lstm_kernel.sample(dtype, UNITS)
    layers = [_recurring(one) for one in wh]
    inputs = [gates[:, way] for way in range(len(layers))]
    return check(
        lstm_kernel.truth(gates, wh),
        lambda: mx.stack(lstm.in_graph(inputs, layers), axis=1),
        lambda: mx.stack(lstm.on_host(inputs, layers), axis=1),
    )


def _recurring(wh: mx.array) -> LSTM:
    """(H, 4H) -> a layer that hands its inputs on to the gates as they are."""
    layer = LSTM(1, 1)
    layer.Wx = mx.eye(wh.shape[1], dtype=wh.dtype)
    layer.Wh, layer.bias = wh.T, mx.zeros((wh.shape[1],), dtype=wh.dtype)
    return layer


# The ResNet's trunk -------------------------------------------------------------------------------


def _trunk() -> Found:
    """A CPU runs a form of its own while nobody listens; elsewhere the layers are all there is."""
    resnet, fbank = _small_resnet()
    x = mx.array(fbank.astype(np.float32))
    truth = _trunk_truth(resnet, fbank)
    result = check(truth, lambda: _listened(resnet, x), lambda: resnet.frames(x))
    return _judged(result, "float32", "host form" if backend.on_cpu() else "same layers")


def _listened(resnet: ResNet, x: mx.array) -> mx.array:
    with fast.layer_by_layer():
        return resnet.frames(x)


def _small_resnet() -> tuple[ResNet, np.ndarray]:
    """WeSpeaker's ResNet34 with 4 channels, unsettled norms, and (2, 37, 40) features."""
    rng = np.random.default_rng(21)
    resnet = ResNet(LAYOUTS["WeSpeakerResNet34"], 40, 4, 8, False)
    layers: list[Module] = resnet.modules()  # type: ignore[no-untyped-call]
    for layer in layers:
        if isinstance(layer, Conv2d):
            bound = 1 / np.sqrt(layer.weight[0].size)
            layer.weight = _drawn(rng, -bound, bound, layer.weight.shape)
        elif isinstance(layer, BatchNorm):
            layer.running_mean = _drawn(rng, -0.3, 0.3, layer.running_mean.shape)
            layer.running_var = _drawn(rng, 0.2, 1.0, layer.running_var.shape)
    return resnet, rng.standard_normal((2, 37, 40)).astype(np.float32)


def _drawn(rng: np.random.Generator, low: float, high: float, shape: tuple[int, ...]) -> mx.array:
    return mx.array(rng.uniform(low, high, shape).astype(np.float32))


def _trunk_truth(resnet: ResNet, fbank: np.ndarray) -> np.ndarray:
    """(B, T, M) -> (B, F, T', C) in float64."""
    x = fbank.astype(np.float64).swapaxes(1, 2)[..., None]
    x = np.maximum(_normed(resnet.conv1, resnet.bn1, x), 0)
    for _, block in resnet.blocks:
        x = _block_truth(block, x)
    return x


def _block_truth(block: Block, x: np.ndarray) -> np.ndarray:
    y = x
    for i in range(1, block.depth + 1):
        y = _normed(block[f"conv{i}"], block[f"bn{i}"], y)
        if i < block.depth:
            y = np.maximum(y, 0)
    if "shortcut" in block:
        conv, norm = block.shortcut
        x = _normed(conv, norm, x)
    found: np.ndarray = np.maximum(x + y, 0)
    return found


def _normed(conv: Any, norm: Any, x: np.ndarray) -> np.ndarray:
    """(B, F, T, I) -> (B, F', T', O)."""
    edges = [(conv.padding, conv.padding)] * 2
    settings = {"stride": conv.stride, "padding": edges}
    found = textbook.convolution(x, {"weight": as_float64(conv.weight)}, settings)
    scale, shift = norm.scale_shift()
    whole: np.ndarray = found * scale + shift
    return whole


# The fused steps ----------------------------------------------------------------------------------


def _fused() -> Found:
    """Masks and the pooling's weights must be numpy's to the bit."""
    rng = np.random.default_rng(22)
    scores = rng.standard_normal((3, 589, 7)).astype(np.float32)
    table = powerset.mapping(3, 2)
    masks = powerset.decode(scores, table)
    exact = {
        "masks": (compiled.powerset_masks(mx.array(scores), mx.array(table)), masks),
        "weights": (compiled.embedding_weights(mx.array(masks), 40), _weights(masks, 40)),
    }
    for name, (got, wanted) in exact.items():
        if not np.array_equal(np.array(got), wanted):
            return None, "broken", f"{name} are not what numpy gives"
    return None, "good", "equal to numpy's"


def _weights(masks: np.ndarray, least: int) -> np.ndarray:
    """(B, F, S) -> (B, S, F)."""
    clean = masks * (masks.sum(axis=-1, keepdims=True) < compiled.ALONE)
    enough = clean.sum(axis=1, keepdims=True) > least
    return np.where(enough, clean, masks).swapaxes(1, 2)


FORMS: tuple[tuple[str, Callable[[], Found]], ...] = (
    *((f"LSTM {str(x).rpartition('.')[2]}", partial(_lstm, x)) for x in lstm_kernel.DTYPES),
    ("ResNet trunk", _trunk),
    ("fused steps", _fused),
)


# A release ----------------------------------------------------------------------------------------


def why_not_replayed(folder: Path) -> str:
    """Why this folder cannot be replayed; empty if it can."""
    if not folder.is_dir():
        return f"{folder} is not a folder: name a release"
    if not any((folder / name).exists() for name in (SUMS, f"{golden.FOLDER}/{golden.INDEX}")):
        return f"{folder} has neither a release's {SUMS} nor {golden.FOLDER}/{golden.INDEX}"
    return ""


def _replayed(folder: Path, device: Choice) -> Found:
    """All of a release's checks, the replay among them; of other bundles the replay alone."""
    if not (folder / SUMS).exists():
        verdict = replay.replay(folder, folder / golden.FOLDER, device=device)
        if not verdict.passed:
            return None, "broken", f"it diverges from PyTorch: {verdict.reasons[0]}"
        worst = max(tap.judged_ratio for tap in verdict.taps)
        return worst, "good", f"noise ratio at most {worst:.2f} over {len(verdict.taps)} outputs"
    return _verified(folder, device)


def _verified(folder: Path, device: Choice) -> Found:
    from samevoice.release.verify import verify

    outcomes = list(verify(folder, device=device))
    for one in outcomes:
        if not one.passed:
            return None, "broken", f"{one.name}: {one.says}"
    return None, "good", outcomes[-1].says
