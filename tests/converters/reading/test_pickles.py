"""The pickle machine: nothing that a pickle says ever runs, whatever it says."""

from __future__ import annotations

import contextlib
import copyreg
import pickle
import pickletools
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samevoice.converters.reading import pickles
from samevoice.converters.reading.checkpoint import _encode_each, read
from samevoice.converters.reading.pickles import Global, Opaque, RefusedError
from samevoice.converters.reading.stand_ins import StandIn
from samevoice.errors import CheckpointError

ALLOWED: pickles.Allowed = {
    "torch.Tensor": None,
    "torch.Size": tuple,
    "builtins.set": lambda *args: Opaque("builtins.set"),
    "collections.OrderedDict": lambda *args: {},
    "a.Thing": lambda *args: StandIn("a.Thing", args),
}


def load(data: bytes) -> Any:
    return pickles.load(data, ALLOWED, lambda saved: ("stored", saved))


# What would run ----------------------------------------------------------------------------------

CALL = b"(X\x04\x00\x00\x00trapX\x01\x00\x00\x00w"  # a mark, and the arguments for open
OPEN = b"cbuiltins\nopen\n"
NAME = b"X\x08\x00\x00\x00builtinsX\x04\x00\x00\x00open"
EXTENSIONS = (0x51, 0x5152, 0x515253)  # one for each length of number
# Each opens a file to write, as Python's own unpickler would do it.
SPRUNG: dict[str, bytes] = {
    "REDUCE": OPEN + CALL + b"tR.",
    "REDUCE by STACK_GLOBAL": b"\x80\x04" + NAME + b"\x93" + CALL + b"tR.",
    "REDUCE from the memo": OPEN + b"q\x00" + b"0h\x00" + CALL + b"tR.",
    "REDUCE of a nested name": b"\x80\x04X\x08\x00\x00\x00builtins"
    + b"X\x0d\x00\x00\x00open.__call__\x93" + CALL + b"tR.",
    "INST": b"(S'trap'\nS'w'\nibuiltins\nopen\n.",
    "OBJ": b"(" + OPEN + CALL[1:] + b"o.",
    "NEWOBJ": b"c__main__\nMakes\n" + CALL + b"t\x81.",
    "NEWOBJ_EX": b"\x80\x04c__main__\nMakes\n" + CALL + b"t}\x92.",
    "BUILD by __setstate__": b"c__main__\nSets\n)\x81X\x04\x00\x00\x00trapb.",
    "EXT1": b"\x82" + struct.pack("B", EXTENSIONS[0]) + CALL + b"tR.",
    "EXT2": b"\x83" + struct.pack("<H", EXTENSIONS[1]) + CALL + b"tR.",
    "EXT4": b"\x84" + struct.pack("<I", EXTENSIONS[2]) + CALL + b"tR.",
}  # fmt: skip


class Sets:
    """What a pickle may bring to write to a file by setting the state of an object."""

    def __setstate__(self, name: str) -> None:
        open(name, "w").close()


class Makes:
    """What it may bring to do so when an object is made."""

    def __new__(cls, name: str, mode: str) -> Makes:
        open(name, mode).close()
        return super().__new__(cls)


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for one in (Sets, Makes):
        monkeypatch.setattr(sys.modules["__main__"], one.__name__, one, raising=False)
    return tmp_path / "trap"


@pytest.mark.parametrize("way", SPRUNG)
def test_nothing_runs(way: str, trap: Path) -> None:
    code = dict(zip(("EXT1", "EXT2", "EXT4"), EXTENSIONS, strict=True)).get(way)
    if code is not None:
        copyreg.add_extension("builtins", "open", code)
    try:
        with pytest.raises(RefusedError, match="nothing in this one was run"):
            load(SPRUNG[way])
        assert not trap.exists()
        pickle.loads(SPRUNG[way])  # the trap works where it is sprung
        assert trap.exists()
    finally:
        if code is not None:
            copyreg.remove_extension("builtins", "open", code)


@pytest.mark.parametrize("way", SPRUNG)
def test_a_checkpoint_that_would_run_is_one_line(way: str, trap: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.bin", "w") as archive:
        archive.writestr("x/data.pkl", SPRUNG[way])
    with pytest.raises(CheckpointError) as error:
        read(tmp_path, ("x.bin",))
    assert str(error.value).count("\n") == 0
    assert str(error.value).startswith("x.bin ")
    assert not trap.exists()


def test_only_these_instructions_are_followed() -> None:
    known = {opcode.name for opcode in pickletools.opcodes}
    assert set(pickles._STEPS) < known
    refused = known - set(pickles._STEPS)
    assert {"INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"} <= refused


def test_an_instruction_is_refused_by_its_name() -> None:
    with pytest.raises(RefusedError, match="holds the pickle instruction PERSID, which no state"):
        load(b"P0\n.")
    with pytest.raises(RefusedError, match="instruction DUP"):
        load(b"]2.")


@pytest.mark.parametrize(
    "name",
    ["os system", "builtins eval", "builtins getattr", "torch load", "torch._utils _import_dotted",
     "torch.Tensor x", "a Thing.__init__", "a.Thing __class__", "samevoice.cli main", " ",
     "a.Thing"],
)  # fmt: skip
def test_any_other_name_is_refused_by_it(name: str) -> None:
    with pytest.raises(RefusedError, match="samevoice does not allow"):
        load(b"c" + name.replace(" ", "\n", 1).encode() + (b"" if " " in name else b"\n") + b"\n.")


def test_a_long_name_makes_no_long_message() -> None:
    with pytest.raises(RefusedError) as error:
        load(b"cos\n" + b"x" * 100_000 + b"\n.")
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "called",
    [
        b"]",  # a list
        b"X\x0c\x00\x00\x00torch.Tensor",  # a name that is only text
        b"ctorch\nTensor\n",  # allowed, but no function
        b"c__builtin__\nset\n]\x85R",  # what a function made
        b"ca\nThing\n)R",  # a stand-in
    ],
)
@pytest.mark.parametrize("how", [b")R", b")\x81"])
def test_only_functions_of_the_table_are_called(called: bytes, how: bytes) -> None:
    with pytest.raises(RefusedError, match="calls what is no function"):
        load(called + how + b".")


def test_arguments_must_be_a_tuple() -> None:
    with pytest.raises(RefusedError, match="calls what is no function"):
        load(b"ca\nThing\n]R.")


@pytest.mark.parametrize(
    "built",
    [
        b"]}b",
        b"ctorch\nTensor\n}b",
        b")}b",
        b"ca\nThing\n)R]b",
        b"ca\nThing\n)R}K\x01K\x02sb",  # names that are no text
        b"c__builtin__\nset\n)R}b",
    ],
)
def test_state_is_set_of_stand_ins_only(built: bytes) -> None:
    with pytest.raises(RefusedError, match="sets the state of what is no object"):
        load(built + b".")


def test_the_state_of_a_stand_in_is_a_dict_apart() -> None:
    """A state cannot change what a stand-in is, or does."""
    found = load(
        b"ca\nThing\nK\x01\x85R}X\x09\x00\x00\x00__class__K\x02sX\x04\x00\x00\x00pathK\x03sb."
    )
    assert found == StandIn("a.Thing", (1,), {"__class__": 2, "path": 3})
    assert type(found) is StandIn
    assert found.path == "a.Thing"


# What would not end ------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"(" * 5000 + b".", b"]" * 1_000_002 + b"."])
def test_what_is_never_finished(data: bytes) -> None:
    with pytest.raises(RefusedError, match="nested too deeply"):
        load(data)


def test_a_pickle_of_too_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MOST_BYTES", 100)
    with pytest.raises(RefusedError, match="beside its weights"):
        load(pickle.dumps("x" * 100, 2))


@pytest.mark.parametrize("deep", [b")" + b"\x85" * 900_000, b")" + b"\x85" * 50])
def test_a_deep_tuple_is_no_key(deep: bytes) -> None:
    """Python hashes a tuple in one go, and dies where it is too deep."""
    with pytest.raises(RefusedError, match="has a key of type tuple"):
        load(b"}" + deep + b"Ns.")


def test_numbers_that_share_a_hash_are_no_keys() -> None:
    first, second = sys.hash_info.modulus, 2 * sys.hash_info.modulus
    assert hash(first) == hash(second)
    with pytest.raises(RefusedError, match="has a key of type int"):
        load(pickle.dumps({first: 1, second: 2}, 2))


@pytest.mark.parametrize("key", [b"]", b"}", b"ca\nThing\n)R"])
def test_what_cannot_be_a_key(key: bytes) -> None:
    with pytest.raises(RefusedError, match="has a key of type"):
        load(b"}" + key + b"Ns.")


def test_containers_that_hold_themselves() -> None:
    found = load(b"]q\x00h\x00a.")
    assert found[0] is found
    found = load(b"}q\x00K\x01h\x00s.")
    assert found[1] is found


def test_a_checkpoint_with_a_list_in_itself_leaves_it_out(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    inside: list[Any] = []
    inside.append(inside)
    within: dict[str, Any] = {"a": 1}
    within["b"] = within
    content = {"state_dict": {"w": torch.ones(1)}, "list": inside, "dict": within, "n": 1}
    torch.save(content, tmp_path / "x.bin")
    found = read(tmp_path, ("x.bin",))
    assert found.lost == ("list", "dict.b")
    assert found.beside == {"n": 1, "dict": {"$dict": [["a", 1]]}}
    within["w"] = torch.ones(1)
    torch.save(within, tmp_path / "x.bin")
    with pytest.raises(CheckpointError, match="is no tensor"):
        read(tmp_path, ("x.bin",))


def test_deep_stand_ins_are_left_out_by_name() -> None:
    deep = b"ca\nThing\nq\x00" + b"h\x00" * 99_999 + b"N" + b"\x85R" * 100_000
    assert _encode_each({"x": load(deep + b"."), "y": 1}) == ({"y": 1}, ("x",))


# What is damaged ----------------------------------------------------------------------------------

DAMAGED = [
    b"", b".", b"K", b"K\x01", b"K\x01K\x02.", b"t.", b"u.", b"(u.", b"]a.", b"a.", b"s.",
    b"}K\x01s.", b"h\x00.", b"q\x00.", b"j\xff\xff\xff\xff.", b"\x85.", b"K\x01\x86.", b"R.",
    b")R.", b"b.", b"Q.", b"(K\x01.", b"K\x01(.", b"}(K\x01u.", b"X\xff\xff\xff\xffabc.",
    b"\x8a\xff1.", b"G1.", b"c\n\xff\n.", b"K\x01e.", b"K\x01(K\x02e.", b"](K\x01u.",
    b"K\x01\x93.", b"K\x01K\x02\x93.", b"X\x01\0\0\0\xff.", b"\x80\x05\x95" + b"\xff" * 8,
    b"\xff",
]  # fmt: skip


@pytest.mark.parametrize("data", DAMAGED)
def test_what_makes_no_sense(data: bytes) -> None:
    with pytest.raises((ValueError, LookupError, TypeError)):
        load(data)


OPS = [bytes([code]) for code in range(256)]
SENSE = [b"}", b"]", b"(", b"t", b"u", b"s", b"a", b"e", b")", b"R", b"b", b"\x81", b"Q", b"\x85",
         b"q\x00", b"h\x00", b"\x94", b"K\x01", b"N", b"X\x01\x00\x00\x00a", b"ca\nThing\n",
         b"ctorch\nSize\n", b"ccollections\nOrderedDict\n"]  # fmt: skip


@given(st.lists(st.sampled_from(SENSE), max_size=40) | st.lists(st.sampled_from(OPS + SENSE)))
@settings(max_examples=1500, deadline=None)
def test_any_instructions_in_any_order(given: list[bytes]) -> None:
    """Whatever comes is a value, or an exception that a reader can turn into one line."""
    with contextlib.suppress(ValueError, LookupError, TypeError, struct.error):
        load(b"".join(given) + b".")


# What is good -------------------------------------------------------------------------------------

KEYS = st.integers(-(1 << 60), 1 << 60)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(inner)
        | st.tuples(inner, inner, inner, inner)
        | st.dictionaries(st.text() | KEYS | st.tuples(KEYS, st.text()), inner)
    ),
    max_leaves=30,
)


@given(VALUES, st.sampled_from((3, 4, 5)))
@settings(max_examples=300, deadline=None)
def test_plain_values_are_read_as_python_reads_them(value: Any, protocol: int) -> None:
    assert load(pickle.dumps(value, protocol)) == value


def test_names_and_what_is_stored_outside() -> None:
    assert load(b"ctorch\nTensor\n.") == Global("torch.Tensor")
    assert load(b"(X\x01\x00\x00\x00aK\x01tQ.") == ("stored", ("a", 1))
    assert load(b"c__builtin__\nset\n]\x85R.") == Opaque("builtins.set")
    assert load(b"ccollections\nOrderedDict\n)R}X\x01\x00\x00\x00aK\x01sb.") == {}


def test_long_containers_come_in_pieces() -> None:
    whole: Callable[[int], Any] = lambda n: (list(range(n)), {k: str(k) for k in range(n)})  # noqa: E731
    assert load(pickle.dumps(whole(5000), 2)) == whole(5000)


def test_a_pickle_that_repeats_itself_is_refused() -> None:
    """Small on the disk: what came once is handed to a call again and again, or hashed in keys."""
    many = pickle.dumps(dict.fromkeys(range(100_000)), protocol=2)[:-1]
    calls = many + b"q\x01ccollections\nOrderedDict\nq\x02h\x01\x85R" + b"h\x02h\x01\x85R" * 1_000
    with pytest.raises(RefusedError, match="repeats itself without end"):
        load(calls + b"N.")
    key = pickle.dumps({tuple(range(17)): None}, protocol=2)
    with pytest.raises(RefusedError, match="a key of 17 parts"):
        load(key)
