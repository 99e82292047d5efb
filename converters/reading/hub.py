"""One repository of the Hugging Face hub, or its cached copy; whatever fails is one sentence."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from samevoice.converters.reading.licences import (
    CARD,
    CARD_MOST,
    Licence,
    front_matter,
    licence_in,
    licence_of,
)
from samevoice.errors import SourceError
from samevoice.files import stays_below

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

LOGIN = (
    "make a token at https://huggingface.co/settings/tokens "
    "and log in with `hf auth login` or set HF_TOKEN"
)
# What the hub, or the way to it, can have against a request: what is wrong, and what to do.
SENTENCES = {
    "gated": "{repo!r} is gated ({status}): accept its licence at https://huggingface.co/{repo}, "
    "then {login}",
    "no revision": "{repo!r} has no revision {revision!r} on the hub: name one of its branches, "
    "tags or full commits, or leave --revision out",
    "no file": "{repo!r} has no file {file!r} on the hub{at}: run again in case it has just "
    "changed, or choose another --revision",
    "bad token": "the hub refuses the token for {repo!r} (401): {login}",
    "no token": "the hub shows no {repo!r} without a login (401): check the spelling, and if it "
    "is private or gated, {login}",
    "no right": "the hub forbids reading {repo!r} (403): give the token that right at "
    "https://huggingface.co/settings/tokens, or {login}",
    "no repository": "there is no repository {repo!r} on the hub (404), and no such path here: "
    "check the spelling; a private one looks the same without the right token, so {login}",
    "busy": "the hub is busy or broken ({status}), and the cache has no copy of {what!r}{at}: "
    "run again in a few minutes",
    "refused": "the hub answered {status} for {what!r}: download the files by hand and give "
    "their folder",
    "offline": "HF_HUB_OFFLINE is set, and the cache has no copy of {what!r}{at}: unset it and "
    "run once with a network, or use reference:segmentation, which needs none",
    "no network": "no network: {host} cannot be reached ({reason}), and the cache has no copy of "
    "{what!r}{at}: connect and run again; HF_HUB_OFFLINE=1 uses the cache alone, and "
    "reference:segmentation, reference:embedding and reference:full need no network",
    "no hub": "{host} does not answer as a Hugging Face hub ({why}): check HF_ENDPOINT and proxies",
    "cut": "the connection broke while {file!r} of {repo!r} was coming in: run the same command "
    "again, it goes on after the last file that came whole",
    "disk full": "the disk is full: no room for {what!r} in {cache}: make some, or set "
    "HF_HUB_CACHE to a folder on another disk, and run again",
    "read-only": "cannot write to the hub's cache {cache}: set HF_HUB_CACHE to a folder that you "
    "may write to",
    "failed": "fetching {file!r} of {repo!r} failed ({why}): run again, or download the files by "
    "hand and give their folder",
}
_NO_ANSWER = ("busy", "offline", "no network")  # then a cached copy will do
_CARD_LARGEST = 1 << 20  # a larger one is not fetched
_NOTES = "samevoice"  # a folder of ours in a repository's folder of the hub's cache
_T = TypeVar("_T")


def clean_revision(revision: str | None) -> str | None:
    # Git allows none of these; and the name becomes a path in the hub's cache.
    if revision is not None and (not stays_below(revision) or re.search(r"[\s~^?*\[]", revision)):
        raise SourceError(
            f"{revision!r} is no revision: name a branch, a tag or a full commit, or leave it out"
        )
    return revision


@dataclass(frozen=True)
class Snapshot:
    """One commit of a repository: the names of its files, and how to come by them."""

    label: str
    commit: str
    names: frozenset[str]
    fetch: Callable[[str], Path]
    licence: Callable[[], Licence]


class UnreachableError(SourceError):
    """The hub gave no answer, so a cached copy will do."""


class Hub:
    """One repository as the official client sees it; whatever fails is a SourceError."""

    sentences: Mapping[str, str] = SENTENCES

    def __init__(self, repo: str, revision: str | None, token: str | None) -> None:
        self.repo = repo
        self.revision = revision
        self._token = token.strip() if token else None
        self._secret = ""

    def listing(self) -> Snapshot:
        """What the hub has now."""
        from huggingface_hub import HfApi, constants

        self._secret = secret_of(self._token)
        timeout = constants.HF_HUB_ETAG_TIMEOUT  # the call's own default is to wait for ever
        info = self._ask(
            lambda: HfApi().model_info(
                self.repo, revision=self.revision, token=self._token, timeout=timeout
            )
        )
        commit = info.sha or ""
        if not re.fullmatch(r"[0-9a-f]{40}", commit):
            why = "it names no commit"
            raise SourceError(self.sentences["no hub"].format(host=host(), why=why))
        return Snapshot(
            label=f"hub repository {self.repo!r}",
            commit=commit,
            names=frozenset(sibling.rfilename for sibling in info.siblings or ()),
            fetch=lambda name: self._download(name, commit),
            licence=lambda: self._noted(commit, self.licence_of(info, commit)),
        )

    def licence_of(self, info: ModelInfo, commit: str) -> Licence:
        """What the hub's page says; the page sends the card's data only where it could read it."""
        gated = bool(info.gated) if info.gated is not None else None
        if info.card_data is not None:
            return licence_of(getattr(info.card_data, "__dict__", {}), gated)
        if CARD not in {sibling.rfilename for sibling in info.siblings or ()}:
            return Licence(gated=gated)
        return licence_of(front_matter(self._card(commit)), gated)

    def _card(self, commit: str) -> bytes:
        """The head of README.md, or nothing: for want of a card no conversion fails."""
        from huggingface_hub import HfApi, hf_hub_url

        url = hf_hub_url(self.repo, CARD, revision=commit)
        try:
            known = self._ask(
                lambda: HfApi().get_hf_file_metadata(url=url, token=self._token), CARD
            )
            if known.size is None or known.size > _CARD_LARGEST:
                return b""
            with self._download(CARD, commit).open("rb") as file:
                return file.read(CARD_MOST)
        except (SourceError, OSError):
            return b""

    def _noted(self, commit: str, licence: Licence) -> Licence:
        """Keep it beside the cached files: offline, nobody could say whether they were gated."""
        self._note(f"{_NOTES}/{commit}.json", json.dumps(licence.as_dict()))
        return licence

    def _recall(self, root: Path) -> Licence:
        """As an online run noted it, else as far as the cached card says."""
        try:
            noted = json.loads((root.parents[1] / _NOTES / f"{root.name}.json").read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return licence_in(root) or Licence()
        if not isinstance(noted, dict):
            return licence_in(root) or Licence()
        names = {"license": "id", "license_name": "name", "license_link": "link"}
        return licence_of({key: noted.get(ours) for key, ours in names.items()}, noted.get("gated"))

    def cached(self) -> Snapshot | None:
        """What an earlier download left in the hub's cache."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            folder = snapshot_download(
                self.repo, revision=self.revision, local_files_only=True, allow_patterns=[]
            )
        except LocalEntryNotFoundError:
            return None
        root = Path(folder)
        files = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
        return Snapshot(
            label=f"the cached copy of hub repository {self.repo!r} (the hub was not reached)",
            commit=root.name,
            names=frozenset(files),
            fetch=lambda name: root / name,
            licence=lambda: self._recall(root),
        )

    def remember(self, commit: str) -> None:
        """Note in the hub's cache which commit the revision stood for: offline runs look there."""
        from huggingface_hub import constants

        revision = self.revision or constants.DEFAULT_REVISION
        if revision != commit:
            self._note(f"refs/{revision}", commit)

    def _note(self, name: str, text: str) -> None:
        """A small file of the repository's folder in the cache."""
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        folder = repo_folder_name(repo_id=self.repo, repo_type="model")
        path = Path(constants.HF_HUB_CACHE) / folder / name
        try:
            if not (path.is_file() and path.read_text() == text):
                path.parent.mkdir(parents=True, exist_ok=True)
                aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
                aside.write_text(text)
                aside.replace(path)
        except OSError:
            pass  # a cache that cannot be written serves this run all the same

    def _download(self, name: str, commit: str) -> Path:
        from huggingface_hub import hf_hub_download

        return Path(
            self._ask(
                lambda: hf_hub_download(self.repo, name, revision=commit, token=self._token), name
            )
        )

    def _ask(self, call: Callable[[], _T], name: str | None = None) -> _T:
        try:
            return call()
        except Exception as error:
            problem = self._explain(error, name)
        # Raised out here, so that nothing is chained: the client's errors carry requests, and
        # those the token.
        raise problem

    def _explain(self, error: Exception, name: str | None) -> SourceError:
        """The client's error while listing (``name`` None) or fetching ``name``, as a sentence."""
        from huggingface_hub import errors

        error = unwrapped(error)
        status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else 0
        kind = self._answer(error, status) if status else silence(error, name)
        sentence = self.sentences[kind].format(
            repo=self.repo,
            file=name,
            what=name or self.repo,
            at=f" at revision {self.revision!r}" if self.revision else "",
            revision=self.revision,
            status=status,
            cache=_cache(),
            host=host(),
            why=type(error).__name__,
            reason=reason_of(error, self._secret),
            login=LOGIN,
        )
        if kind in ("no token", "offline", "no network"):
            sentence += f"; should it be a path: {self.repo!r} is not here"
        return UnreachableError(sentence) if kind in _NO_ANSWER else SourceError(sentence)

    def _answer(self, error: Exception, status: int) -> str:
        """The hub did answer, and the answer was no."""
        from huggingface_hub import errors

        if isinstance(error, errors.GatedRepoError):
            return "gated"
        if isinstance(error, errors.RevisionNotFoundError):
            return "no revision"
        if isinstance(error, errors.EntryNotFoundError):
            return "no file"
        if status == 401:
            return "bad token" if self._secret else "no token"
        if status == 429 or status >= 500:
            return "busy"
        return {403: "no right", 404: "no repository"}.get(status, "refused")


def reason_of(error: Exception, secret: str) -> str:
    """The beginning of what the client's error says, without the token."""
    text = str(error).replace(secret, "***") if secret else str(error)
    return (text.splitlines() or [type(error).__name__])[0][:120]


def unwrapped(error: Exception) -> Exception:
    """What stopped the client, where it says only that the cache has no copy either."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    wrapped = isinstance(error, LocalEntryNotFoundError)
    return error.__cause__ if wrapped and isinstance(error.__cause__, Exception) else error


def silence(error: Exception, name: str | None) -> str:
    """No answer, half an answer, one that makes no sense, or no room for it."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "offline"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk full"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "read-only"
    # httpx, or httpx2 since huggingface_hub 2: told by name, so that either will do.
    transport = any(base.__name__ == "TransportError" for base in type(error).__mro__)
    if transport or isinstance(error, OSError):
        return "cut" if name else "no network"
    return "failed" if name else "no hub"


def secret_of(token: str | None) -> str:
    """The token that the client will send, or ""; looked at here because a header can choke on it.

    An error about a malformed header quotes the header, token and all.
    """
    from huggingface_hub import constants, get_token

    try:
        secret = token or ("" if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()) or ""
    except Exception as error:
        why = type(error).__name__
    else:
        if re.fullmatch(r"[!-~]*", secret):
            return secret
        raise SourceError(
            "the token holds a character that no token has, such as a space or a line break: "
            "copy it again from https://huggingface.co/settings/tokens"
        )
    raise SourceError(
        f"the stored login cannot be used ({why}): log in again with `hf auth login` "
        "or set HF_TOKEN"
    )


def host() -> str:
    """Where the hub is asked to be; without the user and password that a URL may hold."""
    from huggingface_hub import constants

    return urlsplit(constants.ENDPOINT).netloc.rpartition("@")[2] or "HF_ENDPOINT"


def _cache() -> str:
    from huggingface_hub import constants

    return repr(constants.HF_HUB_CACHE)
