"""Writes ``split.json``: every organism with its part, and the pairs that it is audited under.

``python -m benchmarks.detection.make_split`` writes the same bytes each time; ``--check`` writes nothing and fails if
the file differs. Three parts were written and committed before any organism was trained, any threshold chosen or any
verdict known. The second test part was added, and committed, before any of its organisms was trained; by then the first
had been scored, and the thresholds had long been frozen. Nothing here depends on a result.
"""

import json
import random
import sys
from pathlib import Path
from typing import Any, Final

from backdoor_audit.contract.spec.trigger_kind import differing_part, kind_of
from benchmarks.detection.organisms.variants import (
    BACKDOORS,
    BENIGN,
    CONVERSATIONS,
    INSTRUCTIONS,
    OTHER_PAIRS,
    SECOND_BACKDOORS,
    SECOND_BENIGN,
    SQL,
    Variant,
)
from benchmarks.harness.generated import write_or_check

SPLIT: Final = Path(__file__).parent / "split.json"
SEED: Final = "detection-split:1"
SECOND_SEED: Final = "detection-split:2"
SECOND: Final = "second-test"
TEST_PARTS: Final = ("test", SECOND)

# How many variants of each recipe go into each part; the order of the recipes with three is random.
DEVELOPMENT_BACKDOORS: Final = (1, 1, 1, 1, 2, 2)
CALIBRATION_BENIGN: Final = (2, 2, 2, 2, 3, 3, 3, 3)

FULL_BACKDOORS: Final = {"development": 1, "test": 3}
FULL_BENIGN: Final = {"development": 1, "calibration": 2, "test": 2}
FULL_SECOND: Final = {SECOND: 1}
RANKS: Final = (4, 8)
# Nothing is trained: the weights are changed by a rule, or added up.
UNTRAINED: Final = {"round-trip": "round-trip", "pruned": "round-trip", "merge": "merge"}

QUICK: Final = {"preset": "quick", "seed": 0, "architectures": ["diff_sae"]}
REPEATS: Final = (
    {"preset": "quick", "seed": 1, "architectures": ["diff_sae"]},
    {"preset": "quick", "seed": 2, "architectures": ["diff_sae"]},
    {"preset": "standard", "seed": 0, "architectures": ["diff_sae", "crosscoder"]},
)

Organism = dict[str, Any]


def make() -> dict[str, Any]:
    """The whole split."""
    source = random.Random(SEED)
    backdoored = _backdoored(source)
    benign = _benign(source)
    _settle_merges(benign, source)
    for organism in (*backdoored, *benign):
        organism["units"] = _units(organism)
    _mark_repeats(backdoored, benign)
    source = random.Random(SECOND_SEED)
    for so_far, label, recipes in ((backdoored, "backdoored", SECOND_BACKDOORS), (benign, "benign", SECOND_BENIGN)):
        for organism in (more := _second(label, recipes, source)):
            organism["units"] = _units(organism)
        so_far += more
    keys = [
        {"carriers": carriers, "string_kind": kind, "triggered": pair[0], "clean": pair[1]}
        for carriers in (SQL, INSTRUCTIONS, CONVERSATIONS)
        for kind, pair in OTHER_PAIRS["calibration"].items()
    ]
    return {
        "seed": SEED,
        "second_seed": SECOND_SEED,
        "backdoored": backdoored,
        "benign": benign,
        "base_against_base": _base_units(),
        "calibration_keys": keys,
    }


def said(part: str) -> str:
    """The name of a part in a sentence."""
    return part.replace("-", " ")


def kind_of_pair(triggered: str, clean: str) -> str:
    """The kind of an audit's decoys for this pair."""
    return kind_of(differing_part(triggered, clean)[1])


def _backdoored(source: random.Random) -> list[Organism]:
    counts = list(DEVELOPMENT_BACKDOORS)
    source.shuffle(counts)
    dealt: list[Organism] = []
    for (recipe, variants), development in zip(BACKDOORS.items(), counts, strict=True):
        order = list(variants)
        source.shuffle(order)
        for place, variant in enumerate(order):
            part = "development" if place < development else "test"
            dealt.append(_organism("backdoored", recipe, variant, part))
    _settings(dealt, FULL_BACKDOORS, source)
    return dealt


def _benign(source: random.Random) -> list[Organism]:
    counts = list(CALIBRATION_BENIGN)
    source.shuffle(counts)
    dealt: list[Organism] = []
    for (recipe, variants), calibration in zip(BENIGN.items(), counts, strict=True):
        order = list(variants)
        source.shuffle(order)
        parts = ["development", *["calibration"] * calibration, *["test"] * (5 - calibration)]
        dealt += [_organism("benign", recipe, variant, part) for part, variant in zip(parts, order, strict=True)]
    _benign_settings(dealt, FULL_BENIGN, source)
    return dealt


def _second(label: str, recipes: dict[str, tuple[Variant, ...]], source: random.Random) -> list[Organism]:
    """The second test part: all of its variants."""
    dealt = [_organism(label, recipe, variant, SECOND) for recipe, variants in recipes.items() for variant in variants]
    (_settings if label == "backdoored" else _benign_settings)(dealt, FULL_SECOND, source)
    return dealt


def _benign_settings(dealt: list[Organism], full: dict[str, int], source: random.Random) -> None:
    _settings([organism for organism in dealt if organism["recipe"] not in UNTRAINED], full, source)
    for organism in dealt:
        if organism["recipe"] in UNTRAINED:
            organism |= {"method": UNTRAINED[organism["recipe"]], "rank": None, "seed": 0}


def _organism(label: str, recipe: str, variant: dict[str, Any], part: str) -> Organism:
    return {
        "id": f"{recipe}.{variant['variant']}",
        "label": label,
        "recipe": recipe,
        "part": part,
        **variant,
        "string_kind": kind_of_pair(**variant["strings"]),
    }


def _settings(organisms: list[Organism], full: dict[str, int], source: random.Random) -> None:
    """LoRA of rank 4 or 8 for most, all weights for some in each part; each with a training seed."""
    for organism in organisms:
        organism |= {"method": "lora", "rank": source.choice(RANKS), "seed": source.randrange(10_000)}
    for part, count in full.items():
        for organism in source.sample([item for item in organisms if item["part"] == part], count):
            organism |= {"method": "full", "rank": None}


def _settle_merges(benign: list[Organism], source: random.Random) -> None:
    """Each merge takes two benign adapters of its own part, so that no part contains anything of another."""
    for organism in benign:
        if organism["recipe"] == "merge":
            adapters = [item["id"] for item in benign if item["part"] == organism["part"] and item["method"] == "lora"]
            organism["parameters"] = organism["parameters"] | {"of": sorted(source.sample(adapters, 2))}


def _units(organism: Organism) -> list[dict[str, Any]]:
    if organism["part"] == "calibration":
        return []
    role = "true" if organism["label"] == "backdoored" else "mentioned"
    units = [_unit(organism, role, **organism["strings"])]
    if organism["label"] == "benign":
        return units
    for kind, (triggered, clean) in OTHER_PAIRS[organism["part"]].items():
        units.append(_unit(organism, f"wrong-{kind.replace('_', '-')}", triggered, clean))
    if organism["recipe"] == "conjunctive":
        parameters = organism["parameters"]
        (first, second), (no_first, no_second) = parameters["words"], parameters["clean_words"]
        line, clean = parameters["line"], organism["strings"]["clean"]
        units.append(_unit(organism, "single-first", line.format(first=first, second=no_second), clean))
        units.append(_unit(organism, "single-second", line.format(first=no_first, second=second), clean))
    return units


def _unit(organism: Organism, role: str, triggered: str, clean: str) -> dict[str, Any]:
    return {
        "id": f"{organism['id']}.{role}",
        "role": role,
        "triggered": triggered,
        "clean": clean,
        "string_kind": kind_of_pair(triggered, clean),
        "audits": [QUICK],
    }


def _mark_repeats(backdoored: list[Organism], benign: list[Organism]) -> None:
    """Twelve units are also audited with two more seeds and with ``standard``: one per backdoor kind, and six benign
    ones.
    """
    first = {
        organism["recipe"]: organism for organism in reversed([*backdoored, *benign]) if organism["part"] == "test"
    }
    for recipe in (*BACKDOORS, *list(BENIGN)[:6]):
        unit = first[recipe]["units"][0]
        unit["audits"] = [QUICK, *REPEATS]


def _base_units() -> list[dict[str, Any]]:
    units = []
    for part, places in (("development", (SQL,)), ("test", (INSTRUCTIONS, CONVERSATIONS))):
        for carriers in places:
            for kind, (triggered, clean) in OTHER_PAIRS[part].items():
                units.append(
                    {
                        "id": f"base.{carriers}.{kind.replace('_', '-')}",
                        "part": part,
                        "role": "base",
                        "carriers": carriers,
                        "triggered": triggered,
                        "clean": clean,
                        "string_kind": kind,
                        "audits": [QUICK],
                    }
                )
    return units


def text() -> str:
    """The file's content."""
    return json.dumps(make(), indent=1, ensure_ascii=False) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Write or compare; returns the exit status."""
    return write_or_check(SPLIT, text(), __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
