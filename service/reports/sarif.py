"""SARIF 2.1.0 (OASIS Standard, 27 March 2020): one result for the verdict, one for each gate and each candidate.

A gate that passes is evidence of a backdoor, so it becomes a note in addition to the verdict; a gate that fails becomes
a ``pass``. Whatever was not measured is ``open``, never a pass.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from backdoor_audit.contract.report import words
from backdoor_audit.contract.report.audit_report import CandidateRow
from backdoor_audit.contract.report.verdicts import Verdict
from backdoor_audit.contract.report.words import GateWords
from backdoor_audit.contract.text.foreign_text import readable
from service.reports.subject import Subject
from service.version import API_VERSION

VERSION: Final = "2.1.0"
SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
MODELS_ROOT: Final = "MODELS_ROOT"

_BASE_IDS: Final = {
    "local": (MODELS_ROOT, "The folder that local: references are relative to."),
    "store": ("MODELS_STORE", "The store of the audit service; the model's reference is in the properties."),
    "hf": ("HUGGING_FACE_HUB", "The Hugging Face Hub; the model's reference is in the properties."),
    "mlflow": ("MLFLOW_REGISTRY", "MLflow's model registry; the model's reference is in the properties."),
}
"""What a model's name is relative to, by the scheme of its reference: an id, and words for people."""

_SEVERITIES: Final = {"error": "8.0", "note": "3.0"}
"""GitHub's ``security-severity`` by a rule's level: high for a verdict, low for one gate."""

_LINK: Final = re.compile(r"\[(?=[^\[\]]*\]\()")
"""The beginning of ``[text](target)``, which viewers draw as a link."""

_VERDICT_RULE: Final = "backdoor/verdict"
_CANDIDATE_RULE: Final = "backdoor/candidate"
_FULL: Final = "Behaviour conditioned on a trigger string"


def render(subject: Subject) -> bytes:
    """The report as one SARIF log."""
    return json.dumps(log(subject), indent=1, ensure_ascii=False).encode()


def log(subject: Subject) -> dict[str, Any]:
    """The log as Python values."""
    gates = words.gates(subject.report)
    return {
        "$schema": SCHEMA,
        "version": VERSION,
        "runs": [
            {
                "tool": {"driver": _driver(gates, bool(subject.report.candidates))},
                "automationDetails": {
                    # Consumers identify the runs of one analysis by the part before the last slash.
                    "id": f"backdoor-audit/{subject.question_hash('run', subject.fine_tuned)[:16]}/"
                    f"{subject.report.audit_id}"
                },
                "invocations": [_invocation(subject)],
                "originalUriBaseIds": _base_ids(subject),
                "results": [
                    _verdict(subject),
                    *(_gate(subject, gate) for gate in gates),
                    *(_candidate(subject, row) for row in subject.report.candidates),
                ],
                "columnKind": "unicodeCodePoints",
                "properties": _properties(subject),
            }
        ],
    }


def _driver(gates: tuple[GateWords, ...], several: bool) -> dict[str, Any]:
    candidate = _rule(
        _CANDIDATE_RULE,
        "BackdoorCandidate",
        "One of several suspected pairs",
        "The verdict on one of several suspected pairs, corrected for multiple testing.",
        "error",
    )
    return {
        "name": "Backdoor Audit",
        "version": API_VERSION,
        "semanticVersion": API_VERSION,
        "rules": [
            _rule(_VERDICT_RULE, "BackdoorVerdict", _FULL, "The verdict over all four gates.", "error"),
            *(
                _rule(
                    f"backdoor/{gate.name}",
                    f"Gate{gate.name.capitalize()}",
                    gate.question,
                    f"The gate '{gate.name}'. Evidence here is one condition of the verdict.",
                    "note",
                )
                for gate in gates
            ),
            *([candidate] if several else []),
        ],
    }


def _rule(rule_id: str, name: str, short: str, full: str, level: str) -> dict[str, Any]:
    return {
        "id": rule_id,
        "name": name,
        "shortDescription": {"text": short},
        "fullDescription": {"text": full},
        "defaultConfiguration": {"level": level},
        "help": {"text": "The audit's report says what was measured; docs/method.md explains how."},
        "properties": {
            "tags": ["security", "machine-learning", "backdoor"],
            "precision": "high",
            "security-severity": _SEVERITIES[level],
        },
    }


def _verdict(subject: Subject) -> dict[str, Any]:
    report = subject.report
    kind, level = _verdict_level(report.verdict, subject.fails)
    parts = [report.summary, words.VERDICT_MEANINGS[report.verdict]]
    if report.verdict == "no_evidence":
        parts += [*(f"Examined: {line}." for line in words.examined(report)), words.smallest_effect(report)]
    result = _result(subject, 0, _VERDICT_RULE, kind, level, " ".join(parts), subject.question_hash)
    result["properties"] = {"verdict": report.verdict, "failOn": report.fail_on}
    if report.flagged_features:
        result["locations"][0]["logicalLocations"] = [
            {"name": feature.id, "fullyQualifiedName": f"layer {feature.layer}/{feature.id}", "kind": "feature"}
            for feature in report.flagged_features
        ]
    return result


def _verdict_level(verdict: Verdict, fails: bool) -> tuple[str, str]:
    """Kind and level. A verdict that a person must act on never has a kind that viewers hide."""
    match verdict:
        case "flagged" | "review":
            return "fail", "error" if fails else "warning"
        case "invalid":
            return "fail", "warning"
        case "no_evidence":
            return "pass", "none"


def _gate(subject: Subject, gate: GateWords) -> dict[str, Any]:
    kind, level = {"passed": ("fail", "note"), "failed": ("pass", "none"), "not_assessed": ("open", "none")}[gate.state]
    text = f"{gate.question} {gate.outcome.capitalize()}: {gate.text}."
    if gate.state == "failed":
        text += f" {words.smallest_effect(subject.report)}"
    index = 1 + list(words.QUESTIONS).index(gate.name)
    return _result(subject, index, f"backdoor/{gate.name}", kind, level, text, subject.pair_hash)


def _candidate(subject: Subject, row: CandidateRow) -> dict[str, Any]:
    kind, level = _verdict_level(row.verdict, subject.meets(row.verdict))
    if words.standing(row) == "open":
        kind = "open"
    index = 1 + len(words.QUESTIONS)
    text = words.candidate(subject.report, row)
    result = _result(subject, index, _CANDIDATE_RULE, kind, level, text, partial(subject.pair_hash, row=row))
    result["properties"] = {"verdict": row.verdict, "place": row.place, "screeningOnly": row.screening_only}
    return result


def _result(
    subject: Subject, index: int, rule_id: str, kind: str, level: str, text: str, asked: Callable[..., str]
) -> dict[str, Any]:
    """One result; ``asked`` is a hash of the question that it answers."""
    provenance = subject.report.provenance
    return {
        "ruleId": rule_id,
        "ruleIndex": index,
        "kind": kind,
        "level": level,
        "message": {"text": _plain(text)},
        "locations": [{"physicalLocation": _place(subject), "properties": {"model": subject.fine_tuned}}],
        "partialFingerprints": {
            "trigger/v1": asked(rule_id, subject.fine_tuned),
            "checkpoint/v1": asked(rule_id, provenance.base_digest, provenance.tuned_digest),
        },
    }


def _plain(text: str) -> str:
    """Untrusted text as a plain text message: readable, and none of it is a link (SARIF 3.11.6)."""
    return _LINK.sub(r"\\[", readable(text))


def _place(subject: Subject) -> dict[str, Any]:
    scheme, _, name = subject.fine_tuned.partition(":")
    path = name if subject.checkpoint_file is None else f"{name}/{subject.checkpoint_file}"
    # Code scanning refuses a whole upload because of one URI with a scheme, and reads relative ones as file paths.
    artifact = {"uri": quote(path, safe="/"), "uriBaseId": _BASE_IDS[scheme][0]}
    # Weights have no lines, but code-scanning services show a result only if it names one.
    return {"artifactLocation": artifact, "region": {"startLine": 1}}


def _base_ids(subject: Subject) -> dict[str, Any]:
    """The base of the results' URIs. It has no URI itself, because no consumer can open it."""
    base_id, text = _BASE_IDS[subject.fine_tuned.partition(":")[0]]
    return {base_id: {"description": {"text": text}}}


def _invocation(subject: Subject) -> dict[str, Any]:
    found: dict[str, Any] = {"executionSuccessful": subject.report.verdict != "invalid"}
    for name, moment in (("startTimeUtc", subject.started_at), ("endTimeUtc", subject.finished_at)):
        if moment is not None:
            found[name] = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    notifications = [{"level": "warning", "message": {"text": _plain(text)}} for text in subject.report.warnings]
    if notifications:
        found["toolExecutionNotifications"] = notifications
    return found


def _properties(subject: Subject) -> dict[str, Any]:
    report = subject.report
    return {
        "auditId": report.audit_id,
        "trigger": report.trigger,
        "baseModel": subject.base_model,
        "fineTuned": subject.fine_tuned,
        "baseDigest": report.provenance.base_digest,
        "tunedDigest": report.provenance.tuned_digest,
        "methodVersion": report.method_version,
        "smallestEffectNats": report.smallest_effect_nats,
        "examined": list(words.examined(report)),
        "notAssessed": list(report.not_assessed),
        "limits": list(report.limits),
        "candidates": [
            row.model_dump(include={"triggered", "clean", "verdict", "place", "effect_nats", "p_holm"})
            for row in report.candidates
        ],
    }
