"""Any recording as 16 kHz mono, in blocks: files, file objects and waveforms, whatever their size.

libsndfile reads WAV, FLAC, OGG, MP3 and many more; what it does not know goes through ffmpeg, where
that is installed. Nothing is ever in memory as a whole but a waveform that was handed over.
"""

from __future__ import annotations

import math
import os
import shutil
import stat
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from samevoice.models.diarization import decoding
from samevoice.models.diarization.decoding import AudioError, Reader, Stream, readable, ready
from samevoice.models.diarization.ffmpeg import Ffmpeg
from samevoice.models.diarization.resampling import Resampler, Samples
from samevoice.models.diarization.sound_files import SoundFile, UnreadableError, sound_file

Source = str | Path | BinaryIO | Mapping[str, Any]

LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
AT_HAND = 120.0  # seconds: two minutes in a notebook are a few MB
_SPOOL = 1 << 20
LOUDEST = 2.0**31  # floats on the scale of 32-bit integers; beyond it float32 overflows on the way


@dataclass(eq=False)
class Audio:
    """One recording. ``notes`` says, once it was read, what about it was not as its header claims.

    ``duration`` is what the header claims, in seconds: good for a progress bar, and for nothing
    else.
    """

    reader: Reader
    name: str
    uri: str
    sample_rate: int = 16_000
    channel: int | None = None
    kept: object = None  # a temporary file lives as long as this object
    notes: list[str] = field(default_factory=list, init=False)

    @cached_property
    def duration(self) -> float | None:
        return self.reader.seconds

    def blocks(self, size: int = 160_000) -> Generator[Samples]:
        """(N,) mono blocks at ``sample_rate``, read ``size`` frames at a time; again on each call.

        Their lengths vary. Together they are ceil(frames * sample_rate / the recording's rate).
        """
        self.notes.clear()
        given = 0
        with self.reader.open(size, self.notes) as stream:
            self._check(stream)
            resampler = Resampler(stream.rate, self.sample_rate)
            plain = stream.rate == self.sample_rate
            for block in self._mono(stream):
                made = block if plain else resampler.feed(block)
                given += len(made)
                if len(made):
                    yield made
            rest = resampler.end()
            given += len(rest)
            if len(rest):
                yield rest
        if not given:
            raise AudioError(f"{self.name} holds no samples: is the recording complete?")
        held = given / self.sample_rate
        # Half, as ffmpeg can only guess the length of some formats.
        if not self.notes and held < 0.5 * (self.duration or 0.0):
            self.notes.append(f"{self.name} claims {self.duration:.3f} s and holds {held:.3f} s")

    def at_hand(self, seconds: float) -> Audio | None:
        """Itself for a result that may be listened to later, where that is short.

        A temporary file is let go: a result holds nothing open.
        """
        return self if seconds <= AT_HAND and self.kept is None else None

    def _check(self, stream: Stream) -> None:
        if not LOWEST_RATE <= stream.rate <= HIGHEST_RATE:
            raise AudioError(
                f"{self.name} claims {stream.rate} samples a second: it must be "
                f"{LOWEST_RATE} to {HIGHEST_RATE}"
            )
        if self.channel is not None and not 0 <= self.channel < stream.channels:
            raise AudioError(
                f"{self.name} has no channel {self.channel}: it has {stream.channels}, "
                "counted from 0"
            )

    def _mono(self, stream: Stream) -> Iterator[Samples]:
        """The mean of the channels, as pyannote mixes them, and refused where it is no sound."""
        at = 0
        for block in stream.blocks:
            if not (np.abs(block) <= LOUDEST).all():
                self._refuse(block, at, stream.rate)
            if self.channel is not None:
                block = block[:, self.channel : self.channel + 1]
            at += len(block)
            yield block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)

    def _refuse(self, block: Samples, at: int, rate: int) -> None:
        frame, channel = np.argwhere(~(np.abs(block) <= LOUDEST))[0]
        value = float(block[frame, channel])
        what = "NaN" if math.isnan(value) else "infinity" if math.isinf(value) else f"{value:.3g}"
        scale = ", where full scale is 1" if math.isfinite(value) else ""
        raise AudioError(
            f"{self.name} holds {what} at {(at + int(frame)) / rate:.3f} s{scale}: "
            "mend it, or cut that part out"
        )


def open_audio(source: Source, sample_rate: int = 16_000) -> Audio:
    """A path, a file object, ``{"waveform": (C, N), "sample_rate": int}`` or ``{"audio": ...}``.

    The mappings are pyannote's: ``uri`` and ``channel`` may stand in them, too.
    """
    if not isinstance(source, Mapping):
        return _file(source, sample_rate)
    uri = None if source.get("uri") is None else str(source["uri"])
    channel = source.get("channel")
    if channel is not None and (not isinstance(channel, int) or isinstance(channel, bool)):
        raise AudioError(f"channel is {channel!r}: give its number, counted from 0")
    if "waveform" not in source:
        if "audio" not in source:
            raise AudioError('a mapping must hold "waveform" and "sample_rate", or "audio"')
        return _file(source["audio"], sample_rate, uri, channel)
    reader = _Waveform(_waveform(source["waveform"]), _rate(source))
    return Audio(reader, "the waveform", uri or "waveform", sample_rate, channel)


# Waveforms ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Waveform:
    values: NDArray[Any]  # (C, N)
    rate: int

    @property
    def seconds(self) -> float:
        return self.values.shape[1] / self.rate if self.rate else 0.0

    @contextmanager
    def open(self, size: int, notes: list[str]) -> Iterator[Stream]:
        del notes
        channels, total = self.values.shape
        pieces = (self.values[:, at : at + size].T for at in range(0, total, size))
        yield Stream(self.rate, channels, map(_float32, pieces))


def _float32(values: NDArray[Any]) -> Samples:
    """What float32 does not hold becomes infinity, and is refused with its time."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, np.float32)


def _waveform(given: Any) -> NDArray[Any]:
    """(C, N) or (N,), of numpy, MLX or torch -> (C, N)."""
    try:
        values = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
    except Exception as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AudioError(f"the waveform is no array of numbers: {said}") from error
    if values.dtype.kind != "f":
        raise AudioError(f"the waveform is {values.dtype}: give floats, full scale at 1.0")
    if values.ndim == 1:
        values = values[None]
    if values.ndim != 2 or values.shape[0] > max(values.shape[1], 1) or not values.shape[0]:
        raise AudioError(f"the waveform is {values.shape}: give (channels, samples), or (samples,)")
    return values


def _rate(source: Mapping[str, Any]) -> int:
    rate = source.get("sample_rate")
    if rate is None:
        raise AudioError('a waveform needs its "sample_rate" beside it')
    try:
        if int(rate) == rate:
            return int(rate)
    except (TypeError, ValueError, OverflowError):
        pass
    raise AudioError(f"sample_rate is {rate!r}: give a whole number")


# Files -------------------------------------------------------------------------------------------


def _file(
    source: Any, sample_rate: int, uri: str | None = None, channel: int | None = None
) -> Audio:
    """A path, or a file object: that is read once, into a temporary file."""
    kept = None
    if isinstance(source, str | Path):
        path = Path(source)
        # pyannote calls a recording by its file's name; so does its RTTM.
        name, uri = str(path), uri or path.stem
        _refuse_strange(path)
        if not path.is_file():  # a pipe, such as the shell's <(...)
            kept = _spooled(_from_pipe(path), name)
    elif hasattr(source, "read"):
        name, uri = uri or "the file object", uri or "stream"
        kept = _spooled(_from_start(source), name)
    else:
        raise AudioError(
            f"{type(source).__name__} is no recording: give a path, a file object opened in "
            'binary, or {"waveform": ..., "sample_rate": ...}'
        )
    where = path if kept is None else Path(f"/dev/fd/{kept.fileno()}")
    return Audio(_reader(where, name), name, uri, sample_rate, channel, kept)


def _refuse_strange(path: Path) -> None:
    with readable(str(path)):
        found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise AudioError(f"{path} is a folder: name an audio file")
    if stat.S_ISREG(found.st_mode) and not found.st_size:
        raise AudioError(f"{path} is empty (0 bytes): is the recording complete?")
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISFIFO(found.st_mode):
        raise AudioError(f"{path} is no ordinary file: name an audio file")


def _from_pipe(path: Path) -> Iterator[bytes]:
    """A pipe's bytes; one into which nobody writes is an error, not a wait without end."""
    # Opening blocks until somebody writes, where it is not asked not to.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            if not ready(descriptor):
                raise AudioError(f"{path} is a pipe, and gave nothing for {decoding.PATIENCE:g} s")
            if not (piece := os.read(descriptor, _SPOOL)):
                return
            yield piece
    finally:
        os.close(descriptor)


def _from_start(source: Any) -> Iterator[Any]:
    """A file object's content; a seekable one is read from its start and left where it stood."""
    stood = source.tell() if getattr(source, "seekable", lambda: False)() else None
    if stood is not None:
        source.seek(0)
    while piece := source.read(_SPOOL):
        yield piece
    if stood is not None:
        source.seek(stood)


def _spooled(pieces: Iterator[Any], name: str) -> Any:
    """All bytes in a temporary file, which any reader can go through again and again.

    It has no name, so that a process that is killed leaves nothing behind.
    """
    kept = tempfile.TemporaryFile()  # noqa: SIM115  closed with its Audio
    with readable(name):
        for piece in pieces:
            if not isinstance(piece, bytes | bytearray | memoryview):
                raise AudioError(f"{name} gives text: open it in binary")
            kept.write(piece)
        kept.flush()
    if not kept.tell():
        raise AudioError(f"{name} is empty (0 bytes): is the recording complete?")
    return kept


def _reader(path: Path, name: str) -> Reader:
    """libsndfile where it finds samples, else ffmpeg."""
    try:
        with closing(sound_file(path, name)) as file:
            known = SoundFile(path, name, file.samplerate, file.frames)
        if known.frames:
            return known
        why = "its header claims no samples"
    except UnreadableError as error:
        known, why = None, str(error)
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg:
        return Ffmpeg(path, name, ffmpeg, why)
    if known:
        return known
    raise AudioError(
        f"{name} cannot be read ({why}): install ffmpeg for M4A, AAC, WebM and video, or convert "
        "it to WAV"
    )
