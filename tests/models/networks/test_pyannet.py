from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from samevoice.models import backend, fast, registry
from samevoice.models.layers import taps
from samevoice.models.layers.lstm import BiLSTM

on_cpu = pytest.mark.skipif(not backend.on_cpu(), reason="MLX runs on a GPU here")

LSTMS = [
    {"hidden_size": 8, "num_layers": layers, "bidirectional": both, "monolithic": whole}
    for layers in (1, 2, 3)
    for both in (True, False)
    for whole in (True, False)
]


@pytest.mark.parametrize("lstm", LSTMS, ids=lambda o: "-".join(map(str, o.values())))
def test_lstms(pyannote: Any, make: Any, speech: Any, lstm: dict[str, Any]) -> None:
    theirs = pyannote.pyannet(lstm, {"hidden_size": 6, "num_layers": 1})
    config = make.pyannet_config(lstm=lstm, linear={"hidden_size": 6, "num_layers": 1})
    ours = make.loaded(config, make.pyannet_weights(theirs))
    assert make.noise(pyannote, theirs, ours, speech[..., :16000]) < 2


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("powerset", [True, False])
def test_linear_and_activation(
    pyannote: Any, make: Any, speech: Any, layers: int, powerset: bool
) -> None:
    lstm = {"hidden_size": 8, "num_layers": 1, "bidirectional": True}
    linear = {"hidden_size": 6, "num_layers": layers}
    theirs = pyannote.pyannet(lstm, linear, powerset)
    config = make.pyannet_config(lstm=lstm, linear=linear)
    if not powerset:
        config |= {"num_classes": 3, "activation": "sigmoid"}
    ours = make.loaded(config, make.pyannet_weights(theirs))
    assert make.noise(pyannote, theirs, ours, speech[..., :16000]) < 2


def test_real_weights(pyannote: Any, make: Any, golden: Path, speech: Any) -> None:
    path = golden / "checkpoints/segmentation-3.0-dequantised/pytorch_model.bin"
    theirs = pyannote.Model.from_pretrained(path).eval()
    lstm = {"hidden_size": 128, "num_layers": 4, "bidirectional": True}
    config = make.pyannet_config(lstm=lstm, linear={"hidden_size": 128, "num_layers": 2})
    ours = make.loaded(config, make.pyannet_weights(theirs))
    assert make.noise(pyannote, theirs, ours, speech) < 2


def test_chunks_that_overlap_are_as_near_to_the_truth(
    pyannote: Any, make: Any, golden: Path, speech: Any
) -> None:
    path = golden / "checkpoints/segmentation-3.0-dequantised/pytorch_model.bin"
    theirs = pyannote.Model.from_pretrained(path).eval()
    lstm = {"hidden_size": 128, "num_layers": 4, "bidirectional": True}
    config = make.pyannet_config(lstm=lstm, linear={"hidden_size": 128, "num_layers": 2})
    ours = make.loaded(config, make.pyannet_weights(theirs))
    chunks = np.lib.stride_tricks.sliding_window_view(speech[0, 0], 16000)[::1600]
    truth, plain = pyannote.run(theirs, np.ascontiguousarray(chunks[:, None]))
    assert make.noise_ratio(truth, plain, np.array(ours(chunks))) < 2


@on_cpu
@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("linear", [0, 2])
def test_the_same_as_layer_by_layer(make: Any, both: bool, linear: int) -> None:
    lstm = {"hidden_size": 8, "num_layers": 2, "bidirectional": both}
    config = make.pyannet_config(lstm=lstm, linear={"hidden_size": 8, "num_layers": linear})
    model = registry.build(config)
    x = mx.random.normal((3, 16000)) * 0.1
    with fast.layer_by_layer():
        plain = np.array(model(x))
    whole = np.array(model(x))
    np.testing.assert_allclose(whole, plain, atol=2e-6)
    assert not np.array_equal(whole, plain)  # or the fast form was never taken
    np.testing.assert_array_equal(np.array(model(np.array(x))), whole)


@on_cpu
def test_new_weights_are_seen(make: Any) -> None:
    mx.random.seed(7)
    model: Any = registry.build(make.pyannet_config())
    x = mx.random.normal((1, 8000)) * 0.1
    host = model._on_cpu()
    assert model._on_cpu() is host
    for change in ("sincnet.conv.0.low_hz", "lstm.1.backward.Wh", "classifier.bias"):
        before = np.array(model(x))
        model.load_weights([(change, make.arrays(model)[change] + 0.5)], strict=False)
        after = np.array(model(x))
        assert not np.array_equal(before, after)
        with fast.layer_by_layer():
            np.testing.assert_allclose(after, np.array(model(x)), atol=2e-6)


@on_cpu
def test_layers_of_another_kind_have_no_fast_form(make: Any) -> None:
    class Other(BiLSTM):
        pass

    model: Any = registry.build(make.pyannet_config())
    assert model._on_cpu() is not None
    model.lstm[1] = Other(16, 8, bidirectional=True)
    assert model._on_cpu() is None
    config = make.pyannet_config(linear={"hidden_size": 64, "num_layers": 2})
    quantized: Any = registry.build(config | {"quantization": {"group_size": 32, "bits": 8}})
    assert quantized._on_cpu() is None
    assert quantized(mx.random.normal((1, 8000))).shape[2] == 7


def test_exact_names_and_shapes(make: Any) -> None:
    model = registry.build(make.pyannet_config())
    shapes = make.shapes(model)
    assert shapes["sincnet.wav_norm.weight"] == (1,)
    assert shapes["sincnet.conv.0.low_hz"] == (40, 1)
    assert shapes["sincnet.conv.0.window"] == (125,)
    assert shapes["sincnet.conv.0.time"] == (1, 125)
    assert shapes["sincnet.conv.1.weight"] == (60, 5, 80)
    assert shapes["sincnet.norm.2.bias"] == (60,)
    assert shapes["lstm.1.backward.Wx"] == (32, 16)
    assert shapes["linear.0.weight"] == (8, 16)
    assert shapes["classifier.bias"] == (7,)
    assert len(shapes) == 16 + 2 * 2 * 3 + 2 * 2 + 2


def test_building_a_giant_costs_nothing(make: Any) -> None:
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    lstm = {"hidden_size": 20000, "num_layers": 4, "bidirectional": True}
    model = registry.build(make.pyannet_config(lstm=lstm))
    assert make.shapes(model)["lstm.3.backward.Wx"] == (80000, 40000)
    assert mx.get_peak_memory() - before < 1 << 20


def test_two_shapes_of_input_and_no_other(make: Any) -> None:
    model = registry.build(make.pyannet_config())
    x = mx.random.normal((2, 8000))
    np.testing.assert_array_equal(np.array(model(x)), np.array(model(x[:, None])))
    for wrong in (x[0], mx.zeros((2, 2, 8000))):
        with pytest.raises(ValueError, match="wanted, got"):
            model(wrong)


def test_frames_are_as_many_as_foretold(make: Any) -> None:
    model = registry.build(make.pyannet_config())
    for samples in (991, 1260, 1261, 8000):
        assert model(mx.zeros((1, samples))).shape == (1, model.num_frames(samples), 7)


def test_taps_see_every_layer_and_change_little(make: Any) -> None:
    model = registry.build(make.pyannet_config())
    x = mx.random.normal((1, 8000))
    plain = np.array(model(x))
    with taps.listen(model) as heard:
        watched = np.array(model(x))
    np.testing.assert_allclose(plain, watched, atol=2e-6)
    layers = {name.rsplit(".", 1)[0] for name in make.shapes(model)}
    parts = {"sincnet", "lstm.0", "lstm.1"}
    assert set(heard.outputs) == layers | parts | {"output"}


def test_teacher_forcing_cuts_what_came_before(make: Any) -> None:
    model = registry.build(make.pyannet_config())
    forced = mx.random.normal((1, model.num_frames(8000), 60))
    with taps.listen(model, {"lstm.0.forward": forced, "lstm.0.backward": forced}):
        loud, quiet = (np.array(model(x)) for x in (mx.ones((1, 8000)), mx.zeros((1, 8000))))
    np.testing.assert_array_equal(loud, quiet)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_half_precision(make: Any, dtype: mx.Dtype) -> None:
    model = registry.build(make.pyannet_config())
    x = mx.random.normal((1, 16000)) * 0.1
    want = np.array(model(x))
    names = (f"sincnet.conv.0.{name}" for name in ("low_hz", "band_hz", "window", "time"))
    kept = {name: make.arrays(model)[name] for name in names}
    model.set_dtype(dtype)
    model.load_weights(list(kept.items()), strict=False)
    got = model(x)
    assert got.dtype == mx.float32
    np.testing.assert_allclose(np.exp(np.array(got)), np.exp(want), atol=0.05)
