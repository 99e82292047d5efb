"""Signatures: what a forger cannot make anew, however many hashes he makes."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from made_release import Ready, edit, sum_again
from packaging.requirements import Requirement

from samevoice import cli
from samevoice.release import contents, signature

ROOT = Path(__file__).resolve().parents[2]

Run = Callable[..., tuple[int, str, str]]


def written(folder: Path, name: str, key: ec.EllipticCurvePrivateKey, secret: str = "") -> None:
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if secret:
        lock = serialization.BestAvailableEncryption(secret.encode())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, lock)
    (folder / name).write_bytes(private)
    public = key.public_key()
    shown = public.public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pub").write_bytes(shown)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("mine", "hers"):
        written(folder, name, ec.generate_private_key(ec.SECP256R1()))
    written(folder, "locked", ec.generate_private_key(ec.SECP256R1()), "open sesame")
    other = rsa.generate_private_key(65537, 2048)
    (folder / "rsa").write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder


@pytest.fixture(scope="module")
def signed(made: Ready, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Never to be changed."""
    target = tmp_path_factory.mktemp("signed") / "release"
    contents.release(
        made.offer(), target, sign=lambda folder: signature.sign(folder, keys / "mine")
    )
    return target


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def typed(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words])
        said = capsys.readouterr()
        return int(str(ended.value.code or 0)), said.out, said.err

    return typed


def copied(folder: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(folder, tmp_path / "copy"))


def line(out: str, check: str = "signature") -> str:
    return next(x for x in out.splitlines() if x.split()[1] == check)


def test_it_is_signed_and_says_by_whom(ready: Ready, keys: Path, run: Run) -> None:
    target = ready.folder / "out"
    words = ["release", ready.bundle, "--result", ready.parity, "--output", target, "--license-ok"]
    code, out, err = run(*words, "--sign", keys / "mine")
    assert (code, err) == (0, "")
    assert "not checked" in line(out)
    code, out, _ = run("verify", target, "--key", keys / "mine.pub", "--require-signature")
    assert code == 0
    assert line(out).startswith("✓ signature   signed by the owner of mine.pub, key ")


def test_a_signature_changes_nothing_else(made: Ready, signed: Path) -> None:
    names = {path.relative_to(signed) for path in signed.rglob("*") if path.is_file()}
    assert names - {Path("model.sig")} == {
        path.relative_to(made.release) for path in made.release.rglob("*") if path.is_file()
    }
    assert all(
        (signed / name).read_bytes() == (made.release / name).read_bytes()
        for name in names
        if name != Path("model.sig")
    )


def test_nobody_signed_it(made: Ready, keys: Path, run: Run) -> None:
    code, out, _ = run("verify", made.release)
    assert code == 0
    assert line(out).endswith("nobody signed it")
    for more in (["--require-signature"], ["--key", keys / "mine.pub"]):
        code, out, err = run("verify", made.release, *more)
        assert code == 1
        assert line(out).startswith("✗")
        assert "there is no model.sig" in line(out)
        assert len(err.splitlines()) == 1


def test_a_signature_alone_is_not_enough_where_one_is_required(signed: Path, run: Run) -> None:
    code, out, _ = run("verify", signed, "--require-signature")
    assert code == 1
    assert "name the public key with --key" in line(out)


def test_another_key(signed: Path, keys: Path, run: Run) -> None:
    code, out, _ = run("verify", signed, "--key", keys / "hers.pub")
    assert code == 1
    assert "the signature is not of this key" in line(out)


def spoil_licence(folder: Path) -> None:
    """Words, which no other check reads."""
    card = folder / "README.md"
    card.write_text(card.read_text().replace("# ", "# Trust me: ", 1))


def reverse_weights(folder: Path) -> None:
    edit(folder / "config.json", lambda found: found.update(sample_rate=8000))


def another_signature(folder: Path) -> None:
    edit(
        folder / "model.sig",
        lambda found: found["dsseEnvelope"].update(payload="e30="),
    )


def no_signature(folder: Path) -> None:
    (folder / "model.sig").write_text("{}")


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (spoil_licence, "the signature is over other files than these"),
        (reverse_weights, "the signature is over other files than these"),
        (another_signature, "the signature"),
        (no_signature, "model.sig is no signature of a release"),
    ],
)
def test_a_forger_who_made_every_hash_anew_is_refused(
    signed: Path, keys: Path, run: Run, tmp_path: Path, tamper: Callable[[Path], None], says: str
) -> None:
    forged = copied(signed, tmp_path)
    tamper(forged)
    sum_again(forged)
    code, out, err = run("verify", forged, "--key", keys / "mine.pub")
    assert code == 1
    assert line(out).startswith("✗")
    assert says in line(out)
    assert len(err.splitlines()) == 1


def test_a_file_that_came_later_is_refused(
    signed: Path, keys: Path, run: Run, tmp_path: Path
) -> None:
    forged = copied(signed, tmp_path)
    (forged / "parity" / "ladder.svg").unlink(missing_ok=True)
    sum_again(forged)
    code, out, _ = run("verify", forged, "--key", keys / "mine.pub")
    assert code == 1
    assert "over other files" in line(out)


def test_a_signature_that_leaves_files_out_is_refused(
    signed: Path, keys: Path, run: Run, tmp_path: Path
) -> None:
    """The owner may have made one so with the package itself; what it leaves out anybody forges."""
    import model_signing

    signing: Any = model_signing.signing
    hashing: Any = model_signing.hashing
    partly = copied(signed, tmp_path)
    (partly / "model.sig").unlink()
    left_out = ["model.sig", "README.md", "SHA256SUMS", "provenance.json"]
    signer = signing.Config().use_elliptic_key_signer(private_key=keys / "mine")
    signer.set_hashing_config(hashing.Config().set_ignored_paths(paths=left_out))
    signer.sign(partly, partly / "model.sig")
    spoil_licence(partly)
    sum_again(partly)
    code, out, _ = run("verify", partly, "--key", keys / "mine.pub")
    assert code == 1
    assert "over other files" in line(out)


def test_a_folder_may_be_named_from_where_one_is(
    signed: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(signed, tmp_path)
    monkeypatch.chdir(tmp_path)
    signature.sign(Path("copy"), keys / "hers")
    for folder in (Path("copy"), tmp_path / "copy"):
        assert signature.check(folder, keys / "hers.pub").startswith("signed by the owner of hers")


def test_the_extra_brings_what_signing_imports() -> None:
    """model-signing imports pyOpenSSL and does not ask for it: without it nothing can be signed."""
    without = "import sys; sys.modules['OpenSSL'] = None; import model_signing"
    needs = subprocess.run([sys.executable, "-c", without], capture_output=True).returncode != 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["optional-dependencies"]["sign"], *(metadata.requires("model-signing") or [])]
    assert not needs or "pyopenssl" in {Requirement(one).name.lower() for one in asked}


def test_the_hubs_links_are_followed(signed: Path, keys: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    for path in signed.rglob("*"):
        if path.is_file():
            place = snapshot / path.relative_to(signed)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path)
    assert signature.check(snapshot, keys / "mine.pub").startswith("signed by the owner of")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing", "no such key file"),
        ("rsa", "is no private key"),
        ("mine.pub", "is no private key"),
        ("locked", "is locked with a password"),
    ],
)
def test_keys_that_cannot_sign(ready: Ready, keys: Path, run: Run, name: str, says: str) -> None:
    words = ["release", ready.bundle, "--result", ready.parity, "--license-ok"]
    target = ready.folder / "out"
    code, _, err = run(*words, "--output", target, "--sign", keys / name)
    assert (code, len(err.splitlines())) == (2, 1)
    assert says in err
    assert not target.exists()


def test_a_private_key_checks_nothing(signed: Path, keys: Path, run: Run) -> None:
    code, _, err = run("verify", signed, "--key", keys / "mine")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "is no public key" in err


def test_without_the_package_it_is_named(
    signed: Path, keys: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    code, _, err = run("verify", signed, "--key", keys / "mine.pub")
    assert code == 2
    assert "pip install 'samevoice[sign]'" in err
    code, out, _ = run("verify", signed, "--json")
    assert code == 0
    said = {one["check"]: one["says"] for one in json.loads(out)["checks"]}
    assert said["signature"].endswith("not checked: --key PUBLIC does")
