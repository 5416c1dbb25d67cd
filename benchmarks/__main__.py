"""Run every benchmark, each in its own process, and write the table in ``benchmarks/results/README.md``.

``python -m benchmarks`` runs all of them; ``--quick`` leaves out the audits with preset ``standard``; ``--table`` only
writes the table again. Results of earlier runs are kept, each with its own commit and machine.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.harness.goals import at_most
from benchmarks.harness.machine import RESULTS, ROOT

MET = {True: "yes", False: "**no**", None: "not judged"}


def commands(*, quick: bool, base: Path | None) -> list[list[str]]:
    """The benchmarks in order: module and arguments."""
    models = ["--base", str(base)] if base else []
    presets = ["quick"] if quick else ["quick", "standard"]
    return [
        ["benchmarks.metrics"],
        ["benchmarks.extraction", *models],
        ["benchmarks.memory", *models],
        *(["benchmarks.audit", "--preset", preset, *models] for preset in presets),
    ]


def results(folder: Path) -> list[dict[str, Any]]:
    """All results, by name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def goals(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The table rows of one result."""
    yield from result.get("goals", ())
    if result["benchmark"] == "metrics":
        name = f"metrics of {result['features']:,} features × {result['prompts']:,} prompts, with the interval"
        yield at_most(name, result["seconds"], result["goal_seconds"], " s")
    if "verdicts_right" in result:
        right = sum(1 for _ in result["audits"]) if result["verdicts_right"] else "not all"
        yield {
            "figure": f"right verdicts, {result['preset']}",
            "goal": f"{len(result['audits'])}",
            "measured": str(right),
            "met": result["verdicts_right"],
        }


def table(found: list[dict[str, Any]]) -> str:
    """The results' page: one table of the figures that have a goal, then the machines."""
    machines: list[str] = []
    lines = ["| Figure | Goal | Measured | Met | Command | On |", "| --- | --- | --- | --- | --- | --- |"]
    for result in found:
        machine = _machine(result)
        if machine not in machines:
            machines.append(machine)
        place = f"machine {machines.index(machine) + 1}, {_commit(result)}"
        for row in goals(result):
            cells = [row["figure"], row["goal"], row["measured"], MET[row["met"]], f"`{result['command']}`", place]
            lines.append(f"| {' | '.join(cells)} |")
    described = [f"{number}. {machine}" for number, machine in enumerate(machines, start=1)]
    head = (
        "# Figures\n\nWritten by `make bench`; do not edit. The JSON files beside this page hold every number, the "
        "load\nof the machine while it was measured, and how it is counted. Ratios compare two things measured in "
        "turn in one run.\n"
    )
    return "\n".join([head, *lines, "", "Machines:", "", *described, ""])


def _machine(result: dict[str, Any]) -> str:
    machine, versions = result["machine"], result["versions"]
    units = ", ".join(flag for flag, there in machine["cpu_flags"].items() if there)
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{machine['cpu']}, {machine['usable_cores']} cores ({machine['torch_threads']} threads), {units}, "
        f"{machine['memory_gib']} GiB, GPU: {machine['gpu'] or 'none'}; {machine['system']}; {packages}"
    )


def _commit(result: dict[str, Any]) -> str:
    commit, _, changed = (result["commit"] or "unknown").partition(" ")
    return f"{result['measured_at'][:10]}, {commit[:10]}{' ' + changed if changed else ''}"


def main() -> int:
    """Run, write the table; 1 if a benchmark could not be run. Missing a goal is not a failure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="leave out the audits with preset standard")
    parser.add_argument("--table", action="store_true", help="write the table from the results that are there")
    parser.add_argument("--base", type=Path, help="base checkpoint; the example's by default")
    options = parser.parse_args()
    failed = []
    for command in [] if options.table else commands(quick=options.quick, base=options.base):
        print(f"\n$ python -m {' '.join(command)}", flush=True)
        if subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False).returncode != 0:
            failed.append(command[0])
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "README.md").write_text(table(results(RESULTS)), encoding="utf-8")
    print(f"\nTable: {RESULTS / 'README.md'}")
    for name in failed:
        print(f"{name} failed; what is above says why", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
