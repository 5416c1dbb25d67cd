"""A ledger, and audits in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger on SQLite with short leases."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}", lease_s=1.0, requeue_after_s=0.2)
    ledger.migrate()
    yield ledger
    ledger.close()
