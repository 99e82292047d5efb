"""release and verify: what goes out, and the checks of what came in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from samevoice.cli import streams, terminal
from samevoice.cli.options import (
    AsJson,
    Bundle,
    OnDevice,
    Overwrite,
    Revision,
    UsageError,
    argument,
    flag,
    option,
)
from samevoice.errors import NotPassedError

if TYPE_CHECKING:
    from samevoice.release.contents import Released
    from samevoice.release.terms import Accepted, Offer
    from samevoice.release.verify import Outcome


def release(
    bundle: Bundle,
    result: Annotated[
        list[Path] | None,
        option("RESULT", "Its result.json, or the folder that parity wrote; may be repeated."),
    ] = None,
    output: Annotated[Path | None, option("DIR", "Folder for the release.")] = None,
    upload_repo: Annotated[
        str | None, option("ID", "Upload it to ORG/NAME on the hub too.")
    ] = None,
    private: Annotated[bool, flag("--private", "Make that repository private.")] = False,
    gallery: Annotated[
        Path | None,
        option("FILE", "The JSON file that gallery wrote.", default="beside or above the results"),
    ] = None,
    accept_loosened: Annotated[
        list[str] | None, option("NAME", "Accept a loosened limit; each needs a --because.")
    ] = None,
    because: Annotated[
        list[str] | None, option("WHY", "Why it is accepted; the model card shows it.")
    ] = None,
    evaluation: Annotated[
        list[Path] | None,
        option("FILE", "The evaluation.json that a coarse embedding or --fast needs."),
    ] = None,
    fast: Annotated[bool, flag("--fast", "Offer the fast mode on the model card, too.")] = False,
    sign: Annotated[Path | None, option("KEY", "Sign with this private key (PEM).")] = None,
    certificate: Annotated[
        Path | None,
        option("CERT", "The key's certificate, then those up to the root, in one PEM file."),
    ] = None,
    license_ok: Annotated[
        bool, flag("--license-ok", "Confirm that the source's license allows the release.")
    ] = False,
    overwrite: Overwrite = False,
    dry_run: Annotated[bool, flag("--dry-run", "Check only; write nothing.")] = False,
) -> None:
    """Build a release of a bundle, if its results are green for exactly these bytes."""
    from samevoice.converters import bundle as bundles
    from samevoice.release import contents, terms

    _refuse_flags(output, upload_repo, private, dry_run)
    if certificate is not None and sign is None:
        raise UsageError("--certificate goes with --sign KEY")
    if output is not None and not dry_run:  # before anything is read
        bundles.refuse_existing(output, overwrite=overwrite, replaceable=contents.is_release)
    one = terms.offer(
        bundle,
        result or [],
        gallery=gallery,
        accepted=_accepted(accept_loosened or [], because or []),
        licence_ok=license_ok,
        fast=fast,
        evaluations=evaluation or [],
    )
    _refuse(one)
    signing = _signing(sign, certificate)
    if dry_run or output is None:
        green = ", ".join(f"{part.label} green" for part in one.parts)
        terminal.say(f"can be released: {bundle}, {green}; nothing was written")
        return
    made = contents.release(
        one, output, overwrite=overwrite, repo=upload_repo, sign=signing, check=_check
    )
    size, sums = made.nbytes / 1e6, made.sha256[:12]
    terminal.say(f"released {made.path}: {made.files} files, {size:.1f} MB, SHA256SUMS {sums}")
    if upload_repo is not None:
        _send(one, made, upload_repo, private)


def _refuse_flags(
    output: Path | None, upload_repo: str | None, private: bool, dry_run: bool
) -> None:
    if upload_repo is not None:
        from samevoice.release.upload import check_name

        check_name(upload_repo)
    elif private:
        raise UsageError("--private goes with --upload-repo")
    if output is None and not dry_run:
        raise UsageError("release needs --output DIR, or --dry-run")


def _signing(key: Path | None, certificate: Path | None) -> Callable[[Path], None]:
    if key is None:
        return lambda folder: None
    from samevoice.release import signature

    signature.refuse_unusable(key, certificate)
    return lambda folder: signature.sign(folder, key, certificate)


def _accepted(names: list[str], because: list[str]) -> list[Accepted]:
    from samevoice.release.terms import Accepted

    if len(names) != len(because):
        raise UsageError("each --accept-loosened NAME needs its own --because WHY")
    if any(not why.strip() for why in because):
        raise UsageError("--because is empty: say why the limit may be looser here")
    return [Accepted(name, why) for name, why in zip(names, because, strict=True)]


def _refuse(one: Offer) -> None:
    """Every reason in a line of its own; the first is the error's."""
    from samevoice.converters import bundle as bundles
    from samevoice.release.terms import RefusedError

    with bundles.understood(one.bundle, RefusedError):
        against = one.refusals
    for reason in against:
        terminal.marked(f"[red]refused[/]  [bold]{reason.term}[/]  ", _bounded(str(reason)))
    if against:
        several = f", for {len(against)} reasons, first" if len(against) > 1 else ""
        raise RefusedError(f"{one.bundle} is not released{several}: {against[0]}")


def _bounded(line: str) -> str:
    """Short enough for one line with the mark before it."""
    return streams.one_line(line, streams.LONGEST - 20)


def _check(folder: Path) -> None:
    """What anyone who downloads it will run, before the folder gets its name."""
    from samevoice.release.verify import verify as checks

    if not all(list(map(_shown, checks(folder)))):
        raise NotPassedError(
            "not released: it does not pass its own verification; see the lines marked ✗. "
            "Nothing was written"
        )


def _shown(one: Outcome) -> bool:
    mark = terminal.MARKS["broken" if not one.passed else "good" if one.checked else "missing"]
    terminal.marked(f"{mark}[bold]{one.name:<10}[/]  ", _bounded(one.says))
    return one.passed


def _send(one: Offer, made: Released, repo: str, private: bool) -> None:
    from samevoice.release.upload import upload

    with terminal.progress("uploading", in_bytes=True) as advance:
        sent = upload(
            made.path, repo, private=private, message=_message(one, made), progress=advance
        )
    kept = f", {sent.kept} of them there already" if sent.kept else ""
    terminal.say(f"uploaded {sent.url}: {sent.files} files{kept}, each read back")
    terminal.say(f"commit {sent.commit}")
    if sent.private and not private:
        terminal.note(f"{sent.repo} is private and stays private")


def _message(one: Offer, made: Released) -> str:
    """A title, and below it what this commit can be recognised by."""
    import samevoice

    lines = [
        f"samevoice {samevoice.__version__}: {one.kind}, sums {made.sha256[:12]}",
        "",
        f"SHA256SUMS {made.sha256}",
    ]
    lines += [f"{part.label} bundle {part.fingerprint}" for part in one.parts]
    lines += [f"{name} source {source['sha256']}" for name, source in one.sources.items()]
    return "\n".join(lines)


def verify(
    where: Annotated[str, argument("DIR_OR_REPO", "A release's folder, or ORG/NAME.")],
    revision: Revision = None,
    device: OnDevice = "auto",
    key: Annotated[
        Path | None, option("PUBLIC", "The public key (PEM) that must have signed it.")
    ] = None,
    certificate: Annotated[
        Path | None, option("ROOT", "Root certificates (PEM); one must vouch for who signed.")
    ] = None,
    require_signature: Annotated[
        bool, flag("--require-signature", "Refuse a release that nobody signed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check a release: hashes, verdicts, and a replay of PyTorch's outputs without PyTorch."""
    from samevoice.release.verify import verify as checks

    if key is not None and certificate is not None:
        raise UsageError("verify takes --key PUBLIC or --certificate ROOT, not both")
    folder, root = _found(where, revision)
    outcomes = checks(
        folder,
        root=root,
        device=device,
        key=key,
        certificate=certificate,
        signed=require_signature,
    )
    found = terminal.each(outcomes, _shown, as_json=as_json)
    passed = all(one.passed for one in found)
    if as_json:
        document = {"passed": passed, "checks": [one.as_dict() for one in found]}
        streams.echo_json(document)
    if not passed:
        raise NotPassedError(f"{where} is not what was released: see the lines marked ✗")


def _found(where: str, revision: str | None) -> tuple[Path, Path]:
    """The folder, and what its links may not lead out of."""
    path = Path(where)
    if path.is_dir():
        if revision is not None:
            raise UsageError(f"--revision goes with ORG/NAME, and {where} is a folder")
        return path, path
    if path.exists():
        raise UsageError(f"{where} is a file: name a release's folder, or ORG/NAME on the hub")
    from samevoice.release.upload import fetch

    snapshot = fetch(where, revision)
    # A snapshot in the hub's cache is made of links into blobs/ beside it.
    return snapshot, snapshot.parents[1]
