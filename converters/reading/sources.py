"""From the word a user gives as SOURCE to files on this machine, and the name they go by.

A source is a hub id, a folder, a checkpoint file or one of the offline references. ``locate`` tells
them apart by what is there, fetches from the hub what is needed and no more, and says in one
sentence what is wrong when it cannot. It reads no weights: that is ``checkpoint``'s part.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from samevoice import plain_yaml
from samevoice.converters.bundle import stays_below
from samevoice.errors import SourceError
from samevoice.files import parse_json, read_text, refuse_special

if TYPE_CHECKING:
    from huggingface_hub import ModelInfo

REFERENCES = ("segmentation", "embedding", "full")
WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".safetensors")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLES = ("pytorch_model.bin", "model.safetensors")
PIPELINE = "config.yaml"
PLDA = ("plda.npz", "xvec_transform.npz")

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
_CARD = "README.md"
_CARD_MOST = 64 << 10  # of it is read: the front matter stands at the top
_CARD_LARGEST = 1 << 20  # a larger one is not fetched
_NOTES = "samevoice"  # a folder of ours in a repository's folder of the hub's cache
_LICENCE_ID = r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}"
_T = TypeVar("_T")


@dataclass(frozen=True)
class Licence:
    """What a source says of the terms it comes under; None is what nobody could tell."""

    id: str | None = None  # as its card says: "mit"; several are "apache-2.0, mit"
    gated: bool | None = None  # whether the hub asks for consent before it gives the files
    name: str | None = None  # the card's license_name, with "other"
    link: str | None = None  # the card's license_link


_OWN = Licence("mit", gated=False)  # of the reference weights, which are made here


@dataclass(frozen=True)
class Source:
    """What is to be converted: files below one local folder, and where they come from."""

    kind: Literal["hub", "folder", "file", "reference"]
    name: str  # the hub id; the base name of a folder or file; "reference:full"
    root: Path  # with a subfolder, that subfolder
    files: tuple[str, ...]  # relative to root, sorted, POSIX
    revision: str | None  # the full commit for a hub source, else None
    subfolder: str | None = None
    licence: Licence | None = None


def locate(
    source: str | Path,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    token: str | None = None,
) -> Source:
    """Find ``source``: what exists here, then the references, then the hub."""
    word = source.as_posix() if isinstance(source, Path) else source
    if not word.strip():
        raise SourceError("the source is empty: name a hub id, a folder, a file or a reference:...")
    inner = _clean_subfolder(subfolder)
    path = Path(os.path.expanduser(word))
    if os.path.lexists(path):
        _refuse_revision(word, revision)
        return _local(path, inner)
    if word.startswith("reference:"):
        _refuse_revision(word, revision)
        return _reference(word, inner)
    if _is_hub_id(word):
        return _from_hub(word, clean_revision(revision), inner, token)
    raise SourceError(
        f"no such file or folder, and not a hub id: {word!r}: check the path, "
        "or name a repository as ORG/NAME"
    )


# --- what the user gave -----------------------------------------------------------------------


def _refuse_revision(word: str, revision: str | None) -> None:
    if revision is not None:
        raise SourceError(
            f"--revision {revision!r} goes with a hub id only, and {word!r} is none: leave it out"
        )


def _clean_subfolder(subfolder: str | None) -> str | None:
    if not subfolder:
        return None
    pure = PurePosixPath(subfolder)
    if not stays_below(subfolder):
        raise SourceError(f"the subfolder {subfolder!r} leads out of the source: name one inside")
    return pure.as_posix() if pure.parts else None


def clean_revision(revision: str | None) -> str | None:
    # Git allows none of these; and the name becomes a path in the hub's cache.
    if revision is not None and (not stays_below(revision) or re.search(r"[\s~^?*\[]", revision)):
        raise SourceError(
            f"{revision!r} is no revision: name a branch, a tag or a full commit, or leave it out"
        )
    return revision


def _is_hub_id(word: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(word)
    except HFValidationError:
        return False
    # The client takes a bare name too; here that, and a checkpoint's suffix, is a mistyped file.
    return "/" in word and not word.lower().endswith(WEIGHTS)


def _reference(word: str, subfolder: str | None) -> Source:
    kind = word.removeprefix("reference:")
    if kind not in REFERENCES:
        known = ", ".join(f"reference:{name}" for name in REFERENCES)
        raise SourceError(f"there is no {word!r}: choose one of {known}")
    from samevoice.converters.reference import build

    found = _local(build(kind), subfolder)
    return replace(found, kind="reference", name=word, licence=_OWN)


# --- a folder or a file -----------------------------------------------------------------------


def _local(path: Path, subfolder: str | None) -> Source:
    name = Path(os.path.abspath(path)).name
    if path.is_dir():
        root = path / subfolder if subfolder else path
        if not root.is_dir():
            raise SourceError(f"{_folder(path).label} has no folder {subfolder!r}: {_found(path)}")
        place = _folder(root)
        files = _checked(place, _recognise(place))
        return Source("folder", name, root, files, None, subfolder, licence_in(path))
    if not path.is_file():
        what = "a link to nothing" if path.is_symlink() else "neither a file nor a folder"
        raise SourceError(f"{str(path)!r} is {what}: name a checkpoint file or its folder")
    if subfolder:
        raise SourceError(
            f"{str(path)!r} is a file and has no subfolder {subfolder!r}: leave it out"
        )
    place = _folder(path.parent)
    files = _checked(place, _by_name(place, path.name))
    # A pipeline's config.yaml stands for its folder. A README.md beside another file may be of
    # anything else that lies there.
    licence = licence_in(path.parent) if path.name == PIPELINE else None
    return Source("file", name, path.parent, files, None, licence=licence)


def _by_name(place: _Place, name: str) -> tuple[str, ...]:
    """What one named file stands for: itself, or the set that it belongs to."""
    _bundle(place)
    if name == PIPELINE:
        files = _pipeline(place)
        if not files:
            raise SourceError(
                f"{name} in {place.label} has no `pipeline` key: name the checkpoint file instead"
            )
        return files
    if name.endswith(".index.json"):
        return _shards(place, name)
    if name in PLDA:
        return _plda(place)
    if PurePosixPath(name).suffix.lower() in WEIGHTS:
        return (name,)
    raise SourceError(
        f"{name!r} is no checkpoint by its name: expected {', '.join(WEIGHTS)}, "
        f"an .index.json, {PIPELINE}, {' or '.join(PLDA)}"
    )


def _folder(root: Path) -> _Place:
    label = f"folder {str(root)!r}"
    try:
        with os.scandir(root) as entries:
            names = tuple(sorted(e.name + "/" * e.is_dir() for e in entries))
    except OSError as error:
        raise SourceError(
            f"cannot list {label} ({error.strerror}): check its permissions"
        ) from None
    fence = _fence(root)
    return _Place(
        label=label,
        names=names,
        has=lambda name: os.path.isfile(root / name),
        fetch=lambda name: root / name,
        inside=lambda name: Path(os.path.realpath(root / name)).is_relative_to(fence),
    )


def _fence(root: Path) -> Path:
    """The folder that links below ``root`` may not lead out of."""
    real = Path(os.path.realpath(root))
    for folder in (real, *real.parents):
        # A snapshot in the hub's cache is made of links into blobs/ beside it, or one level up.
        if folder.parent.name == "snapshots" and folder.parents[1].name.startswith("models--"):
            return folder.parents[2]
    return real


def _found(root: Path) -> str:
    return _listed(_folder(root).names)


# --- telling sources apart by what they hold --------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Where files lie: a folder, a hub repository, or the cached copy of one."""

    label: str
    names: tuple[str, ...]  # at the top, sorted; folders end in "/"
    has: Callable[[str], bool]
    fetch: Callable[[str], Path]  # a local path, downloaded first where it must be
    inside: Callable[[str], bool]  # whether links keep the name in here


def _recognise(place: _Place) -> tuple[str, ...]:
    """The files of the first layout that ``place`` holds."""
    for layout in (_bundle, _pipeline, _sharded, _single, _plda):
        if files := layout(place):
            return files
    raise SourceError(
        f"nothing to convert in {place.label}: looked for a {PIPELINE} with a `pipeline` key, "
        f"{', '.join(INDEXES + SINGLES)}, one file ending in {', '.join(WEIGHTS)}, "
        f"and {' with '.join(PLDA)}; {_listed(place.names)}"
    )


def _listed(names: tuple[str, ...], most: int = 10) -> str:
    if not names:
        return "found nothing at all"
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return f"found {', '.join(names[:most])}{rest}"


def _bundle(place: _Place) -> tuple[str, ...]:
    """Refuse what samevoice wrote itself. First of all layouts: a bundle has an index too."""
    marks = ("provenance.json", "segmentation/provenance.json")
    if not place.has("config.json") or not any(place.has(mark) for mark in marks):
        return ()
    if "model_type" in _json(place, "config.json"):
        raise SourceError(
            f"{place.label} is already a samevoice bundle: inspect it, "
            "or convert it back with --to torch"
        )
    return ()


def _pipeline(place: _Place) -> tuple[str, ...]:
    if not place.has(PIPELINE):
        return ()
    try:
        config = plain_yaml.load(_text(place, PIPELINE))
    except ValueError as error:
        why = error if isinstance(error, plain_yaml.PlainYamlError) else type(error).__name__
        raise SourceError(
            f"{PIPELINE} in {place.label} is no readable YAML ({why}): "
            "mend it, or name the checkpoint file itself"
        ) from None
    return (PIPELINE,) if isinstance(config, dict) and "pipeline" in config else ()


def _sharded(place: _Place) -> tuple[str, ...]:
    return next((_shards(place, index) for index in INDEXES if place.has(index)), ())


def _shards(place: _Place, index: str) -> tuple[str, ...]:
    """The index and every shard that it names; names come from the file, so none is trusted."""
    table = _json(place, index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise SourceError(
            f"{index} in {place.label} has no weight_map: get it again from its source"
        )
    for name in table.values():
        if not (isinstance(name, str) and stays_below(name) and place.inside(name)):
            raise SourceError(
                f"{index} names a shard outside of {place.label}: {name!r}: "
                "do not trust it, get it again from its source"
            )
    shards = sorted({PurePosixPath(name).as_posix() for name in table.values()})
    missing = [name for name in shards if not place.has(name)]
    if missing:
        raise SourceError(
            f"{len(missing)} of {len(shards)} shards that {index} names are missing "
            f"in {place.label}, first {missing[0]!r}: put them beside the index"
        )
    return tuple(sorted({index, *shards}))


def _single(place: _Place) -> tuple[str, ...]:
    for name in SINGLES:
        if place.has(name):
            return (name,)
    files = tuple(n for n in place.names if PurePosixPath(n).suffix.lower() in WEIGHTS)
    files = tuple(n for n in files if not n.endswith("/"))
    if len(files) > 1:
        raise SourceError(
            f"{len(files)} checkpoint files in {place.label}, {_listed(files)}: "
            "name the one you mean by its local path"
        )
    return files


def _plda(place: _Place) -> tuple[str, ...]:
    missing = [name for name in PLDA if not place.has(name)]
    if len(missing) == len(PLDA):
        return ()
    if missing:
        raise SourceError(
            f"{missing[0]!r} is missing in {place.label}: a PLDA is {' with '.join(PLDA)}, "
            "put both into one folder"
        )
    return PLDA


def _text(place: _Place, name: str) -> str:
    try:
        return read_text(place.fetch(name), SourceError)
    except OSError as error:
        raise SourceError(
            f"cannot read {name} in {place.label} ({error.strerror}): check its permissions"
        ) from None


def _json(place: _Place, name: str) -> dict[str, Any]:
    try:
        return parse_json(_text(place, name))
    except ValueError:
        raise SourceError(
            f"{name} in {place.label} is no JSON object: get it again from its source"
        ) from None


def _checked(place: _Place, files: tuple[str, ...]) -> tuple[str, ...]:
    """``files``, sorted, when each is here and holds something."""
    for name in files:
        try:
            path = place.fetch(name)
            refuse_special(path, SourceError)
            with path.open("rb") as file:
                head = file.read(64)
        except OSError as error:
            raise SourceError(
                f"cannot read {name} in {place.label} ({error.strerror}): check its permissions"
            ) from None
        if not head:
            raise SourceError(f"{name} in {place.label} is empty (0 bytes): get it again")
        if head.startswith(b"version https://git-lfs"):
            raise SourceError(
                f"{name} in {place.label} is a Git LFS pointer, not the file itself: "
                "run `git lfs pull` there"
            )
    return tuple(sorted(files))


# --- what the card says of the licence ---------------------------------------------------------


def licence_in(root: Path) -> Licence | None:
    """As the README.md of a folder says; one that leads out of the folder is not read."""
    try:
        place = _folder(root)
        if not place.has(_CARD) or not place.inside(_CARD):  # has: no pipe either
            return None
        with (root / _CARD).open("rb") as file:
            head = file.read(_CARD_MOST)
    except (OSError, SourceError):
        return None
    said = _licence(_front_matter(head))
    return said if said != Licence() else None


def _licence(card: Mapping[str, object], gated: object = None) -> Licence:
    """Anybody can write a card: what is not as it should be says nothing."""
    given = card.get("license")
    ids = given.split(", ") if isinstance(given, str) else given
    ids = ids if isinstance(ids, list) and len(ids) <= 10 else []
    known = all(isinstance(word, str) and re.fullmatch(_LICENCE_ID, word) for word in ids)
    return Licence(
        id=", ".join(sorted({*ids})) or None if known else None,
        gated=gated if isinstance(gated, bool) else None,
        name=_line(card.get("license_name")),
        link=_line(card.get("license_link")),
    )


def _line(given: object) -> str | None:
    """A short text that can stand in a line of its own."""
    text = given.strip() if isinstance(given, str) else ""
    return text if text and len(text) <= 300 and text.isprintable() else None


def _front_matter(head: bytes) -> dict[str, object]:
    """The plain texts, and the lists of such, at the top of a card's YAML."""
    lines = head.decode("utf-8-sig", errors="replace").split("\n")
    ends = [i for i, line in enumerate(lines[1:], 1) if line.rstrip() == "---"]
    if not ends or lines[0].rstrip() != "---":
        return {}
    return plain_yaml.texts_at_top("\n".join(lines[1 : ends[0]]))


# --- the hub ----------------------------------------------------------------------------------


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


def _from_hub(repo: str, revision: str | None, subfolder: str | None, token: str | None) -> Source:
    hub = Hub(repo, revision, token)
    try:
        snapshot = hub.listing()
    except UnreachableError:
        cached = hub.cached()
        if cached is None:
            raise
        snapshot = cached
    place = _below(snapshot, subfolder)
    files = _checked(place, _recognise(place))
    root = place.fetch(files[0]).parents[len(PurePosixPath(files[0]).parts) - 1]
    licence = snapshot.licence()
    hub.remember(snapshot.commit)
    return Source("hub", repo, root, files, snapshot.commit, subfolder, licence)


def _below(snapshot: Snapshot, subfolder: str | None) -> _Place:
    prefix = f"{subfolder}/" if subfolder else ""
    names = frozenset(n.removeprefix(prefix) for n in snapshot.names if n.startswith(prefix))
    if prefix and not names:
        raise SourceError(
            f"{snapshot.label} has no folder {subfolder!r}: {_listed(_top(snapshot.names))}"
        )
    return _Place(
        label=f"{subfolder!r} of {snapshot.label}" if subfolder else snapshot.label,
        names=_top(names),
        has=names.__contains__,
        fetch=lambda name: snapshot.fetch(prefix + name),
        inside=lambda _: True,  # the links are the client's own, into its cache
    )


def _top(names: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted({name[: name.find("/") + 1] or name for name in names}))


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
            licence=lambda: self._noted(commit, self._licence(info, commit)),
        )

    def _licence(self, info: ModelInfo, commit: str) -> Licence:
        """What the hub's page says; the page sends the card's data only where it could read it."""
        gated = bool(info.gated) if info.gated is not None else None
        if info.card_data is not None:
            return _licence(getattr(info.card_data, "__dict__", {}), gated)
        if _CARD not in {sibling.rfilename for sibling in info.siblings or ()}:
            return Licence(gated=gated)
        return _licence(_front_matter(self._card(commit)), gated)

    def _card(self, commit: str) -> bytes:
        """The head of README.md, or nothing: for want of a card no conversion fails."""
        from huggingface_hub import HfApi, hf_hub_url

        url = hf_hub_url(self.repo, _CARD, revision=commit)
        try:
            known = self._ask(
                lambda: HfApi().get_hf_file_metadata(url=url, token=self._token), _CARD
            )
            if known.size is None or known.size > _CARD_LARGEST:
                return b""
            with self._download(_CARD, commit).open("rb") as file:
                return file.read(_CARD_MOST)
        except (SourceError, OSError):
            return b""

    def _noted(self, commit: str, licence: Licence) -> Licence:
        """Keep it beside the cached files: offline, nobody could say whether they were gated."""
        self._note(f"{_NOTES}/{commit}.json", json.dumps(asdict(licence)))
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
        return _licence({key: noted.get(ours) for key, ours in names.items()}, noted.get("gated"))

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
