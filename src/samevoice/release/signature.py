"""Who made a release: a signature over all of its files, in OpenSSF's format for models.

Hashes prove that files belong together. Whoever makes everything anew makes the hashes anew, too;
a signature only the owner of the private key can make. The work is done by ``model-signing``.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

from samevoice.converters import bundle as bundles
from samevoice.converters.bundle import SIGNATURE
from samevoice.errors import MissingExtraError, SamevoiceError
from samevoice.files import read_json, refuse_special


class SignatureError(SamevoiceError):
    """A release cannot be signed, or its signature does not hold."""


class KeyFileError(SamevoiceError):
    """What was named is no such key or certificate."""


def sign(folder: Path, key: Path, certificate: Path | None = None) -> None:
    """Write the signature of everything in the folder, by a private key in PEM."""
    config = refuse_unusable(key, certificate)
    config.set_hashing_config(_hashing()).sign(folder, folder / SIGNATURE)


def refuse_unusable(key: Path, certificate: Path | None = None) -> Any:
    """What signs with this key; raises where a file or the package is missing or wrong."""
    config = _package().signing.Config()
    _refuse_missing(key)
    try:
        config.use_elliptic_key_signer(private_key=key)
    except Exception as error:
        raise KeyFileError(_no_key(key, "private", error)) from error
    if certificate is None:
        return config
    _refuse_missing(certificate)
    try:
        # The first in the file signs; that it is then in the chain twice does no harm.
        return config.use_certificate_signer(
            private_key=key, signing_certificate=certificate, certificate_chain=[certificate]
        )
    except Exception as error:
        other = "does not match" in str(error)
        why = f"starts with a certificate of another key than {key}" if other else _NO_CERTIFICATE
        raise KeyFileError(f"{certificate} {why}") from error


def check(folder: Path, key: Path) -> str:
    """Who signed, once the signature is that key's and is over these very files."""
    verifying = _package().verifying
    _refuse_missing(key)
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)
    except Exception as error:
        raise KeyFileError(_no_key(key, "public", error)) from error
    _refuse_others(folder, config)
    return f"signed by the owner of {key.name}, {named(folder)}"


def check_certificate(folder: Path, roots: Path) -> str:
    """Who signed, once a root vouches for the certificate and it is over these very files."""
    verifying = _package().verifying
    _refuse_missing(roots)
    try:
        config = verifying.Config().use_certificate_verifier(certificate_chain=[roots])
    except Exception as error:
        raise KeyFileError(f"{roots} {_NO_CERTIFICATE}") from error
    _refuse_others(folder, config)
    from cryptography import x509

    material = read_json(folder / SIGNATURE, SignatureError)["verificationMaterial"]
    who = x509.load_der_x509_certificate(_certificate(material)).subject.rfc4514_string()
    return f"signed by {who or 'nobody by name'}, {named(folder)}, below a root in {roots.name}"


def _refuse_others(folder: Path, config: Any) -> None:
    # In the hub's cache files are links; where those lead is checked before this.
    config.set_hashing_config(_hashing().set_allow_symlinks(True))
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it warns there of older formats
            config.verify(folder, folder / SIGNATURE)
    except Exception as error:
        raise SignatureError(_broken(error, folder)) from error


def named(folder: Path) -> str:
    """The key or certificate that the signature names, by its sha256; nothing is proven yet."""
    found = read_json(folder / SIGNATURE, SignatureError)
    try:
        material = found["verificationMaterial"]
        if "publicKey" in material:
            return f"key {str(material['publicKey']['hint'])[:12]}"
        return f"certificate {hashlib.sha256(_certificate(material)).hexdigest()[:12]}"
    except (KeyError, TypeError, IndexError, ValueError):
        why = "names neither a key nor a certificate: sign again with one"
        raise SignatureError(f"{SIGNATURE} {why}") from None


def _certificate(material: Any) -> bytes:
    return base64.b64decode(material["x509CertificateChain"]["certificates"][0]["rawBytes"])


def _package() -> ModuleType:
    try:
        import model_signing
    except ImportError as error:
        raise MissingExtraError("model-signing, which makes and checks signatures,", "sign") from (
            error
        )
    # What it logs would come out on standard error, beside the one line.
    logging.getLogger("model_signing").addHandler(logging.NullHandler())
    return model_signing


def _hashing() -> Any:
    """Every file but the signature, and what the hub and its client put there."""
    import model_signing

    config: Any = model_signing.hashing.Config()  # type: ignore[no-untyped-call]
    # A signature may name files that it leaves out. Whoever signs a release leaves out none.
    config.add_ignored_paths = lambda **named: None
    return config.set_ignored_paths(paths=(SIGNATURE, *bundles.FOREIGN), ignore_git_paths=False)


def _refuse_missing(key: Path) -> None:
    refuse_special(key, KeyFileError)
    if not key.is_file():
        raise KeyFileError(f"{key}: no such key file")


_NO_CERTIFICATE = "holds no certificate in PEM (docs/releasing.md says how to make one)"


def _no_key(key: Path, kind: str, error: Exception) -> str:
    locked = "password" in str(error).lower()
    why = "is locked with a password" if locked else f"is no {kind} key"
    return (
        f"{key} {why}: give one in PEM on the curve P-256, P-384 or P-521, without a password "
        "(docs/releasing.md says how to make it)"
    )


def _broken(error: Exception, folder: Path) -> str:
    said = str(error)
    kind = type(error).__name__
    if "Key mismatch" in said or kind == "AttributeError":  # a key, and not a certificate, or so
        return f"the signature is not of this key or root, but names {named(folder)}"
    if kind == "InvalidSignature":
        return f"the signature was not made with what it names, {named(folder)}"
    if "Signature mismatch" in said:
        return "the signature is over other files than these"
    if kind == "X509StoreContextError":
        return f"no root that you named vouches for {named(folder)}: {error}"
    if "cannot be used for signing" in said:
        return f"{named(folder)} is none for signatures: it needs the key usage digitalSignature"
    return f"{SIGNATURE} is no signature of a release"
