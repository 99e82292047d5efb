"""A small Hugging Face hub on 127.0.0.1, for the real client to talk to.

It speaks the part of the protocol that a download needs: repository info, HEAD and GET of a file
at a revision, large files on a second origin as the real hub has them, ranges, and the error codes
that the client tells apart. Point ``HF_ENDPOINT`` at ``Hub.url``. Xet is not offered.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from urllib.parse import unquote, urlsplit

Files = Mapping[str, bytes]
LARGE = (".bin", ".safetensors", ".ckpt", ".npz")  # what the real hub keeps in LFS


@dataclass(frozen=True)
class Request:
    """One request as it came in; header names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass
class Repo:
    """A repository: the files of each commit, and the branches that point at them."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    readers: set[str] | None = None  # the tokens that see it at all; None: everybody
    licensed: set[str] | None = None  # the tokens that may fetch files; None: not gated
    lost: set[str] = field(default_factory=set)  # listed, and not there
    status: int | None = None  # answer everything with this
    file_status: int | None = None  # answer for files with this
    page: bytes | None = None  # what is sent as its info, as a captive portal does

    def push(self, files: Files, branch: str = "main") -> str:
        content = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
        text = json.dumps([len(self.commits), content])
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.commits[commit] = dict(files)
        self.branches[branch] = commit
        return commit


@dataclass
class Cut:
    """Break the connection after so many bytes of a body, a number of times."""

    after: int
    times: int


class Hub:
    """``with Hub({"org/model": {"pytorch_model.bin": b"..."}}) as hub: ... hub.url ...``"""

    def __init__(self, repos: Mapping[str, Files]) -> None:
        self.repos: dict[str, Repo] = {}
        for name, files in repos.items():
            self.add(name, files)
        self.requests: list[Request] = []
        self.tokens: set[str] | None = None  # the tokens that are any good; None: all
        self.cuts: dict[str, Cut] = {}  # by file name
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self

    def __enter__(self) -> Hub:
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def cdn(self) -> str:
        """The same server under another origin, which must never see a token."""
        return f"http://localhost:{self._server.server_port}/cdn"

    def add(self, name: str, files: Files) -> Repo:
        self.repos[name] = Repo()
        self.repos[name].push(files)
        return self.repos[name]

    def commit(self, repo: str, branch: str = "main") -> str:
        return self.repos[repo].branches[branch]

    def cut(self, file: str, after: int, times: int = 1) -> None:
        self.cuts[file] = Cut(after, times)

    def seen(self, method: str, part: str = "") -> list[Request]:
        """The requests so far with this method and ``part`` in their path."""
        return [r for r in self.requests if r.method == method and part in r.path]

    def fetched(self) -> list[str]:
        """The base names of the files whose content was asked for, in order."""
        paths = (urlsplit(r.path).path for r in self.requests if r.method == "GET")
        files = (path for path in paths if path.startswith("/cdn/") or "/resolve/" in path)
        return [file.rpartition("/")[2] for file in files]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), OSError):  # clients may hang up
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@dataclass
class _Refusal(Exception):
    """An answer that is an error, with the code by which the client knows it."""

    status: int
    code: str
    message: str


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        hub = self.server.hub
        headers = {name.lower(): value for name, value in self.headers.items()}
        hub.requests.append(Request(self.command, self.path, headers))
        path = unquote(urlsplit(self.path).path)
        try:
            self._route(hub, path)
        except _Refusal as no:
            known = {"X-Error-Code": no.code, "X-Error-Message": no.message}
            body = json.dumps({"error": no.message}).encode()
            self._send(no.status, body, {k: v for k, v in known.items() if v})

    def _route(self, hub: Hub, path: str) -> None:
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            repo, _ = self._open(hub, found[1])
            self._info(found[1], repo, found[2] or "main")
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(hub, found[1], found[2], found[3])
        elif found := re.fullmatch(r"/cdn/([^/]+/[^/]+)/([^/]+)/(.+)", path):
            data = hub.repos[found[1]].commits[found[2]][found[3]]
            self._send_file(hub, found[3], data, {})
        else:
            raise _Refusal(404, "", "no such route")

    def _info(self, name: str, repo: Repo, revision: str) -> None:
        if repo.page is not None:
            self._send(200, repo.page, {"Content-Type": "text/html"})
            return
        commit = self._commit(repo, revision)
        files = [{"rfilename": file} for file in sorted(repo.commits[commit])]
        info = {"id": name, "sha": commit, "siblings": files, "gated": repo.licensed is not None}
        self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _resolve(self, hub: Hub, name: str, revision: str, file: str) -> None:
        repo, token = self._open(hub, name)
        if repo.licensed is not None and token not in repo.licensed:
            status = 403 if token else 401
            raise _Refusal(status, "GatedRepo", f"Access to model {name} is restricted.")
        if repo.file_status is not None:
            raise _Refusal(repo.file_status, "", "told to")
        commit = self._commit(repo, revision)
        if file not in repo.commits[commit] or file in repo.lost:
            raise _Refusal(404, "EntryNotFound", "Entry not found")
        data = repo.commits[commit][file]
        headers = {"X-Repo-Commit": commit}
        if not file.endswith(LARGE):
            headers["ETag"] = f'"{hashlib.sha1(data).hexdigest()}"'
            self._send_file(hub, file, data, headers)
            return
        headers["X-Linked-ETag"] = f'"{hashlib.sha256(data).hexdigest()}"'
        headers["X-Linked-Size"] = str(len(data))
        headers["Location"] = f"{hub.cdn}/{name}/{commit}/{file}"
        self._send(302, b"", headers)

    def _open(self, hub: Hub, name: str) -> tuple[Repo, str]:
        """The repository and the token, if the one may be seen with the other."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and hub.tokens is not None and token not in hub.tokens:
            raise _Refusal(401, "", "Invalid credentials in Authorization header")
        repo = hub.repos.get(name)
        if repo is None or (repo.readers is not None and token not in repo.readers):
            # The real hub does not say "not found" to strangers: it might be private.
            raise _Refusal(404 if token else 401, "RepoNotFound", "Repository not found")
        if repo.status is not None:
            raise _Refusal(repo.status, "", "told to")
        return repo, token

    def _commit(self, repo: Repo, revision: str) -> str:
        commit = repo.branches.get(revision, revision)
        if commit not in repo.commits:
            raise _Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def _send_file(self, hub: Hub, file: str, data: bytes, headers: dict[str, str]) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        headers = {**headers, "Accept-Ranges": "bytes"}
        start = int(wanted[1]) if wanted else 0
        if wanted and start >= len(data):
            raise _Refusal(416, "", "Range Not Satisfiable")
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(206 if wanted else 200, data[start:], headers, hub.cuts.get(file))

    def _send(
        self, status: int, body: bytes, headers: Mapping[str, str], cut: Cut | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut is None or cut.times == 0:
            self.wfile.write(body)
            return
        cut.times -= 1
        self.wfile.write(body[: cut.after])
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
