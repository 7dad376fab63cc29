"""A Hugging Face hub on loopback: the endpoints that `datasets` and `huggingface_hub` ask to load data and a file."""

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Event, Thread
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

API = re.compile(r"/api/(?P<kind>datasets|models)/(?P<name>[^/]+/[^/]+)(?:/(?P<call>[a-z-]+)/(?P<rest>.+))?")
RESOLVE = re.compile(r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
# A pre-signed address, such as the hub redirects large files to.
STORE = re.compile(r"/store/(?P<digest>[0-9a-f]{64})")
LARGE = (".parquet", ".gz")


def parquet(rows: list[str | None], column: str = "text", rows_a_group: int | None = None) -> bytes:
    file = BytesIO()
    pq.write_table(pa.table({column: pa.array(rows, pa.string())}), file, rows_a_group)
    return file.getvalue()


class Hub:
    """Serves repositories on 127.0.0.1 while it is entered, and keeps a log of what is asked for.

    Attributes:
        address: what HF_ENDPOINT is to be.
        requests: method and path, unquoted, of each request, in order.
        status: unless 0, every answer has it, such as 500.
        refusal: headers of those answers, such as what the hub says of a gated repository.
        sent: bytes of the bodies of all answers.
        spoil: changes the content of a file as it is sent, such as to cut it short.
        fault: what befalls a request for the content of this large file: a status; "cut", the connection ends in the
            middle of the body; "stall", no answer comes before the hub is closed; or None.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, tuple[str, dict[str, bytes]]]] = {}
        self.requests: list[tuple[str, str]] = []
        self.status = 0
        self.refusal: dict[str, str] = {}
        self.sent = 0
        self.spoil: Callable[[str, bytes], bytes] = lambda _, content: content
        self.fault: Callable[[str], int | str | None] = lambda _: None
        self._closing = Event()
        hub = self

        class Handler(_Handler):
            def answer(self) -> tuple[int, dict[str, str], bytes]:
                status, headers, content = hub._answer(self)
                hub.sent += len(content) if self.command != "HEAD" else 0
                return status, headers, content

        # The second one stands for the store of large files: clients tell it from the hub by its port.
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
        self.address, self._store = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)
        self._threads = [
            Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True) for server in self._servers
        ]

    def __enter__(self) -> "Hub":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """From here on connections are refused."""
        self._closing.set()
        for server, thread in zip(self._servers, self._threads, strict=True):
            if thread.is_alive():
                server.shutdown()
                thread.join()
                server.server_close()

    def add(self, name: str, files: dict[str, bytes], revision: str = "main", kind: str = "datasets") -> str:
        """A revision, a branch or a commit, of a repository with these files; returns its commit."""
        commit = revision
        if not re.fullmatch("[0-9a-f]{40}", revision):
            commit = hashlib.sha1(repr((name, revision, files)).encode()).hexdigest()
        revisions = self.repositories.setdefault(f"{kind}/{name}", {})
        revisions[revision] = revisions[commit] = commit, files
        return commit

    # Answers

    def _answer(self, request: "_Handler") -> tuple[int, dict[str, str], bytes]:
        address = urlsplit(request.path)
        path = unquote(address.path)
        self.requests.append((request.command, path))
        if self.status:
            return self.status, self.refusal, b"the loopback hub fails on purpose"
        if match := STORE.fullmatch(path):
            return self._stored(match["digest"], request)
        # The parts are matched as sent: a branch such as refs/convert/parquet is one part, quoted.
        if match := RESOLVE.fullmatch(address.path):
            kind = "datasets" if match["kind"] else "models"
            return self._resolve(f"{kind}/{match['name']}", unquote(match["revision"]), unquote(match["path"]))
        if match := API.fullmatch(address.path):
            call, rest = match["call"] or "revision", match["rest"] or "main"
            revision, _, folder = (unquote(part) for part in rest.partition("/"))
            found = self._find(f"{match['kind']}/{match['name']}", revision)
            if isinstance(found, str):
                return 404, {"X-Error-Code": found, "X-Error-Message": found}, b"{}"
            if call == "revision":
                siblings = [{"rfilename": path} for path in found[1]]
                told = {"id": match["name"], "sha": found[0], "private": False, "tags": [], "siblings": siblings}
                return _json(told)
            entries = _entries(found[1])
            if call == "tree":
                recursive = parse_qs(address.query).get("recursive", ["false"])[0].lower() == "true"
                under = {path: entry for path, entry in entries.items() if path.startswith(folder and f"{folder}/")}
                depth = len(folder.split("/")) if folder else 0
                if folder and not under:
                    return 404, {"X-Error-Code": "EntryNotFound"}, b"{}"
                return _json([entry for path, entry in under.items() if recursive or path.count("/") == depth])
            if call == "paths-info":
                wanted = _wanted(request)
                return _json([entries[path] for path in wanted if path in entries])
        return 404, {}, b"no such endpoint"

    def _find(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | str:
        if repository not in self.repositories:
            return "RepoNotFound"
        return self.repositories[repository].get(revision, "RevisionNotFound")

    def _resolve(self, repository: str, revision: str, path: str) -> tuple[int, dict[str, str], bytes]:
        found = self._find(repository, revision)
        if isinstance(found, str):
            return 404, {"X-Error-Code": found, "X-Error-Message": found}, b""
        commit, files = found
        if path not in files:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}, b""
        content = files[path]
        digest = hashlib.sha256(content).hexdigest()
        if not path.endswith(LARGE):
            return 200, {"X-Repo-Commit": commit, "ETag": f'"{digest[:40]}"'}, self.spoil(path, content)
        # Large files are kept elsewhere: what the hub tells of them comes with the redirection.
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        return 302, {"X-Repo-Commit": commit, "Location": f"{self._store}/store/{digest}", **linked}, b""

    def _stored(self, digest: str, request: "_Handler") -> tuple[int, dict[str, str], bytes]:
        kept = [files for revisions in self.repositories.values() for _, files in revisions.values()]
        every = (pair for files in kept for pair in files.items())
        path, content = next(pair for pair in every if hashlib.sha256(pair[1]).hexdigest() == digest)
        fault = self.fault(path)
        if isinstance(fault, int):
            return fault, {}, b"the loopback hub fails on purpose"
        if fault == "stall":
            self._closing.wait()
        content = self.spoil(path, content)
        headers = {"ETag": f'"{digest}"', "Accept-Ranges": "bytes"}
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", "")):
            start, end = int(match[1]), min(int(match[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            content = content[start : end + 1]
        if fault == "cut":
            headers |= {"Content-Length": str(len(content)), "Connection": "close"}
            content = content[: len(content) // 2]
        return 206 if "Content-Range" in headers else 200, headers, content


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        raise NotImplementedError

    def _send(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, headers, content = self.answer()
        self.send_response(status)
        for header, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(header, value)
        self.end_headers()
        if self.command != "HEAD":
            with suppress(ConnectionError):  # A client that waits no longer.
                self.wfile.write(content)

    do_GET = do_HEAD = do_POST = _send

    def log_message(self, *_: object) -> None:
        pass


def _entries(files: dict[str, bytes]) -> dict[str, dict[str, object]]:
    """What the hub tells of files, and of the folders that they are in, by path."""
    entries: dict[str, dict[str, object]] = {}
    for path, content in files.items():
        for end in [match.start() for match in re.finditer("/", path)]:
            folder = path[:end]
            oid = hashlib.sha1(folder.encode()).hexdigest()
            entries[folder] = {"type": "directory", "oid": oid, "size": 0, "path": folder}
        digest = hashlib.sha256(content).hexdigest()
        entries[path] = {"type": "file", "oid": digest[:40], "size": len(content), "path": path}
        if path.endswith(LARGE):
            entries[path]["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
    return entries


def _wanted(request: _Handler) -> list[str]:
    if "json" in request.headers.get("Content-Type", ""):
        return json.loads(request.body)["paths"]
    return parse_qs(request.body.decode())["paths"]


def _json(told: object) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(told).encode()
