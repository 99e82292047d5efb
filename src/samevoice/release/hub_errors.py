"""What the hub, or the way to it, has against an upload: as one sentence with what to do."""

from __future__ import annotations

import re
import tempfile

from samevoice.converters.reading import hub
from samevoice.errors import SamevoiceError

# What is wrong, and what to do.
SENTENCES = {
    "bad token": "the hub refuses the token for {repo!r} (401): {login}",
    "no right": "the hub forbids {doing} {repo!r} (403): give the token the right to write in "
    "{org!r} at https://huggingface.co/settings/tokens, or choose another name",
    "gone": "the hub shows no {repo!r} (404) any more: somebody removed it, or the token lost its "
    "right; look at https://huggingface.co/{org} and run again",
    "taken": "{repo!r} is taken, and the token may not see it (409): choose another name, or "
    "give the token that right at https://huggingface.co/settings/tokens",
    "changed": "somebody changed {repo!r} meanwhile ({status}): look at what it holds now, and run "
    "again",
    "bad card": "the hub refuses the README.md ({said}): mend its front matter and release again",
    "busy": "the hub is busy or broken ({status}) while {doing} {repo!r}: run the same command "
    "again in a few minutes, what has arrived is not sent again",
    "storage": "the hub's storage refuses {what!r} of {repo!r} ({status}): run the same command "
    "again, what has arrived is not sent again",
    "refused": "the hub refuses {doing} {repo!r} ({status}: {said}): mend that and run again",
    "xet": "the hub's Xet storage refuses {what!r} of {repo!r} ({status}): set "
    "HF_HUB_DISABLE_XET=1, which sends it the older way, and run the same command again",
    "offline": "HF_HUB_OFFLINE is set, and an upload needs the hub: unset it and run again",
    "no network": "no network: {host} cannot be reached ({reason}): connect and run again",
    "no hub": "{host} does not answer as a Hugging Face hub ({why}): check HF_ENDPOINT and proxies",
    "cut": "the connection broke while sending {what!r} to {repo!r}: run the same command again, "
    "what has arrived is not sent again",
    "cut back": "all of {repo!r} is sent, but the connection broke while {what!r} was read back: "
    "run the same command again to have it compared, what has arrived is not sent again",
    "lost": "{repo!r} has no {what!r} at the commit just made: run the same command again, and "
    "look for a .gitignore there should it stay so",
    "disk full": "all of {repo!r} is sent, but the disk is full: no room to read {what!r} back "
    "into {temporary!r}: make some, or set TMPDIR to a folder on another disk, and run the same "
    "command again",
    "failed": "{doing} {repo!r} failed at {what!r} ({why}): run the same command again, what has "
    "arrived is not sent again; HF_HUB_DISABLE_XET=1 has it sent the older way",
}


class UploadError(SamevoiceError):
    """A release cannot be sent to the hub, or is not there as it was sent."""


def explained(
    error: Exception, repo: str, doing: str, file: str | None, secret: str
) -> UploadError:
    """The client's error as a sentence; ``doing`` is what was under way."""
    from huggingface_hub import errors

    error, stored = _unwrapped(error)
    file = stored or file
    answer = error.response if isinstance(error, errors.HfHubHTTPError) else None
    status = answer.status_code if answer is not None else 0
    if not status and (status := _xet_status(error)):
        kind = _xet_answer(status)
    elif status:
        kind = _answer(error, status, doing, stored=bool(stored))
    else:
        kind = _silence(error, doing, file)
    return UploadError(
        SENTENCES[kind].format(
            repo=repo,
            org=repo.partition("/")[0],
            what=file or "the commit",
            doing=doing,
            status=status,
            said=_said(error, secret),
            host=hub.host(),
            temporary=tempfile.gettempdir(),
            why=type(error).__name__,
            reason=hub.reason_of(error, secret),
            login=hub.LOGIN,
        )
    )


def _said(error: Exception, secret: str) -> str:
    """The hub's own words, in one line that cannot colour a terminal."""
    given = getattr(error, "server_message", None) or str(error)
    text = " ".join(str(given).replace(secret, "***").split())
    return "".join(letter for letter in text if letter.isprintable())[:200]


def _unwrapped(error: Exception) -> tuple[Exception, str]:
    """What stopped the client, and the large file whose content it was sending then, or ""."""
    found = re.search(r"while uploading '(.+)' to the Hub", str(error))
    if found and isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
        return error.__cause__, found[1]
    return hub.unwrapped(error), ""


def _answer(error: Exception, status: int, doing: str, *, stored: bool) -> str:
    """The hub did answer, and the answer was no."""
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError

    if status == 429 or status >= 500:
        return "busy"
    if stored:
        return "storage"
    if status == 401 and not isinstance(error, GatedRepoError):
        return "bad token"
    if isinstance(error, EntryNotFoundError) and doing == "reading back":
        return "lost"
    if status in (409, 412):
        return "taken" if doing == "making" else "changed"
    return {401: "no right", 403: "no right", 404: "gone"}.get(status, "refused")


def _xet_status(error: Exception) -> int:
    """The client for Xet storage puts the status into the text of a plain ConnectionError."""
    found = re.search(r"HTTP status \w+ error \((\d{3})", str(error))
    return int(found[1]) if found and isinstance(error, OSError) else 0


def _xet_answer(status: int) -> str:
    if status == 429 or status >= 500:
        return "busy"
    return {401: "bad token", 403: "no right"}.get(status, "xet")


def _silence(error: Exception, doing: str, file: str | None) -> str:
    """No answer, half an answer, one that makes no sense, or no room for it."""
    if isinstance(error, ValueError) and "metadata in README.md" in str(error):
        return "bad card"
    kind = hub.silence(error, file)
    if kind in ("cut", "no network"):
        return {"sending to": "cut", "writing to": "cut", "reading back": "cut back"}.get(
            doing, "no network"
        )
    if kind == "disk full" and doing != "reading back":
        return "failed"
    if kind == "failed" and doing in ("looking at", "making"):
        return "no hub"
    return kind if kind in SENTENCES else "failed"
