"""A release folder to the hub, and back: what is sent is read back before it counts as sent.

The folder's ``SHA256SUMS`` says what the release is. Everything goes in one commit, so that nobody
ever sees half a release; what the hub has already is not sent again, so that a broken upload goes
on when the same command is run again.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

from samevoice.converters import bundle
from samevoice.converters.bundle import PROVENANCE, SUMS, UNSUMMED, read_sums
from samevoice.converters.reading import hub
from samevoice.errors import BundleError
from samevoice.release.hub_errors import SENTENCES, UploadError, explained

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, ModelInfo

ATTRIBUTES = ".gitattributes"  # the hub's own, which says what is a large file
HUBS_OWN = (ATTRIBUTES, "README.md")  # what the hub puts into a repository by itself
ALONE = 1 << 20  # larger files are sent one by one, so that progress can be told
T = TypeVar("T")
Progress: TypeAlias = Callable[[str, int, int], None]  # what is done, bytes done, bytes in all


@dataclass(frozen=True)
class Sent:
    """A release as it lies on the hub, every byte read back."""

    repo: str
    commit: str
    url: str
    files: int
    kept: int  # files that the hub already had
    private: bool = (
        False  # as the hub has it: an earlier release may be private, whatever was asked
    )


def upload(
    folder: Path,
    repo: str,
    *,
    private: bool,
    message: str,
    token: str | None = None,
    progress: Progress | None = None,
) -> Sent:
    """Send a release folder to the hub repository ``repo`` and compare what arrived.

    The first line of ``message`` is the commit's title, the rest its description. A repository
    that holds an earlier release becomes exactly this one; any other is refused untouched.
    """
    check_name(repo)
    tell = progress or (lambda what, done, total: None)
    release = read_release(Path(folder), tell)
    hub = Repository(repo, token)
    with _quiet():
        info = hub.open(private=private)
        there = _listing(info)
        hub.refuse_strangers(there, info.sha or "")
        kept = [
            name for name, file in release.items() if there.get(name) in (file.sha256, file.blob)
        ]
        stale = sorted(there.keys() - release.keys() - {ATTRIBUTES})
        wanted = {name: file for name, file in release.items() if name not in kept}
        commit = info.sha or ""
        if wanted or stale:
            commit = hub.send(wanted, stale, message, commit, tell)
        hub.read_back(release, commit, tell)
    return Sent(repo, commit, _page(repo, commit), len(release), len(kept), bool(info.private))


def check_name(repo: str) -> None:
    """Before any work is done: a name that the hub can have."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo)
        if "/" in repo:
            return
    except HFValidationError:
        pass
    raise UploadError(
        f"{repo!r} is no name on the hub: give ORG/NAME, of letters, digits, '-', '_' and '.'"
    )


def fetch(repo: str, revision: str | None = None) -> Path:
    """The release in ``repo``, whole, as a folder in the hub's cache; its files may be links."""
    check_name(repo)
    reader = _Reader(repo, hub.clean_revision(revision), None)
    try:
        snapshot = reader.listing()
    except hub.UnreachableError:
        cached = reader.cached()
        if cached is None or not _is_whole(cached):
            raise
        snapshot = cached
    if SUMS not in snapshot.names:
        raise UploadError(
            f"{snapshot.label} is no release: it has no {SUMS}; check the name and --revision"
        )
    root = snapshot.fetch(SUMS).parent
    for name in sorted(snapshot.names - {ATTRIBUTES}):
        snapshot.fetch(name)
    reader.remember(snapshot.commit)
    return root


class _Reader(hub.Hub):
    sentences = hub.SENTENCES | {
        "offline": "HF_HUB_OFFLINE is set, and the cache has no whole copy of {what!r}{at}: unset "
        "it and run once with a network",
        "no network": "no network: {host} cannot be reached ({reason}), and the cache has no whole "
        "copy of {what!r}{at}: connect and run again",
    }


def _is_whole(snapshot: hub.Snapshot) -> bool:
    """Of a cached copy: it may hold no more than another command needed."""
    try:
        return read_sums(snapshot.fetch(SUMS).parent).keys() <= snapshot.names
    except BundleError:
        return False


def _listing(info: ModelInfo) -> dict[str, str | None]:
    """Each file on the hub: large ones are known by their sha256, the others by git's name."""
    files = info.siblings or ()
    return {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id for file in files}


def _page(repo: str, commit: str) -> str:
    """Where people look at it; without the user and password that HF_ENDPOINT may hold."""
    from huggingface_hub import constants

    endpoint = urlsplit(constants.ENDPOINT)._replace(netloc=hub.host()).geturl()
    return f"{endpoint}/{repo}/tree/{commit}"


@contextmanager
def _quiet() -> Iterator[None]:
    """The client's bars and warnings are kept back: they name signed addresses, and progress is
    told by the caller."""
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    log = logging.getLogger("huggingface_hub")
    level, shown = log.level, not are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        disable_progress_bars()
        log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            log.setLevel(level)
            if shown:
                enable_progress_bars()


# The folder ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class File:
    path: Path
    size: int
    sha256: str
    blob: str  # the name that git gives to its content


Files: TypeAlias = Mapping[str, File]


def read_release(folder: Path, tell: Progress) -> Files:
    """Every file of the release, compared with its line in SHA256SUMS."""
    try:
        sums, found = read_sums(folder), set(bundle.files_in(folder))
        if strangers := sorted(found - sums.keys() - {*UNSUMMED}):
            raise UploadError(
                f"{folder} holds {len(strangers)} files that its {SUMS} does not name, "
                f"first {strangers[0]!r}: take them out, or release again"
            )
        if missing := sorted(sums.keys() - found):
            raise UploadError(
                f"{folder} lacks {len(missing)} files that its {SUMS} names, "
                f"first {missing[0]!r}: release again"
            )
        return _hashed(folder, sums, tell)
    except OSError as error:
        at = error.filename or folder
        raise UploadError(f"cannot read {at} ({error.strerror}): check its permissions") from None


def _hashed(folder: Path, sums: Mapping[str, str], tell: Progress) -> Files:
    beside = [name for name in UNSUMMED if (folder / name).exists()]
    sizes = {name: (folder / name).stat().st_size for name in sorted([*sums, *beside])}
    files, done = {}, 0
    for name, size in sizes.items():
        with (folder / name).open("rb") as file:
            sha256, blob = hashes_of(file, size)
        if sha256 != sums.get(name, sha256):
            raise UploadError(
                f"{name!r} in {folder} is not as its {SUMS} says: it was changed after the "
                "release was made; release again"
            )
        files[name] = File(folder / name, size, sha256, blob)
        done += size
        tell("checking", done, sum(sizes.values()))
    return files


def hashes_of(file: Any, size: int) -> tuple[str, str]:
    sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    while piece := file.read(1 << 20):
        sha256.update(piece)
        blob.update(piece)
    return sha256.hexdigest(), blob.hexdigest()


# The repository -----------------------------------------------------------------------------------


class Repository:
    """One repository that is written to; whatever fails is an UploadError."""

    def __init__(self, repo: str, token: str | None) -> None:
        from huggingface_hub import HfApi

        self.repo = repo
        self._secret = hub.secret_of(token.strip() if token else None)
        if not self._secret:
            raise UploadError(f"sending to {repo!r} needs a token that may write: {hub.LOGIN}")
        self._api = HfApi(token=self._secret)

    def open(self, *, private: bool) -> ModelInfo:
        """The repository as it is now, made first where there is none."""
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        def look() -> ModelInfo | None:
            try:
                return self._look()
            except GatedRepoError:
                raise
            except RepositoryNotFoundError:
                return None

        info = self._ask("looking at", look)
        if info is None:
            self._ask("making", lambda: self._api.create_repo(self.repo, private=private))
            info = self._ask("looking at", self._look)
        self._refuse_other_name(info)
        # Asked again of a repository that was just made: an organisation may have it otherwise.
        if private and info.private is not True:
            raise UploadError(
                f"{self.repo!r} is public on the hub, and this release is to be private: make "
                "it private in its settings there, or choose another name"
            )
        return info

    def _look(self) -> ModelInfo:
        from huggingface_hub import constants

        timeout = constants.HF_HUB_ETAG_TIMEOUT
        return self._api.model_info(self.repo, files_metadata=True, timeout=timeout)

    def _refuse_other_name(self, info: ModelInfo) -> None:
        if not re.fullmatch(r"[0-9a-f]{40}", info.sha or ""):
            why = "it names no commit"
            raise UploadError(SENTENCES["no hub"].format(host=hub.host(), why=why))
        if info.id != self.repo:  # the hub follows what was renamed
            raise UploadError(f"{self.repo!r} is {info.id!r} on the hub: give that name")

    def refuse_strangers(self, there: Collection[str], commit: str) -> None:
        """What is neither an earlier release nor the hub's own is somebody's, and stays."""
        ours = self._listed(commit) if SUMS in there else set()
        strangers = sorted(set(there) - ours - {*HUBS_OWN})
        if strangers:
            raise UploadError(
                f"{self.repo} exists and holds {len(strangers)} files that are no samevoice "
                f"release, first {strangers[0]!r}: choose another name"
            )

    def _listed(self, commit: str) -> set[str]:
        """What the SHA256SUMS there names, if it is that of a release."""

        with tempfile.TemporaryDirectory(prefix="samevoice-") as folder:
            self._ask("looking at", partial(self._download, SUMS, commit, folder), SUMS)
            try:
                listed = read_sums(Path(folder))
            except BundleError:
                return set()
        return {*listed, *UNSUMMED} if PROVENANCE in listed else set()

    def send(
        self, files: Files, stale: Iterable[str], message: str, parent: str, tell: Progress
    ) -> str:
        """One commit with all of it; the large files go ahead of it, one by one."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        added = {name: CommitOperationAdd(name, file.path) for name, file in files.items()}
        for name, operation in added.items():
            operation.upload_info.sha256 = bytes.fromhex(files[name].sha256)  # known: no more read
        self._send_contents(files, added, tell)
        title, _, rest = message.strip().partition("\n")
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationDelete(name, is_folder=False) for name in stale),
            *added.values(),
        ]
        made = self._ask(
            "writing to",
            lambda: self._api.create_commit(
                self.repo,
                operations,
                commit_message=title,
                commit_description=rest.strip("\n"),
                revision="main",
                parent_commit=parent,
            ),
        )
        return made.oid

    def _send_contents(
        self, files: Files, added: Mapping[str, CommitOperationAdd], tell: Progress
    ) -> None:
        total = sum(file.size for file in files.values())
        small = [name for name in files if files[name].size <= ALONE]
        done = 0
        for names in filter(None, (small, *([name] for name in files if name not in small))):
            wanted = [added[name] for name in names]
            ahead = partial(self._api.preupload_lfs_files, revision="main", free_memory=False)
            self._ask("sending to", partial(ahead, self.repo, wanted), names[0])
            done += sum(files[name].size for name in names)
            tell("sending", done, total)

    def read_back(self, files: Files, commit: str, tell: Progress) -> None:
        """Every file at that very commit, one at a time, compared with what lies here."""
        total, done = sum(file.size for file in files.values()), 0
        folder = self._ask("reading back", partial(tempfile.mkdtemp, prefix="samevoice-"))
        try:
            for name, file in files.items():
                got = self._ask("reading back", partial(self._hash, name, commit, folder), name)
                if got != file.sha256:
                    raise UploadError(
                        f"{name!r} came back from {self.repo} at {commit} with other bytes "
                        f"(sha256 {got[:12]}..., sent {file.sha256[:12]}...): do not use that "
                        "commit; run the same command again, or remove the repository first"
                    )
                done += file.size
                tell("reading back", done, total)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _hash(self, name: str, commit: str, folder: str) -> str:
        path = self._download(name, commit, folder)
        with path.open("rb") as file:
            digest, _ = hashes_of(file, 0)
        path.unlink()
        return digest

    def _download(self, name: str, commit: str, folder: str) -> Path:
        return Path(self._api.hf_hub_download(self.repo, name, revision=commit, local_dir=folder))

    def _ask(self, doing: str, call: Callable[[], T], file: str | None = None) -> T:
        try:
            return call()
        except Exception as error:
            problem = explained(error, self.repo, doing, file, self._secret)
        # Raised out here, so that nothing is chained: the client's errors carry requests, and
        # those the token.
        raise problem
