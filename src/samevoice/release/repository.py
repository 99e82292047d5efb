"""The hub repository that a release is written to: opened, written in one commit, read back."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from samevoice.converters.bundle import PROVENANCE, SUMS, UNSUMMED, read_sums
from samevoice.converters.reading import hub
from samevoice.errors import BundleError
from samevoice.release.folder import Files, Progress, Remote, hashes_of
from samevoice.release.hub_errors import SENTENCES, UploadError, explained

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, ModelInfo

ATTRIBUTES = ".gitattributes"  # the hub's own, which says what is a large file
HUBS_OWN = (ATTRIBUTES, "README.md")  # what the hub puts into a repository by itself
ALONE = 1 << 20  # larger files are sent one by one, so that progress can be told
T = TypeVar("T")


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

    def refuse_strangers(self, there: Mapping[str, Remote], commit: str) -> None:
        """What is neither an earlier release nor the hub's own is somebody's, and stays."""
        ours = self._listed(commit) if SUMS in there else set()
        strangers = sorted(there.keys() - ours - {*HUBS_OWN})
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
