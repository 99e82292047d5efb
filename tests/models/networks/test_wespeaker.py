from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from samevoice.models import registry
from samevoice.models.layers import taps
from samevoice.models.networks.wespeaker import LAYOUTS


@pytest.fixture(scope="module")
def pair(pyannote: Any, make: Any) -> tuple[Any, Any]:
    theirs = pyannote.wespeaker("WeSpeakerResNet34")
    return theirs, make.loaded(make.wespeaker_config(), make.wespeaker_weights(theirs))


def masks(batch: int, frames: int) -> np.ndarray[Any, Any]:
    """(B, 4, frames): some frames, all of them, none, three."""
    some = np.random.default_rng(1).random((batch, 4, frames)) > 0.4
    some[:, 1], some[:, 2:] = True, False
    some[:, 3, 5 : frames : frames // 3] = True
    return some.astype(np.float32)


def test_without_masks(pyannote: Any, make: Any, pair: Any, speech: Any) -> None:
    assert make.noise(pyannote, *pair, speech) < 2


def test_one_mask_each(pyannote: Any, make: Any, pair: Any, speech: Any) -> None:
    assert make.noise(pyannote, *pair, speech, masks(2, 117)[:, 0]) < 2


@pytest.mark.parametrize("which", range(4), ids=["some", "full", "empty", "three"])
def test_several_masks(pyannote: Any, make: Any, pair: Any, speech: Any, which: int) -> None:
    theirs, ours = pair
    given = masks(2, 117)
    truth, plain = pyannote.run(theirs, speech, given)
    got = np.array(ours(mx.array(speech), mx.array(given)))
    assert got.shape == (2, 4, 256)
    assert make.noise_ratio(truth[:, which], plain[:, which], got[:, which]) < 2


def test_empty_mask_is_the_bias(pair: Any, speech: Any) -> None:
    _, ours = pair
    got = ours(mx.array(speech), mx.zeros((2, 1, 117)))[:, 0]
    np.testing.assert_array_equal(np.array(got[0]), np.array(ours.resnet.seg_1.bias))


def test_one_pass_for_any_number_of_masks(pair: Any, speech: Any) -> None:
    _, ours = pair
    x, given = mx.array(speech), mx.array(masks(2, 117))
    features = ours.compute_fbank(x)
    frames = ours.frames(features)
    want = np.array(ours(x, given))
    np.testing.assert_array_equal(np.array(ours.embed(frames, given)), want)
    np.testing.assert_array_equal(np.array(ours(features, given)), want)
    for s in range(4):
        single = np.array(ours.embed(frames, given[:, s]))
        np.testing.assert_allclose(single, want[:, s], atol=1e-6)


def test_batch_is_item_by_item(pair: Any, speech: Any) -> None:
    _, ours = pair
    x = mx.array(speech)
    np.testing.assert_allclose(np.array(ours(x))[1:], np.array(ours(x[1:])), atol=1e-6)


def test_bottlenecks(pyannote: Any, make: Any, speech: Any) -> None:
    theirs = pyannote.wespeaker("WeSpeakerResNet152")
    config = make.wespeaker_config("WeSpeakerResNet152")
    ours = make.loaded(config, make.wespeaker_weights(theirs))
    assert make.noise(pyannote, theirs, ours, speech[:1, :, :8000]) < 2


@pytest.mark.parametrize("name", LAYOUTS)
def test_names_and_shapes_as_pyannote(pyannote: Any, make: Any, name: str) -> None:
    theirs = make.wespeaker_weights(getattr(pyannote.embedding, name)())
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    ours = registry.build(make.wespeaker_config(name))
    assert make.shapes(ours) == {key: value.shape for key, value in theirs.items()}
    assert mx.get_peak_memory() - before < 1 << 22


def test_second_embedding_layer(make: Any) -> None:
    model = registry.build(make.wespeaker_config(two_emb_layer=True))
    shapes = make.shapes(model)
    assert shapes["resnet.seg_2.weight"] == (256, 256)
    assert shapes["resnet.seg_bn_1.running_var"] == (256,)
    assert model(mx.zeros((1, 8000))).shape == (1, 256)


def test_taps_see_every_layer_and_change_little(make: Any, pair: Any, speech: Any) -> None:
    _, ours = pair
    x = mx.array(speech)
    with taps.listen(ours) as heard:
        watched = np.array(ours(x))
    np.testing.assert_allclose(watched, np.array(ours(x)), atol=1e-6)
    layers = {name.rsplit(".", 1)[0] for name in make.shapes(ours)}
    blocks = {f"resnet.{path}" for path, _ in ours.resnet.blocks}
    assert set(heard.outputs) == layers | blocks | {"fbank", "resnet.pool", "output"}
    assert next(iter(heard.outputs)) == "fbank"


def test_teacher_forcing_a_block(pair: Any, speech: Any) -> None:
    _, ours = pair
    x = mx.array(speech)
    with taps.listen(ours) as heard:
        ours(x)
    with taps.listen(ours, {"resnet.layer4.2": mx.zeros_like(heard.inputs["resnet.layer4.2"])}):
        loud, quiet = (np.array(ours(y)) for y in (x, x * 0.01))
    np.testing.assert_array_equal(loud, quiet)


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_half_precision(make: Any, pair: Any, speech: Any, dtype: mx.Dtype) -> None:
    theirs, ours = pair
    half = make.loaded(make.wespeaker_config(), make.wespeaker_weights(theirs))
    half.set_dtype(dtype)
    x, given = mx.array(speech), mx.array(masks(2, 117))
    want, got = np.array(ours(x, given)), half(x, given)
    assert got.dtype == mx.float32
    norms = np.linalg.norm(want, axis=-1) * np.linalg.norm(np.array(got), axis=-1)
    assert ((want * np.array(got)).sum(axis=-1) / norms).min() > 0.99


def test_masks_of_another_batch_are_refused(pair: Any) -> None:
    _, ours = pair
    with pytest.raises(ValueError, match="do not fit"):
        ours(mx.zeros((2, 8000)), mx.ones((1, 3, 50)))
