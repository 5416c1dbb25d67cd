"""The base's part of T as the second version of the method measured it, from a record."""

from statistics import median

from benchmarks.harness.machine import RESULTS
from benchmarks.harness.records import read


def figures() -> dict[str, str]:
    """Every figure by its name, in nats where nothing else is said."""
    units = read(RESULTS / "base_effect.json")["units"]
    city, base = units["multi-turn.city.wrong-word"], units["base.instructions.word"]
    pair, drawn, nouns = city["drawn"]["pair"], city["drawn"]["decoys"], city["topics.txt"]["decoys"]
    above = {row["string"].removeprefix("Section: "): row["tuned"] for row in nouns if row["tuned"] > pair["tuned"]}
    alone = base["drawn"]["answers_asked_alone"]
    return {
        "city-effect": f"{pair['tuned']:.2f}",
        "city-base-effect": f"{pair['base']:.2f}",
        "city-left": f"{pair['beyond']:.2f}",
        "city-drawn": str(len(drawn)),
        "city-drawn-most-left": f"{max(row['beyond'] for row in drawn):.2f}",
        "city-drawn-median": f"{median(row['tuned'] for row in drawn):.2f}",
        "city-nouns-median": f"{median(row['tuned'] for row in nouns):.2f}",
        "city-nouns-above": ", ".join(f"{name} {effect:.1f}" for name, effect in above.items()),
        "city-nouns-p": f"{city['topics.txt']['p']:.2f}",
        "base-effect": f"{base['drawn']['pair']['tuned']:.2f}",
        "base-effect-left": f"{base['drawn']['pair']['beyond']:.2f}",
        "base-effect-asked-alone": f"{alone['tuned']:.2f}",
        "base-answers-changed": str(alone["differ"]),
    }
