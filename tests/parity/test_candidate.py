"""The port's side: what is recorded is what runs, and a port that breaks off says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import mlx.core as mx
import numpy as np
import pytest

from samevoice.models import registry
from samevoice.models.layers import taps
from samevoice.models.network import Network
from samevoice.parity.candidate import Candidate, as_numpy
from samevoice.parity.inputs import Example, batch, noise
from samevoice.parity.roles.embedding import masks

SOUND = Example("noise", batch([noise(4000), noise(4000, seed=1)]))


def pyannet(**changes: Any) -> Network:
    config: Mapping[str, Any] = {
        "architecture": "PyanNet",
        "sincnet": {"stride": 10},
        "lstm": {"hidden_size": 8, "num_layers": 2, "bidirectional": True},
        "linear": {"hidden_size": 8, "num_layers": 2},
        "num_classes": 7,
        "activation": "log_softmax",
    }
    mx.random.seed(0)
    return registry.build({**config, **changes})


def test_the_recorded_run_is_the_free_one() -> None:
    candidate = Candidate(pyannet(), "cpu")
    recorded = candidate.record(SOUND).outputs["output"]
    np.testing.assert_allclose(recorded, candidate.try_run(SOUND)[0]["output"], atol=1e-6)


def test_inputs_are_noted_as_they_came_and_layers_take_what_they_are_fed() -> None:
    candidate = Candidate(pyannet(), "cpu")
    free = candidate.record(SOUND)
    zeros = np.zeros_like(free.inputs["linear.1"])
    forced = candidate.record(SOUND, fed={"linear.1": zeros})
    np.testing.assert_array_equal(forced.inputs["linear.1"], free.inputs["linear.1"])
    bias = as_numpy(candidate.network["linear"][1].bias)
    np.testing.assert_allclose(forced.outputs["linear.1"], np.broadcast_to(bias, zeros.shape))


def test_listening_ends_with_the_run() -> None:
    network = pyannet()
    kinds = [type(one) for one in network.modules()]  # type: ignore[no-untyped-call]
    Candidate(network, "cpu").record(SOUND)
    assert [type(one) for one in network.modules()] == kinds  # type: ignore[no-untyped-call]
    assert not taps.active()


def test_a_port_that_breaks_off_leaves_what_it_gave(monkeypatch: pytest.MonkeyPatch) -> None:
    network = pyannet()
    network["classifier"].weight = mx.zeros((7, 9))
    candidate = Candidate(network, "cpu")
    seen = candidate.record(SOUND)
    assert "linear.1" in seen.outputs
    assert "output" not in seen.outputs
    assert "Error" in seen.error
    output, why = candidate.try_run(SOUND)
    assert not output
    assert why
    assert "\n" not in why


def test_the_device_is_put_back() -> None:
    before = mx.default_device()
    assert Candidate(pyannet(), "cpu").try_run(SOUND)[1] == ""
    assert mx.default_device() == before


def test_bfloat16_keeps_its_bits() -> None:
    x = mx.array([1.0, -2.5, 3.14159], dtype=mx.bfloat16)
    array = as_numpy(x)
    assert array.dtype == ml_dtypes.bfloat16
    assert array.astype(np.float32).tolist() == x.astype(mx.float32).tolist()


def test_the_weights_of_one_tap() -> None:
    found = Candidate(pyannet(), "cpu").weights("lstm.1.backward")
    assert {name.rpartition(".")[2] for name in found} == {"Wx", "Wh", "bias"}
    assert all(name.startswith("lstm.1.backward.") for name in found)
    assert Candidate(pyannet(), "cpu").weights("output") == {}


def test_masks_reach_the_embedding() -> None:
    config = {"architecture": "WeSpeakerResNet34", "m_channels": 8, "embed_dim": 16}
    candidate = Candidate(registry.build(config), "cpu")
    example = Example("x", batch([noise(4000)]), masks(1, 30))
    assert candidate.try_run(example)[0]["output"].shape == (1, 5, 16)
