"""What tests of reports share; the results that they are about come from ``made_results``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import made_results
import pytest


@pytest.fixture(scope="session", autouse=True)
def drawn_once() -> Iterator[None]:
    pytest.importorskip("matplotlib", reason="pip install 'samevoice[parity]'")
    with made_results.drawn_once():
        yield


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Name -> a result.json of every kind that ``made_results`` knows."""
    return made_results.write_all(tmp_path_factory.mktemp("results"))
