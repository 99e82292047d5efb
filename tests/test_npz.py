"""What anybody may have put into an .npz: read where it is sound, else refused in one line."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from samevoice.errors import CheckpointError, SamevoiceError
from samevoice.npz import Npz


def npy(array: object) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)  # type: ignore[arg-type]
    return file.getvalue()


def zipped(path: Path, *members: tuple[str, bytes], packed: int = zipfile.ZIP_STORED) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", packed) as archive:
        warnings.simplefilter("ignore")  # a name that comes twice
        for name, data in members:
            archive.writestr(name, data)
    return path


def read_all(path: Path) -> dict[str, np.ndarray]:
    archive = Npz(path, CheckpointError)
    return {name: archive.read(name) for name in archive.names}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_wrote_comes_back(tmp_path: Path, save: Callable[..., None]) -> None:
    arrays = {
        "z": np.arange(6.0).reshape(2, 3),
        "a": np.asfortranarray(np.ones((3, 2), "<f4")),
        "empty": np.zeros((0, 4)),
        "scalar": np.array(3),
        "text": np.array("words"),
    }
    save(tmp_path / "x.npz", **arrays)
    archive = Npz(tmp_path / "x.npz", CheckpointError)
    assert archive.names == tuple(arrays)
    for name, array in arrays.items():
        header = archive.header(name)
        assert (header.shape, header.dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(archive.read(name), array)
    assert archive.header("a").fortran
    assert not archive.header("z").fortran


def test_a_flipped_bit_in_the_values_is_found(tmp_path: Path) -> None:
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", a=np.arange(1000.0))
        data = bytearray((tmp_path / "x.npz").read_bytes())
        data[len(data) // 2] ^= 1
        (tmp_path / "y.npz").write_bytes(data)
        with pytest.raises(CheckpointError, match=r"'a' cannot be read \(its bytes are damaged"):
            read_all(tmp_path / "y.npz")


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.npz", ("a.npy", npy(np.ones(3))))
    data = path.read_bytes()
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.index(mark) + at
        data = data[:place] + b"\x01\x00" + data[place + 2 :]
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"'a' cannot be read .*encrypted"):
        read_all(path)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    data = npy(np.zeros(9 << 20))
    path = zipped(tmp_path / "x.npz", ("a.npy", data), packed=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(CheckpointError, match="100 times its size"):
        Npz(path, CheckpointError)


def test_no_room_is_made_for_what_is_not_there(tmp_path: Path) -> None:
    plain = npy(np.zeros(3))
    for shape in (b"(10**15,)", b"(1 << 60,)", b"(-3,)  ", b"(9999999999999,)", b"(4,)"):
        header = plain[10:128].replace(b"(3,)", shape)
        data = b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + plain[128:]
        path = zipped(tmp_path / "x.npz", ("a.npy", data))
        with pytest.raises(CheckpointError, match="'a' cannot be read"):
            read_all(path)


def test_names_that_come_twice_are_refused(tmp_path: Path) -> None:
    one = npy(np.ones(3))
    for names in (("a.npy", "a.npy"), ("a", "a.npy")):
        path = zipped(tmp_path / "x.npz", *((name, one) for name in names))
        with pytest.raises(CheckpointError, match="'a' more than once"):
            Npz(path, CheckpointError)


@pytest.mark.parametrize(
    "data",
    [b"", b"no array", npy(np.ones(3))[:40], npy(np.array([{}, 1], object))],
    ids=["empty", "text", "cut", "pickle"],
)
def test_a_member_that_is_no_array_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CheckpointError, match="'a' cannot be read"):
        read_all(zipped(tmp_path / "x.npz", ("a.npy", data)))


@pytest.mark.parametrize("data", [b"", b"PK", b"text" * 99, b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(data)
    with pytest.raises(CheckpointError, match="not an npz file"):
        Npz(tmp_path / "x.npz", CheckpointError)


def test_whatever_byte_is_wrong_nothing_but_one_line_comes_of_it(tmp_path: Path) -> None:
    good = zipped(
        tmp_path / "x.npz",
        ("a.npy", npy(np.arange(40.0))),
        ("b.npy", npy(np.ones((3, 4), np.int16))),
        packed=zipfile.ZIP_DEFLATED,
    ).read_bytes()
    draw = np.random.default_rng(0)
    refused = []
    for _ in range(600):
        data = bytearray(good)
        for at in draw.integers(0, len(data), draw.integers(1, 4)):
            data[at] = draw.integers(0, 256)
        (tmp_path / "y.npz").write_bytes(data[: draw.integers(1, len(data) + 1)])
        try:
            read_all(tmp_path / "y.npz")
        except SamevoiceError as error:
            refused.append(str(error))
    assert len(refused) > 300
    assert not any("\n" in line for line in refused)


def test_a_text_of_letters_that_do_not_exist_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", note=np.array([0x7FFFFFFF], np.uint32).view("<U1"))
    with pytest.raises(SamevoiceError, match="'note' cannot be read"):
        Npz(tmp_path / "x.npz", SamevoiceError).read("note")
