"""A GPU that is none: MLX says that it runs on one, and computes on the CPU all the same.

``PYTHONPATH=tests pytest -p made_gpu tests/models`` runs tests as where MLX has a GPU: each takes
the forms for it. Only kernels are left out, as there is nothing that they could run on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import pytest

import samevoice.models  # noqa: F401, before any mlx.core: it puts the fast BLAS beneath MLX

import mlx.core as mx  # isort: skip

CPU, GPU = mx.Device(mx.cpu), mx.Device(mx.gpu)


class Chosen:
    """MLX's functions about devices, as where the default is a GPU."""

    def __init__(self) -> None:
        self.device = GPU

    def default_device(self) -> mx.Device:
        return self.device

    def set_default_device(self, device: Any) -> None:
        self.device = device if isinstance(device, mx.Device) else mx.Device(device)

    def is_available(self, device: Any) -> bool:
        return True

    def device_info(self, device: Any = None) -> dict[str, Any]:
        return {"device_name": "made up", "max_recommended_working_set_size": 8 << 30}


@contextmanager
def made() -> Iterator[Chosen]:
    chosen = Chosen()
    names = ("default_device", "set_default_device", "is_available", "device_info")
    with mock.patch.multiple(mx, **{name: getattr(chosen, name) for name in names}):
        yield chosen


def pytest_configure(config: pytest.Config) -> None:
    whole = ExitStack()
    whole.enter_context(made())
    config.add_cleanup(whole.close)
