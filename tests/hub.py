"""A small Hugging Face Hub for tests: the calls that a download makes, over real HTTP."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
"""The one commit of its repository, which is also its branch ``main``."""


class Hub(ThreadingHTTPServer):
    """Serves ``org/repo`` at one commit; notes what was asked, and with which key."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files
        self.asked: list[tuple[str, str | None]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[Hub]:
    """Serve these files for a while."""
    server = Hub(files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def git_digest(data: bytes) -> str:
    """What git calls a file of this content, and the hub one that is small."""
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        headers: dict[str, str] = {}
        name = self.path.rpartition(f"{COMMIT}/")[2]
        if self.path.startswith(tuple(f"/api/models/org/repo/revision/{name}" for name in (COMMIT, "main"))):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in self.server.files.items()]
            data = json.dumps({"id": "org/repo", "modelId": "org/repo", "sha": COMMIT, "siblings": siblings}).encode()
        elif self.path.startswith(f"/api/models/org/repo/tree/{COMMIT}"):
            tree = [
                {"type": "file", "path": name, "oid": "0" * 40, "size": len(data)}
                for name, data in self.server.files.items()
            ]
            data = json.dumps(tree).encode()
        elif self.path.startswith(f"/org/repo/resolve/{COMMIT}/") and name in self.server.files:
            data = self.server.files[name]
            headers = {"ETag": f'"{git_digest(data)}"', "X-Repo-Commit": COMMIT}
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
