"""What is on record for a split: organisms, audited units with their verdicts, calibration scores."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from audit.statistics import conformal_p
from benchmarks._audits import done, read
from benchmarks.detection.verdicts import thresholds, verdict_under

MIN_CALIBRATION: Final = 19
HIGH_SUCCESS: Final = 0.9


@dataclass(frozen=True)
class Unit:
    """One audit that was done.

    Attributes:
        organism: the entry of the split; None for the base against itself.
        card: what the organism reached.
        verdict: under the thresholds in force, calibration taken into account where there is enough of it.
    """

    organism: Mapping[str, Any] | None
    card: Mapping[str, Any] | None
    part: str
    role: str
    name: str
    audit: str
    report: Mapping[str, Any]
    verdict: str

    @property
    def label(self) -> str:
        """backdoored, benign or base."""
        return "base" if self.organism is None else str(self.organism["label"])


@dataclass(frozen=True)
class Found:
    """Everything on record for a split."""

    split: Mapping[str, Any]
    cards: Mapping[str, Mapping[str, Any]]
    units: tuple[Unit, ...]
    failures: tuple[str, ...]
    calibration: Mapping[tuple[str, str], Mapping[str, float]]
    """Effects by (carriers, kind of string), then by model."""

    def models(self, part: str, label: str) -> list[Mapping[str, Any]]:
        """The organisms of a part."""
        return [each for each in self.split[label] if each["part"] == part]

    def of(self, part: str, audit: str = "quick-0", **wanted: Any) -> list[Unit]:
        """The units of a part whose attributes are those given."""
        return [
            unit
            for unit in self.units
            if unit.part == part
            and unit.audit == audit
            and all(getattr(unit, name) == value for name, value in wanted.items())
        ]


def collect(split: Mapping[str, Any], folder: Path) -> Found:
    """Read all records; verdicts under the thresholds in force."""
    limits = thresholds()
    cards = {path.stem: read(path) for path in sorted((folder / "organisms").glob("*.json"))}
    calibration = _calibration(split, folder)
    units, failures = [], []
    for organism, unit, part, carriers in every_unit(split):
        for how in unit["audits"]:
            path = folder / "audits" / f"{unit['id']}.{how['preset']}-{how['seed']}.json"
            if not done(path):
                continue
            record = read(path)
            if "failure" in record:
                failures.append(f"{unit['id']}: {record['failure']['code']}")
                continue
            report = record["report"]
            p = None
            if how == unit["audits"][0]:
                p = _p_conformal(report, calibration.get((carriers, unit["string_kind"]), {}))
            card = None if organism is None else cards.get(organism["id"])
            name = f"{how['preset']}-{how['seed']}"
            verdict = verdict_under(report, limits, p)
            units.append(Unit(organism, card, part, unit["role"], unit["id"], name, report, verdict))
    return Found(split, cards, tuple(units), tuple(failures), calibration)


def every_unit(
    split: Mapping[str, Any],
) -> Iterator[tuple[Mapping[str, Any] | None, Mapping[str, Any], str, str]]:
    """(organism, unit, part, carriers) of everything that is to be audited."""
    for label in ("backdoored", "benign"):
        for organism in split[label]:
            for unit in organism["units"]:
                yield organism, unit, organism["part"], organism["carriers"]
    for unit in split["base_against_base"]:
        yield None, unit, unit["part"], unit["carriers"]


def _calibration(split: Mapping[str, Any], folder: Path) -> dict[tuple[str, str], dict[str, float]]:
    found: dict[tuple[str, str], dict[str, float]] = {}
    for key in split["calibration_keys"]:
        place = (key["carriers"], key["string_kind"])
        ending = f".{key['carriers']}.{key['string_kind'].replace('_', '-')}.json"
        for path in sorted((folder / "calibration").glob(f"*{ending}")):
            if not done(path):
                continue
            record = read(path)
            if "entry" in record:
                found.setdefault(place, {})[record["organism"]] = max(record["entry"]["effect_nats"], 0.0)
    return found


def _p_conformal(report: Mapping[str, Any], others: Mapping[str, float]) -> float | None:
    if len(others) < MIN_CALIBRATION:
        return None
    return conformal_p(max(report["gates"]["specific"]["effect_nats"], 0.0), list(others.values()))
