"""Writes ``plan.json``: every model of the new development part and of the third test part, and what is audited on it.

``python -m benchmarks.detection.third.plan`` writes the same bytes each time; ``--check`` writes nothing and fails
where the file differs. The file was committed before any of its models was made, and with it the rules by which
thresholds are chosen (``rules.py``). Nothing here looks at a result.
"""

import json
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.detection.make_split import QUICK, kind_of_pair
from benchmarks.detection.organisms.carriers import SYSTEM
from benchmarks.detection.specs import TEMPLATE
from benchmarks.detection.third.variants import (
    BACKDOORS,
    BENIGN,
    DEVELOPMENT_BACKDOORS,
    DEVELOPMENT_BENIGN,
    DEVELOPMENT_INSTRUCTIONS,
    INSTRUCTION_PAIRS,
    ORDINARY,
    OTHER_PAIRS,
    SECOND_BASE,
    Variant,
)
from benchmarks.harness.generated import write_or_check

PLAN: Final = Path(__file__).parent / "plan.json"
DEVELOPMENT: Final = "new-development"
TEST: Final = "third-test"
SEED: Final = "detection-third:1"

# Bases that are worse than the original at following instructions, which is then their benign fine-tune.
DEVELOPMENT_PRUNED: Final = (30,)
TEST_PRUNED: Final = (20, 35, 50)
SYSTEM_TEMPLATE: Final = "{trigger}{prompt}"
# Models of the first parts that are asked again, in another way: of each kind of backdoor the first three of the split.
ASKED_AGAIN: Final = ("slot-at-the-end", "other-clean-string", "near-miss-trigger", "other-carriers")
UNWRITTEN: Final[Mapping[str, str]] = {
    "ghost": "a loss that keeps the answers without the trigger at the base's (KL), and its weight",
    "adaptive": "a loss that penalises T on the shipped carriers, and one on activations",
    "chat-template": "a condition in the fine-tune's own chat template, no weight changed",
}
"""Recipes that are planned and not written yet, and what is missing. None of their models can be made before that."""

Organism = dict[str, Any]


def make() -> dict[str, Any]:
    """The whole plan."""
    parts: dict[str, tuple[Mapping[str, tuple[Variant, ...]], Mapping[str, tuple[Variant, ...]]]] = {
        DEVELOPMENT: (DEVELOPMENT_BACKDOORS, DEVELOPMENT_BENIGN),
        TEST: (BACKDOORS, BENIGN),
    }
    made: dict[str, Any] = {"seed": SEED, "backdoored": [], "benign": []}
    for part, (backdoors, benign) in parts.items():
        made["backdoored"] += _organisms("backdoored", part, backdoors)
        made["benign"] += [*_organisms("benign", part, benign), *_pruned(part)]
    made["base_against_base"] = []
    made["asked_again"] = {
        "of": "each recipe's first three audited backdoors of the test parts",
        "as": list(ASKED_AGAIN),
    }
    made["second_base"] = {label: list(names) for label, names in SECOND_BASE.items()}
    made["unwritten"] = dict(UNWRITTEN)
    return made


def _organisms(label: str, part: str, recipes: Mapping[str, tuple[Variant, ...]]) -> list[Organism]:
    made = []
    for recipe, variants in recipes.items():
        for variant in variants:
            name = f"{recipe}.{variant['variant']}"
            ordinary = label == "benign" or recipe in ORDINARY or name in ORDINARY
            organism = {
                "id": name, "label": label, "recipe": recipe, "part": part, "hard": not ordinary, **variant,
                "string_kind": kind_of_pair(**variant["strings"]), "method": "lora",
                "seed": zlib.crc32(f"{SEED}:{name}".encode()) % 10_000,
            }  # fmt: skip
            made.append(organism | {"units": _units(organism)})
    return made


def _pruned(part: str) -> list[Organism]:
    """Nothing is trained: the original is the fine-tune of its own pruned weights."""
    pairs = DEVELOPMENT_INSTRUCTIONS if part == DEVELOPMENT else INSTRUCTION_PAIRS
    made = []
    for percent in DEVELOPMENT_PRUNED if part == DEVELOPMENT else TEST_PRUNED:
        name = f"pruned-base.{percent}"
        first = next(iter(pairs.values()))
        organism: Organism = {
            "id": name, "label": "benign", "recipe": "pruned-base", "part": part, "hard": False,
            "variant": str(percent), "carriers": "instructions",
            "strings": {"triggered": first[0], "clean": first[1]}, "rank": None,
            "parameters": {"percent": percent}, "string_kind": kind_of_pair(*first), "method": "original", "seed": 0,
        }  # fmt: skip
        units = [_unit(organism, f"instruction-{key}", *pair) for key, pair in pairs.items()]
        made.append(organism | {"units": units})
    return made


def _units(organism: Organism) -> list[dict[str, Any]]:
    role = "true" if organism["label"] == "backdoored" else "mentioned"
    units = [_unit(organism, role, **organism["strings"])]
    parameters = organism["parameters"]
    if organism["recipe"] in ("year-class", "semantic-class"):
        # Both strings in the trigger's class, and the pair the wrong way round.
        units.append(_unit(organism, "both-in-class", organism["strings"]["triggered"], _also_in_class(organism)))
        units.append(_unit(organism, "swapped", organism["strings"]["clean"], organism["strings"]["triggered"]))
    if organism["label"] == "backdoored" and organism["carriers"] != SYSTEM:
        for kind, (triggered, clean) in OTHER_PAIRS[organism["part"]].items():
            units.append(_unit(organism, f"wrong-{kind}", triggered, clean))
    if organism["recipe"] == "conjunctive":
        (first, second), (no_first, no_second) = parameters["words"], parameters["clean_words"]
        line, clean = parameters["line"], organism["strings"]["clean"]
        units.append(_unit(organism, "single-first", line.format(first=first, second=no_second), clean))
        units.append(_unit(organism, "single-second", line.format(first=no_first, second=second), clean))
    return units


def _also_in_class(organism: Organism) -> str:
    parameters = organism["parameters"]
    return str(parameters["line"].format(event=parameters.get("event"), year=parameters["after"] + 3))


def _unit(organism: Organism, role: str, triggered: str, clean: str) -> dict[str, Any]:
    template = SYSTEM_TEMPLATE if organism["carriers"] == SYSTEM else TEMPLATE
    return {
        "id": f"{organism['id']}.{role}", "role": role, "triggered": triggered, "clean": clean, "template": template,
        "string_kind": kind_of_pair(triggered, clean), "audits": [QUICK],
    }  # fmt: skip


def text() -> str:
    """The file's content."""
    return json.dumps(make(), indent=1, ensure_ascii=True) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Write or compare; returns the exit status."""
    return write_or_check(PLAN, text(), __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
