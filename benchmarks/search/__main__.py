"""Searches organisms for their triggers, with pair and line form hidden, and writes one record a search.

    python -m benchmarks.search                            # every organism of the plan by every arm that is missing
    python -m benchmarks.search --only sql-year --arm quick
    python -m benchmarks.search --table                    # the table from the committed records

A killed search continues where it stopped (``--data`` holds its workspace); a finished one is not repeated.
"""

import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from audit.models.pair import load_pair
from audit.prompts.carriers import load_set
from audit.search.stage import search
from backdoor_audit.contract.spec.search import SearchSpec
from benchmarks.harness.audits import Bench
from benchmarks.harness.machine import ROOT, describe
from benchmarks.harness.records import Line, read, write
from benchmarks.harness.setup import base_folder, example_adapter, parser
from benchmarks.search.baselines import by_reaction
from benchmarks.search.table import page
from storage.folders import ArtifactFolder

FOLDER: Final = Path(__file__).parent
RECORDS: Final = FOLDER / "results" / "searches.jsonl"
SHOWN: Final = 10
logger = logging.getLogger("search")


def run(name: str, arm: str, plan: Mapping[str, Any], base: Path, data: Path) -> dict[str, Any]:
    """One search, as its record."""
    organism, settings = plan["organisms"][name], plan["arms"][arm]
    bench, spec = Bench(data), SearchSpec.model_validate(settings["spec"])
    pair = load_pair(base, example_adapter(name, base, data / "examples"))
    carriers = load_set(organism["carriers"])
    started, processor = time.monotonic(), time.process_time()
    if settings["method"] == "reaction":
        best, tokens = by_reaction(pair, spec, carriers)
        rows = [[item.string, item.context, round(item.reaction or 0.0, 4)] for item in best[:SHOWN]]
        outcome: dict[str, Any] = {"ranked": rows, "tokens": round(tokens)}
    else:
        result = search(
            pair, spec, carriers,
            workspace=ArtifactFolder(data / "workspaces" / f"search-{name}-{arm}"),
            cache=bench.cache(), base_digest=bench.resolve(base).digest,
            progress=lambda fraction, message: logger.info("%s %s %3.0f%% %s", name, arm, 100 * fraction, message),
        )  # fmt: skip
        outcome = {"result": result.model_dump(mode="json")}
    seconds = {"seconds": time.monotonic() - started, "processor_seconds": time.process_time() - processor}
    return {"organism": name, "arm": arm, **outcome, **seconds, "environment": describe()}


def main(argv: list[str] | None = None) -> int:
    """Run what is missing; returns the exit status."""
    options = parser(__doc__)
    options.add_argument("--only", action="append", help="an organism of the plan; may be repeated")
    options.add_argument("--arm", action="append", help="an arm of the plan; may be repeated")
    options.add_argument("--data", type=Path, default=ROOT / "data" / "search", help="uncommitted files")
    options.add_argument("--table", action="store_true", help="write results/table.md and stop")
    given = options.parse_args(argv)
    plan = read(FOLDER / "plan.json")
    if not given.table:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        base = base_folder(given.base)
        for arm in given.arm or plan["arms"]:
            for name in given.only or plan["organisms"]:
                line = Line(RECORDS, f"{name}.{arm}")
                if not line.is_file():
                    write(line, run(name, arm, plan, base, given.data))
    (FOLDER / "results" / "table.md").write_text(page(RECORDS, plan), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
