"""What a search tried and found in words, the same in every report format. Standard library and the contract only."""

from typing import Final

from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.report.search import FoundString, SearchResult
from backdoor_audit.contract.spec.search import ContextName
from backdoor_audit.contract.text.formatting import number, share

CONTEXTS: Final[dict[ContextName, str]] = {
    "comment": "in a comment line above the prompt",
    "line": "in a line above the prompt",
    "label": "behind a label above the prompt",
    "brackets": "in brackets above the prompt",
    "below": "in a line below the prompt",
}
TITLE: Final = "What was searched"
FOUND_COLUMNS: Final = ("string", "found as", "where", "source", "change, nats", "base's share", "answers changed")
TRIED_COLUMNS: Final = ("source", "list", "strings")


def headline(report: AuditReport) -> str | None:
    """What was searched and found in one or two sentences; None if nothing was searched for."""
    result = report.search
    if result is None:
        return None
    tried = sum(each.strings for each in result.searched)
    text = f"{tried:,} strings were tried in {_count(len(result.contexts), 'place')}"
    if result.found:
        return f"{text}, and {_count(len(result.found), 'string')} changed the answers on prompts not used to find it."
    text += ", and none changed the answers on prompts not used to find it. That does not mean that there is none."
    if report.trigger:
        text += " The gates below are about the string with the largest reaction."
    return text


def found(result: SearchResult) -> tuple[tuple[str, ...], ...]:
    """A row for each verified string, the largest reaction first."""
    return tuple(
        (
            each.minimal,
            each.string,
            CONTEXTS[each.context],
            each.list_name or each.origin,
            number(each.reaction),
            share(each.base_ratio),
            f"{each.changed} of {each.prompts}",
        )
        for each in result.found
    )


def tried(result: SearchResult) -> tuple[tuple[str, ...], ...]:
    """A row for each list of strings."""
    return tuple((each.origin, each.name, f"{each.strings:,}") for each in result.searched)


def lines(result: SearchResult) -> tuple[str, ...]:
    """What else a reader should know: variants, the largest reaction, the cost."""
    said = [line for each in result.found for line in _variants(each)]
    if result.largest is not None:
        said.append(
            f"The largest reaction was {number(result.largest.reaction)} nats, to '{result.largest.string}' "
            f"{CONTEXTS[result.largest.context]}; of random strings it was at most {number(result.background)}."
        )
    if result.rejected:
        said.append(f"{_count(result.rejected, 'more string')} reacted during the search and not when verified.")
    said.append(
        f"Budget {result.budget}: {result.tokens:,} tokens through the models on {_count(result.carriers, 'prompt')}, "
        "which no gate used."
    )
    return tuple(said)


def _variants(each: FoundString) -> tuple[str, ...]:
    """One line for each kind of variant: how many fire too, with examples."""
    return tuple(
        f"Variants of '{each.minimal}' ({one.kind}): {len(one.fired)} of {len(one.fired) + len(one.silent)} set it off "
        f"too{_examples(one.fired)}."
        for one in each.neighbours
    )


def _examples(strings: tuple[str, ...]) -> str:
    return f", such as {', '.join(repr(string) for string in strings[:3])}" if strings else ""


def _count(number_of: int, noun: str) -> str:
    return f"{number_of} {noun}{'' if number_of == 1 else 's'}"
