from pathlib import Path

from benchmarks.__main__ import commands, results, table
from benchmarks.harness.goals import at_most
from benchmarks.harness.machine import write_result


def test_the_table_has_a_row_for_each_goal(tmp_path):
    write_result("memory", {"goals": [at_most("memory", 1.3, 1.25, "×")]}, tmp_path)
    write_result("metrics", {"features": 18432, "prompts": 2500, "seconds": 1.0, "goal_seconds": 2.0}, tmp_path)
    audits = {"preset": "quick", "audits": [{}, {}], "verdicts_right": True, "goals": []}
    write_result("audit-quick", audits, tmp_path)
    page = table(results(tmp_path))
    rows = [line for line in page.splitlines() if line.startswith("| ")][2:]
    assert [row.split(" | ")[:4] for row in rows] == [
        ["| right verdicts, quick", "2", "2", "yes"],
        ["| memory", "≤ 1.25×", "1.3×", "**no**"],
        ["| metrics of 18,432 features × 2,500 prompts, with the interval", "≤ 2 s", "1 s", "yes"],
    ]
    assert all("machine 1" in row for row in rows)
    assert page.count("\n1. ") == 1


def test_quick_leaves_out_standard_alone():
    everything, quick = commands(quick=False, base=None), commands(quick=True, base=Path("base"))
    assert [command[:3] for command in everything[:-1]] == [command[:1] + command[1:-2] for command in quick]
    assert everything[-1] == ["benchmarks.audit", "--preset", "standard"]
