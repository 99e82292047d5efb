"""Who made a release: a signature over all of its files, in OpenSSF's format for models.

Hashes prove that files belong together. Whoever makes everything anew makes the hashes anew, too;
a signature only the owner of the private key can make. The work is done by ``model-signing``.
"""

from __future__ import annotations

import contextlib
import io
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
    """What was named is no such key."""


def sign(folder: Path, key: Path) -> None:
    """Write the signature of everything in the folder, by a private key in PEM."""
    config = refuse_unusable(key)
    config.set_hashing_config(_hashing()).sign(folder, folder / SIGNATURE)


def refuse_unusable(key: Path) -> Any:
    """What signs with this key; raises where the key or the package is missing or wrong."""
    signing = _package().signing
    _refuse_missing(key)
    try:
        return signing.Config().use_elliptic_key_signer(private_key=key)
    except Exception as error:
        raise KeyFileError(_no_key(key, "private", error)) from error


def check(folder: Path, key: Path) -> str:
    """Who signed, once the signature is that key's and is over these very files."""
    verifying = _package().verifying
    _refuse_missing(key)
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=key)
    except Exception as error:
        raise KeyFileError(_no_key(key, "public", error)) from error
    # In the hub's cache files are links; where those lead is checked before this.
    config.set_hashing_config(_hashing().set_allow_symlinks(True))
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it warns there of older formats
            config.verify(folder, folder / SIGNATURE)
    except Exception as error:
        raise SignatureError(_broken(error, folder)) from error
    return f"signed by the owner of {key.name}, key {fingerprint(folder)}"


def fingerprint(folder: Path) -> str:
    """The sha256 of the public key that the signature names, shortened; nothing is proven yet."""
    found = read_json(folder / SIGNATURE, SignatureError)
    try:
        return str(found["verificationMaterial"]["publicKey"]["hint"])[:12]
    except (KeyError, TypeError):
        raise SignatureError(f"{SIGNATURE} names no key: sign again with a key") from None


def _package() -> ModuleType:
    try:
        import model_signing
    except ImportError as error:
        raise MissingExtraError("model-signing, which makes and checks signatures,", "sign") from (
            error
        )
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


def _no_key(key: Path, kind: str, error: Exception) -> str:
    locked = "password" in str(error).lower()
    why = "is locked with a password" if locked else f"is no {kind} key"
    return (
        f"{key} {why}: give one in PEM on the curve P-256, P-384 or P-521, without a password "
        "(docs/releasing.md says how to make it)"
    )


def _broken(error: Exception, folder: Path) -> str:
    said = str(error)
    if "Key mismatch" in said or type(error).__name__ == "InvalidSignature":
        return f"the signature is not of this key, but names {fingerprint(folder)}"
    if "Signature mismatch" in said:
        return "the signature is over other files than these"
    return f"{SIGNATURE} is no signature of a release"
