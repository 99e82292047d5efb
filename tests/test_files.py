"""Pipes and devices are refused before anybody waits for them; ordinary files are not."""

import os
from pathlib import Path

import pytest

from samevoice.errors import BundleError, SourceError
from samevoice.files import read_json, refuse_special


def test_pipes_devices_and_links_to_them_are_refused(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to("/dev/zero")
    for path in (pipe, link, Path("/dev/zero")):
        with pytest.raises(SourceError, match="not an ordinary file"):
            refuse_special(path, SourceError)


def test_files_folders_and_what_does_not_exist_pass(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file", tmp_path / "missing", Path("a\0b")):
        refuse_special(path, SourceError)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[1]", "no JSON object"),
        ("{", "Expecting"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": 1e999}', "1e999 is no number"),
        ('{"a": 1, "a": 2}', "stands twice"),
        ('{"a": {"b": 1, "b": 2}}', "stands twice"),
        ('{"a": "\\ud800"}', "half of a character"),
        ('{"\\uDFFF": 1}', "half of a character"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"a": %s}' % ("1" * 5000), "digits"),
    ],
)
def test_json_that_could_not_be_passed_on_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(BundleError, match=why) as refused:
        read_json(path, BundleError)
    assert str(path) in str(refused.value)


def test_plain_json_comes_through(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"a": "\\ud83d\\ude00 \\\\ud800", "b": [1.5, 1e300, null]}')
    assert read_json(path, BundleError) == {"a": "\U0001f600 \\ud800", "b": [1.5, 1e300, None]}


def test_a_text_without_an_end_is_not_read_to_it(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BundleError, match="larger than 64 MiB"):
        read_json(path, BundleError)
