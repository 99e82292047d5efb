"""torch's archives, read and written without torch: whatever torch.load finds is found here."""

from __future__ import annotations

import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samevoice.converters.reading import torch_writer, torch_zip
from samevoice.converters.reading.checkpoint import read as read_checkpoint
from samevoice.converters.reading.pickles import RefusedError
from samevoice.converters.reading.stand_ins import STAND_INS, StandIn
from samevoice.converters.reading.torch_zip import DTYPES, Unread
from samevoice.converters.rules import Tensor
from samevoice.errors import CheckpointError

torch = pytest.importorskip("torch", reason="pip install 'samevoice[parity]'")


def bits(value: Any) -> bytes:
    """The values of a torch tensor in C order."""
    plain = value.detach().resolve_conj().resolve_neg().reshape(-1)
    plain = plain.clone(memory_format=torch.contiguous_format)
    return bytes(plain.view(torch.uint8).numpy().tobytes()) if plain.numel() else b""


def assert_same(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, torch.Tensor):
        assert isinstance(ours, Tensor)
        array = ours.load()
        assert (ours.shape, ours.dtype) == (array.shape, array.dtype.name)
        assert ours.shape == tuple(theirs.shape)
        assert ours.dtype == str(theirs.dtype).removeprefix("torch.")
        assert array.tobytes() == bits(theirs)
    elif isinstance(theirs, dict):
        assert type(ours) is dict
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            assert_same(ours[key], value)
    elif isinstance(theirs, list | tuple):
        assert type(ours) is (list if isinstance(theirs, list) else tuple)
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same(one, other)
    else:
        assert type(ours) is type(theirs)
        assert ours == theirs


# Beside torch.load ----------------------------------------------------------------------------


@st.composite
def storages(draw: st.DrawFn) -> Any:
    """A few numbers of any type, made of random bytes."""
    dtype = getattr(torch, draw(st.sampled_from(sorted(DTYPES))))
    count = draw(st.integers(0, 40))
    if dtype == torch.bool:
        return torch.tensor(draw(st.lists(st.booleans(), min_size=count, max_size=count))).bool()
    size = count * dtype.itemsize
    data = bytearray(draw(st.binary(min_size=size, max_size=size)))
    return torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)


@st.composite
def views(draw: st.DrawFn, base: Any) -> Any:
    """Any shape, strides and offset that stay within a storage; some are parameters, too."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    stride = draw(st.lists(st.integers(0, 5), min_size=len(shape), max_size=len(shape)))
    last = sum((n - 1) * step for n, step in zip(shape, stride, strict=True)) if all(shape) else -1
    if last >= base.numel():
        shape, stride, last = [0], [1], -1
    offset = draw(st.integers(0, base.numel() - last - 1))
    value = base.as_strided(shape, stride, offset)
    way = draw(st.integers(0, 5))
    if way == 0 and value.dtype.is_floating_point:
        value = torch.nn.Parameter(value, requires_grad=draw(st.booleans()))
        if draw(st.booleans()):
            value.mark = "kept by torch as a state"
    elif way == 1 and value.dtype.is_complex:
        own = value.clone()  # torch saves no storage as two types
        value = draw(st.sampled_from((value.conj(), own.conj().imag, own.real)))
    elif way == 2 and value.dim() > 1:
        value = value.transpose(0, -1)
    return value


@st.composite
def state_dicts(draw: st.DrawFn) -> dict[str, Any]:
    """Tensors that share storages, and the same tensor under two names."""
    bases = draw(st.lists(storages(), min_size=1, max_size=4))
    names = draw(st.lists(st.text(max_size=8), max_size=8, unique=True))
    made = {name: draw(views(draw(st.sampled_from(bases)))) for name in names}
    if made:
        made["again"] = next(iter(made.values()))
    return draw(st.sampled_from((made, OrderedDict(made))))


BESIDE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers(-9, 9), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(state_dicts(), BESIDE, st.sampled_from((2, 4, 5)))
@settings(max_examples=300, deadline=None)
def test_everything_that_torch_load_finds(state: Any, beside: Any, protocol: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.bin"
        torch.save({"state_dict": state, "beside": beside}, path, pickle_protocol=protocol)
        # Of newer protocols torch's weights-only reader knows too little.
        theirs = torch.load(path, weights_only=protocol == 2)
        assert_same(torch_zip.read(path), theirs)


@given(state_dicts(), BESIDE)
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_what_torch_loads(state: Any, beside: Any) -> None:
    with TemporaryDirectory() as folder:
        first, second = Path(folder) / "a.bin", Path(folder) / "b.bin"
        torch.save({"state_dict": state}, first)
        found = torch_zip.read(first)["state_dict"]
        arrays = {name: value.load() for name, value in found.items()}
        torch_writer.write(second, {"beside": beside, "state_dict": arrays})
        content = second.read_bytes()
        torch_writer.write(second, {"beside": beside, "state_dict": arrays})
        assert second.read_bytes() == content
        for mapped in (False, True):
            theirs = torch.load(second, weights_only=True, mmap=mapped)
            assert_same(torch_zip.read(second), theirs)
            assert theirs["beside"] == beside
            for name, value in dict(state).items():
                assert bits(theirs["state_dict"][name]) == bits(value), name


def test_a_network_in_every_type(tmp_path: Path) -> None:
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        network = torch.nn.Sequential(torch.nn.Conv1d(2, 3, 5), torch.nn.BatchNorm1d(3)).to(dtype)
        torch.save(network.state_dict(), tmp_path / "x.pt")
        theirs = torch.load(tmp_path / "x.pt", weights_only=True)
        assert_same(torch_zip.read(tmp_path / "x.pt"), dict(theirs))


def test_a_view_at_the_end_of_a_large_storage(tmp_path: Path) -> None:
    base = torch.arange(5_000_000, dtype=torch.int32)
    torch.save({"last": base[-3:], "far": base[::999_999]}, tmp_path / "x.pt")
    found = torch_zip.read(tmp_path / "x.pt")
    assert found["last"].load().tolist() == [4_999_997, 4_999_998, 4_999_999]
    assert found["far"].load().tolist() == list(range(0, 5_000_000, 999_999))


def test_a_storage_with_bytes_left_over(tmp_path: Path) -> None:
    value = torch.arange(10, dtype=torch.uint8)[:8].view(torch.int32)
    torch.save({"w": value}, tmp_path / "x.pt")
    assert_same(torch_zip.read(tmp_path / "x.pt"), {"w": value})


def test_values_are_mapped_and_not_copied(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(6.0).reshape(2, 3).T}, tmp_path / "x.pt")
    tensor = torch_zip.read(tmp_path / "x.pt")["w"]
    assert not tensor.load().flags.owndata
    assert np.shares_memory(tensor.load(), tensor.load())
    assert not tensor.load().flags.writeable


def test_what_nobody_has_a_use_for_is_read_past(tmp_path: Path) -> None:
    content = {
        "size": torch.Size([1, 2]),
        "dtype": torch.bfloat16,
        "device": torch.device("cpu"),
        "random": torch.get_rng_state(),
        "bytes": b"abc",
        "array": bytearray(b"x"),
        "set": {1, 2},
        "complex": 1 + 2j,
        "large": 10**30,
        "module": torch.nn.Linear(1, 1).state_dict(),
    }
    torch.save(content, tmp_path / "x.pt")
    found = torch_zip.read(tmp_path / "x.pt")
    assert found["size"] == (1, 2)
    assert found["large"] == 10**30
    assert found["random"].shape == tuple(content["random"].shape)
    assert list(found) == list(content)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.ones(2, 2).to_sparse(), "sparse: save its to_dense()"),
        (torch.empty(2, device="meta"), "without values: save it from a device that holds them"),
    ],
)
def test_what_has_no_plain_values_is_named(value: Any, said: str, tmp_path: Path) -> None:
    torch.save({"w": value}, tmp_path / "x.pt")
    assert torch_zip.read(tmp_path / "x.pt") == {"w": Unread(said)}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quantised_tensors_are_named(tmp_path: Path) -> None:
    for each in (
        torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        torch.quantize_per_channel(
            torch.ones(2, 2), torch.ones(2), torch.zeros(2), 0, torch.quint8
        ),
    ):
        torch.save({"w": each}, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match=r"'w' is quantised: save its dequantize\(\)"):
            read_checkpoint(tmp_path, ("x.pt",))


def test_the_checkpoints_that_people_use(golden: Path) -> None:
    found = [*golden.glob("checkpoints/**/*.bin"), *golden.glob("checkpoints/**/*.pt")]
    assert len(found) >= 5
    for path in found:
        ours = read_checkpoint(path.parent, (path.name,))
        theirs = loaded(path)
        state = theirs[ours.container] if ours.container else theirs
        assert list(ours.tensors) == list(state)
        for name, value in state.items():
            assert_same(ours.tensors[name], value)
        assert not ours.lost


def loaded(path: Path) -> Any:
    """With empty classes for pyannote's."""
    names = [(type(name.rpartition(".")[2], (_Anything,), {}), name) for name in STAND_INS]
    with torch.serialization.safe_globals(names):
        return torch.load(path, weights_only=True)


class _Anything:
    def __new__(cls, *args: Any) -> _Anything:
        return object.__new__(cls)


# Archives --------------------------------------------------------------------------------------


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def zipped(path: Path, given: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    pairs = list(given.items()) if isinstance(given, dict) else given
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in pairs:
            archive.writestr(name, content)
    return path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "saved.pt"
    values = {
        "f": torch.arange(6.0).reshape(2, 3).T,
        "b": torch.tensor([1.0, -2.5], dtype=torch.bfloat16),
        "c": torch.tensor([1 + 2j, 3 - 4j]),
    }
    torch.save(values, path)
    return path


def test_numbers_in_the_other_byte_order(saved: Path) -> None:
    expected = torch.load(saved)
    inside = members(saved)
    inside["saved/byteorder"] = b"big"
    for number, dtype in enumerate(("<f4", "<u2", "<f4")):
        name = f"saved/data/{number}"
        inside[name] = np.frombuffer(inside[name], dtype).byteswap().tobytes()
    zipped(saved, inside)
    for name, value in torch_zip.read(saved).items():
        assert_same(value, expected[name])


def test_values_that_lie_where_no_processor_expects_them(saved: Path) -> None:
    expected = torch.load(saved)
    zipped(saved, members(saved))  # without torch's alignment
    for name, value in torch_zip.read(saved).items():
        assert_same(value, expected[name])
        assert value.load().flags.aligned


def test_an_archive_without_a_byte_order_is_little(saved: Path) -> None:
    expected = torch.load(saved)
    inside = {name: data for name, data in members(saved).items() if "byteorder" not in name}
    assert_same(torch_zip.read(zipped(saved, inside)), expected)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"saved/byteorder": b"middle"}, ValueError, "byte order"),
        ({"saved/data/0": b"1234"}, ValueError, "not as large as its tensors say"),
        ({"saved/data/0": None}, ValueError, "'0' is missing"),
        ({"saved/data.pkl": None}, RefusedError, "no data.pkl"),
        ({"saved/data.pkl": b""}, ValueError, "exhausted"),
        ({"saved/code/x.py": b""}, RefusedError, "TorchScript"),
        ({"saved/constants.pkl": b""}, RefusedError, "TorchScript"),
    ],
)
def test_what_an_archive_must_hold(saved: Path, change: Any, error: Any, said: str) -> None:
    inside = {**members(saved), **change}
    zipped(saved, {name: data for name, data in inside.items() if data is not None})
    with pytest.raises(error, match=said):
        torch_zip.read(saved)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["saved/data.pkl", "saved/data/0", "saved/version"])
def test_a_name_that_stands_twice(name: str, saved: Path) -> None:
    pairs = list(members(saved).items())
    with pytest.raises(OSError, match="a name stands twice"):
        torch_zip.read(zipped(saved, [*pairs, (name, dict(pairs)[name])]))


def test_names_lead_nowhere(tmp_path: Path) -> None:
    """A record is looked up in the archive by its whole name, and is never a path."""
    (tmp_path / "secret").write_bytes(bytes(16))
    for key in ("../../secret", "/etc/passwd", str(tmp_path / "secret"), "..", ""):
        path = zipped(tmp_path / "x.pt", {"a/data.pkl": pickled(tensor(key=key))})
        with pytest.raises(ValueError, match="is missing"):
            torch_zip.read(path)
    inside = {"a/data.pkl": pickled(tensor(key="../0")), "a/data/../0": bytes(16)}
    assert torch_zip.read(zipped(path, inside))["w"].load().tolist() == [0] * 4
    assert sorted(one.name for one in tmp_path.iterdir()) == ["secret", "x.pt"]


def directory(data: bytearray, name: bytes) -> int:
    """Where the entry of a member begins in the directory at the end."""
    return data.rindex(name) - 46


@pytest.mark.parametrize(
    ("form", "at", "number"),
    [
        ("<H", 8, 1),  # encrypted
        ("<H", 10, 8),  # compressed, or so it says
        ("<I", 16, 0),  # another checksum
        ("<I", 24, 1 << 30),  # larger than the file
        ("<I", 24, 1),  # smaller than it is
        ("<I", 42, 0),  # where another member lies
        ("<I", 42, 1 << 30),  # behind the file
    ],
)
def test_a_directory_that_lies(saved: Path, form: str, at: int, number: int) -> None:
    data = bytearray(saved.read_bytes())
    struct.pack_into(form, data, directory(data, b"saved/data/1") + at, number)
    saved.write_bytes(data)
    with pytest.raises(CheckpointError):
        read_checkpoint(saved.parent, (saved.name,))


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    """Many names for the same bytes: a small file that unpacks to a large one."""
    inner = zipped(tmp_path / "inner.zip", {"a/data/1": bytes(16)}).read_bytes()
    record = inner[: inner.index(b"PK\x01\x02")]
    inside = {"a/data/0": record, "a/data/1": bytes(16), "a/data.pkl": pickled(tensor(key="1"))}
    path = zipped(tmp_path / "x.pt", inside)
    assert torch_zip.read(path)["w"].load().tolist() == [0] * 4
    data = bytearray(path.read_bytes())
    # The second member is now the one that lies within the first, with the same bytes.
    struct.pack_into("<I", data, directory(data, b"a/data/1") + 42, data.index(record))
    path.write_bytes(data)
    with pytest.raises(OSError, match="the header of 'a/data/1' is wrong"):
        torch_zip.read(path)


def test_an_archive_beyond_four_gigabytes_is_written_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    torch_writer.write(tmp_path / "x.pt", {"w": np.arange(100.0), "b": np.ones(1)})
    monkeypatch.undo()
    assert_same(torch_zip.read(tmp_path / "x.pt"), torch.load(tmp_path / "x.pt", mmap=True))


def test_storages_begin_where_torch_wants_them(tmp_path: Path) -> None:
    torch_writer.write(tmp_path / "x.pt", {str(n): np.ones(n) for n in range(9)})
    for one in torch_zip.read(tmp_path / "x.pt").values():
        assert one.shape == (0,) or one.load().ctypes.data % 64 == 0


def test_what_has_no_place_in_a_checkpoint_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a set is not written"):
        torch_writer.write(tmp_path / "x.pt", {"x": {1}})


def test_stand_ins_there_and_back(tmp_path: Path) -> None:
    problem = StandIn(STAND_INS[1], (1,))
    content = {"a": StandIn(STAND_INS[0], (), {"problem": problem, "classes": ["x"]})}
    torch_writer.write(tmp_path / "x.pt", content)
    assert torch_zip.read(tmp_path / "x.pt") == content


# Tensors that lie ------------------------------------------------------------------------------


def number(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def numbers(values: Any) -> bytes:
    return b"(" + b"".join(number(value) for value in values) + b"t"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def tensor(
    *, key: str = "0", count: int = 4, offset: bytes = number(0), shape: bytes = numbers([4]),
    stride: bytes = numbers([1]), kind: bytes = b"ctorch\nFloatStorage\n",
) -> bytes:  # fmt: skip
    storage = b"(" + text("storage") + kind + text(key) + text("cpu") + number(count) + b"tQ"
    hooks = b"\x89ccollections\nOrderedDict\n)R"
    made = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return made + storage + offset + shape + stride + hooks + b"tR"


def pickled(value: bytes) -> bytes:
    return b"\x80\x02}" + text("w") + value + b"s."


@pytest.fixture
def one_tensor(tmp_path: Path) -> Any:
    def build(value: bytes) -> Any:
        inside = {"a/data.pkl": pickled(value), "a/data/0": bytes(16)}
        return torch_zip.read(zipped(tmp_path / "x.pt", inside))["w"]

    assert build(tensor()).load().tolist() == [0] * 4
    return build


HUGE = 1 << 62


@pytest.mark.parametrize(
    "lie",
    [
        {"offset": number(1)},
        {"offset": number(-1)},
        {"offset": number(HUGE)},
        {"offset": b"\x88"},
        {"offset": text("0")},
        {"shape": numbers([5])},
        {"shape": numbers([-4])},
        {"shape": numbers([HUGE])},
        {"shape": numbers([0, HUGE]), "stride": numbers([1, 1])},
        {"shape": numbers([HUGE, HUGE]), "stride": numbers([0, 0])},
        {"shape": numbers([1 << 70]), "stride": numbers([0])},
        {"shape": numbers([2, 2])},
        {"shape": numbers([1] * 65), "stride": numbers([1] * 65)},
        {"shape": number(4)},
        {"shape": text("four")},
        {"stride": numbers([2])},
        {"stride": numbers([-1])},
        {"stride": numbers([HUGE])},
        {"stride": numbers([])},
        {"stride": b"N"},
        {"count": 5},
        {"count": 3},
        {"count": -4},
        {"count": HUGE},
        {"key": "1"},
        {"kind": b"ctorch\nDoubleStorage\n"},
        {"kind": b"ctorch\nTensor\n"},
        {"kind": text("FloatStorage")},
    ],
    ids=str,
)
def test_a_tensor_that_says_what_is_not_so(one_tensor: Any, lie: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"tensor|storage"):
        one_tensor(tensor(**lie))


def test_strides_of_an_axis_of_one_mean_nothing(one_tensor: Any) -> None:
    found = one_tensor(tensor(shape=numbers([1, 4]), stride=numbers([HUGE, 1])))
    assert found.load().tolist() == [[0] * 4]
