"""Uploads of a release, through the real client, to a real server.

The client reads its settings when it is imported, so each case runs it in a process of its own, in
a home of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hub import Hub

from samevoice.release.hub_errors import UploadError
from samevoice.release.upload import check_name

SRC = Path(__file__).parents[1] / "src"
TOKEN = "hf_" + "aVerySecretTokenThatNobodyMaySee"
REPO = "org/voice-mlx"
MESSAGE = f"Release of voice\n\nbundle {'ab' * 32}\n  result {'cd' * 32}, 100% & <b>\n"
LARGE = bytes(range(256)) * 8192  # 2 MiB: sent alone
FILES = {
    "README.md": b"---\nlicense: mit\n---\n# A voice\n",
    "bundle/model.safetensors": LARGE,
    "bundle/plda.npz": b"small and large alike",
    "provenance.json": b"{}\n",
    "bundle/empty.json": b"",
    "result.json": b'{"passed": true}\n',
}
LOGIN = (
    "make a token at https://huggingface.co/settings/tokens "
    "and log in with `hf auth login` or set HF_TOKEN"
)
AGAIN = "run the same command again, what has arrived is not sent again"

# Runs upload() or fetch() for each call; waiting between retries is skipped. Everything that the
# client logs goes to standard error.
CLIENT = """
import json, logging, sys, time, traceback
from dataclasses import asdict
from pathlib import Path
logging.basicConfig(level=logging.DEBUG)
time.sleep = lambda seconds: None
prelude, calls = json.load(sys.stdin)
exec(prelude)
from samevoice.errors import SamevoiceError
from samevoice.release import upload
answers = []
for name, options in calls:
    told = []
    try:
        if name == "fetch":
            answers.append(str(upload.fetch(**options)))
        else:
            options["progress"] = lambda *step: told.append(step)
            answers.append({**asdict(upload.upload(**options)), "told": told})
    except SamevoiceError as error:
        links, link = [], error
        while link is not None:
            links += [str(link), repr(link), repr(getattr(link, "__dict__", ""))]
            link = link.__cause__ or link.__context__
        trace = "".join(traceback.format_exception(error))
        answers.append({"error": str(error), "chain": [*links, trace], "links": len(links) // 3})
print(json.dumps(answers))
"""


@dataclass
class Client:
    """The client on a machine of its own: home, cache and settings."""

    home: Path
    endpoint: str
    prelude: str = ""
    env: dict[str, str] = field(default_factory=lambda: {"HF_TOKEN": TOKEN})

    def call(self, *calls: tuple[str, dict[str, Any]], **env: str) -> list[Any]:
        """Answers of one fresh process; no token may show or stay anywhere."""
        (self.home / "tmp").mkdir(exist_ok=True)
        settings = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SRC),
            "HOME": str(self.home),
            "TMPDIR": str(self.home / "tmp"),
            "HF_HOME": str(self.home / "hf"),
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_DOWNLOAD_TIMEOUT": "2",
            "HF_HUB_ETAG_TIMEOUT": "2",
            "HF_HUB_DISABLE_XET": "1",
            **self.env,
            **env,
        }
        run = subprocess.run(
            [sys.executable, "-c", CLIENT],
            input=json.dumps([self.prelude, calls]),
            env=settings,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert run.returncode == 0, run.stderr
        assert TOKEN not in run.stdout + run.stderr
        for path in self.home.rglob("*"):
            assert path.is_dir() or TOKEN.encode() not in path.read_bytes(), path
        assert list((self.home / "tmp").iterdir()) == []
        assert "%|" not in run.stderr
        answers: list[Any] = json.loads(run.stdout)
        return answers

    def send(self, folder: Path, *, env: dict[str, str] | None = None, **options: Any) -> Any:
        (answer,) = self.call(("upload", asked(folder, **options)), **env or {})
        assert "error" not in answer, answer["error"]
        return answer

    def refusal(self, folder: Path, *, env: dict[str, str] | None = None, **options: Any) -> str:
        return self.refusals(asked(folder, **options), **env or {})[0]

    def refusals(self, *calls: dict[str, Any], **env: str) -> list[str]:
        answers = self.call(*(("upload", options) for options in calls), **env)
        for answer in answers:
            assert answer.get("links") == 1, answer
            assert "\n" not in answer["error"]
        return [answer["error"] for answer in answers]


def asked(folder: Path, **options: Any) -> dict[str, Any]:
    return {"folder": str(folder), "repo": REPO, "private": False, "message": MESSAGE} | options


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def released(files: dict[str, bytes]) -> dict[str, bytes]:
    """The same with their SHA256SUMS."""
    lines = (f"{sha256(data)}  {name}\n" for name, data in sorted(files.items()))
    return {**files, "SHA256SUMS": "".join(lines).encode()}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def held(hub: Hub, repo: str = REPO) -> dict[str, bytes]:
    """What a repository holds, but for the hub's own file."""
    return {name: data for name, data in hub.repos[repo].now.items() if name != ".gitattributes"}


def puts(hub: Hub, data: bytes) -> list[int]:
    """How much of a file's content came, each time that it was sent."""
    return [size for oid, size in hub.arrived if oid == sha256(data)]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub({}) as hub:
        hub.tokens = {TOKEN, "hf_reader"}
        yield hub


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> Client:
    (tmp_path / "home").mkdir()
    return Client(tmp_path / "home", hub.url)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write(tmp_path / "release", released(FILES))


# --- what arrives -------------------------------------------------------------------------------


def test_a_release_arrives_whole_and_is_read_back(hub: Hub, client: Client, release: Path) -> None:
    sent = client.send(release)
    commit = hub.commit(REPO)
    told = sent.pop("told")
    assert sent == {
        "repo": REPO,
        "commit": commit,
        "url": f"{hub.url}/{REPO}/tree/{commit}",
        "files": 7,
        "kept": 0,
        "private": False,
    }
    assert held(hub) == released(FILES)
    assert len(hub.repos[REPO].commits) == 2  # the hub's own first, and one for all of it
    # Of an empty file there is nothing to fetch.
    assert sorted([*hub.fetched(), "empty.json"]) == sorted(Path(n).name for n in released(FILES))
    assert {r.path.split("/resolve/")[1].split("/")[0] for r in hub.seen("GET", "/resolve/")} == {
        commit
    }
    total = sum(map(len, released(FILES).values()))
    assert [step for step in told if step[1] == total] == [
        [phase, total, total] for phase in ("checking", "sending", "reading back")
    ]
    assert puts(hub, LARGE) == [len(LARGE)]
    # The message is as it was given.
    title, _, description = MESSAGE.strip().partition("\n\n")
    assert list(hub.repos[REPO].messages.values()) == [(title, description)]
    # No token reaches the storage.
    storage = [r for r in hub.requests if r.path.startswith("/cdn/")]
    assert {r.method for r in storage} == {"GET", "PUT"}
    assert not [r for r in storage if "authorization" in r.headers or TOKEN in str(r)]
    others = [r for r in hub.requests if not r.path.startswith("/cdn/")]
    others = [r for r in others if r.path != "/api/agent-harnesses"]  # the client's own question
    assert {r.headers.get("authorization") for r in others} == {f"Bearer {TOKEN}"}


def test_a_large_file_in_parts(hub: Hub, client: Client, release: Path) -> None:
    hub.part_size = 700_000
    client.send(release)
    assert held(hub) == released(FILES)
    assert puts(hub, LARGE) == [700_000, 700_000, len(LARGE) - 1_400_000]


def test_a_token_that_is_given_or_stored(hub: Hub, client: Client, release: Path) -> None:
    client.env = {}
    client.send(release, token=f"{TOKEN}\n")
    stored = client.home / "hf"
    client.env = {"HF_TOKEN_PATH": str(release.parent / "token")}
    (release.parent / "token").write_text(TOKEN)
    assert client.send(release)["kept"] == 7
    assert not (stored / "token").exists()


# --- a repository that is there -----------------------------------------------------------------


def test_the_same_release_twice_makes_no_second_commit(
    hub: Hub, client: Client, release: Path
) -> None:
    first = client.send(release)
    hub.requests.clear()
    second = client.send(release)
    assert (second["commit"], second["kept"], second["files"]) == (first["commit"], 7, 7)
    assert hub.seen("POST") == hub.seen("PUT") == []
    assert len(hub.fetched()) == 7  # all of it, and SHA256SUMS to see whose it is


def test_the_next_release_takes_the_place_of_the_last(
    hub: Hub, client: Client, release: Path
) -> None:
    client.send(release)
    files = {**FILES, "result.json": b"{}\n", "new/page.html": b"<p>\n"}
    del files["bundle/empty.json"]
    del files["bundle/plda.npz"]
    sent = client.send(write(release.parent / "next", released(files)))
    assert held(hub) == released(files)
    assert ".gitattributes" in hub.repos[REPO].now
    assert (sent["kept"], sent["files"]) == (3, 6)
    assert puts(hub, LARGE) == [len(LARGE)]
    assert len(hub.repos[REPO].commits) == 3


def test_a_repository_that_somebody_just_made(hub: Hub, client: Client, release: Path) -> None:
    repo = hub.make(REPO, private=False)
    repo.push({**repo.now, "README.md": b"---\nlicense: mit\n---\n"})
    hub.creators = set()
    assert client.send(release)["kept"] == 0
    assert held(hub) == released(FILES)
    assert hub.seen("POST", "/api/repos/create") == []


def test_other_peoples_files_are_left_alone(hub: Hub, client: Client, release: Path) -> None:
    models = released({"provenance.json": b"{}", "README.md": b"x"})
    theirs = {
        "org/model": {"weights.bin": b"x", "README.md": b"x", "a.txt": b"x"},
        "org/added": {**models, "notes.txt": b"x"},
        "org/sums": released({"weights.bin": b"x", "a/provenance.json": b"x"}),
        "org/nonsense": {"SHA256SUMS": b"hello\n"},
    }
    for name, files in theirs.items():
        hub.add(name, files)
    texts = client.refusals(*(asked(release, repo=name) for name in theirs))
    says = {
        "org/model": "2 files that are no samevoice release, first 'a.txt'",
        "org/added": "1 files that are no samevoice release, first 'notes.txt'",
        "org/sums": "3 files that are no samevoice release, first 'SHA256SUMS'",
        "org/nonsense": "1 files that are no samevoice release, first 'SHA256SUMS'",
    }
    for text, (name, said) in zip(texts, says.items(), strict=True):
        assert text == f"{name} exists and holds {said}: choose another name"
        assert hub.repos[name].now == theirs[name]
    assert hub.seen("POST") == hub.seen("PUT") == []


def test_somebody_else_commits_meanwhile(hub: Hub, client: Client, release: Path) -> None:
    client.prelude = (
        "import huggingface_hub\n"
        "honest = huggingface_hub.HfApi.create_commit\n"
        "def late(*args, **rest):\n"
        "    rest['parent_commit'] = rest['parent_commit'][::-1]\n"
        "    return honest(*args, **rest)\n"
        "huggingface_hub.HfApi.create_commit = late\n"
    )
    assert client.refusal(release) == (
        f"somebody changed {REPO!r} meanwhile (412): look at what it holds now, and run again"
    )
    assert held(hub) == {}


def test_private_reaches_the_hub(hub: Hub, client: Client, release: Path) -> None:
    assert client.send(release, private=True)["private"] is True
    assert hub.repos[REPO].private is True
    # Nobody asked to have it public: it stays, and the answer says so.
    assert client.send(release, private=False)["private"] is True


def test_a_private_release_never_goes_to_a_public_repository(
    hub: Hub, client: Client, release: Path
) -> None:
    hub.make(REPO, private=False)
    text = (
        f"{REPO!r} is public on the hub, and this release is to be private: make it private in "
        "its settings there, or choose another name"
    )
    assert client.refusal(release, private=True) == text
    assert hub.seen("POST") == []
    # A hub that makes it public whatever was asked.
    client.prelude = (
        "import huggingface_hub\n"
        "honest = huggingface_hub.HfApi.create_repo\n"
        "huggingface_hub.HfApi.create_repo = lambda self, name, private: honest(self, name)\n"
    )
    hub.out_of_order = {}
    assert client.refusal(release, private=True, repo="org/other").startswith("'org/other' is publ")
    assert held(hub, "org/other") == {}


# --- what the hub refuses -----------------------------------------------------------------------


def test_tokens_that_do_not_do(hub: Hub, client: Client, release: Path) -> None:
    hub.make("org/theirs", private=False).writers = {"hf_owner"}
    hub.creators = {"hf_owner"}
    bad, broken, other, new = client.refusals(
        asked(release, token="hf_wrong"),
        asked(release, token=f"{TOKEN} x"),
        asked(release, repo="org/theirs"),
        asked(release),
    )
    assert bad == f"the hub refuses the token for {REPO!r} (401): {LOGIN}"
    assert broken.startswith("the token holds a character that no token has")
    right = (
        "give the token the right to write in 'org' at https://huggingface.co/settings/tokens, "
        "or choose another name"
    )
    assert other == f"the hub forbids sending to 'org/theirs' (403): {right}"
    assert new == f"the hub forbids making {REPO!r} (403): {right}"
    client.env = {}
    hub.requests.clear()
    none = client.refusal(release)
    assert none == f"sending to {REPO!r} needs a token that may write: {LOGIN}"
    assert hub.requests == []
    assert REPO not in hub.repos


def test_a_name_that_another_has_in_secret(hub: Hub, client: Client, release: Path) -> None:
    hub.make(REPO, private=True).readers = {"hf_owner"}
    assert client.refusal(release) == (
        f"{REPO!r} is taken, and the token may not see it (409): choose another name, or give "
        "the token that right at https://huggingface.co/settings/tokens"
    )


def test_a_hub_that_says_no(hub: Hub, client: Client, release: Path) -> None:
    says = {
        ("org/a.git/info/lfs/verify", 422): "the hub's storage refuses 'bundle/plda.npz' of",
        ("org/b/preupload", 503): "the hub is busy or broken (503) while sending to 'org/b': run",
        ("org/c.git/info/lfs/objects", 429): "the hub is busy or broken (429) while sending to",
        ("org/d/commit", 504): "the hub is busy or broken (504) while writing to 'org/d'",
        ("org/e/commit", 403): "the hub forbids writing to 'org/e' (403): give the token the",
        ("org/f/commit", 404): "the hub shows no 'org/f' (404) any more: somebody removed it",
        ("org/g/commit", 413): "the hub refuses writing to 'org/g' (413: out of order): mend",
        ("org/h/resolve", 503): "the hub is busy or broken (503) while reading back 'org/h'",
        ("api/models/org/i", 503): "the hub is busy or broken (503) while looking at 'org/i': run",
    }
    names = [f"org/{letter}" for letter in "abcdefghi"]
    hub.out_of_order = dict(says.keys())
    texts = client.refusals(*(asked(release, repo=name) for name in names))
    for text, start in zip(texts, says.values(), strict=True):
        assert text.startswith(start)
    hub.out_of_order.clear()
    answers = client.call(*(("upload", asked(release, repo=name)) for name in names))
    assert [answer["kept"] for answer in answers] == [0, 0, 0, 0, 0, 0, 0, 7, 0]
    for name in names:
        assert held(hub, name) == released(FILES)


def test_a_hub_that_makes_no_repository(hub: Hub, client: Client, release: Path) -> None:
    for status, says in (
        (
            500,
            f"the hub is busy or broken (500) while making {REPO!r}: run the same command again ",
        ),
        (402, f"the hub refuses making {REPO!r} (402: out of order): mend that and run again"),
    ):
        hub.out_of_order = {"/api/repos/create": status}
        assert client.refusal(release).startswith(says)


def test_a_storage_that_says_no(hub: Hub, client: Client, release: Path) -> None:
    large = repr("bundle/model.safetensors")
    for status, says in (
        (503, f"the hub is busy or broken (503) while sending to {REPO!r}: run the same command"),
        (403, f"the hub's storage refuses {large} of {REPO!r} (403): {AGAIN}"),
    ):
        hub.out_of_order = {f"upload/{sha256(LARGE)}": status}
        assert client.refusal(release).startswith(says)
    assert puts(hub, FILES["bundle/plda.npz"]) == [21]  # before it, and not again
    hub.out_of_order.clear()
    client.send(release)
    assert puts(hub, FILES["bundle/plda.npz"]) == [21]
    assert held(hub) == released(FILES)


def test_a_card_that_the_hub_refuses(hub: Hub, client: Client, tmp_path: Path) -> None:
    files = {**FILES, "README.md": b"---\nlicense: not-a-licence\n---\n"}
    assert client.refusal(write(tmp_path / "bad", released(files))) == (
        'the hub refuses the README.md (Invalid metadata in README.md. - "license" must be one of '
        "those the hub knows): mend its front matter and release again"
    )
    assert held(hub) == {}


def test_an_answer_that_is_not_of_a_hub(hub: Hub, client: Client, release: Path) -> None:
    renamed = json.dumps({"id": "org/new", "sha": "a" * 40, "siblings": []}).encode()
    pages = (b"<html>log in to the wifi</html>", b"[]", b'{"id": "org/p2"}', renamed)
    for i, page in enumerate(pages):
        hub.make(f"org/p{i}", private=False).page = page
    host = hub.url.removeprefix("http://")
    calls = [asked(release, repo=f"org/p{i}") for i in range(len(pages))]
    *odd, other = client.refusals(*calls)
    for text in odd:
        assert text.startswith(f"{host} does not answer as a Hugging Face hub (")
    assert other == "'org/p3' is 'org/new' on the hub: give that name"


def test_a_hub_without_xet_storage(hub: Hub, client: Client, release: Path) -> None:
    xet = {"HF_HUB_DISABLE_XET": "0"}  # the client's own choice, where hf_xet is installed
    assert client.refusal(release, env=xet) == (
        f"the hub's Xet storage refuses 'README.md' of {REPO!r} (404): set HF_HUB_DISABLE_XET=1, "
        "which sends it the older way, and run the same command again"
    )
    hub.out_of_order = {"xet-write-token": 403}
    assert client.refusal(release, env=xet).startswith(f"the hub forbids sending to {REPO!r} (403)")
    assert held(hub) == {}
    assert any((client.home / "hf" / "xet").rglob("*.log"))  # looked through for the token


# --- the way there ------------------------------------------------------------------------------


def test_no_network(client: Client, release: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    client.endpoint = f"http://{host}"
    text = client.refusal(release)
    assert text.startswith(f"no network: {host} cannot be reached (")
    assert text.endswith("): connect and run again")
    assert client.refusal(release, env={"HF_HUB_OFFLINE": "1"}) == (
        "HF_HUB_OFFLINE is set, and an upload needs the hub: unset it and run again"
    )


def test_a_connection_cut_is_mended_by_the_client(hub: Hub, client: Client, release: Path) -> None:
    hub.cut(sha256(LARGE), after=1 << 20, times=2)
    client.send(release)
    assert puts(hub, LARGE) == [1 << 20, 1 << 20, len(LARGE)]
    assert held(hub) == released(FILES)


def test_a_connection_cut_for_good_then_a_second_run(
    hub: Hub, client: Client, tmp_path: Path
) -> None:
    other = LARGE[::-1]
    files = {**FILES, "bundle/a.safetensors": other}
    release = write(tmp_path / "two", released(files))
    hub.cut(sha256(LARGE), after=1 << 20, times=99)
    assert client.refusal(release) == (
        f"the connection broke while sending 'bundle/model.safetensors' to {REPO!r}: {AGAIN}"
    )
    assert held(hub) == {}  # nobody sees half a release
    assert puts(hub, other) == [len(other)]
    hub.cuts.clear()
    hub.arrived.clear()
    assert client.send(release)["kept"] == 0
    assert held(hub) == released(files)
    assert hub.arrived == [(sha256(LARGE), len(LARGE))]


def test_a_commit_whose_answer_is_lost(hub: Hub, client: Client, release: Path) -> None:
    client.prelude = (
        "import httpx2, huggingface_hub\n"
        "honest = huggingface_hub.HfApi.create_commit\n"
        "def lost(*args, **rest):\n"
        "    honest(*args, **rest)\n"
        f"    raise httpx2.ReadError('sent Bearer {TOKEN}')\n"
        "huggingface_hub.HfApi.create_commit = lost\n"
    )
    assert client.refusal(release) == (
        f"the connection broke while sending 'the commit' to {REPO!r}: {AGAIN}"
    )
    client.prelude = ""
    assert client.send(release)["kept"] == 7
    assert len(hub.repos[REPO].commits) == 2


def test_a_cut_while_reading_back(hub: Hub, client: Client, release: Path) -> None:
    hub.cut("bundle/model.safetensors", after=0, times=99)
    assert client.refusal(release) == (
        f"all of {REPO!r} is sent, but the connection broke while 'bundle/model.safetensors' was "
        "read back: run the same command again to have it compared, what has arrived is not sent "
        "again"
    )
    hub.cuts.clear()
    assert client.send(release)["kept"] == 7


def test_no_room_to_read_back(hub: Hub, client: Client, release: Path) -> None:
    client.prelude = (
        "from huggingface_hub import file_download\n"
        "def fail(*_, **__): raise OSError(28, 'No space left on device')\n"
        "file_download.http_get = fail"
    )
    temporary = str(client.home / "tmp")
    assert client.refusal(release) == (
        f"all of {REPO!r} is sent, but the disk is full: no room to read 'README.md' back into "
        f"'{temporary}': make some, or set TMPDIR to a folder on another disk, and run the same "
        "command again"
    )


# --- what came back -----------------------------------------------------------------------------


def test_a_hub_that_keeps_one_byte_otherwise(hub: Hub, client: Client, release: Path) -> None:
    names = {"org/a": "bundle/model.safetensors", "org/b": "result.json", "org/c": "SHA256SUMS"}
    hub.spoiled = {f"{repo}/{name}" for repo, name in names.items()}
    texts = client.refusals(*(asked(release, repo=repo) for repo in names))
    for text, (repo, name) in zip(texts, names.items(), strict=True):
        came = f"{name!r} came back from {repo} at {hub.commit(repo)} with other bytes (sha256 "
        assert text.startswith(came)
    # The hub's own listing shows it too, so the next run sends that file again; but for the sums,
    # without which nothing there says that it is a release.
    hub.spoiled = set()
    *answers, last = client.call(*(("upload", asked(release, repo=repo)) for repo in names))
    assert [answer["kept"] for answer in answers] == [6, 6]
    assert "org/c exists and holds 6 files that are no samevoice release" in last["error"]
    for repo in ("org/a", "org/b"):
        assert held(hub, repo) == released(FILES)


def test_a_hub_that_has_lost_a_file(hub: Hub, client: Client, release: Path) -> None:
    hub.make(REPO, private=False).lost = {"result.json"}
    assert client.refusal(release) == (
        f"{REPO!r} has no 'result.json' at the commit just made: run the same command again, and "
        "look for a .gitignore there should it stay so"
    )


# --- before anything is sent --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["voice", "a/b/c", "", "org/", "/voice", "org/a b", "a--b/c..d"])
def test_a_name_that_the_hub_cannot_have(name: str) -> None:
    with pytest.raises(UploadError) as caught:
        check_name(name)
    assert str(caught.value) == (
        f"{name!r} is no name on the hub: give ORG/NAME, of letters, digits, '-', '_' and '.'"
    )


def test_a_folder_that_is_not_as_its_sums_say(hub: Hub, client: Client, tmp_path: Path) -> None:
    right = released(FILES)
    changes: dict[str, dict[str, bytes]] = {
        "changed": right | {"result.json": b"{}"},
        "more": right | {"zzz/new.txt": b"", "yyy.txt": b""},
        "fewer": {name: data for name, data in right.items() if name != "result.json"},
        "none": FILES,
        "out": right | {"SHA256SUMS": b"0" * 64 + b"  ../secret\n"},
    }
    folders = {name: write(tmp_path / name, files) for name, files in changes.items()}
    calls = [asked(folder) for folder in (*folders.values(), tmp_path / "nothing")]
    texts = [answer["error"] for answer in client.call(*(("upload", call) for call in calls))]
    says = (
        "'result.json' in {} is not as its SHA256SUMS says: it was changed after",
        "{} holds 2 files that its SHA256SUMS does not name, first 'yyy.txt': take them out",
        "{} lacks 1 files that its SHA256SUMS names, first 'result.json': release again",
        "{} has no SHA256SUMS",
        "{}/SHA256SUMS names '../secret'",
        "{} has no SHA256SUMS",
    )
    for text, start, folder in zip(texts, says, [*folders, "nothing"], strict=True):
        assert text.startswith(start.format(tmp_path / folder))
    assert hub.requests == []


# --- fetching -----------------------------------------------------------------------------------


def test_fetch_brings_the_whole_release(hub: Hub, client: Client, release: Path) -> None:
    client.send(release)
    old = hub.commit(REPO)
    hub.repos[REPO].push(released({"README.md": b"new"}))
    now, then = client.call(("fetch", {"repo": REPO}), ("fetch", {"repo": REPO, "revision": old}))
    assert files_in(Path(now)) == released({"README.md": b"new"})
    assert files_in(Path(then)) == released(FILES)
    hub.requests.clear()
    assert client.call(("fetch", {"repo": REPO}), HF_HUB_OFFLINE="1") == [now]
    assert hub.requests == []
    (Path(now) / "README.md").unlink()  # another command may have brought less
    (answer,) = client.call(("fetch", {"repo": REPO}), HF_HUB_OFFLINE="1")
    assert answer["error"] == (
        f"HF_HUB_OFFLINE is set, and the cache has no whole copy of {REPO!r}: unset it and run "
        f"once with a network; should it be a path: {REPO!r} is not here"
    )


def test_fetch_leaves_what_is_no_release(hub: Hub, client: Client) -> None:
    hub.add("org/model", {"weights.bin": LARGE})
    answers = client.call(
        ("fetch", {"repo": "org/model"}),
        ("fetch", {"repo": "org/none"}),
        ("fetch", {"repo": "model"}),
        ("fetch", {"repo": "org/model", "revision": "../x"}),
    )
    model, none, name, revision = (answer["error"] for answer in answers)
    assert model == (
        "hub repository 'org/model' is no release: it has no SHA256SUMS; check the name and "
        "--revision"
    )
    assert none.startswith("there is no repository 'org/none' on the hub (404)")
    assert name.startswith("'model' is no name on the hub")
    assert revision.startswith("'../x' is no revision")
    assert hub.fetched() == []


def files_in(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
