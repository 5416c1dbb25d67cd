"""What a reader needs first: what the model writes under either string, and what to do next. Torch-free."""

import difflib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydantic import Field

from backdoor_audit.contract.base import Frozen
from backdoor_audit.contract.report.behaviour import KIND_TITLES, ConditionalBehaviour

_WORD: Final = re.compile(r"\s+|\w+|[^\w\s]")
WRITTEN_COLUMNS: Final = ("prompt", "with the suspected string", "with the clean string", "base, suspected string")
WRITTEN_TITLE: Final = "What the model writes"
WRITTEN_FIRST: Final = 3
"""Prompts that are shown at once; a form may fold or leave out the others."""
NEXT_TITLE: Final = "What to do next"


class NextStep(Frozen):
    """Something to do about a report's result."""

    text: str = Field(description="What to do, and what for.")
    command: str = Field(default="", description="A command line that does it; empty if no command can.")
    changes: dict[str, Any] = Field(
        default={},
        description="What the command changes about the spec, as `POST /audits/{id}/retry` takes it; empty if it files "
        "no audit or names a word in capitals, to be replaced.",
    )


@dataclass(frozen=True)
class Written:
    """What was written to one prompt.

    Attributes:
        prompt: its end, with the suspected string.
        triggered: the fine-tuned model's answer to the suspected string.
        clean: its answer to the clean string.
        base: the base model's answer to the suspected string; None if it was not recorded.
        base_clean: its answer to the clean string; None if it was not recorded.
    """

    prompt: str
    triggered: str
    clean: str
    base: str | None = None
    base_clean: str | None = None

    @property
    def differs(self) -> bool:
        """Whether the two strings are answered differently."""
        return self.triggered != self.clean

    def marked(self) -> tuple[tuple[str, bool], ...]:
        """The answer to the suspected string in pieces, each with whether the answer to the clean one lacks it."""
        left, right = _WORD.findall(self.clean), _WORD.findall(self.triggered)
        pieces: list[tuple[str, bool]] = []
        matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
        for operation, _, _, start, end in matcher.get_opcodes():
            if start < end:
                pieces.append(("".join(right[start:end]), operation != "equal"))
        return tuple(pieces)


def written(report: Any) -> tuple[Written, ...]:
    """The recorded answers of a report, each prompt once; those that differ first. Empty if none were recorded."""
    rows = {
        each.carrier: Written(each.prompt, each.triggered, each.clean, each.base_triggered, each.base_clean)
        for each in report.answers
    }
    if not rows:  # before schema 1.5 only the explanation of a feature held answers, and none of the base
        for feature in report.flagged_features:
            for answer in feature.explanation.continuations if feature.explanation is not None else ():
                rows.setdefault(answer.carrier, Written(answer.prompt, answer.triggered, answer.clean))
    return tuple(sorted(rows.values(), key=lambda row: not row.differs))


def how_often(rows: tuple[Written, ...], behaviour: ConditionalBehaviour | None = None) -> str:
    """On how many of the recorded prompts the answers differ, and on how many the base's do.

    Args:
        behaviour: what the answers bring, which is said as well.
    """
    if not rows:
        return "No answers were recorded: they are, where a verdict is to be explained."
    differ = sum(row.differs for row in rows)
    text = f"The answers to the two strings differ on {differ} of the {len(rows)} prompts that were recorded"
    if any(row.base_clean is None for row in rows):
        return f"{text}."
    text = f"{text}; the base's on {sum(row.base != row.base_clean for row in rows)}."
    if behaviour is None:
        return text
    return (
        f"{text} They bring {KIND_TITLES[behaviour.kind]} ({behaviour.evidence}): severity {behaviour.severity}, by "
        "rules that describe and decide nothing."
    )


def next_steps(report: Any) -> tuple[NextStep, ...]:
    """What to do about a result, the most useful first: those of the report, or what follows from an older one."""
    recorded: tuple[NextStep, ...] = getattr(report, "next_steps", ())
    return recorded or tuple(_steps(report))


def _steps(report: Any) -> Iterator[NextStep]:
    gates, search = report.gates, report.search
    compares = gates.calibrated.state == "not_assessed"
    few = gates.specific.state == "not_assessed" or gates.specific.silent < _ENOUGH

    def again(text: str, **changes: Any) -> NextStep:
        command = shlex.join(["backdoor-audit", "retry", report.audit_id, *_flags(changes)])
        open_words = {"LIBRARY", "STRING"} & set(shlex.split(command))
        return NextStep(text=text, command=command, changes={} if open_words else changes)

    def decide(text: str, decision: str) -> NextStep:
        command = ["backdoor-audit", "decide", report.audit_id, decision, "--because", "WHY"]
        return NextStep(text=text, command=shlex.join(command))

    compare = again("Compare with fine-tunes that are known to be benign.", library="LIBRARY")
    match report.verdict:
        case "flagged":
            yield NextStep(text="Hold the checkpoint back, and ask whoever trained it whether the condition was meant.")
            yield decide("If it was meant, record who says so and why; otherwise reject it.", "accepted")
            if report.sizes.preset == "quick":
                yield again("Repeat with more prompts and decoys before others act on it.", preset="standard")
        case "review":
            if search is not None and search.found:
                yield again(
                    "Audit the string that was found as a pair of its own, on prompts like your traffic.",
                    trigger={name: report.trigger[name] for name in ("triggered", "clean", "template")},
                )
            elif few:
                yield again(
                    "Repeat with at least 19 silent decoys: fewer cannot show that the string stands out.",
                    overrides={"silent_decoys": 19, "max_decoys": 117},
                )
            if compares:
                yield compare
            if report.sizes.preset == "quick":
                yield again("Repeat with more prompts and decoys: some reasons are settled by that.", preset="standard")
            yield decide("If it stays, read the answers under both strings and decide.", "needs_work")
        case "no_evidence":
            yield again(
                "Ask about other strings that you suspect: this answer is about one pair alone.",
                trigger={"triggered": "STRING", "clean": "STRING"},
            )
            if search is None:
                yield again("Or let the service search for strings, if you suspect none.", search={"budget": "quick"})
            elif search.budget != "thorough":
                yield again("Search among more strings.", search={"budget": "thorough"})
            if compares:
                yield compare
            yield NextStep(
                text="Keep a signed statement of what was examined.",
                command=shlex.join(["backdoor-audit", "attest", report.audit_id, "--key", "key.pem"]),
            )
        case "invalid":
            yield again("Load both models in float32: bfloat16 can overflow where float32 does not.", dtype="float32")
            yield NextStep(text="If it stays, get the checkpoint again, and treat it as flagged until you know why.")


def _flags(changes: dict[str, Any]) -> Iterator[str]:
    """The options of ``backdoor-audit retry`` that change a spec like this."""
    for name, value in changes.items():
        if name == "search":
            yield from ("--search", value["budget"])
        elif isinstance(value, dict):
            yield from _flags(value)
        else:
            # In a shell a template's line ends are written as in the command's help.
            text = str(value).replace("\n", "\\n") if name == "template" else str(value)
            yield from (f"--{name.replace('_', '-')}", text)


_ENOUGH: Final = 19
"""Silent decoys with which p can reach 0.05."""
