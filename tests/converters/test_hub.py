"""Hub sources, through the real client, against a real server.

The client reads its settings when it is imported, so each case runs it in a process of its own, in
a home of its own.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hub import Hub

SRC = Path(__file__).parents[2] / "src"
TOKEN = "hf_" + "aVerySecretTokenThatNobodyMaySee"[:34]
WEIGHTS = bytes(range(256)) * 1200
REPO = "org/model"
PIPELINE = b"pipeline:\n  name: pyannote.audio.pipelines.SpeakerDiarization\n"
INDEX = b'{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}'
UNKNOWN = {"id": None, "gated": False, "name": None, "link": None}
LOGIN = (
    "make a token at https://huggingface.co/settings/tokens "
    "and log in with `hf auth login` or set HF_TOKEN"
)

# Runs locate() once for each set of arguments; waiting between retries is skipped.
CLIENT = """
import json, sys, time, traceback
from dataclasses import asdict
time.sleep = lambda seconds: None
prelude, calls = json.load(sys.stdin)
exec(prelude)
from samevoice.converters.reading.sources import locate
from samevoice.errors import SourceError
answers = []
for options in calls:
    try:
        found = locate(**options)
        licence = {"licence": found.licence.as_dict()} if found.licence else {}
        answers.append({**asdict(found), "root": str(found.root), **licence})
    except SourceError as error:
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

    def locate(self, *sources: dict[str, Any], **env: str) -> list[dict[str, Any]]:
        """Answers of locate() in one fresh process; no token may show anywhere."""
        settings = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(SRC),
            "HOME": str(self.home),
            "HF_HOME": str(self.home / "hf"),
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_DOWNLOAD_TIMEOUT": "2",
            "HF_HUB_ETAG_TIMEOUT": "2",
            **env,
        }
        run = subprocess.run(
            [sys.executable, "-c", CLIENT],
            input=json.dumps([self.prelude, sources]),
            env=settings,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert TOKEN not in run.stdout + run.stderr
        assert run.returncode == 0, run.stderr
        assert "%|" not in run.stderr  # no bars where there is no terminal
        answers: list[dict[str, Any]] = json.loads(run.stdout)
        return answers

    def get(
        self, source: str = REPO, /, *, env: dict[str, str] | None = None, **options: str
    ) -> Any:
        (answer,) = self.locate({"source": source, **options}, **env or {})
        assert "error" not in answer, answer["error"]
        return answer

    def refusal(
        self, source: str = REPO, /, *, env: dict[str, str] | None = None, **options: str
    ) -> str:
        return self.refusals({"source": source, **options}, **env or {})[0]

    def refusals(self, *sources: dict[str, Any], **env: str) -> list[str]:
        answers = self.locate(*sources, **env)
        for answer in answers:
            assert answer["links"] == 1, "chained to the client's errors, which hold requests"
            assert "\n" not in answer["error"]
        return [answer["error"] for answer in answers]


@pytest.fixture
def hub() -> Iterator[Hub]:
    files = {
        "pytorch_model.bin": WEIGHTS,
        "config.yaml": b"model: {}\n",
        "README.md": b"# A model\n",
        "training_args.bin": b"x",
    }
    with Hub({REPO: files}) as hub:
        yield hub


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> Client:
    return Client(tmp_path, hub.url)


def blob(answer: dict[str, Any], name: str = "pytorch_model.bin") -> bytes:
    return (Path(answer["root"]) / name).read_bytes()


# --- what comes ---------------------------------------------------------------------------------


def test_only_the_files_needed_come_and_once(hub: Hub, client: Client) -> None:
    first = client.get()
    assert first == {
        "kind": "hub",
        "name": REPO,
        "root": first["root"],
        "files": ["pytorch_model.bin"],
        "revision": hub.commit(REPO),
        "subfolder": None,
        "licence": UNKNOWN,
    }
    assert len(first["revision"]) == 40
    assert blob(first) == WEIGHTS
    assert hub.fetched() == ["config.yaml", "pytorch_model.bin", "README.md"]
    assert not [r for r in hub.requests if "authorization" in r.headers]
    hub.requests.clear()
    assert client.get() == first
    assert hub.fetched() == []
    assert [r.path for r in hub.seen("GET", "/api/models")] == [f"/api/models/{REPO}"]


def test_a_revision_is_a_branch_or_a_commit(hub: Hub, client: Client) -> None:
    old = hub.commit(REPO)
    new = hub.repos[REPO].push({"pytorch_model.bin": b"new"})
    hub.repos[REPO].push({"pytorch_model.bin": b"pr"}, branch="refs/pr/1")
    options = [{"source": REPO, "revision": r} for r in ("main", old, "refs/pr/1")]
    main, commit, pr = client.locate(*options)
    assert (main["revision"], blob(main)) == (new, b"new")
    assert (commit["revision"], blob(commit)) == (old, WEIGHTS)
    assert (pr["revision"], blob(pr)) == (hub.commit(REPO, "refs/pr/1"), b"pr")
    assert client.locate(*options, HF_HUB_OFFLINE="1") == [main, commit, pr]


def test_a_sharded_checkpoint_comes_whole(hub: Hub, client: Client) -> None:
    files = {"model.safetensors.index.json": INDEX, "model-1.safetensors": b"1", "x.bin": b"x"}
    hub.repos[REPO].push({**files, "model-2.safetensors": b"2"})
    hub.add("org/half", files)
    found, half = client.locate({"source": REPO}, {"source": "org/half"})
    assert found["files"] == sorted({*files, "model-2.safetensors"} - {"x.bin"})
    assert sorted(hub.fetched()) == sorted([*found["files"], "model.safetensors.index.json"])
    assert half["error"] == (
        "1 of 2 shards that model.safetensors.index.json names are missing in hub repository "
        "'org/half', first 'model-2.safetensors': put them beside the index"
    )


def test_a_pipeline_and_its_parts(hub: Hub, client: Client) -> None:
    hub.repos[REPO].push(
        {
            "config.yaml": PIPELINE,
            "segmentation/pytorch_model.bin": b"s",
            "embedding/pytorch_model.bin": b"e",
            "plda/plda.npz": b"p",
            "plda/xvec_transform.npz": b"x",
        }
    )
    whole, part, plda, none = client.locate(
        {"source": REPO},
        {"source": REPO, "subfolder": "segmentation/"},
        {"source": REPO, "subfolder": "plda"},
        {"source": REPO, "subfolder": "vad"},
    )
    assert whole["files"] == ["config.yaml"]
    assert (part["files"], part["subfolder"]) == (["pytorch_model.bin"], "segmentation")
    assert part["root"] == str(Path(whole["root"]) / "segmentation")
    assert blob(part) == b"s"
    assert plda["files"] == ["plda.npz", "xvec_transform.npz"]
    assert none["error"] == (
        "hub repository 'org/model' has no folder 'vad': "
        "found config.yaml, embedding/, plda/, segmentation/"
    )
    assert "embedding" not in " ".join(r.path for r in hub.requests)


def test_the_cache_serves_offline(hub: Hub, client: Client) -> None:
    first = client.get()
    hub.requests.clear()
    branch, commit, other, part = client.locate(
        {"source": REPO},
        {"source": REPO, "revision": first["revision"]},
        {"source": REPO, "revision": "v2"},
        {"source": REPO, "subfolder": "plda"},
        HF_HUB_OFFLINE="1",
    )
    assert branch == commit == first
    assert hub.requests == []
    assert other["error"] == (
        "HF_HUB_OFFLINE is set, and the cache has no copy of 'org/model' at revision 'v2': "
        "unset it and run once with a network, or use reference:segmentation, which needs none"
        "; should it be a path: 'org/model' is not here"
    )
    assert part["error"] == (
        "the cached copy of hub repository 'org/model' (the hub was not reached) "
        "has no folder 'plda': found README.md, config.yaml, pytorch_model.bin"
    )


# --- the licence --------------------------------------------------------------------------------

CARD = b"---\nlicense: cc-by-4.0\ntags: [a]\n---\n# A model\n"
OTHER = {"license": "other", "license_name": "own-terms", "license_link": "https://example.org"}


def test_the_licence_is_what_the_hub_says_of_the_card(hub: Hub, client: Client) -> None:
    repo = hub.repos[REPO]
    repo.card = {**OTHER, "tags": ["a"]}
    assert client.get()["licence"] == {
        "id": "other",
        "gated": False,
        "name": "own-terms",
        "link": "https://example.org",
    }
    assert "README.md" not in hub.fetched()
    repo.card = {"license": ["mit", "apache-2.0"]}
    assert client.get()["licence"] == {**UNKNOWN, "id": "apache-2.0, mit"}
    repo.card = {"tags": ["a"]}
    assert client.get()["licence"] == UNKNOWN


def test_the_licence_is_read_from_the_card_that_the_hub_says_nothing_of(
    hub: Hub, client: Client
) -> None:
    hub.repos[REPO].push({"pytorch_model.bin": WEIGHTS, "README.md": CARD})
    first = client.get()
    assert first["licence"] == {**UNKNOWN, "id": "cc-by-4.0"}
    assert (Path(first["root"]) / "README.md").read_bytes() == CARD
    hub.repos[REPO].push({"part/pytorch_model.bin": WEIGHTS, "README.md": CARD})
    assert client.get(subfolder="part")["licence"] == {**UNKNOWN, "id": "cc-by-4.0"}


def test_a_licence_offline_is_the_one_online(hub: Hub, client: Client) -> None:
    repo = hub.repos[REPO]
    cards: list[object] = [None, {"license": ["mit", "apache-2.0"]}, OTHER]
    repo.push({"pytorch_model.bin": WEIGHTS, "README.md": CARD})
    for card, licensed in zip(cards, (None, {TOKEN}, {TOKEN}), strict=True):
        repo.card, repo.licensed = card, licensed
        online = client.get(token=TOKEN)
        assert online["licence"]["gated"] is (licensed is not None)
        assert client.get(env={"HF_HUB_OFFLINE": "1"}) == online


def test_offline_with_a_cache_that_another_tool_filled(hub: Hub, client: Client) -> None:
    hub.repos[REPO].push({"pytorch_model.bin": WEIGHTS, "README.md": CARD})
    root = Path(client.get()["root"])
    (note,) = (root.parents[1] / "samevoice").iterdir()
    offline = {"HF_HUB_OFFLINE": "1"}
    for text in ("[" * 100_000, "[]", "7", "\xff"):
        note.write_text(text, encoding="latin-1")
        licence = client.get(env=offline)["licence"]
        assert licence == {**UNKNOWN, "id": "cc-by-4.0", "gated": None}
    note.write_text('{"id": 7, "gated": "yes", "name": "a\\nb", "link": []}')
    assert client.get(env=offline)["licence"] == {**UNKNOWN, "gated": None}
    note.unlink()
    (root / "README.md").unlink()
    assert client.get(env=offline)["licence"] == {**UNKNOWN, "gated": None}


def test_a_card_that_cannot_be_had_is_no_failure(hub: Hub, client: Client) -> None:
    repo = hub.repos[REPO]
    repo.push({"pytorch_model.bin": WEIGHTS, "README.md": CARD})
    repo.lost = {"README.md"}
    assert client.get()["licence"] == UNKNOWN
    repo.lost = set()
    hub.cut("README.md", after=0, times=99)
    assert client.get()["licence"] == UNKNOWN
    hub.cuts.clear()
    repo.push({"pytorch_model.bin": WEIGHTS, "README.md": CARD + b"x" * (1 << 20)})
    hub.requests.clear()
    assert client.get()["licence"] == UNKNOWN
    assert "README.md" not in hub.fetched()


def test_a_card_of_odd_types_says_nothing(hub: Hub, client: Client) -> None:
    cards = (["mit"], {"license": 7}, {"license": {"a": ["mit"]}}, {"license": [["mit"]]}, "mit")
    for i, card in enumerate(cards):
        hub.add(f"org/m{i}", {"pytorch_model.bin": b"x"}).card = card
    answers = client.locate(*({"source": f"org/m{i}"} for i in range(len(cards))))
    assert [answer["licence"] for answer in answers] == [UNKNOWN] * len(cards)


# --- without a network --------------------------------------------------------------------------


def test_the_cache_serves_when_the_network_or_the_hub_is_down(hub: Hub, client: Client) -> None:
    first = client.get()
    hub.repos[REPO].status = 503
    assert client.get() == first
    client.endpoint = closed_port()
    assert client.get() == first


# --- tokens -------------------------------------------------------------------------------------


def test_a_token_is_sent_and_not_shown(hub: Hub, client: Client) -> None:
    hub.tokens = {TOKEN}
    hub.repos[REPO].readers = hub.repos[REPO].licensed = {TOKEN}
    found = client.get(env={"HF_TOKEN": TOKEN})
    assert blob(found) == WEIGHTS
    sent = [r.headers.get("authorization") for r in hub.requests if not r.path.startswith("/cdn")]
    assert set(sent) - {None} == {f"Bearer {TOKEN}"}
    assert not [r for r in hub.seen("GET", "/cdn/") if "authorization" in r.headers]
    stored = Client(client.home / "other", hub.url)
    (stored.home / "hf").mkdir(parents=True)
    (stored.home / "hf" / "token").write_text(TOKEN + "\n")
    assert blob(stored.get()) == WEIGHTS
    given = Client(client.home / "third", hub.url)
    assert blob(given.get(token=TOKEN + "\n")) == WEIGHTS


def test_a_bad_token(hub: Hub, client: Client) -> None:
    hub.tokens = {"hf_good"}
    text = client.refusal(env={"HF_TOKEN": TOKEN})
    assert text == f"the hub refuses the token for 'org/model' (401): {LOGIN}"


def test_no_token(hub: Hub, client: Client) -> None:
    hub.repos[REPO].readers = {TOKEN}
    assert client.refusal() == (
        "the hub shows no 'org/model' without a login (401): check the spelling, "
        f"and if it is private or gated, {LOGIN}; should it be a path: 'org/model' is not here"
    )


def test_a_gated_repository(hub: Hub, client: Client) -> None:
    hub.repos[REPO].licensed = {"hf_somebody"}
    texts = client.refusals({"source": REPO}, {"source": REPO, "token": TOKEN})
    for status, text in zip((401, 403), texts, strict=True):
        assert text == (
            f"'org/model' is gated ({status}): accept its licence at "
            f"https://huggingface.co/org/model, then {LOGIN}"
        )


def test_a_token_that_no_header_can_hold(hub: Hub, client: Client) -> None:
    bad = (TOKEN + "\nX: y", TOKEN + " x", TOKEN + "é")
    for text in client.refusals(*({"source": REPO, "token": token} for token in bad)):
        assert text == (
            "the token holds a character that no token has, such as a space or a line break: "
            "copy it again from https://huggingface.co/settings/tokens"
        )
    assert hub.requests == []


def test_a_token_in_an_error_of_the_network_is_struck_out(hub: Hub, client: Client) -> None:
    client.prelude = (
        "import httpx2, huggingface_hub\n"
        "def fail(*_, **__): raise httpx2.ConnectError('sent Bearer ' + " + repr(TOKEN) + ")\n"
        "huggingface_hub.HfApi.model_info = fail"
    )
    assert "(sent Bearer ***)" in client.refusal(env={"HF_TOKEN": TOKEN})


# --- what the hub refuses -----------------------------------------------------------------------


def test_no_such_repository(client: Client) -> None:
    assert client.refusal("org/nothing", env={"HF_TOKEN": TOKEN}) == (
        "there is no repository 'org/nothing' on the hub (404), and no such path here: "
        f"check the spelling; a private one looks the same without the right token, so {LOGIN}"
    )


def test_no_such_revision(client: Client) -> None:
    names = ("v2", "a" * 40)
    texts = client.refusals(*({"source": REPO, "revision": name} for name in names))
    for name, text in zip(names, texts, strict=True):
        assert text == (
            f"'org/model' has no revision '{name}' on the hub: name one of its branches, "
            "tags or full commits, or leave --revision out"
        )


def test_a_file_that_is_listed_and_not_there(hub: Hub, client: Client) -> None:
    hub.repos[REPO].lost = {"pytorch_model.bin"}
    assert client.refusal() == (
        "'org/model' has no file 'pytorch_model.bin' on the hub: "
        "run again in case it has just changed, or choose another --revision"
    )


def test_other_refusals(hub: Hub, client: Client) -> None:
    says = {
        403: "the hub forbids reading 'org/m403' (403): give the token that right at https://",
        429: "the hub is busy or broken (429), and the cache has no copy of 'org/m429': run again",
        503: "the hub is busy or broken (503), and the cache has no copy of 'org/m503': run again",
        418: "the hub answered 418 for 'org/m418': download the files by hand and give their fol",
    }
    for status in says:
        hub.add(f"org/m{status}", {}).status = status
    texts = client.refusals(*({"source": f"org/m{status}"} for status in says))
    for start, text in zip(says.values(), texts, strict=True):
        assert text.startswith(start)


def test_a_token_that_may_list_and_not_fetch(hub: Hub, client: Client) -> None:
    hub.repos[REPO].file_status = 403
    assert client.refusal(env={"HF_TOKEN": TOKEN}) == (
        "the hub forbids reading 'org/model' (403): give the token that right at "
        f"https://huggingface.co/settings/tokens, or {LOGIN}"
    )


def test_an_answer_that_is_not_of_a_hub(hub: Hub, client: Client) -> None:
    pages = (b"<html>log in to the wifi</html>", b"[]", b'{"id": "a"}')
    for i, page in enumerate(pages):
        hub.add(f"org/p{i}", {}).page = page
    host = hub.url.removeprefix("http://")
    client.endpoint = f"http://user:{TOKEN}@{host}"
    for text in client.refusals(*({"source": f"org/p{i}"} for i in range(len(pages)))):
        assert text.startswith(f"{host} does not answer as a Hugging Face hub (")
        assert text.endswith("): check HF_ENDPOINT and proxies")


def test_a_repository_without_a_checkpoint(hub: Hub, client: Client) -> None:
    hub.add("org/two", {"README.md": b"x", "a.ckpt": b"x", "b.ckpt": b"x"})
    hub.add("org/empty", {"README.md": b"x", "pytorch_model.bin": b""})
    hub.add("org/done", {"config.json": b'{"model_type": "x"}', "provenance.json": b"{}"})
    two, empty, done = client.refusals(
        {"source": "org/two"}, {"source": "org/empty"}, {"source": "org/done"}
    )
    assert "2 checkpoint files in hub repository 'org/two', found a.ckpt, b.ckpt" in two
    assert "pytorch_model.bin in hub repository 'org/empty' is empty" in empty
    assert "hub repository 'org/done' is already a samevoice bundle" in done


# --- the way there ------------------------------------------------------------------------------


def test_no_network(client: Client) -> None:
    client.endpoint = closed_port()
    text = client.refusal(revision="v2")
    host = client.endpoint.removeprefix("http://")
    assert text.startswith(f"no network: {host} cannot be reached (")
    assert text.endswith(
        "), and the cache has no copy of 'org/model' at revision 'v2': connect and run again; "
        "HF_HUB_OFFLINE=1 uses the cache alone, and reference:segmentation, "
        "reference:embedding and reference:full need no network"
        "; should it be a path: 'org/model' is not here"
    )


def test_a_connection_cut_once_goes_on_where_it_broke(hub: Hub, client: Client) -> None:
    large = os.urandom(12 << 20)  # the client writes 10 MiB at a time
    hub.repos[REPO].push({"pytorch_model.bin": large})
    hub.cut("pytorch_model.bin", after=11 << 20)
    assert blob(client.get()) == large
    whole, rest = hub.seen("GET", "/cdn/")
    assert "range" not in whole.headers
    assert rest.headers["range"] == f"bytes={10 << 20}-"


def test_a_connection_cut_for_good_then_a_second_run(hub: Hub, client: Client) -> None:
    hub.cut("pytorch_model.bin", after=0, times=99)
    assert client.refusal() == (
        "the connection broke while 'pytorch_model.bin' of 'org/model' was coming in: "
        "run the same command again, it goes on after the last file that came whole"
    )
    assert client.refusal(env={"HF_HUB_OFFLINE": "1"}).startswith("HF_HUB_OFFLINE is set")
    hub.cuts.clear()
    hub.requests.clear()
    assert blob(client.get()) == WEIGHTS
    # config.yaml came whole the first time
    assert hub.fetched() == ["pytorch_model.bin", "README.md"]


def test_a_download_that_cannot_be_kept(client: Client) -> None:
    client.prelude = (
        "from huggingface_hub import file_download\n"
        "errors = [OSError(28, 'No space left on device'), PermissionError(13, 'Permission denied')"
        ", RuntimeError('xet')]\n"
        "def fail(*_, **__): raise errors.pop(0)\n"
        "file_download.http_get = fail"
    )
    cache = str(client.home / "hf" / "hub")
    assert client.refusals(*[{"source": REPO}] * 3) == [
        f"the disk is full: no room for 'config.yaml' in '{cache}': make some, or set "
        "HF_HUB_CACHE to a folder on another disk, and run again",
        f"cannot write to the hub's cache '{cache}': set HF_HUB_CACHE to a folder that you may "
        "write to",
        "fetching 'config.yaml' of 'org/model' failed (RuntimeError): run again, or download the "
        "files by hand and give their folder",
    ]


def test_a_cache_that_cannot_be_written(hub: Hub, client: Client) -> None:
    first = client.get()
    client.prelude = "from pathlib import Path\ndef fail(*_): raise OSError(30, 'x')\n"
    client.prelude += "Path.write_text = fail"
    assert client.get(revision=hub.commit(REPO)) == first
    hub.repos[REPO].branches["v2"] = hub.commit(REPO)
    assert client.get(revision="v2") == first


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"
