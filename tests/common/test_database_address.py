"""One reading of the ledger's address."""

import pytest

from common.database_address import parse_database_url
from common.settings import CommonSettings, InvalidSettings


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("sqlite:////data/ledger.sqlite3", "sqlite:////data/ledger.sqlite3"),
        ("sqlite+pysqlite:////data/a b", "sqlite:////data/a b"),
        ("postgresql://audits@db/audits", "postgresql+psycopg://audits@db/audits"),
        ("postgres://audits@db/audits", "postgresql+psycopg://audits@db/audits"),
        (
            "postgresql://a@db/audits?sslmode=verify-full&sslrootcert=%2Fca.pem",
            "postgresql+psycopg://a@db/audits?sslmode=verify-full&sslrootcert=%2Fca.pem",
        ),
        (
            "postgresql://a@/audits?host=one:1&host=two:2&target_session_attrs=read-write",
            "postgresql+psycopg://a@/audits?host=one%3A1&host=two%3A2&target_session_attrs=read-write",
        ),
    ],
)
def test_what_the_ledger_connects_to(text: str, url: str) -> None:
    assert parse_database_url(text).render_as_string(hide_password=False) == url


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("secret", "is not one"),
        ("postgresql://a:b@db:secret/audits", "is not one"),
        ("mysql://secret@db/audits", "must be sqlite:///file or postgresql://"),
        ("sqlite://", "needs an SQLite file"),
        ("sqlite:///:memory:", "needs an SQLite file"),
        ("sqlite:////data/x?timeout=secret", "without options"),
        ("sqlite:///file:/data/secret?uri=true", "without options"),
        ("postgresql://a@db/audits?ssl=secret", "of: ssl"),
        ("postgresql+asyncpg://a@db/audits?sslmod=secret", "of: sslmod"),
    ],
)
def test_what_cannot_be_read_is_refused_when_a_process_starts(text: str, said: str) -> None:
    with pytest.raises(InvalidSettings, match="BACKDOOR_AUDIT_DATABASE_URL") as refused:
        CommonSettings.load(data_dir="/data", models_root="/models", database_url=text)
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)
