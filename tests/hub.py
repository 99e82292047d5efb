"""A small Hugging Face hub on 127.0.0.1, for the real client to talk to.

It speaks the part of the protocol that a download needs: repository info, HEAD and GET of a file
at a revision, large files on a second origin as the real hub has them, ranges, and the error codes
that the client tells apart; and the part that an upload needs: making a repository, asking how each
file is to be sent, large files in one piece or in parts to the second origin, and the commit. Point
``HF_ENDPOINT`` at ``Hub.url``. Xet is not offered: to upload, set ``HF_HUB_DISABLE_XET``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any
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
    card: object = None  # the card's data in its info, as the real hub reads it from README.md
    private: bool = False
    writers: set[str] | None = None  # the tokens that may commit; None: all of them
    messages: dict[str, tuple[str, str]] = field(default_factory=dict)  # by commit

    @property
    def now(self) -> dict[str, bytes]:
        return self.commits[self.branches["main"]]

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
        self.cuts: dict[str, Cut] = {}  # by file name; of what comes in, by sha256
        self.creators: set[str] | None = None  # the tokens that may make repositories; None: all
        self.large: dict[str, bytes] = {}  # the store of large files, by sha256
        self.arrived: list[tuple[str, int]] = []  # each PUT: sha256, bytes that came
        self.part_size: int | None = None  # large files above it come in parts
        self.spoiled: set[str] = set()  # "org/model/file": is kept with another last byte
        self.out_of_order: dict[str, int] = {}  # a status for every path with this in it
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

    def make(self, name: str, *, private: bool) -> Repo:
        """As somebody does on the hub's own pages: it writes the first file itself."""
        repo = self.add(name, {".gitattributes": b"*.bin filter=lfs\n"})
        repo.private = private
        return repo

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

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        hub = self.server.hub
        headers = {name.lower(): value for name, value in self.headers.items()}
        hub.requests.append(Request(self.command, self.path, headers))
        path = unquote(urlsplit(self.path).path)
        try:
            self._fail(hub, path)
            if self.command in ("POST", "PUT"):
                self._write(hub, path)
            else:
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
        every = sorted(repo.commits[commit].items())
        detailed = "blobs=" in urlsplit(self.path).query
        files = [_entry(*one) if detailed else {"rfilename": one[0]} for one in every]
        info = {
            "id": name,
            "sha": commit,
            "private": repo.private,
            "siblings": files,
            "gated": repo.licensed is not None and "auto",
        }
        self._json(info | ({"cardData": repo.card} if repo.card is not None else {}))

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

    # --- what an upload asks for --------------------------------------------------------------

    def _write(self, hub: Hub, path: str) -> None:
        if found := re.fullmatch(r"/cdn/upload/([0-9a-f]{64})(?:/(\d+))?", path):
            self._take(hub, found[1], int(found[2] or 0))
            return
        asked = self._asked()
        if found := re.fullmatch(r"/api/complete/([0-9a-f]{64})", path):
            self._complete(hub, found[1], asked[0]["parts"])
            return
        token = self._token(hub)
        if not token:
            raise _Refusal(401, "", "Invalid username or password.")
        if path == "/api/repos/create":
            self._create(hub, token, asked[0])
        elif path == "/api/validate-yaml":
            self._check_card(asked[0]["content"])
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)", path):
            repo = self._writable(hub, found[1])
            self._json({"files": [_mode(repo, file) for file in asked[0]["files"]]})
        elif found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            self._writable(hub, found[1])
            objects = [_action(hub, found[1], thing) for thing in asked[0]["objects"]]
            self._json({"objects": objects})
        elif found := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/verify", path):
            self._verify(hub, asked[0])
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/([^/]+)", path):
            self._commit_files(hub, found[1], found[2], asked)
        else:
            raise _Refusal(404, "", "no such route")

    def _create(self, hub: Hub, token: str, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if hub.creators is not None and token not in hub.creators:
            raise _Refusal(403, "", "You don't have the rights to create a model there")
        if name in hub.repos:
            raise _Refusal(409, "", "You already created this model repo")
        hub.make(name, private=asked.get("visibility") == "private")
        self._json({"name": name, "url": f"{hub.url}/{name}"})

    def _check_card(self, text: str) -> None:
        bad = "license: not-a-licence" in text
        errors = [{"message": '"license" must be one of those the hub knows'}] if bad else []
        self._json({"errors": errors, "warnings": []}, 400 if bad else 200)

    def _take(self, hub: Hub, oid: str, part: int) -> None:
        """A large file or a part of one, on the origin that must never see a token."""
        cut = hub.cuts.get(oid)
        broken = cut is not None and cut.times > 0
        data = self._body(cut.after if cut and broken else None)
        hub.arrived.append((oid, len(data)))
        if cut and broken:
            cut.times -= 1
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        hub.large[f"{oid}/{part}" if part else oid] = data
        self._send(200, b"", {"ETag": f'"{hashlib.md5(data).hexdigest()}"'})

    def _complete(self, hub: Hub, oid: str, parts: list[dict[str, Any]]) -> None:
        pieces = [hub.large.pop(f"{oid}/{part['partNumber']}") for part in parts]
        assert [f'"{hashlib.md5(p).hexdigest()}"' for p in pieces] == [p["etag"] for p in parts]
        hub.large[oid] = b"".join(pieces)
        self._json({})

    def _verify(self, hub: Hub, asked: dict[str, Any]) -> None:
        data = hub.large.get(asked["oid"], b"")
        if hashlib.sha256(data).hexdigest() != asked["oid"]:
            hub.large.pop(asked["oid"], None)
            raise _Refusal(422, "", "what came is not what was announced")
        self._json({})

    def _commit_files(self, hub: Hub, name: str, branch: str, asked: list[dict[str, Any]]) -> None:
        repo = self._writable(hub, name)
        head, *changes = asked
        if head["value"].get("parentCommit", repo.branches[branch]) != repo.branches[branch]:
            raise _Refusal(412, "", "A commit has happened since. Please refresh and try again.")
        files = dict(repo.commits[repo.branches[branch]])
        for change in changes:
            path = change["value"]["path"]
            if change["key"] == "deletedFile":
                del files[path]
            elif change["key"] == "lfsFile":
                files[path] = hub.large[change["value"]["oid"]]
            else:
                files[path] = base64.b64decode(change["value"]["content"])
            if f"{name}/{path}" in hub.spoiled:
                files[path] = files[path][:-1] + bytes([files[path][-1] ^ 1])
        commit = repo.push(files, branch)
        repo.messages[commit] = (head["value"]["summary"], head["value"]["description"])
        self._json({"commitUrl": f"{hub.url}/{name}/commit/{commit}", "commitOid": commit})

    def _writable(self, hub: Hub, name: str) -> Repo:
        repo, token = self._open(hub, name)
        if repo.writers is not None and token not in repo.writers:
            raise _Refusal(403, "", "You have read access but not the required permissions")
        return repo

    def _asked(self) -> list[dict[str, Any]]:
        """The JSON of the request's body, a line each."""
        return [json.loads(line) for line in self._body().splitlines()]

    def _body(self, most: int | None = None) -> bytes:
        """What the client sends, or only its beginning."""
        data = b""
        for piece in self._pieces():
            data += piece
            if most is not None and len(data) >= most:
                return data[:most]
        return data

    def _pieces(self) -> Iterator[bytes]:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length", "0"))
        while left and (piece := self.rfile.read(min(left, 1 << 16))):
            left -= len(piece)
            yield piece

    # --- what both need -----------------------------------------------------------------------

    def _fail(self, hub: Hub, path: str) -> None:
        for part, status in hub.out_of_order.items():
            if part in path:
                self._body()
                raise _Refusal(status, "", "out of order")

    def _token(self, hub: Hub) -> str:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and hub.tokens is not None and token not in hub.tokens:
            raise _Refusal(401, "", "Invalid credentials in Authorization header")
        return token

    def _open(self, hub: Hub, name: str) -> tuple[Repo, str]:
        """The repository and the token, if the one may be seen with the other."""
        token = self._token(hub)
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

    def _json(self, answer: object, status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self._send(status, body, {"Content-Type": "application/json"})

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


# --- what the hub says of a file ----------------------------------------------------------------


def _blob(data: bytes) -> str:
    """The name that git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(file: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"rfilename": file, "size": len(data), "blobId": _blob(data)}
    if file.endswith(LARGE):
        digest = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 130}
    return entry


def _mode(repo: Repo, asked: dict[str, Any]) -> dict[str, Any]:
    """How a file is to be sent, and which content of that name is there already."""
    path = asked["path"]
    is_large = path.endswith(LARGE)
    oid = None
    if path in repo.now:
        oid = hashlib.sha256(repo.now[path]).hexdigest() if is_large else _blob(repo.now[path])
    mode = "lfs" if is_large else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid}


def _action(hub: Hub, name: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Where a large file is to be sent, if it is not there."""
    oid, size = asked["oid"], asked["size"]
    if oid in hub.large:
        return {"oid": oid, "size": size}
    upload: dict[str, Any] = {"href": f"{hub.cdn}/upload/{oid}"}
    if hub.part_size is not None and size > hub.part_size:
        parts = range(1, -(-size // hub.part_size) + 1)
        urls = {f"{part:05}": f"{hub.cdn}/upload/{oid}/{part}" for part in parts}
        header = {"chunk_size": str(hub.part_size), **urls}
        upload = {"href": f"{hub.url}/api/complete/{oid}", "header": header}
    verify = {"href": f"{hub.url}/{name}.git/info/lfs/verify"}
    return {"oid": oid, "size": size, "actions": {"upload": upload, "verify": verify}}
