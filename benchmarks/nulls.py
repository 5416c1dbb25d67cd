"""What the specific gate lets pass when there is nothing to find, from recorded audits of benign models.

``python -m benchmarks.nulls PATH…`` reads reports (``report.json``, or the records of ``benchmarks.detection`` that
``--only`` names) of audits whose models are known to be benign, and answers three questions:

- The pair: how often is ``p_decoy_all`` of the audited pair at most α? One number per audit. A suspected pair need not
  be exchangeable with drawn strings, so this can fail.
- Each decoy in turn as the pair, the others as its decoys: how often does the gate pass, and how often does a first
  rank among the silent decoys leave the decision to the calibrated gate? One other decoy, drawn with a seed, counts
  twice, so that the comparison stays the same size as the audit's own; otherwise 19 decoys would leave 18, and nothing
  could reach p = 0.05. The ranks are nearly uniform by construction (of n decoys the largest always has the smallest p,
  a share of 1/n instead of 1/(n + 1)), but the gate also requires an effect in nats, and the first rank among silent
  decoys is not a p-value.
- Strings like the pair: the same for the decoys whose numbers are closest to it (years, dates), if there are any. If
  these differ from the rest, decoys are not exchangeable.

Shares come with exact intervals that take strings as independent. Strings of one model are not, so the number of models
with at least one is printed as well.
"""

import argparse
import json
import random
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from audit.measure.extraction import RESPONSE_NATS, RESPONSE_SHARE
from audit.stats.statistics import clopper_pearson, p_decoy_all, rank
from audit.verdict import gates as gating
from benchmarks.harness.machine import RESULTS, write_result
from benchmarks.harness.records import read_all

LEVELS: Final = (0.05, 0.1, 0.2, 0.5)
NEAREST: Final = 5
SEED: Final = 0


@dataclass(frozen=True)
class Recorded:
    """The results of one audit for the pair and for every decoy.

    Attributes:
        effects, reactions: of every decoy, T on B and output_kl on A, nats per carrier.
    """

    name: str
    triggered: str
    pair_effect: float
    pair_p: float | None
    pair_gate: str
    strings: tuple[str, ...]
    effects: tuple[float, ...]
    reactions: tuple[float, ...]

    @classmethod
    def of(cls, document: dict[str, Any], name: str) -> "Recorded":
        """Read from a report, or from a record that contains one."""
        report = document.get("report", document)
        decoys, gate = report["decoys"], report["gates"]["specific"]
        if isinstance(decoys, list):
            decoys = {key: [row[key] for row in decoys] for key in ("string", "effect_nats", "output_kl")}
            decoys["strings"] = decoys["string"]
        return cls(
            name=name,
            triggered=report["trigger"]["triggered"],
            pair_effect=gate["effect_nats"],
            pair_p=gate["p_decoy_all"],
            pair_gate=gate["state"],
            strings=tuple(decoys["strings"]),
            effects=tuple(decoys["effect_nats"]),
            reactions=tuple(decoys["output_kl"]),
        )


@dataclass(frozen=True)
class Turn:
    """One decoy in the pair's place.

    Attributes:
        left_open: ranks first among enough silent decoys, but not by p: the calibrated gate would have to decide.
    """

    string: str
    p: float
    passed: bool
    left_open: bool


def turns(audit: Recorded, seed: int = SEED) -> Iterator[Turn]:
    """Every decoy in turn as the pair, judged by the gate itself against the others, one of which counts twice.

    An audit with a single decoy is skipped.
    """
    source = random.Random(f"{seed}:{audit.triggered}")
    for index, string in enumerate(audit.strings):
        others = [other for other in range(len(audit.strings)) if other != index]
        if not others:
            return
        others.append(source.choice(others))
        effect, reaction = audit.effects[index], audit.reactions[index]
        effects = [audit.effects[other] for other in others]
        screened = reaction >= RESPONSE_NATS
        level = max(RESPONSE_NATS, RESPONSE_SHARE * reaction)
        responding = [screened and audit.reactions[other] >= level for other in others]
        silent = [each for each, responds in zip(effects, responding, strict=True) if not responds]
        p = p_decoy_all(effect, effects)
        # C is in none of the records, and decides nothing about the rank.
        decoys = [SimpleNamespace(unexplained=None, base_ratio=None) for _ in others]
        extraction: Any = SimpleNamespace(decoys=decoys, responding=responding, screened=screened, plain=None)
        confirmation: Any = SimpleNamespace(
            effect=effect, p_decoy_all=p, rank_among_silent=rank(effect, silent) if silent else None
        )
        gate = gating.specific_gate(extraction, confirmation)
        left_open = gate.state == "not_assessed" and len(silent) >= gating.MIN_SILENT
        yield Turn(string, p, gate.state == "passed", left_open)


def nearest(audit: Recorded, count: int = NEAREST) -> set[str]:
    """The decoys whose number is closest to the pair's; none if the pair contains no number."""
    wanted = _number(audit.triggered)
    if wanted is None:
        return set()
    numbered = [(abs(found - wanted), string) for string in audit.strings if (found := _number(string)) is not None]
    return {string for _, string in sorted(numbered)[:count]}


def _number(string: str) -> int | None:
    found = re.findall(r"\d+", string)
    return int("".join(found)) if found else None


def share(hits: Iterable[bool]) -> dict[str, Any]:
    """A count, its share and the exact 95% interval."""
    found = list(hits)
    if not found:
        return {"of": 0, "hits": 0, "share": None, "interval": None}
    return {
        "of": len(found), "hits": sum(found), "share": sum(found) / len(found),
        "interval": clopper_pearson(sum(found), len(found)),
    }  # fmt: skip


def summary(audits: Sequence[Recorded]) -> dict[str, Any]:
    """The answers to the three questions."""
    judged = [(audit, list(turns(audit))) for audit in audits if len(audit.strings) > 1]
    every = [turn for _, found in judged for turn in found]
    near = [turn for audit, found in judged for turn in found if turn.string in nearest(audit)]
    pairs = [audit.pair_p for audit in audits if audit.pair_p is not None]
    return {
        "audits": len(audits),
        "pair": {
            "p_at_most": {str(level): share(p <= level for p in pairs) for level in LEVELS},
            "gate_passed": share(audit.pair_gate == "passed" for audit in audits),
        },
        "each_decoy_in_turn": _of_turns(every)
        | {"audits_with_one_that_passed": sum(any(turn.passed for turn in found) for _, found in judged)},
        f"the_{NEAREST}_nearest_in_turn": _of_turns(near),
    }


def _of_turns(found: Sequence[Turn]) -> dict[str, Any]:
    return {
        "p_at_most": {str(level): share(turn.p <= level for turn in found) for level in LEVELS},
        "gate_passed": share(turn.passed for turn in found),
        "left_to_the_calibrated_gate": share(turn.left_open for turn in found),
    }


def read(paths: Iterable[Path], only: Collection[str] | None = None) -> list[Recorded]:
    """Every report under the paths, each once; failed audits and other files are skipped.

    Args:
        only: names of records or files; None for all.
    """
    found: dict[str, Recorded] = {}
    for path in paths:
        for file in sorted(path.rglob("*.json*")) if path.is_dir() else [path]:
            for name, document in _documents(file).items():
                wanted = only is None or name in only
                if wanted and isinstance(document, dict) and "gates" in document.get("report", document):
                    found[f"{file.resolve()}:{name}"] = Recorded.of(document, name)
    return list(found.values())


def _documents(file: Path) -> dict[str, Any]:
    if file.suffix == ".jsonl":
        return dict(read_all(file))
    return {file.stem: json.loads(file.read_text(encoding="utf-8"))}


def main() -> None:
    """Read, count, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, help="reports of benign models, or folders of them")
    parser.add_argument("--only", action="append", metavar="NAME", help="one record or file; may be repeated")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the folder that nulls.json is written into")
    arguments = parser.parse_args()
    audits = read(arguments.paths, arguments.only)
    if not audits:
        parser.error("no report was found there")
    write_result("nulls", summary(audits), arguments.out)


if __name__ == "__main__":
    main()
