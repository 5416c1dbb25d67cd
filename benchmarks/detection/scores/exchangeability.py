"""The calibration part: which pairs its scores are for, and whether they are similar enough for a conformal p."""

from collections import Counter
from collections.abc import Iterator

from audit.stats.statistics import conformal_p
from backdoor_audit.contract.benign_library import MIN_ENTRIES
from benchmarks.detection.calibration import is_own
from benchmarks.detection.make_split import TEST_PARTS, said
from benchmarks.detection.records import FIRST, UNSEEN, Found


def calibration(found: Found) -> Iterator[str]:
    """Which pairs each key's scores are for: the limit of exchangeability with the test part, which uses each model's
    own pair.
    """
    yield (
        "A calibration model is scored under the pair of its own data if that is of the key's kind, otherwise under "
        "the key's pair, which it never saw. A test model is audited under its own pair. The scores of a key are "
        "exchangeable with the test model's only as far as this makes no difference."
    )
    yield ""
    yield "| carriers | kind of string | scores | own pair, in the data | own pair, not in the data | key's pair |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for key in found.split["calibration_keys"]:
        place = (key["carriers"], key["string_kind"])
        scored = found.calibration.get(place, {})
        models = [each for each in found.models("calibration", "benign") if each["id"] in scored]
        own = [each for each in models if is_own(each, key)]
        seen = sum(each["recipe"] not in UNSEEN for each in own)
        counts = [len(models), seen, len(own) - seen, len(models) - len(own)]
        yield f"| {place[0]} | {place[1]} | {' | '.join(map(str, counts))} |"
    if found.failed_scores:
        failed = [f"{name} ({code})" for name, code in found.failed_scores.items()]
        yield ""
        yield f"Scores that ended in a failure, {len(failed)}: {', '.join(failed)}."
    first = [unit for unit in found.units if unit.audit == FIRST]
    enough = sum(unit.compared >= MIN_ENTRIES for unit in first)
    yield ""
    yield f"The calibrated gate takes part in {enough} of {len(first)} first audits (it needs {MIN_ENTRIES} scores)."
    reasons = Counter(reason.split(": ", 1)[-1] for unit in first for reason in unit.left_out)
    if reasons:
        yield ""
        yield "Scores left out of comparisons: " + "; ".join(f"{why} ({n} audits)" for why, n in reasons.items()) + "."
    yield from _recipe_left_out(found)
    for part in TEST_PARTS:
        yield from _benign_test(found, part)


def _recipe_left_out(found: Found) -> Iterator[str]:
    """How often a model ranks first among the models of all other recipes, and how often it would by chance."""
    recipes = {each["id"]: each["recipe"] for each in found.models("calibration", "benign")}
    first: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    expected = 0.0
    for entries in found.calibration.values():
        for name, entry in entries.items():
            others = [max(other.effect_nats, 0.0) for of, other in entries.items() if recipes[of] != recipes[name]]
            if not others:
                continue
            finest = 1 / (len(others) + 1)
            asked[recipes[name]] += 1
            first[recipes[name]] += conformal_p(max(entry.effect_nats, 0.0), others) <= finest
            expected += finest
    if not asked:
        return
    each = ", ".join(f"{recipe} {first[recipe]} of {count}" for recipe, count in asked.items())
    yield ""
    yield (
        "A recipe that is not in the library: compared with the models of all other recipes, a calibration model "
        f"ranks first (the smallest possible p) in {first.total()} of {asked.total()} comparisons; if recipes were "
        f"exchangeable, it would be about {expected:.1f}. By recipe: {each}."
    )


def _benign_test(found: Found, part: str) -> Iterator[str]:
    units = found.of(part, role="mentioned")
    known = [unit.p_conformal for unit in units if unit.p_conformal is not None]
    if known:
        counts = ", ".join(f"at most {level:g}: {sum(p <= level for p in known)}" for level in (0.05, 0.1, 0.2, 0.5))
        yield ""
        yield (
            f"The conformal p of {len(known)} of {len(units)} benign models of the {said(part)} part under their own "
            f"pair; {counts}."
        )
