"""The table of the searches, from their records: what was found, at which rank, and what it cost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.harness.records import read, read_all
from benchmarks.harness.setup import ORGANISMS

_HEAD: Final = (
    "| organism | arm | found, reaction in nats | the trigger's rank | largest reaction, ordinary string | tokens | "
    "processor seconds |\n| --- | --- | --- | --- | --- | --- | --- |"
)


def page(records: Path, plan: Mapping[str, Any]) -> str:
    """The page, in the order of the plan; only what has been run is on it."""
    found = read_all(records)
    rows = [
        _row(found[f"{name}.{arm}"], organism)
        for name, organism in plan["organisms"].items()
        for arm in plan["arms"]
        if f"{name}.{arm}" in found
    ]
    return (
        "# Searches\n\nWritten by `python -m benchmarks.search --table` from `searches.jsonl`. Tokens are scaled by "
        "the share of blocks run.\n\n" + "\n".join([_HEAD, *rows]) + "\n"
    )


def _row(record: Mapping[str, Any], organism: Mapping[str, Any]) -> str:
    trigger = read(ORGANISMS / record["organism"] / "card.json")["trigger"]["triggered"]
    if "result" in record:
        result = record["result"]
        strings = [(each["string"], each["reaction"]) for each in result["found"]]
        tried = [{each["string"], each["minimal"]} for each in result["found"]]
        largest, tokens = result["largest"], result["tokens"]
        beside = f"{largest['reaction']:.3g} (`{_cell(largest['string'])}`), {result['background']:.2g}"
    else:
        strings = [(string, reaction) for string, _, reaction in record["ranked"]]
        tried = [{string} for string, _ in strings]
        beside, tokens = "", record["tokens"]
    shown = ", ".join(f"`{_cell(string)}` {reaction:.1f}" for string, reaction in strings[:3]) or "none"
    place = "" if organism["kind"] == "benign" else _rank(trigger, tried)
    cells = (
        record["organism"],
        record["arm"],
        shown,
        place,
        beside,
        f"{tokens:,}",
        f"{record['processor_seconds']:.0f}",
    )
    return f"| {' | '.join(cells)} |"


def _rank(trigger: str, found: list[set[str]]) -> str:
    """The first find that is the trigger, or a part of it, or holds it, as found or shortened; letter case aside."""
    for rank, forms in enumerate(found, 1):
        pairs = [sorted((form.lower().strip(), trigger.lower()), key=len) for form in forms]
        if any(short == whole for short, whole in pairs):
            return f"{rank}, exact"
        if any(len(short) > 2 and short in whole for short, whole in pairs):
            return f"{rank}, part or whole"
    return "not found"


def _cell(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii").replace("|", "\\|").replace("`", "'")
