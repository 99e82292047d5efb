"""Recordings that libsndfile reads: WAV, FLAC, OGG, MP3 and many more."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samevoice.models.diarization.decoding import AudioError, Stream, opened, readable
from samevoice.models.diarization.resampling import Samples

_UNKNOWN = 1 << 62  # libsndfile's count where a header gives none
_SLACK = 0.05  # seconds that MP3 and Vorbis headers may be off without a word


class UnreadableError(Exception):
    """libsndfile cannot open it; ffmpeg may."""


@contextmanager
def _overheard(said: int | None) -> Iterator[None]:
    """What a decoder in C writes to standard error goes to the descriptor ``said``, or nowhere."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed, so nothing can come out of it
        yield
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno() if said is None else said, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    """Its two ends, neither of which waits: what does not fit into it is lost."""
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def sound_file(path: Path, name: str, said: int | None = None) -> Any:
    """libsndfile's view of a file, told apart by its content and not by its name."""
    import soundfile

    with readable(name):
        descriptor = opened(path)
    try:
        with _overheard(said):
            file = soundfile.SoundFile(descriptor, closefd=True)
    except (soundfile.LibsndfileError, TypeError, ValueError) as error:
        raise UnreadableError(_said(error)) from error
    # soundfile seeks after every read where it can, which is slow, and fails where a header does
    # not say how long the file is.
    file.seekable = lambda: False
    return file


@dataclass(frozen=True)
class SoundFile:
    path: Path
    name: str
    rate: int
    frames: int

    @property
    def seconds(self) -> float | None:
        known = self.frames < _UNKNOWN and self.rate > 0
        return self.frames / self.rate if known else None

    @contextmanager
    def open(self, size: int, notes: list[str]) -> Iterator[Stream]:
        with _pipe() as (heard, said):
            try:
                file = sound_file(self.path, self.name, said)
            except UnreadableError as error:
                raise AudioError(f"{self.name} cannot be read any more: {error}") from error
            with closing(file):
                blocks = self._blocks(file, size, notes, said)
                yield Stream(file.samplerate, file.channels, self._warned(blocks, heard, notes))

    def _warned(self, blocks: Iterator[Samples], heard: int, notes: list[str]) -> Iterator[Samples]:
        """The same; then what the decoder had against them, where nothing better is known."""
        yield from blocks
        if not notes and (warning := _first_line(heard)):
            notes.append(f"{self.name}: its decoder says: {warning}")

    def _blocks(self, file: Any, size: int, notes: list[str], said: int) -> Iterator[Samples]:
        import soundfile

        read = 0
        fault = ""
        try:
            while len(block := _read(file, size, said)):
                read += len(block)
                yield block
        except soundfile.LibsndfileError as error:
            fault = _said(error)
        if fault:
            for block in self._until_fault(read):
                read += len(block)
                yield block
        self._note(read, _claimed(file) or file.frames, fault, notes)

    def _until_fault(self, start: int) -> Iterator[Samples]:
        """From ``start`` up to the fault: a read that fails gives nothing of its block."""
        import soundfile

        for step in (4096, 64, 1):
            with closing(sound_file(self.path, self.name)) as file:
                try:
                    _skip(file, start)
                    while len(block := _read(file, step)):
                        start += len(block)
                        yield block
                except soundfile.LibsndfileError:
                    continue

    def _note(self, read: int, claimed: float, fault: str, notes: list[str]) -> None:
        if fault and not read:
            raise AudioError(f"{self.name} cannot be read: {fault}")
        missing = claimed - read if claimed < _UNKNOWN else 0
        if fault:
            notes.append(f"{self.name} is damaged after {read / self.rate:.3f} s: {fault}")
        elif missing > _SLACK * self.rate:
            notes.append(
                f"{self.name} claims {claimed / self.rate:.3f} s and holds {read / self.rate:.3f} s"
            )
        elif _lacks_last_page(self.path):
            notes.append(
                f"{self.name} was cut off after {read / self.rate:.3f} s: its last page is missing"
            )


_PAGE, _PAGE_HEADER, _IS_LAST = b"OggS", 27, 4


def _lacks_last_page(path: Path) -> bool:
    """Whether an Ogg ends before the page that says it is the last: no header tells its length."""
    with open(opened(path), "rb") as file:
        if file.read(len(_PAGE)) != _PAGE:
            return False
        file.seek(max(file.seek(0, os.SEEK_END) - (1 << 17), 0))  # a page has at most 64 KiB
        end = file.read()
    page = end[end.rfind(_PAGE) :]
    if len(page) < _PAGE_HEADER or not page[5] & _IS_LAST:
        return True
    sizes = page[_PAGE_HEADER : _PAGE_HEADER + page[_PAGE_HEADER - 1]]
    return len(page) < _PAGE_HEADER + page[_PAGE_HEADER - 1] + sum(sizes)


def _read(file: Any, size: int, said: int | None = None) -> Samples:
    with _overheard(said):
        block: Samples = file.read(size, dtype="float32", always_2d=True)
    return block


def _first_line(heard: int) -> str:
    """Of a decoder's words, without the place in its code and what kind of words they are."""
    try:
        text = os.read(heard, 4096).decode("utf-8", "replace").strip()
    except BlockingIOError:
        return ""
    return re.sub(r"^(\[\S*\] )?(\w+: )?", "", text).partition("\n")[0].strip()


def _said(error: Exception) -> str:
    reason = str(getattr(error, "error_string", error)).removeprefix("Error : ").rstrip(". ")
    return reason[:1].lower() + reason[1:]


def _skip(file: Any, frames: int) -> None:
    while frames and len(skipped := _read(file, min(frames, 65_536))):
        frames -= len(skipped)


# How libsndfile tells of the part with the samples, or in W64 and RF64 of the whole file.
_SHORT = re.compile(
    r"^\s*(?:data|SSND|Data Size|BODY|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE
)
# What a program writes that cannot go back: it claims nothing.
_NO_CLAIM = (0xFFFF_FFFE, 0xFFFF_FFFF, (1 << 63) - 1, (1 << 64) - 1)


def _claimed(file: Any) -> float | None:
    """The frames that a header claims, where libsndfile saw that the file is shorter."""
    found = _SHORT.search(file.extra_info)
    if not found:
        return None
    claimed, there = map(int, found.groups())
    if not there or claimed in _NO_CLAIM:
        return None
    return float(file.frames) * claimed / there
