"""Trains the organisms of the split, audits them, and scores the verdicts. Resumable: finished work is never repeated.

``python -m benchmarks.detection`` does all of it; ``--train``, ``--audit``, ``--thresholds`` and ``--score`` do one
step. ``--split PART`` and ``--only ID`` restrict it, ``--minutes N`` starts nothing new after N minutes. Every
organism's card and every audit is a line of a JSON Lines file in ``results``, which is replaced as a whole, so that the
run can be stopped at any time. Several processes share the work: start the command once per core with
``OMP_NUM_THREADS=1``. Test units are audited once ``thresholds.json`` exists: it is chosen on the development part, and
never changed afterwards.

``--quick`` audits the four example adapters, two backdoored and two benign, and writes ``results/quick.json``.
"""

import argparse
import contextlib
import fcntl
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import structlog
from transformers.utils.logging import disable_progress_bar

from benchmarks.detection.calibration import score_missing
from benchmarks.detection.make_split import SPLIT, TEST_PARTS
from benchmarks.detection.organisms.model_cards import remade
from benchmarks.detection.organisms.models import nudged_base
from benchmarks.detection.organisms.replacements import with_replacements
from benchmarks.detection.organisms.train import describe_card, make
from benchmarks.detection.quick import run_quick
from benchmarks.detection.records import all_cards, audit_place, card_place, collect
from benchmarks.detection.scores import table as scoring
from benchmarks.detection.scores.choose_thresholds import NotReady, freeze
from benchmarks.detection.specs import spec_of
from benchmarks.detection.verdicts import THRESHOLDS
from benchmarks.harness.audits import PASSING, Bench, done
from benchmarks.harness.machine import ROOT, describe
from benchmarks.harness.records import Line, read, write
from benchmarks.harness.setup import base_folder

RESULTS: Final = Path(__file__).parent / "results"
PARTS: Final = ("development", "calibration", *TEST_PARTS)

logger = logging.getLogger("detection")

Organism = dict[str, Any]


class Run:
    """One run: its folders, and whether there is time to start something else."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.base = base_folder(options.base)
        self.bench = Bench(options.data.absolute())
        self.device: str = options.device
        self.only = frozenset(options.only or ())
        self.parts = (options.split,) if options.split else PARTS
        self._end = time.monotonic() + 60 * options.minutes if options.minutes else None
        self.split: dict[str, Any] = read(SPLIT)

    @property
    def time_is_up(self) -> bool:
        """Whether the time for starting new work is over."""
        return self._end is not None and time.monotonic() > self._end

    @contextlib.contextmanager
    def claim(self, name: str, *, wait: bool = False) -> Iterator[bool]:
        """Whether no other process works on ``name``; none will until this is released. A killed process holds
        nothing.
        """
        path = self.bench.data / "locks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True

    def organisms(self) -> list[Organism]:
        """The requested organisms, part by part; within a part, merges come last, because they need others."""
        split = with_replacements(self.split, all_cards(RESULTS))
        every = [*split["backdoored"], *split["benign"]]
        wanted = [each for each in every if each["part"] in self.parts and (not self.only or each["id"] in self.only)]
        return sorted(wanted, key=lambda each: (PARTS.index(each["part"]), each["method"] == "merge"))

    def card_place(self, organism: Organism) -> Line:
        """The place of an organism's card."""
        return card_place(RESULTS, organism)

    def card(self, organism: Organism) -> dict[str, Any] | None:
        """The card of an organism; None before it is made."""
        place = self.card_place(organism)
        return read(place) if place.is_file() else None

    def weights(self, organism: Organism) -> Path:
        """The organism's folder, created if it is missing. Afterwards, its card holds the digest of these weights.

        Retrained weights may differ on another machine. If they do, the card is rewritten, and keeps the rates of the
        former ones (``benchmarks.detection.organisms.model_cards``).
        """
        with self.claim(f"model.{organism['id']}", wait=True):
            return self._weights(organism)

    def nudged(self) -> Path:
        """The folder of the base with one weight changed, created if it is missing."""
        with self.claim("model.base-against-base", wait=True):
            return nudged_base(self.base, self.bench.data / "models")

    def _weights(self, organism: Organism) -> Path:
        folder, before = self.bench.data / "models" / organism["id"], self.card(organism)
        if folder.is_dir() and before is not None:
            digest = self.bench.resolve(folder).digest
            if "digest" not in before:
                write(self.card_place(organism), before | {"digest": digest})
                return folder
            if before["digest"] == digest:
                return folder
            logger.warning("%s: these are not the weights of its card; they are trained again", organism["id"])
        if organism["method"] == "merge":
            by_id = {each["id"]: each for each in self.split["benign"]}
            for name in organism["parameters"]["of"]:
                self.weights(by_id[name])
        device = "cuda" if self.device == "auto" and _has_gpu() else "cpu" if self.device == "auto" else self.device
        card = make(organism, self.base, self.bench.data, device=device)
        made = card | describe() | {"digest": self.bench.resolve(folder).digest}
        write(self.card_place(organism), remade(before, made))
        logger.info("%s", describe_card(card))
        return folder


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def train(run: Run) -> None:
    """Make every organism that has no card yet."""
    for organism in run.organisms():
        if run.time_is_up:
            return
        with run.claim(f"train.{organism['id']}") as ours:
            if ours and run.card(organism) is None:
                run.weights(organism)


def audit(run: Run, part: str) -> None:
    """Audit every unit of a part that has no record yet: own pairs, other pairs, other seeds, then ``standard``."""
    for organism, unit, how in ordered(run, part):
        if run.time_is_up:
            return
        out = audit_place(RESULTS, unit, how)
        with run.claim(out.name) as ours:
            if ours and not done(out):
                _audit(run, organism, unit, how, out)


def _audit(run: Run, organism: Organism | None, unit: dict[str, Any], how: dict[str, Any], out: Line) -> None:
    if organism is None:
        folder, carriers = run.nudged(), unit["carriers"]
    else:
        card = run.card(organism)
        if card is None or card["missed"]:
            return  # not made yet, or excluded and counted
        folder, carriers = run.weights(organism), organism["carriers"]
        if (run.card(organism) or card)["missed"]:
            return  # trained again, and these weights miss a limit
    spec = spec_of(unit, how, carriers, base=run.base.name, tuned=folder.name)
    extra = {"unit": unit["id"], "organism": organism and organism["id"], "role": unit["role"], "audit": how}
    try:
        record = run.bench.recorded(spec, run.base, folder, out, extra, device=run.device)
    except PASSING as error:
        logger.warning("%s: %s; nothing is recorded, a later run tries again", out.name, error)
        return
    outcome = record["report"]["verdict"] if "report" in record else record["failure"]["code"]
    logger.info("%s %s-%d: %s in %.0f s", unit["id"], how["preset"], how["seed"], outcome, record["seconds"])


def audit_parts(run: Run) -> None:
    """Development, then the thresholds, then calibration scores, then the test part."""
    for part in run.parts:
        if part == "calibration":
            score_missing(run.organisms(), run.split["calibration_keys"], run, RESULTS)
            continue
        if part in TEST_PARTS and not THRESHOLDS.is_file():
            logger.warning("the thresholds are not frozen yet: no test unit is audited")
            continue
        audit(run, part)
        if part == "development":
            set_thresholds(run.split)


def set_thresholds(split: dict[str, Any]) -> None:
    """Freeze the thresholds if development is finished; otherwise log why not."""
    if THRESHOLDS.is_file():
        return
    try:
        record = freeze(collect(split, RESULTS))
    except NotReady as error:
        logger.warning("no thresholds yet: %s", error)
    else:
        logger.info("thresholds: %s", record["thresholds"])


def ordered(run: Run, part: str) -> Iterable[tuple[Organism | None, dict[str, Any], dict[str, Any]]]:
    """(organism or None for the base, unit, audit) of a part, in the order in which they are processed."""
    found: list[tuple[Organism | None, dict[str, Any], dict[str, Any]]] = [
        (organism, unit, how)
        for organism in run.organisms()
        for unit in organism["units"]
        for how in unit["audits"]
        if organism["part"] == part
    ]
    found += [
        (None, unit, how)
        for unit in run.split["base_against_base"]
        for how in unit["audits"]
        if unit["part"] == part and (not run.only or unit["id"] in run.only)
    ]

    def place(item: tuple[Organism | None, dict[str, Any], dict[str, Any]]) -> tuple[bool, bool, bool]:
        _, unit, how = item
        return how != unit["audits"][0], how["preset"] != "quick", unit["role"] not in ("true", "mentioned")

    return sorted(found, key=place)


def main(argv: list[str] | None = None) -> int:
    """Run the requested steps; returns the exit status."""
    options = _options(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    disable_progress_bar()
    if options.quick:
        return run_quick(base_folder(options.base), Bench(options.data.absolute()), RESULTS, device=options.device)
    stages = ("train", "audit", "thresholds", "score")
    wanted = [name for name in stages if getattr(options, name)] or ["train", "audit", "score"]
    if "train" in wanted or "audit" in wanted:
        run = Run(options)
        if "train" in wanted:
            train(run)
        if "audit" in wanted:
            audit_parts(run)
    if "thresholds" in wanted:
        set_thresholds(read(SPLIT))
    if "score" in wanted:
        scoring.write_pages(read(SPLIT), RESULTS)
    return 0


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="only make organisms")
    parser.add_argument("--audit", action="store_true", help="only audit")
    parser.add_argument("--thresholds", action="store_true", help="only freeze the thresholds, from development")
    parser.add_argument("--score", action="store_true", help="only write the tables and figures")
    parser.add_argument("--quick", action="store_true", help="four example adapters, in minutes")
    parser.add_argument("--split", choices=PARTS, help="one part")
    parser.add_argument("--only", action="append", metavar="ID", help="one organism (or base unit); may be repeated")
    parser.add_argument("--minutes", type=float, help="start nothing new after so many minutes")
    parser.add_argument("--base", type=Path, help="base checkpoint; the example's by default")
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "detection", help="folder for weights and caches")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
