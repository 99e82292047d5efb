"""Signatures: what a forger cannot make anew, however many hashes he makes."""

from __future__ import annotations

import base64
import datetime
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from made_release import Ready, edit, sum_again
from packaging.requirements import Requirement

from samevoice import cli
from samevoice.release import contents, signature

pytestmark = pytest.mark.long

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


Issued = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def issued(name: str, above: Issued | None = None, *, may_sign: bool = True) -> Issued:
    """A certificate in this name, by the one above it or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    by, by_key = (above[0].subject, above[1]) if above else (subject, key)
    start = datetime.datetime(2026, 1, 1)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "crl_sign",
         "encipher_only", "decipher_only"), False
    )  # fmt: skip
    authority = name.endswith("CA")
    made = (
        x509.CertificateBuilder(by, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(365))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=may_sign,
                key_agreement=not may_sign,
                key_cert_sign=authority,
                **usage,
            ),
            critical=True,
        )
    )
    return made.sign(by_key, hashes.SHA256()), key


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root CA, Office CA below it; Ana by the office, Bea by the root; and Other CA."""
    folder = tmp_path_factory.mktemp("authority")
    root, other = issued("Root CA"), issued("Other CA")
    office = issued("Office CA", root)
    chains = {
        "root": [root],
        "other": [other],
        "ana": [issued("Ana", office), office],
        "bea": [issued("Bea", root)],
        "mallory": [issued("Ana", other)],
        "guest": [issued("Guest", root, may_sign=False)],
        "child": [issued("Child", issued("Bea", root))],  # Bea is no authority
    }
    for name, chain in chains.items():
        pem = b"".join(one.public_bytes(serialization.Encoding.PEM) for one, _ in chain)
        (folder / f"{name}.pem").write_bytes(pem)
        written(folder, f"{name}.key", chain[0][1])
    return folder


def by(name: str, release: Path, authority: Path, tmp_path: Path) -> Path:
    """A copy that this one signed with a certificate."""
    copy = copied(release, tmp_path / name)
    signature.sign(copy, authority / f"{name}.key", authority / f"{name}.pem")
    return copy


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
    assert line(out).startswith("– signature   signed by key ")
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
    assert line(out) == "– signature   nobody signed it"
    code, out, _ = run("verify", made.release, "--json")
    said = {one["check"]: one for one in json.loads(out)["checks"]}
    assert (said["signature"]["passed"], said["signature"]["checked"]) == (True, False)
    assert said["files"]["checked"] is True
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
    assert said["signature"].endswith("not checked: --key PUBLIC or --certificate ROOT does")


def test_a_certificate_says_who_signed(ready: Ready, keys: Path, authority: Path, run: Run) -> None:
    target = ready.folder / "out"
    words = ["release", ready.bundle, "--result", ready.parity, "--output", target, "--license-ok"]
    pair = ["--sign", authority / "ana.key", "--certificate", authority / "ana.pem"]
    code, out, err = run(*words, *pair)
    assert (code, err) == (0, "")
    assert line(out).startswith("– signature   signed by certificate ")
    trust = ["--certificate", authority / "root.pem"]
    code, out, err = run("verify", target, *trust, "--require-signature")
    assert (code, err) == (0, "")
    assert line(out).startswith("✓ signature   signed by CN=Ana, certificate ")
    assert line(out).endswith("below a root in root.pem")
    for says, more in (
        ("no root that you named vouches", ["--certificate", authority / "other.pem"]),
        ("is not of this key or root, but names certificate", ["--key", keys / "mine.pub"]),
        ("or a certificate's root with --certificate", ["--require-signature"]),
    ):
        code, out, err = run("verify", target, *more)
        assert (code, len(err.splitlines())) == (1, 1)
        assert line(out).startswith("✗")
        assert says in line(out)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mallory", "no root that you named vouches"),  # who calls himself Ana
        ("child", "no root that you named vouches"),
        ("guest", "it needs the key usage digitalSignature"),
    ],
)
def test_a_certificate_that_proves_nothing(
    made: Ready, authority: Path, run: Run, tmp_path: Path, name: str, says: str
) -> None:
    forged = by(name, made.release, authority, tmp_path)
    code, out, err = run("verify", forged, "--certificate", authority / "root.pem")
    assert (code, len(err.splitlines())) == (1, 1)
    assert line(out).startswith("✗")
    assert says in line(out)


def show_ana(material: dict[str, Any], ana: dict[str, Any]) -> None:
    """Her certificate in place of that of who signed."""
    material["x509CertificateChain"] = ana


def show_ana_first(material: dict[str, Any], ana: dict[str, Any]) -> None:
    material["x509CertificateChain"]["certificates"][:0] = ana["certificates"]


def show_ana_beside(material: dict[str, Any], ana: dict[str, Any]) -> None:
    """The package takes this spelling, too."""
    material["x509_certificate_chain"] = material["x509CertificateChain"]
    material["x509CertificateChain"] = ana


def show_ana_under_another_name(material: dict[str, Any], ana: dict[str, Any]) -> None:
    material["x509_certificate_chain"] = ana


@pytest.mark.parametrize(
    "tamper", [show_ana, show_ana_first, show_ana_beside, show_ana_under_another_name]
)
def test_nobody_signs_in_the_name_of_another_below_the_same_root(
    made: Ready,
    authority: Path,
    run: Run,
    tmp_path: Path,
    tamper: Callable[[dict[str, Any], dict[str, Any]], None],
) -> None:
    forged = by("bea", made.release, authority, tmp_path)
    code, out, _ = run("verify", forged, "--certificate", authority / "root.pem")
    assert (code, "signed by CN=Bea, " in line(out)) == (0, True)
    hers = x509.load_pem_x509_certificates((authority / "ana.pem").read_bytes())
    coded = [base64.b64encode(one.public_bytes(serialization.Encoding.DER)) for one in hers]
    ana = {"certificates": [{"rawBytes": one.decode()} for one in coded]}
    edit(forged / "model.sig", lambda found: tamper(found["verificationMaterial"], ana))
    code, out, _ = run("verify", forged, "--certificate", authority / "root.pem")
    assert code == 1
    assert line(out).startswith("✗")


def test_a_key_signed_where_a_certificate_is_wanted(
    signed: Path, authority: Path, run: Run
) -> None:
    code, out, _ = run("verify", signed, "--certificate", authority / "root.pem")
    assert code == 1
    assert "is not of this key or root, but names key" in line(out)


def test_a_certified_release_that_was_changed(
    made: Ready, authority: Path, run: Run, tmp_path: Path
) -> None:
    forged = by("bea", made.release, authority, tmp_path)
    spoil_licence(forged)
    sum_again(forged)
    code, out, _ = run("verify", forged, "--certificate", authority / "root.pem")
    assert code == 1
    assert "over other files" in line(out)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--sign", "bea.key", "--certificate", "ana.pem"], "certificate of another key than"),
        (["--sign", "bea.key", "--certificate", "bea.key"], "holds no certificate in PEM"),
        (["--sign", "bea.key", "--certificate", "missing"], "no such key file"),
        (["--certificate", "bea.pem"], "--certificate goes with --sign"),
    ],
)
def test_certificates_that_cannot_sign(
    ready: Ready,
    authority: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(authority)
    target = ready.folder / "out"
    parts = ["release", ready.bundle, "--result", ready.parity, "--license-ok", "--output", target]
    code, _, err = run(*parts, *words)
    assert (code, len(err.splitlines())) == (2, 1)
    assert says in err
    assert not target.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--certificate", "bea.key"], "holds no certificate in PEM"),
        (["--certificate", "bea.pem", "--key", "bea.key.pub"], "not both"),
    ],
)
def test_what_no_release_can_be_checked_with(
    signed: Path,
    authority: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(authority)
    code, _, err = run("verify", signed, *words)
    assert (code, len(err.splitlines())) == (2, 1)
    assert says in err
