"""A hub on the loopback interface: repositories at revisions, etags, ranges, gates and faults.

It speaks what huggingface_hub, datasets and a plain HTTP client ask of the real one: repository
information, the tree of a revision, HEAD and GET of a file with its commit, etag and size. Large
files are redirected to another host name, as the real hub does.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import socket
import sys
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

ACCEPTED_TOKEN = "hf_accepted"
"""The token of an account that has accepted every licence."""
_LARGE = (".safetensors", ".parquet", ".bin")
_API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(.*))?")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class Request(NamedTuple):
    """One request as it came in."""

    method: str
    path: str
    range: str | None
    authorised: bool


class _Revision(NamedTuple):
    commit: str
    files: dict[str, bytes]


class _Repository:
    def __init__(self, *, gated: bool) -> None:
        self.gated = gated
        self.commits: dict[str, _Revision] = {}
        self.names: dict[str, str] = {}

    def find(self, revision: str) -> _Revision | None:
        return self.commits.get(self.names.get(revision, revision))


class HubStandIn:
    """The stand-in; `url` is what HF_ENDPOINT is set to."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.repositories: dict[tuple[str, str], _Repository] = {}
        self._cuts: dict[str, tuple[int, int]] = {}
        self._corrupt: dict[str, int] = {}
        self._server: http.server.ThreadingHTTPServer | None = None
        self.connections: set[socket.socket] = set()
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, at the same port as before."""
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.hub = self  # type: ignore[attr-defined]
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for connection in list(self.connections):  # those that clients keep for later
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def add(
        self,
        kind: str,
        name: str,
        files: Path | Mapping[str, bytes],
        *,
        revision: str = "main",
        gated: bool = False,
    ) -> str:
        """Publish files as a commit, with a branch or tag that points to it; return the commit.

        Args:
            kind: models or datasets.
            name: owner and name.
            files: a folder, or path → content.
            revision: the branch or tag.
            gated: hand out files to those alone who send `ACCEPTED_TOKEN`.
        """
        if isinstance(files, Path):
            found = sorted(path for path in files.rglob("*") if path.is_file())
            files = {path.relative_to(files).as_posix(): path.read_bytes() for path in found}
        listing = json.dumps({path: git_digest(content) for path, content in files.items()})
        commit = hashlib.sha1(f"{name}{listing}".encode()).hexdigest()
        repository = self.repositories.setdefault((kind, name), _Repository(gated=gated))
        repository.commits[commit] = _Revision(commit, dict(files))
        repository.names[revision] = commit
        return commit

    def cut(self, path: str, *, after: int, times: int = 1) -> None:
        """End the connection after so many bytes of a file whose address ends in `path`."""
        self._cuts[path] = (after, times)

    def corrupt(self, path: str, *, times: int = 1) -> None:
        """Send wrong bytes, as many as announced and under the right etag."""
        self._corrupt[path] = times

    def mend(self) -> None:
        """No more faults."""
        self._cuts.clear()
        self._corrupt.clear()

    def asked(self, method: str, ending: str = "") -> list[Request]:
        """The requests of a method for addresses with an ending."""
        return [r for r in self.requests if r.method == method and r.path.endswith(ending)]

    @contextlib.contextmanager
    def counting(self) -> Iterator[list[Request]]:
        """The requests that come in during a block."""
        seen: list[Request] = []
        before = len(self.requests)
        yield seen
        seen.extend(self.requests[before:])

    def body(self, path: str, content: bytes, start: int, end: int) -> tuple[bytes, bool]:
        """The bytes to send of a file, and whether the connection is cut behind them."""
        for ending, left in self._corrupt.items():
            if path.endswith(ending) and left > 0:
                self._corrupt[ending] -= 1
                middle = len(content) // 2
                content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        body = content[start:end]
        for ending, (after, times) in self._cuts.items():
            if path.endswith(ending) and after < len(body) and times > 0:
                self._cuts[ending] = (after, times - 1)
                return body[:after], True
        return body, False


def git_digest(content: bytes) -> str:
    """The name that git gives to a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Server(http.server.ThreadingHTTPServer):
    """Says nothing of clients that hang up."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> HubStandIn:
        return self.server.hub  # type: ignore[attr-defined, no-any-return]

    def setup(self) -> None:
        super().setup()
        self.hub.connections.add(self.connection)

    def finish(self) -> None:
        self.hub.connections.discard(self.connection)
        super().finish()

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self._sent = self.rfile.read(length)
        url = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(url.path)
        self._query = urllib.parse.parse_qs(url.query)
        given = self.headers.get("Authorization")
        self.hub.requests.append(
            Request(self.command, path, self.headers.get("Range"), given is not None)
        )
        self._token = (given or "").removeprefix("Bearer ")
        if path == "/api/repos/create":
            self._create()
        elif path == "/api/validate-yaml":  # of a model card
            self._json({"errors": [], "warnings": []})
        elif match := _API.fullmatch(path):
            self._api(match[1], match[2], match[3] or "")
        elif match := _FILE.fullmatch(path):
            revision = urllib.parse.unquote(match[3])
            self._file("datasets" if match[1] else "models", match[2], revision, match[4])
        elif path.startswith("/content/"):
            self._content(path)
        else:
            self._refuse(404, "", "Not found")

    def _find(self, kind: str, name: str, revision: str) -> tuple[_Repository, _Revision] | None:
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            # The real hub does not say which repositories exist to those without an account.
            self._refuse(401, "RepoNotFound", "Repository not found")
            return None
        found = repository.find(revision)
        if found is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repository, found

    def _api(self, kind: str, name: str, rest: str) -> None:
        action, _, argument = rest.partition("/")
        revision, _, folder = argument.partition("/")
        revision = urllib.parse.unquote(revision) or "main"
        place = self._find(kind, name, revision)
        if place is None:
            return
        repository, found = place
        if action in ("", "revision"):
            self._json(
                {
                    "id": name,
                    "modelId": name,
                    "sha": found.commit,
                    "private": False,
                    "gated": "manual" if repository.gated else False,
                    "disabled": False,
                    "downloads": 0,
                    "likes": 0,
                    "tags": [],
                    "siblings": [{"rfilename": path} for path in found.files],
                }
            )
        elif action == "tree":
            recursive = self._query.get("recursive", ["false"])[0].lower() in ("true", "1")
            self._json(_tree(found, folder.strip("/"), recursive=recursive))
        elif action == "preupload":
            files = json.loads(self._sent)["files"]
            mode = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            self._json({"files": [{"path": one["path"], **mode} for one in files]})
        elif action == "commit":
            self._commit(kind, name, found)
        elif action == "paths-info":
            asked = self._form().get("paths", [])
            entries = {entry["path"]: entry for entry in _tree(found, "", recursive=True)}
            self._json([entries[path] for path in asked if path in entries])
        else:
            self._refuse(404, "", f"no such call: {rest}")

    def _create(self) -> None:
        asked = json.loads(self._sent)
        name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
        if self._token != ACCEPTED_TOKEN:
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif ("models", name) in self.hub.repositories:
            said = {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"}
            self._reply(409, {"Content-Type": "application/json"}, json.dumps(said).encode())
        else:
            self.hub.add("models", name, {})
            self._json({"url": f"{self.hub.url}/{name}", "name": name})

    def _commit(self, kind: str, name: str, before: _Revision) -> None:
        """Take a commit: JSON lines of a header and of files, as `regular` uploads send them."""
        files = dict(before.files)
        for line in self._sent.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        commit = self.hub.add(kind, name, files)
        url = f"{self.hub.url}/{name}/commit/{commit}"
        self._json({"success": True, "commitOid": commit, "commitUrl": url, "hookOutput": ""})

    def _form(self) -> dict[str, list[str]]:
        if "json" in (self.headers.get("Content-Type") or ""):
            return dict(json.loads(self._sent))
        return urllib.parse.parse_qs(self._sent.decode())

    def _file(self, kind: str, name: str, revision: str, path: str) -> None:
        place = self._find(kind, name, revision)
        if place is None:
            return
        repository, found = place
        if repository.gated and self._token != ACCEPTED_TOKEN:
            status = 403 if self._token else 401
            self._refuse(status, "GatedRepo", f"Access to {kind} {name} is restricted")
        elif path not in found.files:
            extra = {"X-Repo-Commit": found.commit}
            self._refuse(404, "EntryNotFound", "Entry not found", extra)
        else:
            self._send_or_redirect(path, found)

    def _send_or_redirect(self, path: str, found: _Revision) -> None:
        content = found.files[path]
        headers = {"X-Repo-Commit": found.commit, "Accept-Ranges": "bytes"}
        if not path.endswith(_LARGE):
            headers["ETag"] = f'"{git_digest(content)}"'
            self._send(path, content, headers)
            return
        sha256 = hashlib.sha256(content).hexdigest()
        headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content))}
        headers["Location"] = f"http://localhost:{self.hub.port}/content/{sha256}/{path}"
        self._reply(302, headers, b"")

    def _content(self, path: str) -> None:
        _, _, sha256, name = path.split("/", 3)
        for repository in self.hub.repositories.values():
            for revision in repository.commits.values():
                content = revision.files.get(name, b"")
                if hashlib.sha256(content).hexdigest() == sha256:
                    self._send(name, content, {"ETag": f'"{sha256}"'})
                    return
        self._refuse(404, "", "Not found")

    def _send(self, path: str, content: bytes, headers: dict[str, str]) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        start, end = 0, len(content)
        if wanted:
            start = int(wanted[1])
            end = min(int(wanted[2]) + 1, end) if wanted[2] else end
            if start >= len(content):
                self._reply(416, {"Content-Range": f"bytes */{len(content)}"}, b"")
                return
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        if self.command == "HEAD":
            body, cut = content[start:end], False
        else:
            body, cut = self.hub.body(path, content, start, end)
        self._reply(206 if wanted else 200, headers, body, length=end - start)
        if cut:
            self.wfile.flush()
            self.close_connection = True

    def _json(self, value: Any) -> None:
        self._reply(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _refuse(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        told = {"X-Error-Code": code, "X-Error-Message": message} if code else {}
        body = json.dumps({"error": message}).encode()
        self._reply(status, {**told, **(headers or {}), "Content-Type": "application/json"}, body)

    def _reply(
        self, status: int, headers: Mapping[str, str], body: bytes, *, length: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _tree(revision: _Revision, folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    """The entries of a revision below a folder, folders included."""
    entries: dict[str, dict[str, Any]] = {}
    prefix = f"{folder}/" if folder else ""
    for path, content in revision.files.items():
        if not path.startswith(prefix):
            continue
        parts = path[len(prefix) :].split("/")
        for depth in range(1, len(parts)):
            if depth == 1 or recursive:
                name = prefix + "/".join(parts[:depth])
                oid = hashlib.sha1(name.encode()).hexdigest()
                entries[name] = {"type": "directory", "path": name, "oid": oid, "size": 0}
        if len(parts) == 1 or recursive:
            entries[path] = _file_entry(path, content)
    return list(entries.values())


def _file_entry(path: str, content: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "size": len(content), "oid": git_digest(content)}
    if path.endswith(_LARGE):
        sha256 = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
    return entry
