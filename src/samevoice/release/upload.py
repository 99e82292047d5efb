"""A release folder to the hub, and back: what is sent is read back before it counts as sent.

The folder's ``SHA256SUMS`` says what the release is. Everything goes in one commit, so that nobody
ever sees half a release; what the hub has already is not sent again, so that a broken upload goes
on when the same command is run again.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from samevoice.converters.bundle import SUMS, read_sums
from samevoice.converters.reading import hub
from samevoice.errors import BundleError
from samevoice.release.folder import Progress, Remote, read_release
from samevoice.release.hub_errors import UploadError
from samevoice.release.repository import ATTRIBUTES, Repository

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo


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
        kept = [name for name, file in release.items() if file.is_at(there.get(name))]
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


def _listing(info: ModelInfo) -> dict[str, Remote]:
    return {
        file.rfilename: Remote(file.lfs.sha256 if file.lfs else file.blob_id, bool(file.lfs))
        for file in info.siblings or ()
    }


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
