"""YAML from anybody: plain values come through; what could explode or mislead is refused."""

from __future__ import annotations

import time
from typing import Any

import pytest

from samevoice import plain_yaml
from samevoice.plain_yaml import PlainYamlError


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("", None),
        ("a: {b: [1, 2.5, yes, null, text]}", {"a": {"b": [1, 2.5, True, None, "text"]}}),
        ("- x\n- 'y: z'\n", ["x", "y: z"]),
        ("[" * 49 + "]" * 49, None),
    ],
)
def test_plain_values_come_through(text: str, means: Any) -> None:
    found = plain_yaml.load(text)
    assert means is None or found == means


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &a [x]\nb: *a", "anchors"),
        ("a: &a x", "anchors"),
        ("a: {<<: {b: 1}}", "merges"),
        ("a: 1\nb: 2\na: 3", "a key stands twice"),
        ('a: {1: x, "b": y, 1.0: z}', "a key stands twice"),
        ("? [a]\n: 1", "a key is no plain text"),
        ("a: !!python/object/apply:os.getcwd []", "tags"),
        ("a: !!set {b}", "tags"),
        ("[" * 51 + "]" * 51, "nested more than 50 deep"),
        ("[" * 50_000, "nested more than 50 deep"),
        ("x" * 70_000, "larger than 64 KiB"),
        ("a: 2024-13-45", "ValueError"),
        (f"a: {'1' * 5000}", "ValueError"),
        ("a: [", "ParserError"),
        ("a: \0", "ReaderError"),
        ("a: 1\n---\nb: 2", "ComposerError"),
    ],
)
def test_what_is_not_plain_is_refused(text: str, why: str) -> None:
    with pytest.raises(PlainYamlError, match=why):
        plain_yaml.load(text)


def test_a_few_lines_of_aliases_take_no_time() -> None:
    layers = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    text = "\n".join(["a0: &a0 [x]", *layers, "pipeline: {name: *a11}"])
    started = time.perf_counter()
    with pytest.raises(PlainYamlError):
        plain_yaml.load(text)
    assert time.perf_counter() - started < 1


def test_of_a_card_the_texts_at_its_top_are_read_whatever_else_it_holds() -> None:
    card = "a: &a [x, 1]\nlicense: mit\nb: {<<: *a}\nc: !!python/name:os.system\nd: no"
    found = plain_yaml.texts_at_top(card)
    assert found == {"a": ["x", None], "license": "mit", "b": None, "c": None, "d": None}
    assert plain_yaml.texts_at_top("[" * 5000) == {}
