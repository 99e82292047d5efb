"""Any recording as 16 kHz mono, in blocks: files, file objects and waveforms, whatever their size.

libsndfile reads WAV, FLAC, OGG, MP3 and many more; what it does not know goes through ffmpeg, where
that is installed. Nothing is ever in memory as a whole but a waveform that was handed over.
"""

from __future__ import annotations

import json
import math
import os
import re
import select
import shutil
import stat
import struct
import subprocess
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from samevoice.errors import SamevoiceError
from samevoice.models.diarization.resampling import Resampler, Samples

Source = str | Path | BinaryIO | Mapping[str, Any]

LOWEST_RATE, HIGHEST_RATE = 1_000, 768_000
_UNKNOWN = 1 << 62  # libsndfile's count where a header gives none
_SLACK = 0.05  # seconds that MP3 and Vorbis headers may be off without a word
_SPOOL = 1 << 20
LOUDEST = 2.0**31  # floats on the scale of 32-bit integers; beyond it float32 overflows on the way
PATIENCE = 30.0  # seconds that a pipe or ffmpeg may give nothing


class AudioError(SamevoiceError):
    """A recording cannot be read, or holds what no network should hear."""


@dataclass(frozen=True)
class Stream:
    """What a reader gives while it is open: (N, C) float32 blocks."""

    rate: int
    channels: int
    blocks: Iterator[Samples]


class Reader(Protocol):
    """One way to read one recording; ``open`` may be entered again and again."""

    @property
    def seconds(self) -> float | None: ...

    def open(self, size: int, notes: list[str]) -> Any: ...


class Audio:
    """One recording. ``notes`` says, once it was read, what about it was not as its header claims.

    ``duration`` is what the header claims, in seconds: good for a progress bar, and for nothing
    else.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        name: str,
        uri: str,
        path: Path | None = None,
        sample_rate: int = 16_000,
        channel: int | None = None,
        kept: object = None,
    ) -> None:
        self.uri, self.path, self.sample_rate = uri, path, sample_rate
        self.duration = reader.seconds
        self.notes: list[str] = []
        self._reader, self._name, self._channel = reader, name, channel
        self._kept = kept  # a temporary file lives as long as this object

    def blocks(self, size: int = 160_000) -> Generator[Samples]:
        """(N,) mono blocks at ``sample_rate``, read ``size`` frames at a time; again on each call.

        Their lengths vary. Together they are ceil(frames * sample_rate / the recording's rate).
        """
        self.notes.clear()
        given = 0
        with self._reader.open(size, self.notes) as stream:
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
            raise AudioError(f"{self._name} holds no samples: is the recording complete?")
        held = given / self.sample_rate
        # Half, as ffmpeg can only guess the length of some formats.
        if not self.notes and held < 0.5 * (self.duration or 0.0):
            self.notes.append(f"{self._name} claims {self.duration:.3f} s and holds {held:.3f} s")

    def _check(self, stream: Stream) -> None:
        if not LOWEST_RATE <= stream.rate <= HIGHEST_RATE:
            raise AudioError(
                f"{self._name} claims {stream.rate} samples a second: it must be "
                f"{LOWEST_RATE} to {HIGHEST_RATE}"
            )
        if self._channel is not None and not 0 <= self._channel < stream.channels:
            raise AudioError(
                f"{self._name} has no channel {self._channel}: it has {stream.channels}, "
                "counted from 0"
            )

    def _mono(self, stream: Stream) -> Iterator[Samples]:
        """The mean of the channels, as pyannote mixes them, and refused where it is no sound."""
        at = 0
        for block in stream.blocks:
            if not (np.abs(block) <= LOUDEST).all():
                self._refuse(block, at, stream.rate)
            if self._channel is not None:
                block = block[:, self._channel : self._channel + 1]
            at += len(block)
            yield block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)

    def _refuse(self, block: Samples, at: int, rate: int) -> None:
        frame, channel = np.argwhere(~(np.abs(block) <= LOUDEST))[0]
        value = float(block[frame, channel])
        what = "NaN" if math.isnan(value) else "infinity" if math.isinf(value) else f"{value:.3g}"
        scale = ", where full scale is 1" if math.isfinite(value) else ""
        raise AudioError(
            f"{self._name} holds {what} at {(at + int(frame)) / rate:.3f} s{scale}: "
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
    return Audio(
        reader,
        name="the waveform",
        uri=uri or "waveform",
        sample_rate=sample_rate,
        channel=channel,
    )


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
    path = Path(source) if isinstance(source, str | Path) else None
    name = str(path) if path is not None else uri or "the file object"
    if path is None and not hasattr(source, "read"):
        raise AudioError(
            f"{type(source).__name__} is no recording: give a path, a file object opened in "
            'binary, or {"waveform": ..., "sample_rate": ...}'
        )
    if path is not None:
        _refuse_strange(path)
    kept = None
    if path is None:
        kept = _spooled(source, name)
    elif not path.is_file():  # a pipe, such as the shell's <(...)
        with _readable(name), _Pipe(path, name) as pipe:
            kept = _spooled(pipe, name)
    where = Path(f"/dev/fd/{kept.fileno()}") if kept is not None else path
    assert where is not None
    return Audio(
        _reader(where, name),
        name=name,
        # pyannote calls a recording by its file's name; so does its RTTM.
        uri=uri or (path.stem if path is not None else "stream"),
        path=path,
        sample_rate=sample_rate,
        channel=channel,
        kept=kept,
    )


def _refuse_strange(path: Path) -> None:
    with _readable(str(path)):
        found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise AudioError(f"{path} is a folder: name an audio file")
    if stat.S_ISREG(found.st_mode) and not found.st_size:
        raise AudioError(f"{path} is empty (0 bytes): is the recording complete?")
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISFIFO(found.st_mode):
        raise AudioError(f"{path} is no ordinary file: name an audio file")


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise AudioError(f"{name}: no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"{name} cannot be read: {reason}") from error


class _Pipe:
    """A pipe's bytes; one into which nobody writes is an error, not a wait without end."""

    def __init__(self, path: Path, name: str) -> None:
        self._name = name
        # Opening blocks until somebody writes, where it is not asked not to.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def __enter__(self) -> _Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def read(self, size: int) -> bytes:
        if not _ready(self._descriptor):
            raise AudioError(f"{self._name} is a pipe, and gave nothing for {PATIENCE:g} s")
        return os.read(self._descriptor, size)


def _ready(descriptor: int) -> bool:
    """Whether bytes, or the end, came while one can be expected to wait."""
    poll = select.poll()  # not select(): that knows no descriptor above 1023
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(PATIENCE * 1000))


def _spooled(source: Any, name: str) -> Any:
    """A file object's bytes in a temporary file, which any reader can go through again and again.

    A seekable one is read from its start and left where it stood. The temporary file has no name,
    so that a process that is killed leaves nothing behind.
    """
    kept = tempfile.TemporaryFile()  # noqa: SIM115  closed with its Audio
    with _readable(name):
        stood = source.tell() if getattr(source, "seekable", lambda: False)() else None
        if stood is not None:
            source.seek(0)
        while piece := source.read(_SPOOL):
            if not isinstance(piece, bytes | bytearray | memoryview):
                raise AudioError(f"{name} gives text: open it in binary")
            kept.write(piece)
        kept.flush()
        if stood is not None:
            source.seek(stood)
    if not kept.tell():
        raise AudioError(f"{name} is empty (0 bytes): is the recording complete?")
    return kept


def _reader(path: Path, name: str) -> Reader:
    """libsndfile where it finds samples, else ffmpeg."""
    try:
        with closing(_sound_file(path, name)) as file:
            known = _SoundFile(path, name, file.samplerate, file.frames)
        if known.frames:
            return known
        why = "its header claims no samples"
    except _UnreadableError as error:
        known, why = None, str(error)
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg:
        return _Ffmpeg(path, name, ffmpeg, why)
    if known:
        return known
    raise AudioError(
        f"{name} cannot be read ({why}): install ffmpeg for M4A, AAC, WebM and video, or convert "
        "it to WAV"
    )


class _UnreadableError(Exception):
    """libsndfile cannot open it; ffmpeg may."""


def _opened(path: Path) -> int:
    """Its descriptor, at its start: elsewhere than on Linux, /dev/fd/N shares N's place."""
    descriptor = os.open(path, os.O_RDONLY)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


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


def _sound_file(path: Path, name: str, said: int | None = None) -> Any:
    """libsndfile's view of a file, told apart by its content and not by its name."""
    import soundfile

    with _readable(name):
        descriptor = _opened(path)
    try:
        with _overheard(said):
            file = soundfile.SoundFile(descriptor, closefd=True)
    except (soundfile.LibsndfileError, TypeError, ValueError) as error:
        raise _UnreadableError(_said(error)) from error
    # soundfile seeks after every read where it can, which is slow, and fails where a header does
    # not say how long the file is.
    file.seekable = lambda: False
    return file


@dataclass(frozen=True)
class _SoundFile:
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
                file = _sound_file(self.path, self.name, said)
            except _UnreadableError as error:
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
            with closing(_sound_file(self.path, self.name)) as file:
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
    with open(path, "rb") as file:
        file.seek(0)  # /dev/fd/N may share another's place
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


# ffmpeg ------------------------------------------------------------------------------------------

_AU_MAGIC, _AU_HEADER, _AU_FLOAT = b".snd", 24, 6
# Containers that hold their sound themselves. ffmpeg knows more, such as playlists, which send it
# to other files or wait for the next entry.
_CONTAINERS = (
    "aa aac ac3 act aea aiff amr amrnb amrwb ape asf asf_o au avi avr caf dsf dts dtshd dv eac3 "
    "flac flv gxf ircam latm loas matroska,webm mlp mov,mp4,m4a,3gp,3g2,mj2 mp3 mpc mpc8 mpeg "
    "mpegts mxf nistsphere nut ogg oma paf pvf qcp rm rso s337m shn sox spdif tak tta truehd voc "
    "w64 wav wsd wtv wv xwma"
)
_WHITELISTS = (
    "-format_whitelist", _CONTAINERS.replace(" ", ","), "-protocol_whitelist", "file"
)  # fmt: skip
_QUIET = ("-hide_banner", "-v", "error", *_WHITELISTS)


@dataclass(frozen=True)
class _Ffmpeg:
    path: Path
    name: str
    program: str
    why: str  # libsndfile did not read it

    @property
    def seconds(self) -> float | None:
        """What ffprobe says, which comes with ffmpeg and may still be missing."""
        probe = shutil.which("ffprobe")
        if probe is None:
            return None
        with self._source() as (url, descriptor):
            asked = ("-show_entries", "format=duration", "-of", "json", url)
            try:
                done = subprocess.run(
                    [probe, *_QUIET, *asked],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    check=False,
                    pass_fds=(descriptor,),
                    timeout=PATIENCE,
                )
                return float(json.loads(done.stdout)["format"]["duration"])
            except (subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
                return None

    @contextmanager
    def _source(self) -> Iterator[tuple[str, int]]:
        """Opened here: what the file is called, and where it lies, is nothing to ffmpeg."""
        with _readable(self.name):
            descriptor = _opened(self.path)
        try:
            yield f"file:/dev/fd/{descriptor}", descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def open(self, size: int, notes: list[str]) -> Iterator[Stream]:
        # AU: the simplest container that says how many channels and samples a second follow.
        wanted = ("-map", "0:a:0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1")
        with tempfile.TemporaryFile() as said, self._source() as (url, descriptor):
            process = subprocess.Popen(
                [self.program, "-nostdin", *_QUIET, "-i", url, *wanted],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                bufsize=0,
                pass_fds=(descriptor,),
            )
            try:
                header = self._read(process, _AU_HEADER)
                if len(header) < _AU_HEADER or header[:4] != _AU_MAGIC:
                    process.wait()
                    why = self._reason(said)
                    raise AudioError(f"{self.name} cannot be read: {why}: is it a whole recording?")
                offset, _, coding, rate, channels = np.frombuffer(header[4:], ">u4").tolist()
                assert coding == _AU_FLOAT
                self._read(process, offset - _AU_HEADER)
                blocks = self._blocks(process, size, channels, rate, said, notes)
                yield Stream(rate, channels, blocks)
            finally:
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()

    def _read(self, process: subprocess.Popen[bytes], size: int) -> bytes:
        """So many bytes, or all up to the end."""
        assert process.stdout is not None
        pieces, missing = [], size
        while missing:
            if not _ready(process.stdout.fileno()):
                raise AudioError(f"{self.name}: ffmpeg gave nothing for {PATIENCE:g} s")
            piece = process.stdout.read(missing)
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def _blocks(
        self,
        process: subprocess.Popen[bytes],
        size: int,
        channels: int,
        rate: int,
        said: Any,
        notes: list[str],
    ) -> Iterator[Samples]:
        frame, read = 4 * channels, 0
        while piece := self._read(process, size * frame):
            whole = len(piece) - len(piece) % frame
            block = np.frombuffer(piece[:whole], ">f4").reshape(-1, channels)
            read += len(block)
            if len(block):
                yield block.astype(np.float32)
        if process.wait() < 0:
            raise AudioError(f"{self.name}: ffmpeg was killed after {read / rate:.3f} s")
        if read and said.seek(0, os.SEEK_END):
            notes.append(f"{self.name} is damaged, says ffmpeg: {self._reason(said)}")
        elif read and (missing := _missing_in_caf(self.path)):
            seconds = read / rate
            notes.append(
                f"{self.name} claims {seconds / (1 - missing):.3f} s and holds {seconds:.3f} s"
            )

    def _reason(self, said: Any) -> str:
        """ffmpeg's last word, without what differs from run to run, and why libsndfile failed."""
        said.seek(0)
        lines = _PLACE.sub("", said.read().decode("utf-8", "replace")).splitlines()
        words = [line.strip() for line in lines if line.strip()]
        if any("matches no streams" in line for line in words):
            return "it holds no sound"
        if any("not on whitelist" in line for line in words):
            return "it is a playlist, or of a format that is not read"
        return f"{words[-1] if words else 'ffmpeg gave nothing'} ({self.why})"


_PLACE = re.compile(r"file:/dev/fd/\d+: | @ 0x[0-9a-f]+")


def _missing_in_caf(path: Path) -> float:
    """The share of a CAF's samples that were cut off: neither library says so."""
    with open(_opened(path), "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        if file.read(8)[:4] != b"caff":
            return 0.0
        while len(header := file.read(12)) == 12:
            kind, size = struct.unpack(">4sq", header)
            there = end - file.tell()
            if kind == b"data" or not 0 <= size <= there:
                return 1 - there / size if kind == b"data" and size > there else 0.0
            file.seek(size, os.SEEK_CUR)
    return 0.0
