"""One switch puts every layer into its plain form, and that gives what the fast one gives."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from samevoice.models import backend, fast, registry
from samevoice.models.fast import campplus, cpu, pyannet, resnet

FORMS: tuple[tuple[Any, str], ...] = (
    (campplus.Layers, "__call__"),
    (pyannet.Layers, "__call__"),
    (resnet.Trunk, "__call__"),
    (cpu, "conv1d"),
    (cpu, "conv2d"),
    (cpu, "recur"),
)
CAMPPLUS = {
    "architecture": "CAMPPlus",
    "num_mel_bins": 16,
    "m_channels": 4,
    "init_channels": 30,
    "growth_rate": 2,
    "bn_size": 3,
    "layers": [1, 2, 1],
    "embedding_size": 5,
}


@pytest.mark.skipif(not backend.on_cpu(), reason="MLX runs on a GPU here")
@pytest.mark.parametrize("kind", ["pyannet", "wespeaker", "campplus"])
def test_plain_and_fast_are_one(kind: str, make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mx.random.seed(0)
    configs = {"pyannet": make.pyannet_config, "wespeaker": make.wespeaker_config}
    config = configs[kind]() if kind in configs else CAMPPLUS
    network: Any = registry.build(config)
    x = mx.random.normal((2, 16_000)) * 0.1
    wanted = np.array(network(x))
    taken: list[str] = []

    def counted(own: Any) -> Any:
        def run(*given: Any, **more: Any) -> Any:
            taken.append(own.__name__)
            return own(*given, **more)

        return run

    for owner, name in FORMS:
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    network(x)
    assert taken
    taken.clear()
    with fast.plain_forms():
        assert not fast.on_cpu()
        assert not fast.on_gpu()
        plain = np.array(network(x))
    assert not taken
    np.testing.assert_allclose(plain, wanted, atol=1e-5 * np.abs(wanted).max() + 2e-6)
