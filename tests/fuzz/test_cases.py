"""What a case is: the same from one seed, a changed file, and a command that must not like it."""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from fuzz import mutate, targets
from fuzz.goods import LIMITS, PIPELINE, TALK
from fuzz.targets import BY_NAME, Command, Counts, draw
from fuzz.worker import Worker
from samevoice import cli

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="the fuzzer watches files with inotify and reads /proc"
)


def npz(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    made: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    np.savez(buffer, **made)
    return buffer.getvalue()


def tensors(**arrays: np.ndarray) -> bytes:
    from safetensors.numpy import save

    return save({name.replace("_", "/", 1): array for name, array in arrays.items()})


def torch_zip(**arrays: np.ndarray) -> bytes:
    from samevoice.converters.reading import torch_writer

    with tempfile.TemporaryDirectory() as folder:
        torch_writer.write(Path(folder, "x.pt"), arrays)
        return Path(folder, "x.pt").read_bytes()


ONE = np.ones(3, np.float32)
GOOD: dict[str, bytes] = {
    "json": json.dumps({"a": [1, {"b": "c"}], "d": 2.5}).encode(),
    "yaml": PIPELINE.encode(),
    "toml": LIMITS.encode(),
    "lines": TALK.encode(),
    "safetensors": tensors(a=ONE, b=ONE),
    "zip": npz(a=[1.0, 2.0], b=3),
    "sound": bytes(range(200)),
    "pickle": torch_zip(w=np.ones(3), x=np.ones((2, 2), np.float32)),
}


@pytest.mark.parametrize("kind", GOOD)
def test_each_format_is_spoilt_in_its_own_ways(kind: str) -> None:
    own = mutate.STRUCTURAL[kind]
    made = [own(Random(seed), GOOD[kind]) for seed in range(300)]
    assert len(set(made) - {GOOD[kind]}) > 10
    assert made == [own(Random(seed), GOOD[kind]) for seed in range(300)]


@pytest.mark.parametrize("way", mutate.BYTES)
def test_bytes_are_spoilt_whatever_they_are(way: mutate.Mutator) -> None:
    for data in (b"", b"x", bytes(1000)):
        for seed in range(50):
            way(Random(seed), data)


RESULT = {
    "passed": True, "schema": 1, "first_divergence": None, "loosened": [], "dtype": "float32",
    "device": "cpu", "bundle": {"sha256": "0"}, "versions": {},
    "taps": [{"name": "a", "mode": "free", "input": "x", "passed": True, "reasons": [],
              "noise_ratio": 1.0, "rms": 2.0, "output": True, "histogram": [1], "p99": 3.0}],
}  # fmt: skip
GALLERY = {"findings": [{"bug": "b", "where": "w", "found": "w"}], "versions": {}}


SAID, FOUND = json.dumps(RESULT).encode(), json.dumps(GALLERY).encode()


def edited(document: object, old: str, new: str) -> bytes:
    text = json.dumps(document)
    assert old in text
    return text.replace(old, new).encode()


WHAT_COUNTS: list[tuple[Counts, bytes, bytes, bool]] = [
    (targets.content, b'{"a": 1, "b": 2}', b'{"b":2,"a":1}', False),
    (targets.content, b'{"a": 1}', b'{"a": 2}', True),
    (targets.content, b'{"a": 1}', b'{"a": 1, "a": 1}', True),
    (targets.content, b'{"a": 1}', b'{"a": 1', True),
    (targets.outputs, b'{"outputs": {"a": "0"}}', b'{"outputs": {"a": "0"}, "x": 1}', False),
    (targets.outputs, b'{"outputs": {"a": "0"}}', b'{"outputs": {"a": "1"}}', True),
    (targets.sums, b"0  a\n", b"0  a", False),
    (targets.sums, b"0  a\n1  b\n", b"0  a\f1  b\n", True),
    (targets.verdict, SAID, edited(RESULT, "3.0", "4.0"), False),
    (targets.verdict, SAID, edited(RESULT, ": 2.0", ": 2.1"), True),
    (targets.verdict, SAID, edited(RESULT, ": 2.0", ": 2.0000001"), False),
    (targets.verdict, SAID, edited(RESULT, "null", '"a"'), True),
    (targets.verdict, SAID, edited(RESULT, '"schema": 1', '"schema": 3'), True),
    (targets.verdict, SAID, edited(RESULT, '"schema": 1', '"schema": true'), True),
    (targets.of_bundle, SAID, edited(RESULT, '"0"', '"1"'), True),
    (targets.bugs, FOUND, edited(GALLERY, '"found": "w"', '"found": 1'), True),
    (targets.bugs, FOUND, edited(GALLERY, '"b"', '"c"'), True),
    (targets.bugs, FOUND, edited(GALLERY, "{}", '{"x": 1}'), False),
    (targets.fed, tensors(fed_a=ONE, truth_a=ONE), tensors(fed_a=ONE, truth_a=ONE * 2), False),
    (targets.fed, tensors(fed_a=ONE, truth_a=ONE), tensors(fed_a=ONE * 2, truth_a=ONE), True),
    (targets.arrays, npz(a=[1.0]), npz(a=[1.0000001]), False),
    (targets.arrays, npz(a=[1.0]), npz(a=[1.5]), True),
    (targets.arrays, npz(a=[1.0]), npz(a=[np.nan]), True),
    (targets.arrays, npz(a=[1.0]), npz(b=[1.0]), True),
    (targets.arrays, tensors(a=ONE), tensors(a=-ONE), True),
    (targets.checksums, npz(a=[1.0]), npz(a=[2.0]), False),
    (targets.checksums, npz(a=[1.0]), npz(a=[1.0]).replace(b"\xf0?", b"\xf1?"), True),
    (targets.cut_short, bytes(100), bytes(99), False),
    (targets.cut_short, bytes(100), bytes(50), True),
    (targets.cut_short, bytes(100), b"x" * 50, False),
]  # fmt: skip


@pytest.mark.parametrize(("counts", "before", "after", "expected"), WHAT_COUNTS)
def test_what_counts(counts: Counts, before: bytes, after: bytes, expected: bool) -> None:
    assert counts(before, after) is expected


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[str]]]:
    """Case 0 of the target of limits, with a stand-in for samevoice: what was wrong with it."""
    (tmp_path / "goods").mkdir()
    (tmp_path / "goods" / "limits.toml").write_text(LIMITS)
    (tmp_path / "outside").mkdir()
    monkeypatch.chdir(tmp_path)
    before, commands = tempfile.tempdir, list(cli.app.registered_commands)

    def faults(main: Callable[[list[str]], None], counts: Counts) -> list[str]:
        monkeypatch.setattr(cli, "main", main)
        worker = Worker(tmp_path / "goods", tmp_path / "case" / "w", tmp_path / "outside")
        command = Command("judge {file}", counts)
        answer = worker.spoilt(BY_NAME["limits"], 0, command, "limits.toml", b"spoilt")
        assert Path("limits.toml").read_text() == LIMITS
        return list(answer["faults"])

    yield faults
    tempfile.tempdir = before
    cli.app.registered_commands[:] = commands


def good(words: list[str]) -> None:
    assert Path(words[1]).read_text() == "spoilt"
    sys.exit(0)


def refused(words: list[str]) -> None:
    print("samevoice: no", file=sys.stderr)
    sys.exit(2)


def test_good_is_wrong_only_where_the_change_counts(work: Callable[..., list[str]]) -> None:
    assert work(good, targets.nothing) == []


def test_what_was_changed_and_called_good_is_a_fault(work: Callable[..., list[str]]) -> None:
    assert work(good, targets.any_byte) == ["said to be good, though it was changed in what counts"]


def test_a_refusal_is_no_fault(work: Callable[..., list[str]]) -> None:
    assert work(refused, targets.any_byte) == []


def test_a_refusal_that_leaves_something_is_one(work: Callable[..., list[str]]) -> None:
    def half(words: list[str]) -> None:
        Path("out/half").write_text("")
        refused(words)

    assert work(half, targets.any_byte) == ["failed, and left out/half"]


def test_an_input_that_was_changed_is_a_fault(work: Callable[..., list[str]]) -> None:
    def overwrites(words: list[str]) -> None:
        Path("limits.toml").write_text("mine")

    faults = work(overwrites, targets.nothing)
    assert any("limits.toml for writing" in fault for fault in faults)
    assert "changed limits.toml" in faults


def test_a_case_is_the_same_for_the_same_words(tmp_path: Path) -> None:
    (tmp_path / "limits.toml").write_text(LIMITS)
    target = BY_NAME["limits"]
    drawn = [draw(tmp_path, "1", target, number).after for number in range(20)]
    assert drawn == [draw(tmp_path, "1", target, number).after for number in range(20)]
    assert drawn != [draw(tmp_path, "2", target, number).after for number in range(20)]
