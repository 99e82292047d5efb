"""torch's files from before 1.6: the same tensors, nothing run, and damage told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samevoice.converters.reading import torch_legacy
from samevoice.converters.reading.checkpoint import read
from samevoice.errors import CheckpointError

torch = pytest.importorskip("torch")


def saved(folder: Path, content: Any) -> Path:
    path = folder / "x.bin"
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert path.read_bytes().startswith(torch_legacy.MAGIC)
    return path


def reading(path: Path) -> Any:
    return read(path.parent, (path.name,))


def content() -> dict[str, Any]:
    both = torch.arange(12.0)
    state = {
        "first": both[:6].reshape(2, 3),
        "turned": both[6:].reshape(2, 3).T,
        "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
        "wide": torch.tensor([1, 1 << 40]),
        "bfloat": torch.tensor([3.140625], dtype=torch.bfloat16),
        "truth": torch.tensor([True, False]),
        "none": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    return {"model_state": state, "step": 7}


def test_every_tensor_comes_as_torch_has_it(tmp_path: Path) -> None:
    found = reading(saved(tmp_path, content()))
    assert (found.container, found.beside) == ("model_state", {"step": 7})
    wanted = content()["model_state"]
    assert list(found.tensors) == list(wanted)
    for name, value in wanted.items():
        array = found.tensors[name].load()
        assert array.shape == tuple(value.shape), name
        plain = value.detach().float().numpy()
        np.testing.assert_array_equal(array.astype(np.float32), plain, err_msg=name)
        assert str(array.dtype) == str(value.dtype).removeprefix("torch."), name


class Executed:
    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.trap), "w"))


def test_nothing_in_it_runs(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    path = saved(tmp_path, {"state_dict": {"w": torch.zeros(1)}, "x": Executed(trap)})
    with pytest.raises(CheckpointError, match=r"'(_?io|builtins)\.open'"):
        reading(path)
    assert not trap.exists()


def test_a_whole_module_is_refused_by_its_name(tmp_path: Path) -> None:
    path = saved(tmp_path, torch.nn.Linear(2, 2))
    with pytest.raises(CheckpointError, match=r"names 'torch\.nn\.modules\.linear\.Linear'"):
        reading(path)


@pytest.mark.parametrize("share", [0.03, 0.3, 0.6, 0.9, 0.999])
def test_a_file_cut_short_is_damaged(share: float, tmp_path: Path) -> None:
    path = saved(tmp_path, content())
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match="truncated or corrupt"):
        reading(path)


def test_a_storage_of_another_size_is_damage(tmp_path: Path) -> None:
    path = saved(tmp_path, {"w": torch.zeros(5)})
    data = path.read_bytes()
    at = data.rindex((5).to_bytes(8, "little"))
    path.write_bytes(data[:at] + (4).to_bytes(8, "little") + data[at + 8 :])
    with pytest.raises(CheckpointError, match="not as large as its tensors say"):
        reading(path)
