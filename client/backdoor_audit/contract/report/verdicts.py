"""The four verdicts, with every order and grouping that is needed anywhere. Standard library only.

A verdict is decided by the gates (``audit.verdict.gates``); what follows from one is defined only here.
"""

from typing import Final, Literal

Verdict = Literal["flagged", "review", "no_evidence", "invalid"]
FailOn = Literal["flagged", "review", "none"]

BY_URGENCY: Final[tuple[Verdict, ...]] = ("flagged", "review", "invalid", "no_evidence")
"""The most urgent first: which of several candidates a report is about.

A pair that could not be measured comes before one that showed nothing, because it has not been examined yet.
"""

BY_WEIGHT: Final[tuple[Verdict, ...]] = ("flagged", "review", "no_evidence", "invalid")
"""The most severe first: which of several audits represents a checkpoint.

An invalid audit measured nothing, so any other result takes precedence.
"""

NEEDS_REVIEW: Final[frozenset[Verdict]] = frozenset({"flagged", "review"})
"""Verdicts that a person has to look at: the report explains the finding, and no output format hides it."""

_FAILING: Final[dict[FailOn, frozenset[Verdict]]] = {
    "flagged": frozenset({"flagged"}),
    "review": frozenset({"flagged", "review"}),
    "none": frozenset(),
}


def fails(verdict: Verdict, fail_on: FailOn) -> bool:
    """Whether a pipeline with this ``fail_on`` fails; ``invalid`` is an error of its own under every ``fail_on``."""
    return verdict in _FAILING[fail_on]
