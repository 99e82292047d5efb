"""Ways to spoil a file: its bytes, and what its format is made of. All from one random generator.

Each takes the file's bytes and gives others. A structural one may fail on what it cannot parse;
then bytes are changed instead.
"""

from __future__ import annotations

import io
import json
import pickletools
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from random import Random
from typing import Any

import numpy as np
import yaml

Mutator = Callable[[Random, bytes], bytes]

SIZES = (0, 1, -1, 7, 8, 255, 256, 65_535, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1,
         1 << 40, (1 << 63) - 1, (1 << 64) - 1)  # fmt: skip
# Where a name or a path is expected.
NAMES = (
    "", ".", "..", "/", "../outside/secret.wav", "/etc/passwd", "a/../../x", "a\x00b", "a\nb",
    "C:\\x", "~/x", "-rf", "\ud800", "\u202eabc", "é" * 40, "x" * 5000, "CON", "../bundle",
    "file:///etc/passwd", "http://127.0.0.1:9/x", "model.safetensors", "{}", "%s%n", "/dev/zero",
    "/dev/stdin",
)  # fmt: skip
# As they stand in JSON's text.
RAW = (
    "null", "true", "0", "-1", "1", "2", "0.5", "1e-300", "1e38", "1e308", "1e999", "-1e999", "NaN",
    "Infinity", "-0.0", "1.0000001", "4294967296", "18446744073709551616", "9" * 20, "9" * 400,
    "9" * 5000, '""', "[]", "{}", "[[]]", '{"":{}}', '"nan"', '"inf"', '"\\ud800"', '"\\u0000"',
    "[1,2,3]", '["a"]', '"float16"', "[" * 500 + "]" * 500, "[" * 100_000,
    '{"a":' * 2000 + "1" + "}" * 2000,
)  # fmt: skip
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML = (
    BOMB + "pipeline: *i\n", "&a [*a]\n", "pipeline: &a {x: *a}\n", "[" * 5000, "{" * 5000,
    "- " * 5000, "a: 1\n" * 50_000, "!!python/object/apply:os.system ['touch pwned']\n", "\t",
    "%YAML 9.9\n---\n", "? [a]\n: b\n", "pipeline: 2001-01-01\n", "--- 1\n--- 2\n", "!!set {a}\n",
    "pipeline: !!binary aGk=\n", "<<: *x\n", "pipeline:\n  params: .nan\n", "pipeline: 0o9\n",
    "a: &a b\nc: *a\n", "\ufeffx: y\n",
)  # fmt: skip
TOML = (
    "noise_ratio = 'x'", "noise_ratio = nan", "noise_ratio = -inf", "noise_ratio = 1e999", "x = 1",
    "noise_ratio = true", "noise_ratio = 1979-05-27", "[limits]", "[limits.limits.limits]", "= 1",
    "[[limits]]", "noise_ratio = " + "[" * 3000, "noise_ratio = " + "9" * 5000, '"\\u0000" = 1',
    "a.b.c = 1", "cosine_min = 2", "max_abs = -1", "max_abs = {a = 1}", '"" = 1',
    "noise_ratio = 0x7fffffffffffffffff",
)  # fmt: skip
TOKENS = (
    "nan", "inf", "-1", "1e309", "9" * 400, "", "\f", "\x85", "\u2028", "\x00", "é", "<NA>", "0",
    "x" * 3000, "../x", "\ufeff", "\r", "SPEAKER", ";;",
)  # fmt: skip


def mutate(random: Random, kind: str, data: bytes, times: int = 1) -> bytes:
    """One change, or a few; a format's own ways and the ways of all bytes, half and half."""
    structural = STRUCTURAL.get(kind)
    for _ in range(times):
        if structural is not None and random.random() < 0.6:
            try:
                data = structural(random, data)
                continue
            except Exception:  # what an earlier change left is none of this format any more
                pass
        data = random.choice(BYTES)(random, data)
    return data


# Bytes --------------------------------------------------------------------------------------------


def _place(random: Random, data: bytes) -> int:
    """Headers matter more than what they describe."""
    most = len(data) if random.random() < 0.5 else min(len(data), 512)
    return random.randrange(max(most, 1))


def flip(random: Random, data: bytes) -> bytes:
    changed = bytearray(data or b"\0")
    changed[_place(random, data)] ^= 1 << random.randrange(8)
    return bytes(changed)


def overwrite(random: Random, data: bytes) -> bytes:
    at = _place(random, data)
    junk = random.choice((random.randbytes(4), bytes(8), b"\xff" * 8, random.randbytes(64)))
    return data[:at] + junk + data[at + len(junk) :]


def truncate(random: Random, data: bytes) -> bytes:
    return data[
        : random.choice((0, 1, len(data) // 2, max(len(data) - 1, 0), _place(random, data)))
    ]


def cut_out(random: Random, data: bytes) -> bytes:
    at, size = _place(random, data), random.choice((1, 4, 16, 1000))
    return data[:at] + data[at + size :]


def double(random: Random, data: bytes) -> bytes:
    at, size = _place(random, data), random.choice((1, 4, 16, 1000))
    return data[: at + size] + data[at : at + size] + data[at + size :]


def splice(random: Random, data: bytes) -> bytes:
    source, at, size = _place(random, data), _place(random, data), random.choice((4, 64, 4096))
    return data[:at] + data[source : source + size] + data[at + size :]


def append(random: Random, data: bytes) -> bytes:
    return data + random.choice((b"\0", b"\n", b"x" * 100, random.randbytes(1000), data[:4096]))


def length(random: Random, data: bytes) -> bytes:
    """A number of two, four or eight bytes, as headers hold them."""
    form = random.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
    size = struct.calcsize(form)
    at = random.randrange(max(min(len(data), 256) - size, 1))
    number = random.choice(SIZES) % (1 << 8 * size)
    return data[:at] + struct.pack(form, number) + data[at + size :]


BYTES: tuple[Mutator, ...] = (
    flip,
    flip,
    overwrite,
    truncate,
    cut_out,
    double,
    splice,
    append,
    length,
)


# JSON ---------------------------------------------------------------------------------------------

_MARK = "@@mark@@"


def _places(node: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Every container with every key in it."""
    if depth > 50:
        return
    keys: Any = node.keys() if isinstance(node, dict) else range(len(node))
    for key in list(keys):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from _places(node[key], depth + 1)


def _some_place(random: Random, document: Any) -> tuple[Any, Any]:
    """Each depth is as likely, or the taps would hide everything else."""
    node = document
    while True:
        key = random.choice(list(node) if isinstance(node, dict) else range(len(node)))
        inner = node[key]
        if not isinstance(inner, dict | list) or not inner or random.random() < 0.25:
            return node, key
        node = inner


def json_text(random: Random, data: bytes) -> bytes:
    text = data.decode("utf-8")
    if random.random() < 0.1:
        return random.choice(RAW).encode("utf-8", "surrogatepass")
    document = json.loads(text)
    return _edited(random, document).encode("utf-8", "surrogatepass")


def _edited(random: Random, document: Any) -> str:
    node, key = _some_place(random, document)
    way = random.randrange(8)
    raw = random.choice(RAW)
    if way <= 2:
        node[key] = _MARK
    elif way == 3:
        del node[key]
    elif way == 4 and isinstance(node, dict):  # the same key twice
        kept = node[key]
        node[key] = _MARK
        raw = f"{json.dumps(kept)}, {json.dumps(key)}: {random.choice((raw, json.dumps(kept)))}"
    elif way == 5 and isinstance(node, dict):
        node[random.choice(NAMES)] = node.pop(key) if random.random() < 0.5 else node[key]
    elif way == 6 and isinstance(node[key], str):
        node[key] = random.choice(NAMES)
    elif isinstance(node[key], int | float) and not isinstance(node[key], bool):
        node[key] = random.choice((node[key] * 2, node[key] + 1, -node[key], node[key] * 1.001))
    else:
        other, where = _some_place(random, document)
        node[key], other[where] = other[where], node[key]
    indent = random.choice((None, 1, 2))
    return json.dumps(document, indent=indent).replace(f'"{_MARK}"', raw, 1)


# YAML, TOML, lines --------------------------------------------------------------------------------


def yaml_text(random: Random, data: bytes) -> bytes:
    text = data.decode("utf-8")
    way = random.randrange(4)
    if way == 0:
        return random.choice((random.choice(YAML), text + random.choice(YAML))).encode()
    if way == 1:
        return lines(random, data)
    if "&" in text or len(text) > 5000:  # a bomb would go off here
        raise ValueError("no plain file any more")
    return _edited(random, yaml.safe_load(text)).encode("utf-8", "surrogatepass")


def toml_text(random: Random, data: bytes) -> bytes:
    given = data.decode("utf-8").split("\n")
    given.insert(random.randrange(len(given) + 1), random.choice(TOML))
    return "\n".join(given).encode()


def lines(random: Random, data: bytes) -> bytes:
    given = data.decode("utf-8").split("\n")
    at = random.randrange(len(given))
    way = random.randrange(6)
    if way == 0:
        given.insert(at, given[random.randrange(len(given))])
    elif way == 1:
        del given[at]
    elif way == 2:
        given[at] += random.choice(TOKENS)
    elif way == 3:
        return random.choice(TOKENS).join(given).encode()
    else:
        words = given[at].split(" ")
        words[random.randrange(len(words))] = random.choice((*TOKENS, *NAMES[:8]))
        given[at] = " ".join(words)
    return "\n".join(given).encode("utf-8", "surrogatepass")


# Containers ---------------------------------------------------------------------------------------


def safetensors(random: Random, data: bytes) -> bytes:
    """Another header over the same bytes; its length follows, or does not."""
    (size,) = struct.unpack("<Q", data[:8])
    header = json_text(random, data[8 : 8 + size])
    said = len(header) if random.random() < 0.8 else random.choice(SIZES) % (1 << 64)
    return struct.pack("<Q", said) + header + data[8 + size :]


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def archive(random: Random, data: bytes) -> bytes:
    """The same members but for one, which is gone, doubled, renamed, packed or spoilt."""
    pairs = list(_members(data).items())
    at = random.randrange(len(pairs))
    name, content = pairs[at]
    way = random.randrange(8)
    packed = zipfile.ZIP_DEFLATED if random.random() < 0.2 else zipfile.ZIP_STORED
    if way == 0:
        del pairs[at]
    elif way == 1:
        pairs.append((name, flip(random, content) if random.random() < 0.5 else content))
    elif way == 2:
        pairs[at] = (
            random.choice((*NAMES[1:8], name + ".npy", name.removesuffix(".npy"))),
            content,
        )
    elif way == 3:
        pairs.append((name.removesuffix(".npy") if name.endswith(".npy") else name + "x", content))
    elif way == 4:
        pairs[at] = (name, npy(random, content))
    elif way == 5:
        pairs[at] = (name, pickled(random, content))
    else:
        pairs[at] = (name, random.choice(BYTES)(random, content))
    made = _zipped(pairs, packed)
    return _flagged(random, made) if random.random() < 0.15 else made


def _zipped(pairs: list[tuple[str, bytes]], packed: int) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", packed) as made:
        warnings.simplefilter("ignore")  # names twice are what is wanted
        for name, content in pairs:
            made.writestr(zipfile.ZipInfo(name), content, packed)
    return buffer.getvalue()


def _flagged(random: Random, data: bytes) -> bytes:
    """Some member is encrypted, or packed in another way, or larger than it is; says its entry."""
    at = data.find(b"PK\x01\x02")
    starts = []
    while at >= 0:
        starts.append(at)
        at = data.find(b"PK\x01\x02", at + 4)
    changed = bytearray(data)
    where = random.choice(starts)
    offset, form, number = random.choice(
        ((8, "<H", 1), (10, "<H", 99), (10, "<H", 12), (20, "<I", 1 << 31), (24, "<I", 1 << 31),
         (42, "<I", 1 << 30), (16, "<I", 0))
    )  # fmt: skip
    struct.pack_into(form, changed, where + offset, number)
    return bytes(changed)


def npy(random: Random, content: bytes) -> bytes:
    """An array of another shape or type over the same bytes."""
    buffer = io.BytesIO(content)
    np.lib.format.read_magic(buffer)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(buffer)
    shape = random.choice(
        (shape, (), (0,), (1 << 40,), (-1,), (1 << 62, 4), shape[::-1], (1,) * 70)
    )
    descr = random.choice(
        (dtype.str, "|O", "<U1", "<c16", "|V8", "<M8[s]", "<f2", ">f8", "<i8", "|S0")
    )
    header = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    if random.random() < 0.2:
        header = random.choice(
            ("{", "__import__('os').system('touch pwned')", "(" * 3000, header * 300)
        )
    plain = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(plain) % 65536) + plain + buffer.read()


# Calls os.system, opens a file, imports a module: whatever is run shows in the audit.
PICKLES = (
    b"cos\nsystem\n(S'touch pwned'\ntR.",
    b"cbuiltins\nopen\n(S'../outside/secret.wav'\ntR.",
    b"cbuiltins\nexec\n(S'1'\ntR.",
    b"ctorch._utils\n_rebuild_tensor_v2\n(tR.",
    b"\x80\x02}q\x00.", b"\x80\x02]q\x00.", b"\x80\x02K\x01.", b"(" * 5000,
    b"\x80\x05\x95" + b"\xff" * 8,
)  # fmt: skip


SWAPS = (
    (b"_rebuild_tensor_v2", b"_rebuild_parameter_"), (b"collections", b"subprocess\n"),
    (b"OrderedDict", b"defaultdict"), (b"FloatStorage", b"LongStorage"), (b"cpu", b"meta"),
    (b"state_dict", b"state_dicu"), (b"Specifications", b"Specificationz"), (b"duration", b"dur"),
    (b"classes", b"classez"), (b"problem", b"probleM"), (b"pyannote.audio", b"pyannote.audip"),
    (b"powerset_max_classes", b"powerset_max_classez"), (b"hyper_parameters", b"hyper_parameterz"),
)  # fmt: skip


def pickled(random: Random, content: bytes) -> bytes:
    """A pickle in its place, or its own with another word in it."""
    if random.random() < 0.4:
        return random.choice(PICKLES)
    there = [swap for swap in SWAPS if swap[0] in content]
    if not there:
        return random.choice(BYTES)(random, content)
    return content.replace(*random.choice(there))


# Instructions, good in another place or nowhere: calls, marks, memo, numbers of any size.
STEPS = (
    b"R", b"o", b"\x81", b"\x92", b"b", b"Q", b"P0\n", b"\x82\x01", b"(", b"t", b"u", b"s", b"a",
    b"e", b"0", b"2", b"1", b"}", b"]", b")", b"\x85", b"\x87", b"\x93", b"\x94", b"N", b"\x88",
    b"q\x00", b"h\x00", b"h\x05", b"j\xff\xff\xff\xff", b"K\x00", b"J\xff\xff\xff\xff",
    b"\x8a\x09" + b"\xff" * 8 + b"\x7f", b"X\x01\x00\x00\x000", b"X\xff\xff\xff\xff",
    b"ios\nsystem\n", b"cos\nsystem\n", b"ctorch\nDoubleStorage\n",
    b"ctorch._utils\n_rebuild_parameter\n", b".",
)  # fmt: skip


def torch_pickle(random: Random, data: bytes) -> bytes:
    """An archive whose pickle does something else in a place or two; or a pickle alone."""
    members = _members(data)
    name = next(name for name in members if name.endswith("data.pkl"))
    content = members[name]
    if random.random() < 0.1:
        return random.choice((*PICKLES, content, _BEFORE_1_6))
    if random.random() < 0.3:
        members[name] = pickled(random, content)
    else:
        places = [at for _, _, at in pickletools.genops(content) if at is not None]
        for _ in range(random.choice((1, 1, 2, 4))):
            at = random.randrange(len(places) - 1)
            start, end = places[at], places[min(at + random.randrange(3), len(places) - 1)]
            content = content[:start] + random.choice(STEPS) + content[end:]
        members[name] = content
    return _zipped(list(members.items()), zipfile.ZIP_STORED)


_BEFORE_1_6 = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."


def sound(random: Random, data: bytes) -> bytes:
    """Recordings are cut off more often than they are damaged otherwise."""
    if random.random() < 0.4:
        return data[: random.randrange(len(data))]
    return random.choice(BYTES)(random, data)


STRUCTURAL: Mapping[str, Mutator] = {
    "sound": sound,
    "json": json_text,
    "yaml": yaml_text,
    "toml": toml_text,
    "lines": lines,
    "safetensors": safetensors,
    "zip": archive,
    "pickle": torch_pickle,
}
