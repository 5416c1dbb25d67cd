"""The real application under a real uvicorn, on a real ledger and a real broker; every answer is held against the
OpenAPI document as it comes in."""

import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from fastapi import FastAPI
from starlette.routing import compile_path

from backdoor_audit.contract.report.audit_report import AuditReport
from jobs.ledger import Ledger
from jobs.records import Claim
from service.app import create_app
from service.audits.examples import SPECS
from service.dependencies import Dependencies
from service.openapi_document.references import resolve
from service.openapi_document.report_examples import REPORT
from service.settings import Settings
from service.version import API_VERSION, VERSION_HEADER

TOLD = {"etag", "location", "retry-after", "www-authenticate", "upload-offset", "upload-complete", "repr-digest"}
"""Headers that a client acts on: an answer has none of them that the document does not tell of."""

SPEC = SPECS["spec_shortest"]["value"]


@dataclass
class Served:
    """An application that answers at ``http``."""

    app: FastAPI
    http: httpx.Client

    @property
    def dependencies(self) -> Dependencies:
        return self.app.state.dependencies

    def file(self, **changes: Any) -> str:
        """File an audit over HTTP; returns its id."""
        return self.http.post("/audits", json=SPEC | changes).raise_for_status().json()["id"]

    def claim(self, audit_id: str) -> Claim:
        claim = self.dependencies.ledger.claim(audit_id, worker="test")
        assert claim is not None
        return claim

    def succeed(self, audit_id: str, **changes: Any) -> AuditReport:
        """End an audit with the example's report."""
        report = AuditReport.model_validate(REPORT | {"audit_id": audit_id} | changes)
        self.dependencies.ledger.succeed(self.claim(audit_id), report)
        return report


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Run ``app`` under uvicorn in a thread; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_config=None, timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            deadline = time.monotonic() + 20
            while not server.started:
                assert thread.is_alive()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=10)
            assert not thread.is_alive()


class Contract:
    """Holds answers against an OpenAPI document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def check(self, answer: httpx.Response) -> None:
        answer.read()
        assert answer.headers[VERSION_HEADER] == API_VERSION
        if answer.request.method == "HEAD":
            assert not answer.content
            return
        if answer.request.url.path == "/" or answer.request.url.path.startswith("/ui/"):
            return  # pages are for people, and not in the document
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == answer.status_code
            self.validate(answer.json(), {"$ref": "#/components/schemas/Problem"})
        operation = self.operation(answer.request.method.lower(), answer.request.url.path)
        if operation is None:
            return
        responses = operation["responses"]
        assert str(answer.status_code) in responses or answer.status_code in (405, 413, 421, 500)
        described = resolve(self.document, responses.get(str(answer.status_code), responses["default"]))
        told = {name.lower() for name in described.get("headers", {})}
        assert str(answer.status_code) not in responses or (TOLD & answer.headers.keys()) <= told
        content = described.get("content", {})
        media_type = answer.headers.get("content-type", "").split(";")[0]
        assert media_type in content if answer.content else media_type == ""
        if media_type == "application/json":
            self.validate(answer.json(), content[media_type]["schema"])

    def operation(self, method: str, path: str) -> dict[str, Any] | None:
        for template, operations in self.document["paths"].items():
            if compile_path(re.sub(r"\{(feature_id|path)\}", r"{\1:path}", template))[0].fullmatch(path):
                return operations.get(method)
        return None

    def validate(self, value: Any, schema: dict[str, Any]) -> None:
        whole = schema | {"components": self.document["components"]}
        jsonschema.Draft202012Validator(whole).validate(value)


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to copy."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite3"
    ledger = Ledger(f"sqlite:///{path}")
    ledger.migrate()
    ledger.close()
    return path


class Starter:
    """Starts applications that keep their data in ``folder``, and stops them."""

    def __init__(self, stack: ExitStack, folder: Path, ledger: Path, broker_url: str) -> None:
        self.stack, self.folder, self.ledger, self.broker_url = stack, folder, ledger, broker_url

    def __call__(self, change: Callable[[FastAPI], None] | None = None, **values: Any) -> Served:
        """Start one with these settings; ``change`` it first."""
        data_dir, models_root = self.folder / "data", self.folder / "models"
        data_dir.mkdir(exist_ok=True)
        models_root.mkdir(exist_ok=True)
        shutil.copy(self.ledger, data_dir / "ledger.sqlite3")
        defaults = {"data_dir": data_dir, "models_root": models_root, "broker_url": self.broker_url}
        app = create_app(Settings(**(defaults | values)))
        contract = Contract(app.openapi())
        if change is not None:
            change(app)
        url = self.stack.enter_context(serving(app))
        hooks = {"response": [contract.check]}
        return Served(app, self.stack.enter_context(httpx.Client(base_url=url, event_hooks=hooks, timeout=20)))


@pytest.fixture
def serve(tmp_path: Path, empty_ledger: Path, broker_url: str) -> Iterator[Starter]:
    """Start an application on an empty ledger and an empty broker: ``serve(**settings)``."""
    with ExitStack() as stack:
        yield Starter(stack, tmp_path, empty_ledger, broker_url)


@pytest.fixture
def signing_key(tmp_path: Path) -> tuple[Path, ed25519.Ed25519PrivateKey]:
    """A private key's file, and the key."""
    key = ed25519.Ed25519PrivateKey.generate()
    path = tmp_path / "signing.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path, key


@pytest.fixture
def dependencies(tmp_path: Path, empty_ledger: Path) -> Iterator[Dependencies]:
    """What use cases are given, without an application around it: an empty ledger, and no broker."""
    data_dir, models_root = tmp_path / "data", tmp_path / "models"
    data_dir.mkdir()
    models_root.mkdir()
    shutil.copy(empty_ledger, data_dir / "ledger.sqlite3")
    broker_url = f"redis+socket://{tmp_path}/nobody.sock"
    opened = Dependencies.open(Settings(data_dir=data_dir, models_root=models_root, broker_url=broker_url))
    yield opened
    opened.close()


@pytest.fixture
def end() -> Callable[..., AuditReport]:
    """End an audit with the example's report; keyword arguments replace its fields."""

    def end(dependencies: Dependencies, audit_id: str, **changes: Any) -> AuditReport:
        claim = dependencies.ledger.claim(audit_id, worker="test")
        assert claim is not None
        report = AuditReport.model_validate(REPORT | {"audit_id": audit_id} | changes)
        dependencies.ledger.succeed(claim, report)
        return report

    return end


@pytest.fixture
def served(serve: Starter) -> Served:
    """A running application, empty."""
    return serve()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, empty_ledger: Path, valkey_server: Any) -> Iterator[Served]:
    """A running application for tests that do not mind what others left in it."""
    with ExitStack() as stack:
        url = f"redis+socket://{valkey_server.unix_socket_path}"
        yield Starter(stack, tmp_path_factory.mktemp("shared"), empty_ledger, url)()


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real Chromium; a test that asks for it is skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def spec() -> dict[str, Any]:
    """The shortest spec."""
    return dict(SPEC)
