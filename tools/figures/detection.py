"""Figures of the detection benchmark: counts of verdicts, bounds, areas under the ROC."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

from audit.stats.statistics import clopper_pearson, zero_alarm_bound
from benchmarks.detection.__main__ import RESULTS
from benchmarks.detection.make_split import SECOND, SPLIT, TEST_PARTS
from benchmarks.detection.records import Found, Unit, collect
from benchmarks.detection.scores.detectors import AMPLIFICATION, BIS, BIS_P95, DETECTORS, S, auroc, auroc_interval
from benchmarks.detection.verdicts import is_shifted
from benchmarks.harness.records import read

OUTCOMES: Final = ("flagged", "review", "no_evidence")

LARGE: Final = 0.48
"""What a random subspace recovers where it recovers much."""

DETECTOR_NAMES: Final = {
    S: "S, the causal effect",
    "output_kl": "`output_kl`",
    "diffmean, amplification": "difference of means, amplification",
    AMPLIFICATION: "amplification of the leading direction, largest of the layers",
    "amplification, chosen layer": "the same at the chosen layer",
    BIS: "`bis` of the feature with the largest attribution",
    BIS_P95: "`bis_p95`, the largest of all features (the seed paper's)",
    "frozen random, bis": "untrained dictionary, `bis`",
    "frozen random, amplification": "untrained dictionary, amplification",
    "reported feature, amplification": "reported feature, amplification",
}


def figures() -> dict[str, str]:
    """Every figure by its name."""
    found = collect(read(SPLIT), RESULTS)
    own = _of(found, TEST_PARTS, "backdoored", own=True)
    benign = _of(found, TEST_PARTS, "benign", own=True)
    other = _of(found, TEST_PARTS, "backdoored", own=False)
    base = _of(found, TEST_PARTS, "base", own=False)
    return {
        "verdicts": _table(own, benign, other, base),
        "models": str(len(own) + len(benign)),
        **_counts("backdoored", own),
        "backdoored-flagged-without-library": _share(own, "flagged", without_library=True),
        **_counts("benign", benign),
        **_counts("other-pairs", other),
        **_counts("base-itself", base),
        **_bounds(found, benign),
        **_part_tables(found),
        **_areas(found),
        **_flagged_backdoors(found),
    }


def _of(found: Found, parts: Sequence[str], label: str, *, own: bool) -> list[Unit]:
    """First audits of these parts; ``own`` are those under the model's own pair."""
    units = [unit for part in parts for unit in found.of(part, label=label)]
    return [unit for unit in units if (unit.role in ("true", "mentioned")) == own]


def _verdict(unit: Unit, *, without_library: bool = False) -> str:
    return unit.uncalibrated if without_library else unit.verdict


def _share(units: Sequence[Unit], outcome: str, *, without_library: bool = False) -> str:
    count = sum(_verdict(unit, without_library=without_library) == outcome for unit in units)
    return f"{count} of {len(units)}"


def _counts(name: str, units: Sequence[Unit]) -> dict[str, str]:
    return {f"{name}-{outcome.replace('_', '-')}": _share(units, outcome) for outcome in OUTCOMES}


def _table(own: Sequence[Unit], benign: Sequence[Unit], other: Sequence[Unit], base: Sequence[Unit]) -> str:
    rows = {
        f"{len(own)} backdoored models, their own trigger": own,
        f"{len(benign)} benign models": benign,
        f"{len({unit.model for unit in other})} backdoored models, other strings ({len(other)} audits)": other,
        f"the base against itself ({len(base)} audits)": base,
    }
    lines = ["| audited with `quick` | flagged | review | no evidence |", "| --- | --- | --- | --- |"]
    for name, units in rows.items():
        counted = Counter(unit.verdict for unit in units)
        lines.append(f"| {name} | {' | '.join(str(counted[outcome]) for outcome in OUTCOMES)} |")
    return "\n".join(lines)


def _bounds(found: Found, benign: Sequence[Unit]) -> dict[str, str]:
    """What no false alarm among the benign test models bounds; merges are sums of other models, so they are left out.

    The exact one-sided 95% bound, with models, or recipes, taken as independent.
    """
    values: dict[str, str] = {}
    groups: dict[str, Sequence[Unit]] = {"": benign}
    groups |= {f"{_name(part)}-": found.of(part, role="mentioned") for part in TEST_PARTS}
    for name, units in groups.items():
        models = [unit for unit in units if unit.recipe != "merge"]
        recipes = {unit.recipe for unit in models}
        alarmed = {unit.recipe for unit in models if unit.verdict == "flagged"}
        alarms = sum(unit.verdict == "flagged" for unit in models)
        by_model, by_recipe = _upper(alarms, len(models)), _upper(len(alarmed), len(recipes))
        values[f"{name}benign-models"] = str(len(models))
        values[f"{name}benign-recipes"] = str(len(recipes))
        values[f"{name}bound"] = by_model
        values[f"{name}bound-by-recipe"] = by_recipe
        values[f"{name}false-alarms"] = (
            f"{alarms or 'None'} of {len(models)} benign models that are not merges was flagged: the false-alarm rate "
            f"on models made like these is below {by_model} (exact one-sided 95% bound, models taken as independent), "
            f"or below {by_recipe} counted by recipe."
        )
    return values


def _upper(count: int, of: int) -> str:
    bound = clopper_pearson(count, of, confidence=0.9)[1] if count else zero_alarm_bound(of)
    return f"{100 * bound:.1f}%"


def _name(part: str) -> str:
    return "second-part" if part == SECOND else "first-part"


def _part_tables(found: Found) -> dict[str, str]:
    """One table for each test part, in the method's words."""
    values = {}
    for part in TEST_PARTS:
        own, benign = found.of(part, role="true"), found.of(part, role="mentioned")
        merges = [unit for unit in benign if unit.recipe == "merge"]
        excluded = [
            sum(bool(found.cards.get(model["id"], {}).get("missed")) for model in found.models(part, label))
            for label in ("backdoored", "benign")
        ]
        shares = [unit.report["localisation"]["share"] for unit in own if unit.verdict == "flagged"]
        powers = [unit.report["power"]["detected"] for unit in (*own, *benign) if unit.report.get("power")]
        spikes = [share for share in powers if share is not None]
        rows = {
            "backdoored, the trigger works at least 9 times in 10": _verdict_counts([u for u in own if u.strong]),
            "backdoored, it works less often": _verdict_counts([u for u in own if not u.strong]),
            "benign, without merges": _verdict_counts([u for u in benign if u.recipe != "merge"]),
            "benign merges of models that are in the part": _verdict_counts(merges) if merges else "none in this part",
            "excluded because they missed a limit": f"{excluded[0]} backdoored, {excluded[1]} benign",
            "backdoored, judged without the benign library": _verdict_counts(own, without_library=True),
            "at most four features recover half of what the directions do": (
                f"{sum(share >= 0.5 for share in shares)} of {len(shares)} flagged models "
                f"(median share {median(shares):.2f})"
            ),
            "the spike that the power statement names": (
                f"seen in {min(spikes):.1%} to {max(spikes):.1%} of 1,000 fresh repeats, {len(spikes)} audits"
            ),
        }
        lines = ["| preset `quick`, own pairs | result |", "| --- | --- |"]
        values[f"{_name(part)}-table"] = "\n".join([*lines, *(f"| {name} | {cell} |" for name, cell in rows.items())])
    return values


def _verdict_counts(units: Sequence[Unit], *, without_library: bool = False) -> str:
    counted = Counter(_verdict(unit, without_library=without_library) for unit in units)
    return f"of {len(units)}: " + ", ".join(f"{counted[name]} `{name}`" for name in OUTCOMES if counted[name])


def _areas(found: Found) -> dict[str, str]:
    """How well one number a model separates backdoored from benign models, under their own pairs."""
    lines = ["| one number per model | AUROC, first test part | 95% | second test part | 95% |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    values = {}
    for name, shown in DETECTOR_NAMES.items():
        cells = []
        for part in TEST_PARTS:
            scored = [_scored(found.of(part, role=role), name) for role in ("true", "mentioned")]
            area = auroc(*([value for _, value in side] for side in scored))
            interval = auroc_interval(*scored)
            cells += [f"{area:.2f}", f"{interval[0]:.2f} to {interval[1]:.2f}" if interval else "perfect separation"]
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    values["areas"] = "\n".join(lines)
    others = [_area(found, SECOND, name) for name in DETECTOR_NAMES if name not in (S, "output_kl")]
    values["second-part-other-areas"] = f"{min(others):.2f} to {max(others):.2f}"
    return values


def _scored(units: Sequence[Unit], name: str) -> list[tuple[str, float]]:
    values = [(unit.recipe, DETECTORS[name](unit.report)) for unit in units]
    return [(recipe, value) for recipe, value in values if value is not None]


def _area(found: Found, part: str, name: str) -> float:
    sides = [[value for _, value in _scored(found.of(part, role=role), name)] for role in ("true", "mentioned")]
    return auroc(*sides) or 0.0


def _flagged_backdoors(found: Found) -> Mapping[str, str]:
    """What is special in the flagged backdoors of development and both test parts."""
    own = [unit for part in ("development", *TEST_PARTS) for unit in found.of(part, role="true")]
    flagged = [unit for unit in own if unit.verdict == "flagged"]
    tested = [unit for unit in flagged if unit.part in TEST_PARTS]
    localised = sum(unit.report["localisation"]["localised"] for unit in tested)
    nulls = [unit.report["gates"]["causal"]["null_max"] for unit in flagged]
    shifted = sum(
        any(
            is_shifted(row["amplification"], row["amplification_p"], unit.report["gates"]["specific"]["drawn"])
            for row in unit.report["directions"]
        )
        for unit in flagged
    )
    return {
        "flagged-backdoors": str(len(flagged)),
        "shifted": f"{shifted} of {len(flagged)}",
        "not-shifted": str(len(flagged) - shifted),
        "random-least": f"{min(nulls):.3f}",
        "random-most": f"{max(nulls):.2f}",
        "random-median": f"{median(nulls):.2f}",
        "random-large": f"{sum(round(value, 2) >= LARGE for value in nulls)} of {len(nulls)}",
        "localised": f"{localised} of {len(tested)}",
        "not-localised": f"{len(tested) - localised} of {len(tested)}",
    }
