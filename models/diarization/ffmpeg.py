"""Recordings that only ffmpeg reads: M4A, WebM, video."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samevoice.models.diarization import decoding
from samevoice.models.diarization.decoding import AudioError, Stream, opened, readable, ready
from samevoice.models.diarization.resampling import Samples

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
class Ffmpeg:
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
                    timeout=decoding.PATIENCE,
                )
                return float(json.loads(done.stdout)["format"]["duration"])
            except (subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
                return None

    @contextmanager
    def _source(self) -> Iterator[tuple[str, int]]:
        """Opened here: what the file is called, and where it lies, is nothing to ffmpeg."""
        with readable(self.name):
            descriptor = opened(self.path)
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
            with process, ExitStack() as stack:
                stack.callback(process.kill)
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

    def _read(self, process: subprocess.Popen[bytes], size: int) -> bytes:
        """So many bytes, or all up to the end."""
        assert process.stdout is not None
        pieces, missing = [], size
        while missing:
            if not ready(process.stdout.fileno()):
                raise AudioError(f"{self.name}: ffmpeg gave nothing for {decoding.PATIENCE:g} s")
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
    with open(opened(path), "rb") as file:
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
