"""pyannote's own modules beside ours: one set of weights, one input, three answers."""

from __future__ import annotations

# Before mlx, or MLX stays on the reference BLAS: thirty times slower, and less exact than torch's.
import samevoice.models  # noqa: F401

# isort: split
import importlib
import os
import sys
import types
from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from samevoice.models import registry
from samevoice.models.network import Network

Array = np.ndarray[Any, np.dtype[Any]]


class Pyannote:
    """What the tests need of torch and pyannote, imported once."""

    def __init__(self) -> None:
        os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "0")
        self.torch: Any = pytest.importorskip("torch")
        try:
            importlib.import_module("torchaudio")
        except (ImportError, OSError):
            _stub_torchaudio_extension()
        audio = pytest.importorskip("pyannote.audio", exc_type=ImportError)
        self.Model: Any = audio.Model
        self.Specifications: Any = importlib.import_module("pyannote.audio.core.task")
        self.segmentation: Any = importlib.import_module("pyannote.audio.models.segmentation")
        self.embedding: Any = importlib.import_module("pyannote.audio.models.embedding")
        self.kaldi: Any = importlib.import_module("torchaudio.compliance.kaldi")
        self.torch.set_num_threads(2)

    def pyannet(
        self, lstm: Mapping[str, Any], linear: Mapping[str, Any], powerset: bool = True
    ) -> Any:
        task = self.Specifications
        self.torch.manual_seed(7)
        model = self.segmentation.PyanNet(lstm=dict(lstm), linear=dict(linear))
        kind = "MONO_LABEL_CLASSIFICATION" if powerset else "MULTI_LABEL_CLASSIFICATION"
        model.specifications = task.Specifications(
            problem=getattr(task.Problem, kind),
            resolution=task.Resolution.FRAME,
            duration=10.0,
            classes=["a", "b", "c"],
            powerset_max_classes=2 if powerset else None,
            permutation_invariant=True,
        )
        model.build()
        return self.unsettle(model)

    def wespeaker(self, name: str, **options: Any) -> Any:
        self.torch.manual_seed(7)
        return self.unsettle(getattr(self.embedding, name)(**options))

    def unsettle(self, model: Any) -> Any:
        """Norms that are not the identity: statistics and scales away from 0 and 1."""
        torch = self.torch
        norms = (torch.nn.BatchNorm2d, torch.nn.InstanceNorm1d)
        for norm in (m for m in model.modules() if isinstance(m, norms)):
            torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
            torch.nn.init.uniform_(norm.bias, -0.3, 0.3)
            if norm.running_mean is not None:
                torch.nn.init.uniform_(norm.running_mean, -0.3, 0.3)
                torch.nn.init.uniform_(norm.running_var, 0.5, 2.0)
        return model.eval()

    def run(self, model: Any, *inputs: Array) -> tuple[Array, Array]:
        """The model's output in float64 (the truth) and in float32 (what people run)."""
        torch = self.torch
        with torch.inference_mode():
            plain = model.float()(*(torch.from_numpy(x).float() for x in inputs)).numpy()
            truth = model.double()(*(torch.from_numpy(x).double() for x in inputs)).numpy()
        model.float()
        return truth, plain


def _stub_torchaudio_extension() -> None:
    """torchaudio's native part wants CUDA libraries; its Python parts are all that is used."""
    for name in [n for n in sys.modules if n.split(".")[0] == "torchaudio"]:
        del sys.modules[name]
    stub: Any = types.ModuleType("torchaudio._extension")
    stub._IS_TORCHAUDIO_EXT_AVAILABLE = False
    stub._IS_ALIGN_AVAILABLE = False
    stub.fail_if_no_align = lambda function: function
    stub._check_cuda_version = lambda: None
    sys.modules["torchaudio._extension"] = stub
    importlib.import_module("torchaudio")


def shapes(model: Network) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in arrays(model).items()}


def arrays(model: Network) -> dict[str, mx.array]:
    flat: Any = tree_flatten(model.parameters())
    return dict(flat)


def pyannet_config(**changes: Any) -> dict[str, Any]:
    base = {
        "model_type": "segmentation",
        "architecture": "PyanNet",
        "sample_rate": 16000,
        "num_channels": 1,
        "sincnet": {"stride": 10},
        "lstm": {"hidden_size": 8, "num_layers": 2, "bidirectional": True, "monolithic": True},
        "linear": {"hidden_size": 8, "num_layers": 2},
        "num_classes": 7,
        "activation": "log_softmax",
    }
    return base | changes


def wespeaker_config(architecture: str = "WeSpeakerResNet34", **changes: Any) -> dict[str, Any]:
    base = {
        "model_type": "embedding",
        "architecture": architecture,
        "sample_rate": 16000,
        "num_mel_bins": 80,
        "frame_length": 25.0,
        "frame_shift": 10.0,
        "round_to_power_of_two": True,
        "snip_edges": True,
        "dither": 0.0,
        "window_type": "hamming",
        "use_energy": False,
        "fbank_centering_span": None,
        "m_channels": 32,
        "embed_dim": 256,
        "two_emb_layer": False,
    }
    return base | changes


def pyannet_weights(model: Any) -> dict[str, Array]:
    """pyannote's PyanNet by the names and layouts of ours."""
    state = {k: v.detach().float().numpy() for k, v in model.state_dict().items()}
    out: dict[str, Array] = {}
    for name, value in state.items():
        if name.startswith("lstm."):
            continue
        new = name.replace("wav_norm1d", "wav_norm").replace("norm1d", "norm")
        new = new.replace("conv1d.0.filterbank", "conv.0").replace("conv1d", "conv")
        new = new.replace("low_hz_", "low_hz").replace("band_hz_", "band_hz")
        new = new.replace("window_", "window").replace("n_", "time")
        out[new] = value.transpose(0, 2, 1) if new.endswith("weight") and value.ndim == 3 else value
    for name, value in state.items():
        if "weight_ih" in name:
            stem, _, number = name.rpartition("weight_ih_l")
            layer = stem.split(".")[1] or number.removesuffix("_reverse")
            way = "backward" if number.endswith("_reverse") else "forward"
            out[f"lstm.{layer}.{way}.Wx"] = value
            out[f"lstm.{layer}.{way}.Wh"] = state[f"{stem}weight_hh_l{number}"]
            biases = state[f"{stem}bias_ih_l{number}"], state[f"{stem}bias_hh_l{number}"]
            out[f"lstm.{layer}.{way}.bias"] = biases[0] + biases[1]
    return out


def wespeaker_weights(model: Any) -> dict[str, Array]:
    """pyannote's ResNet by the names and layouts of ours."""
    state = {k: v.detach().float().numpy() for k, v in model.state_dict().items()}
    return {
        name: value.transpose(0, 2, 3, 1) if value.ndim == 4 else value
        for name, value in state.items()
        if not name.endswith("num_batches_tracked")
    }


def loaded(config: Mapping[str, Any], weights: Mapping[str, Array]) -> Network:
    model = registry.build(config)
    model.load_weights([(k, mx.array(v)) for k, v in weights.items()], strict=True)
    return model


def rms(x: Array) -> float:
    return float(np.sqrt(np.mean(np.square(x.astype(np.float64)))))


def noise_ratio(truth: Array, plain: Array, ours: Array) -> float:
    """Our RMS error over torch float32's."""
    assert truth.shape == plain.shape == ours.shape
    return rms(ours - truth) / max(rms(plain - truth), 1e-12 * rms(truth))


class Make:
    """The helpers above, for tests to take as a fixture."""

    arrays = staticmethod(arrays)
    shapes = staticmethod(shapes)
    pyannet_config = staticmethod(pyannet_config)
    wespeaker_config = staticmethod(wespeaker_config)
    pyannet_weights = staticmethod(pyannet_weights)
    wespeaker_weights = staticmethod(wespeaker_weights)
    loaded = staticmethod(loaded)
    rms = staticmethod(rms)
    noise_ratio = staticmethod(noise_ratio)

    def noise(self, pyannote: Pyannote, theirs: Any, ours: Network, *inputs: Array) -> float:
        """How much further from the float64 truth we are than torch's float32."""
        truth, plain = pyannote.run(theirs, *inputs)
        return noise_ratio(truth, plain, np.array(ours(*(mx.array(x) for x in inputs))))


@pytest.fixture(scope="session")
def make() -> Make:
    return Make()


@pytest.fixture(scope="session")
def pyannote() -> Pyannote:
    return Pyannote()


@pytest.fixture(scope="session")
def speech() -> Array:
    """(2, 1, 32000): noise that comes and goes, and a chord."""
    rng = np.random.default_rng(3)
    time = np.arange(32000) / 16000
    envelope = 0.05 + np.clip(np.sin(2 * np.pi * 2.5 * time), 0, None)
    noise = rng.standard_normal((2, 1, 32000)) * envelope * 0.1
    chord = sum(0.05 * np.sin(2 * np.pi * f * time) for f in (120.0, 240.0, 1130.0))
    return (noise + chord).astype(np.float32)
