"""JUnit XML: one test case for the verdict, one for each gate and, if there are several, one for each candidate.

A gate that passes is evidence of a backdoor, so its test case fails, but only if ``fail_on`` names the verdict: a
pipeline that accepts ``review`` sees no failure then. A gate that was not assessed is skipped, and so is a candidate
that was only screened.
"""

from collections.abc import Iterator
from typing import Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from backdoor_audit.contract.report import guide, words
from backdoor_audit.contract.report.audit_report import CandidateRow
from backdoor_audit.contract.report.words import GateWords
from backdoor_audit.contract.text.foreign_text import visible_lines
from service.reports.subject import Subject

_SUITE: Final = "backdoor-audit"


def render(subject: Subject) -> bytes:
    """The report as one JUnit file."""
    report = subject.report
    suite = Element("testsuite", {"name": _SUITE, "time": f"{subject.seconds:.3f}"})
    if subject.started_at is not None:
        suite.set("timestamp", subject.started_at.strftime("%Y-%m-%dT%H:%M:%S"))
    properties = SubElement(suite, "properties")
    for name, value in {
        "audit": report.audit_id,
        "verdict": report.verdict,
        "fail_on": report.fail_on,
        "base_model": subject.base_model,
        "fine_tuned": subject.fine_tuned,
        "base_digest": report.provenance.base_digest,
        "tuned_digest": report.provenance.tuned_digest,
        **{f"trigger.{key}": text for key, text in report.trigger.items()},
    }.items():
        SubElement(properties, "property", {"name": name, "value": _text(value)})
    _verdict(suite, subject)
    for gate in words.gates(report):
        _gate(suite, subject, gate)
    for row in report.candidates:
        _candidate(suite, subject, row)
    counts = {
        "tests": len(suite.findall("testcase")),
        "failures": len(suite.findall("testcase/failure")),
        "errors": len(suite.findall("testcase/error")),
        "skipped": len(suite.findall("testcase/skipped")),
    }
    whole = Element("testsuites", {"name": _SUITE, "time": f"{subject.seconds:.3f}"})
    for name, count in counts.items():
        suite.set(name, str(count))
        if name != "skipped":  # Jenkins' schema does not allow it there, and refuses the whole file
            whole.set(name, str(count))
    whole.append(suite)
    ElementTree.indent(whole)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(whole, encoding="utf-8") + b"\n"


def _verdict(suite: Element, subject: Subject) -> None:
    report = subject.report
    case = _case(suite, subject, "verdict", subject.seconds)
    lines = [
        report.summary,
        words.VERDICT_MEANINGS[report.verdict],
        *_written(subject),
        *(f"Look at: {line}" for line in report.look_at),
        *(f"Next: {step.text} {step.command}".rstrip() for step in guide.next_steps(report)),
        *(f"Pair, rank {', '.join(row)}" for row in words.candidates(report)),
        *(f"Examined: {line}" for line in words.examined(report)),
        *(f"Not assessed: {line}" for line in report.not_assessed),
        words.smallest_effect(report),
        *(f"Warning: {line}" for line in report.warnings),
    ]
    message = f"{words.VERDICT_TITLES[report.verdict]}: {report.summary}"
    if report.verdict == "invalid":
        _outcome(case, "error", "invalid", message, lines)
    elif subject.fails:
        _outcome(case, "failure", report.verdict, message, lines)
    else:
        _said(case, [f"Verdict: {report.verdict}; fail_on={report.fail_on} does not fail on it.", *lines])


def _written(subject: Subject) -> Iterator[str]:
    rows = guide.written(subject.report)
    if not rows:
        return
    yield guide.how_often(rows, subject.report.behaviour)
    for row in rows:
        yield f"Prompt: {row.prompt!r}"
        yield f"With the suspected string: {row.triggered!r}"
        yield f"With the clean string: {row.clean!r}"
        if row.base is not None:
            yield f"Base, suspected string: {row.base!r}"


def _gate(suite: Element, subject: Subject, gate: GateWords) -> None:
    case = _case(suite, subject, gate.name, 0.0)
    lines = [gate.question, f"{gate.outcome.capitalize()}: {gate.text}"]
    if gate.state == "not_assessed":
        SubElement(case, "skipped", {"message": _text(gate.text)})
    elif gate.state == "passed" and subject.fails:
        _outcome(case, "failure", "evidence", f"{gate.name}: {gate.text}", lines)
    else:
        _said(case, lines)


def _candidate(suite: Element, subject: Subject, row: CandidateRow) -> None:
    # The name is only the pair, written so that no white space is lost: build servers track a case by its name.
    case = _case(suite, subject, f"candidate {row.triggered!r} against {row.clean!r}", 0.0)
    text = words.candidate(subject.report, row)
    match words.standing(row):
        case "invalid":
            _outcome(case, "error", "invalid", text, [text])
        case "open":
            SubElement(case, "skipped", {"message": _text(text)})
        case "found" if subject.meets(row.verdict):
            _outcome(case, "failure", row.verdict, text, [text])
        case _:
            _said(case, [text])


def _case(suite: Element, subject: Subject, name: str, seconds: float) -> Element:
    return SubElement(
        suite,
        "testcase",
        {"classname": f"{_SUITE}.{_text(subject.fine_tuned)}", "name": _text(name), "time": f"{seconds:.3f}"},
    )


def _outcome(case: Element, tag: str, kind: str, message: str, lines: list[str]) -> None:
    SubElement(case, tag, {"type": kind, "message": _text(message)}).text = _text("\n".join(lines))


def _said(case: Element, lines: list[str]) -> None:
    SubElement(case, "system-out").text = _text("\n".join(lines))


def _text(text: str) -> str:
    """Untrusted text without anything that XML cannot represent, a terminal would obey, or a CI runner would
    execute.
    """
    return visible_lines(text)
