"""The commands that let a bundle out, and those that check what came in: release and verify."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samevoice import streams
from samevoice.comparing import Device, UsageError
from samevoice.errors import NotPassedError

if TYPE_CHECKING:
    from rich.console import Console

    from samevoice.release.contents import Released
    from samevoice.release.terms import Accepted, Offer


def release(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="What convert made.")],
    result: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RESULT", help="A result.json of it, or what parity wrote; as often as needed."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the release goes.")
    ] = None,
    upload_repo: Annotated[
        str | None,
        typer.Option("--upload-repo", metavar="ID", help="Send it to ORG/NAME on the hub, too."),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make that repository a private one.")
    ] = False,
    gallery: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The gallery's JSON. [dim]\\[default: beside or above the results][/]",
        ),
    ] = None,
    accept_loosened: Annotated[
        list[str] | None,
        typer.Option(
            "--accept-loosened",
            metavar="NAME",
            help="Answer for a loosened limit; each with its own --because.",
        ),
    ] = None,
    because: Annotated[
        list[str] | None,
        typer.Option("--because", metavar="WHY", help="Why; it stands in the card."),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option("--sign", metavar="KEY", help="Sign it with this private key, in PEM."),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--certificate",
            metavar="CERT",
            help="With --sign: the key's certificate, and below it those up to the root, in PEM.",
        ),
    ] = None,
    license_ok: Annotated[
        bool,
        typer.Option("--license-ok", help="You read the source's terms, and they allow this."),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a release that is there.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say whether it may leave; write and send nothing.")
    ] = False,
) -> None:
    """Make a release of a bundle, if the harness was green for exactly these bytes."""
    from samevoice import terminal
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
    )
    console = terminal.console()
    _refuse(console, one)
    signing = _signing(sign, certificate)
    if dry_run or output is None:
        terminal.say(console, f"may leave: {bundle}, {_parts(one)}; nothing was written")
        return
    made = contents.release(
        one,
        output,
        overwrite=overwrite,
        repo=upload_repo,
        sign=signing,
        check=lambda folder: _check(console, folder),
    )
    terminal.say(
        console,
        f"released {made.path}: {made.files} files, {made.nbytes / 1e6:.1f} MB, "
        f"SHA256SUMS {made.sha256[:12]}",
    )
    if upload_repo is not None:
        _send(console, one, made, upload_repo, private)


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


def _refuse(console: Console, one: Offer) -> None:
    """Every reason in a line of its own; the first is the error's."""
    from samevoice import terminal
    from samevoice.converters import bundle as bundles
    from samevoice.release.terms import RefusedError

    with bundles.understood(one.bundle, RefusedError):
        against = one.refusals
    for reason in against:
        console.print(f"[red]refused[/]  [bold]{reason.term}[/]  ", end="")
        terminal.say(console, streams.one_line(str(reason), streams.LONGEST - 20))
    if len(against) == 1:
        raise RefusedError(f"{one.bundle} is not released: {against[0]}")
    if against:
        raise RefusedError(
            f"{one.bundle} is not released, for {len(against)} reasons, first: {against[0]}"
        )


def _parts(one: Offer) -> str:
    return ", ".join(f"{part.label} green" for part in one.parts)


def _check(console: Console, folder: Path) -> None:
    """What whoever downloads it will run, before it gets its name."""
    if not _checked(console, folder):
        raise NotPassedError(
            "not released: it does not pass its own verification; see the lines marked ✗, "
            "nothing was written"
        )


def _checked(console: Console, folder: Path, **asked: Any) -> bool:
    from samevoice import terminal
    from samevoice.release.verify import verify as checks

    sound = True
    for one in checks(folder, **asked):
        sound = sound and one.passed
        mark = terminal.MARKS["broken" if not one.passed else "good" if one.checked else "missing"]
        console.print(f"{mark} [bold]{one.name:<10}[/]  ", end="")
        terminal.say(console, streams.one_line(one.says, streams.LONGEST - 20))
    return sound


def _send(console: Console, one: Offer, made: Released, repo: str, private: bool) -> None:
    from samevoice import terminal
    from samevoice.release.upload import upload

    with terminal.progress("sending", in_bytes=True) as advance:
        sent = upload(
            made.path, repo, private=private, message=_message(one, made), progress=advance
        )
    kept = f", {sent.kept} of them there already" if sent.kept else ""
    terminal.say(console, f"sent {sent.url}: {sent.files} files{kept}, every one read back")
    terminal.say(console, f"commit {sent.commit}")
    if sent.private and not private:
        terminal.note(console, f"{sent.repo} is private, and stays so")


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
    where: Annotated[
        str, typer.Argument(metavar="DIR_OR_REPO", help="A release's folder, or ORG/NAME.")
    ],
    revision: Annotated[
        str | None, typer.Option(metavar="R", help="Branch, tag or commit on the hub.")
    ] = None,
    device: Annotated[
        Device, typer.Option(help="What MLX replays on; nothing else depends on it.")
    ] = Device.auto,
    key: Annotated[
        Path | None,
        typer.Option(
            "--key", metavar="PUBLIC", help="The public key, in PEM, that must have signed."
        ),
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--certificate",
            metavar="ROOT",
            help="The root certificates, in PEM, one of which must vouch for who signed.",
        ),
    ] = None,
    require_signature: Annotated[
        bool, typer.Option("--require-signature", help="Refuse what nobody signed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check a release: hashes, verdicts, and PyTorch's outputs replayed here without PyTorch."""
    from samevoice import terminal

    if key is not None and certificate is not None:
        raise UsageError("verify takes --key PUBLIC or --certificate ROOT, and not both")
    folder, root = _found(where, revision)
    asked = {"root": root, "device": device.value, "key": key, "signed": require_signature}
    asked |= {"certificate": certificate}
    run = _as_json if as_json else partial(_checked, terminal.console())
    if not run(folder, **asked):
        raise NotPassedError(f"{where} is not what was released: see the lines marked ✗")


def _as_json(folder: Path, **asked: Any) -> bool:
    from samevoice.release.verify import verify as checks

    found = list(checks(folder, **asked))
    document: dict[str, Any] = {
        "passed": all(one.passed for one in found),
        "checks": [one.as_dict() for one in found],
    }
    streams.echo(json.dumps(document, indent=2))
    return bool(document["passed"])


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
