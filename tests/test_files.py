"""Pipes and devices are refused before anybody waits for them; ordinary files are not."""

import os
from pathlib import Path

import pytest

from samevoice.errors import SourceError
from samevoice.files import refuse_special


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
