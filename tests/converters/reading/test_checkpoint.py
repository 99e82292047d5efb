"""Reading: nothing in a pickle runs, and what is broken is named."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
import zipfile
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import made_up
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samevoice.converters.reading import safetensors_file, torch_writer
from samevoice.converters.reading.checkpoint import REFERENCE_NOTE, read
from samevoice.converters.reading.safetensors_file import Slot
from samevoice.converters.reading.stand_ins import STAND_INS, StandIn, decode, encode
from samevoice.errors import CheckpointError

torch = pytest.importorskip("torch", reason="pip install 'samevoice[parity]'")


def saved(tmp_path: Path, content: Any, name: str = "x.bin", **options: Any) -> Path:
    path = tmp_path / name
    torch.save(content, path, **options)
    return path


def reading(path: Path) -> Any:
    return read(path.parent, (path.name,))


class Executed:
    """What an attacker puts into a checkpoint: unpickling it creates a file."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.trap), "w"))


def test_nothing_in_a_pickle_runs(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    path = saved(tmp_path, {"state_dict": {"w": torch.zeros(1)}, "x": Executed(trap)})
    with pytest.raises(CheckpointError, match=r"'(_?io|builtins)\.open'"):
        reading(path)
    assert not trap.exists()
    torch.load(path, weights_only=False)  # the trap does work where it is sprung
    assert trap.exists()


def test_any_other_global_is_refused_by_its_name(tmp_path: Path) -> None:
    path = saved(tmp_path, {"state_dict": {"w": torch.zeros(1)}, "x": Fraction(1, 2)})
    with pytest.raises(
        CheckpointError, match=r"'fractions\.Fraction'.*nothing in this one was run"
    ):
        reading(path)


def test_pyannotes_own_classes_become_stand_ins(tmp_path: Path, pyannote: Any) -> None:
    del pyannote
    found = reading(made_up.save(made_up.pyannet(), tmp_path / "x.bin"))
    assert found.metadata["architecture"] == "PyanNet"
    assert found.metadata["specifications"]["problem"] == "MONO_LABEL_CLASSIFICATION"
    assert found.metadata["specifications"]["classes"] == ["speaker#1", "speaker#2", "speaker#3"]
    assert found.metadata["specifications"]["powerset_max_classes"] == 2
    assert found.container == "state_dict"
    assert found.entries[:4] == ("epoch", "global_step", "pytorch-lightning_version", "state_dict")


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state", "model_state_dict"])
def test_wrapped_state_dicts(tmp_path: Path, wrapper: str) -> None:
    found = reading(saved(tmp_path, {wrapper: OrderedDict(w=torch.ones(2)), "epoch": 1}))
    assert (found.container, list(found.tensors), found.beside) == (wrapper, ["w"], {"epoch": 1})


def test_a_bare_state_dict(tmp_path: Path) -> None:
    found = reading(saved(tmp_path, {"w": torch.arange(3.0)}))
    assert found.tensors["w"].load().tolist() == [0, 1, 2]
    assert found.container == ""


def test_an_optimisers_state_is_named_as_left_out(tmp_path: Path) -> None:
    content = {"state_dict": {"w": torch.ones(1)}, "optimizer_states": [{"m": torch.ones(3)}]}
    assert reading(saved(tmp_path, content)).lost == ("optimizer_states",)


def test_bfloat16_comes_bit_for_bit(tmp_path: Path) -> None:
    value = torch.tensor([1.0, 3.140625, -0.0], dtype=torch.bfloat16)
    array = reading(saved(tmp_path, {"w": value})).tensors["w"].load()
    assert array.dtype == ml_dtypes.bfloat16
    assert array.tolist() == [1.0, 3.140625, -0.0]


def test_a_transposed_view_comes_in_its_own_order(tmp_path: Path) -> None:
    value = torch.arange(6.0).reshape(2, 3).T
    array = reading(saved(tmp_path, {"w": value})).tensors["w"].load()
    assert array.tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "holds a list, not a state dict"),
        ({}, "holds no tensors"),
        ({"w": torch.ones(1), "lr": 0.1}, "an entry 'lr' that is no tensor"),
        ({"w": torch.ones(2, 2).to_sparse()}, r"'w' is sparse: save its to_dense\(\)"),
        ({"w": torch.ones(2, 2).to_sparse_csr()}, "'w' is sparse"),
        ({"w": torch.empty(2, device="meta")}, "'w' is without values"),
        ({"w": torch.ones(2, dtype=torch.complex32)}, "'w' is of the type complex32"),
        ({"w": torch.zeros(1).expand(1 << 40)}, "unpacks to more than 100 times its size"),
    ],
)
def test_what_is_no_state_dict(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        reading(saved(tmp_path, content))


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file(tmp_path: Path, part: float) -> None:
    path = saved(tmp_path, {"w": torch.randn(100, 100)})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(CheckpointError, match=r"x\.bin is truncated or corrupt"):
        reading(path)


def test_one_flipped_byte(tmp_path: Path) -> None:
    """torch itself does not look at the checksums of a mapped file."""
    path = saved(tmp_path, {"w": torch.zeros(1000)})
    data = bytearray(path.read_bytes())
    data[data.index(b"\0" * 2000) + 1000] ^= 1
    path.write_bytes(data)
    assert torch.load(path, mmap=True, weights_only=True)["w"].sum() != 0
    with pytest.raises(CheckpointError, match=r"truncated or corrupt.*checksum"):
        reading(path)


def test_a_text_file_named_bin(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(CheckpointError, match=r"x\.bin"):
        reading(path)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    """Mapped, its packed bytes would be taken for the numbers."""
    path = saved(tmp_path, {"w": torch.arange(1000.0)})
    packed = tmp_path / "packed.bin"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    with pytest.raises(CheckpointError, match=r"compressed .*save it again with torch\.save"):
        reading(packed)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html>", "a web page or other text"),
        (b'{"error": "not found"}', "a web page or other text"),
        (b"\x10\0\0\0\0\0\0\0{}              ", "rename it to .safetensors"),
        (b"abc", "x.bin is truncated or corrupt"),
        (b"x" * 257 + b"ustar" + b"\0" * 250, "tar archive"),
    ],
)
def test_what_is_no_checkpoint_at_all(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        reading(path)
    assert said in str(error.value)
    assert "weights_only" not in str(error.value), "torch's advice is to switch the safety off"


def test_a_torchscript_archive(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(CheckpointError, match="TorchScript archive, which holds code"):
        reading(path)


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_pickle_is_never_our_fault(data: st.DataObject, damaged: bytes) -> None:
    at = data.draw(st.integers(0, len(damaged) - 1))
    broken = bytearray(damaged)
    broken[at] = data.draw(st.integers(0, 255))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.bin"
        path.write_bytes(broken)
        with contextlib.suppress(CheckpointError):
            reading(path)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    content = {"state_dict": {"w": torch.ones(2, 3)}, "hyper_parameters": {"a": [1, (2, "x")]}}
    return saved(tmp_path_factory.mktemp("damaged"), content).read_bytes()


def test_one_odd_hyper_parameter_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    given = {"sample_rate": 8000, "class_weights": torch.ones(3)}
    found = reading(
        saved(tmp_path, {"state_dict": {"w": torch.ones(1)}, "hyper_parameters": given})
    )
    assert found.lost == ("hyper_parameters.class_weights",)
    assert decode(found.beside["hyper_parameters"]) == {"sample_rate": 8000}


def test_the_suffix_may_be_in_capitals(tmp_path: Path) -> None:
    safetensors_file.write(
        tmp_path / "X.SAFETENSORS",
        (Slot("w", (1,), "float32"),),
        iter([("w", np.ones(1, np.float32))]),
        {},
    )
    assert list(read(tmp_path, ("X.SAFETENSORS",)).tensors) == ["w"]


def test_a_strangers_note_goes_no_further(tmp_path: Path) -> None:
    content = {"state_dict": {"w": torch.ones(1)}, "samevoice": {"note": "\x1b]0;pwn\x07"}}
    assert "note" not in reading(saved(tmp_path, content)).metadata


def test_a_plain_pickle(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    path = tmp_path / "x.bin"
    path.write_bytes(pickle.dumps(Executed(trap)))
    with pytest.raises(CheckpointError, match=r"x\.bin"):
        reading(path)
    assert not trap.exists()


def test_safetensors(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    slots = (Slot("w", (2, 3), "float32"), Slot("b", (2,), "bfloat16"))
    arrays = iter([("w", values), ("b", np.ones(2, ml_dtypes.bfloat16))])
    safetensors_file.write(tmp_path / "x.safetensors", slots, arrays, {"note": REFERENCE_NOTE})
    found = read(tmp_path, ("x.safetensors",))
    assert found.tensors["w"].load().tolist() == values.tolist()
    assert (found.tensors["b"].dtype, found.metadata["note"]) == ("bfloat16", REFERENCE_NOTE)


def test_a_truncated_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    safetensors_file.write(
        path, (Slot("w", (2,), "float32"),), iter([("w", np.ones(2, np.float32))]), {}
    )
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"x\.safetensors is truncated or corrupt"):
        read(tmp_path, (path.name,))


def test_shards_make_one_checkpoint(tmp_path: Path) -> None:
    saved(tmp_path, {"a": torch.zeros(1)}, "m-1.bin")
    saved(tmp_path, {"b": torch.ones(1)}, "m-2.bin")
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text('{"weight_map": {"a": "m-1.bin", "b": "m-2.bin"}}')
    found = read(tmp_path, ("m-1.bin", "m-2.bin", index.name))
    assert set(found.tensors) == {"a", "b"}
    for wrong in (
        '{"a": "m-1.bin"}',
        '{"a": "m-1.bin", "b": "m-1.bin"}',
        '{"a": "m-1.bin", "c": "m-2.bin"}',
    ):
        index.write_text(f'{{"weight_map": {wrong}}}')
        with pytest.raises(CheckpointError, match="disagree on"):
            read(tmp_path, ("m-1.bin", "m-2.bin", index.name))


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    for name in ("m-1.bin", "m-2.bin"):
        saved(tmp_path, {"a": torch.zeros(1)}, name)
    with pytest.raises(CheckpointError, match=r"m-2\.bin: 'a' stands in another shard"):
        read(tmp_path, ("m-1.bin", "m-2.bin"))


def test_npz_with_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "plda.npz", mu=np.array([{}], dtype=object))
    with pytest.raises(CheckpointError, match=r"plda\.npz: .mu. cannot be read .*pickle"):
        read(tmp_path, ("plda.npz",))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=12,
)


@given(JSON)
def test_what_was_saved_beside_the_weights_comes_back(value: Any) -> None:
    assert decode(encode(value)) == value


def test_stand_ins_are_written_as_the_classes_they_stand_for(tmp_path: Path, pyannote: Any) -> None:
    del pyannote
    from pyannote.audio.core.task import Problem

    problem = decode(encode(StandIn("pyannote.audio.core.task.Problem", (1,))))
    assert isinstance(problem, StandIn)
    torch_writer.write(tmp_path / "x.bin", {"problem": problem, "w": np.ones(1)})
    back = torch.load(tmp_path / "x.bin", weights_only=False)
    assert back["problem"] is Problem.MONO_LABEL_CLASSIFICATION


def test_a_bundle_cannot_smuggle_a_class_into_a_pickle() -> None:
    with pytest.raises(CheckpointError, match=r"'os\.system' is no class"):
        decode({"$class": "os.system", "args": ["true"], "state": {}})
    assert "os.system" not in STAND_INS


def test_lists_that_hold_one_another_do_not_multiply(tmp_path: Path) -> None:
    nested: Any = ["x"]
    for _ in range(40):
        nested = [nested, nested]
    found = reading(saved(tmp_path, {"state_dict": {"w": torch.zeros(1)}, "x": nested, "y": 1}))
    assert found.lost == ("x",)
    assert found.beside == {"y": 1}


def test_half_of_a_character_is_left_out_by_name_and_infinity_is_kept(tmp_path: Path) -> None:
    beside = {"x": {"a": "\ud800", "b": float("-inf")}}
    found = reading(saved(tmp_path, {"state_dict": {"w": torch.zeros(1)}, **beside}))
    assert found.lost == ("x.a",)
    assert decode(json.loads(json.dumps(found.beside["x"], allow_nan=False))) == {"b": -math.inf}


def test_odd_words_beside_the_tensors_are_told(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": {"a": torch.ones(1)}, "pyannote.audio": {"architecture": "x"}}, path)
    with pytest.raises(CheckpointError, match=r"what x\.ckpt holds beside the tensors lacks or"):
        read(tmp_path, ("x.ckpt",))
