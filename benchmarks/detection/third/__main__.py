"""Makes and audits the models of ``plan.json``, one record each. Resumable: what is done is never done again.

``python -m benchmarks.detection.third --part new-development`` trains and audits the development part; ``--only ID``,
``--roles true,swapped,…`` and ``--minutes N`` narrow it down, ``--train`` and ``--audit`` do one thing. Records are
lines of ``results/organisms.jsonl`` and ``results/audits.jsonl``. Two processes share the work: each leaves alone what
the other has begun. No model of the third test part is made before the thresholds are frozen.
"""

import argparse
import contextlib
import fcntl
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import structlog
from transformers.utils.logging import disable_progress_bar

from benchmarks.detection.organisms.models import pruned_base
from benchmarks.detection.organisms.train import describe_card, make
from benchmarks.detection.records import all_cards, audit_place, card_place
from benchmarks.detection.specs import spec_of
from benchmarks.detection.third.plan import DEVELOPMENT, PLAN, TEST
from benchmarks.harness.audits import PASSING, Bench, done
from benchmarks.harness.machine import ROOT, describe
from benchmarks.harness.records import read, write
from benchmarks.harness.setup import base_folder

RESULTS: Final = Path(__file__).parent / "results"
FROZEN: Final = Path(__file__).parent / "thresholds.json"

logger = logging.getLogger("detection")

Organism = dict[str, Any]


class Run:
    """One run over a part of the plan."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.base = base_folder(options.base)
        self.bench = Bench(options.data.absolute())
        self.device: str = options.device
        self._end = time.monotonic() + 60 * options.minutes if options.minutes else None
        plan = read(PLAN)
        self.organisms = [
            each
            for each in (*plan["backdoored"], *plan["benign"])
            if each["part"] == options.part
            and each["recipe"] not in plan["unwritten"]
            and (not options.only or each["id"] in options.only)
        ]
        self.roles = frozenset(options.roles.split(",")) if options.roles else None

    @property
    def time_is_up(self) -> bool:
        """Whether nothing new may be started."""
        return self._end is not None and time.monotonic() > self._end

    @contextlib.contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Whether no other process works at ``name``; none will until this is left."""
        path = self.bench.data / "locks" / f"third.{name}"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def train(self) -> None:
        """Make every model that has no card, or no weights here."""
        for organism in self.organisms:
            if self.time_is_up:
                return
            with self.claim(f"model.{organism['id']}") as ours:
                if ours and not self._made(organism):
                    self._make(organism)

    def _made(self, organism: Organism) -> bool:
        if organism["method"] == "original":
            return True
        card, folder = all_cards(RESULTS).get(organism["id"]), self._folder(organism)
        return card is not None and folder.is_dir() and card["digest"] == self.bench.resolve(folder).digest

    def _make(self, organism: Organism) -> None:
        card = make(organism, self.base, self.bench.data, device="cpu" if self.device == "auto" else self.device)
        digest = self.bench.resolve(self._folder(organism)).digest
        write(card_place(RESULTS, organism), card | describe() | {"digest": digest})
        logger.info("%s", describe_card(card))

    def _folder(self, organism: Organism) -> Path:
        return self.bench.data / "models" / str(organism["id"])

    def audit(self) -> None:
        """Audit every unit that has no record, own pairs first; a model that misses its limits is audited as well."""
        units = [(organism, unit) for organism in self.organisms for unit in organism["units"]]
        for organism, unit in sorted(units, key=lambda item: item[1] is not item[0]["units"][0]):
            if self.time_is_up:
                return
            if self.roles is not None and unit["role"] not in self.roles:
                continue
            out = audit_place(RESULTS, unit, unit["audits"][0])
            with self.claim(out.name) as ours:
                if ours and not done(out) and self._made(organism):
                    self._audit(organism, unit)

    def _audit(self, organism: Organism, unit: dict[str, Any]) -> None:
        how = unit["audits"][0]
        out = audit_place(RESULTS, unit, how)
        base, tuned = self.base, self._folder(organism)
        if organism["method"] == "original":
            base = pruned_base(self.base, self.bench.data / "models", organism["parameters"]["percent"])
            tuned = self.base
        spec = spec_of(unit, how, organism["carriers"], base=base.name, tuned=tuned.name)
        extra = {"unit": unit["id"], "organism": organism["id"], "role": unit["role"], "audit": how}
        try:
            record = self.bench.recorded(spec, base, tuned, out, extra, device=self.device)
        except PASSING as error:
            logger.warning("%s: %s; nothing is recorded, a later run tries again", out.name, error)
            return
        outcome = record["report"]["verdict"] if "report" in record else record["failure"]["code"]
        logger.info("%s: %s in %.0f s", unit["id"], outcome, record["seconds"])


def main(argv: list[str] | None = None) -> int:
    """Do what was asked for; returns the exit status, 1 where the test part is asked for too early."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=(DEVELOPMENT, TEST), required=True)
    parser.add_argument("--train", action="store_true", help="only make models")
    parser.add_argument("--audit", action="store_true", help="only audit those that are there")
    parser.add_argument("--only", action="append", metavar="ID", help="one model; may be repeated")
    parser.add_argument("--roles", help="roles of the units to audit, separated by commas; all by default")
    parser.add_argument("--minutes", type=float, help="start nothing new after so many minutes")
    parser.add_argument("--base", type=Path, help="base checkpoint; the example's by default")
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "detection", help="folder for weights and caches")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    disable_progress_bar()
    if options.part == TEST and not FROZEN.is_file():
        logger.error("the thresholds are not frozen yet: nothing of the test part is made")
        return 1
    run = Run(options)
    if options.train or not options.audit:
        run.train()
    if options.audit or not options.train:
        run.audit()
    return 0


if __name__ == "__main__":
    sys.exit(main())
