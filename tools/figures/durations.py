"""How long audits and training took, and on which machine."""

from collections.abc import Sequence
from statistics import median

from benchmarks.detection.__main__ import RESULTS
from benchmarks.detection.records import FIRST, all_cards
from benchmarks.harness.machine import RESULTS as MEASURED
from benchmarks.harness.records import read, read_all


def figures() -> dict[str, str]:
    """Every figure by its name."""
    bad, good = (_minutes(FIRST, role) for role in ("true", "mentioned"))
    standard = _minutes("standard-0", "true", "mentioned")
    made = [card["seconds"] for card in all_cards(RESULTS).values()]
    alone = {preset: read(MEASURED / f"audit-{preset}.json") for preset in ("quick", "standard")}
    machine = alone["quick"]["machine"]
    single = {preset: [each["seconds"] / 60 for each in record["audits"]] for preset, record in alone.items()}
    rows = [
        ("`quick`, one audit at a time", single["quick"]),
        ("`quick`, benign models, mostly two at a time", good),
        ("`quick`, backdoored models, mostly two at a time", bad),
        ("`standard`, one audit at a time", single["standard"]),
        ("`standard` with a crosscoder, three at a time", standard),
    ]
    lines = ["| audits of a 135M model | number | median | range |", "| --- | --- | --- | --- |"]
    lines += [f"| {name} | {len(times)} | {median(times):.0f} min | {_range(times)} |" for name, times in rows]
    memory = max(each["peak_memory_mib"] for record in alone.values() for each in record["audits"])
    return {
        "durations": "\n".join(lines),
        "quick-minutes": _range(single["quick"]),
        "standard-minutes": _range(single["standard"]),
        "hardware": f"{machine['usable_cores']} cores of an {machine['cpu']} processor, no GPU",
        "audit-memory": f"{memory / 1024:.1f} GiB",
        "training": f"{min(made):.0f} seconds to {max(made) / 60:.0f} minutes (median {median(made) / 60:.1f})",
    }


def _minutes(audit: str, *roles: str) -> list[float]:
    records = [each for name, each in read_all(RESULTS / "audits.jsonl").items() if name.endswith(f".{audit}")]
    return [record["seconds"] / 60 for record in records if record["role"] in roles]


def _range(minutes: Sequence[float]) -> str:
    low, high = f"{min(minutes):.0f}", f"{max(minutes):.0f}"
    return f"{low} min" if low == high else f"{low} to {high} min"
