"""The pages build without a broken link, and every command block says whether it is run."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.commands import IN_COPY, WITH_SERVICE, blocks

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = list(blocks())
STRICT = ("--strict",)


@pytest.mark.parametrize("block", BLOCKS, ids=[f"{block.page}-{block.number}" for block in BLOCKS])
def test_a_block_is_run_or_says_why_not(block):
    run = block.run.startswith(WITH_SERVICE) or block.run in IN_COPY
    assert run or (block.run.startswith("no (") and block.run.endswith(")"))
    if block.language == "python":
        compile(block.body, block.page, "exec")
    else:
        subprocess.run(["bash", "-n", "-c", block.body], check=True)


def test_some_blocks_are_run():
    assert sum(block.run.startswith(WITH_SERVICE) for block in BLOCKS) >= 5


def test_the_site_builds_strictly(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", *STRICT, "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "how-to" / "ci.html").is_file()
    assert 'href="benchmarks/paper/results/table.html"' in (tmp_path / "method.html").read_text(encoding="utf-8")
    assert (tmp_path / "benchmarks" / "paper" / "results" / "table.html").is_file()


def test_a_broken_link_stops_the_build(tmp_path):
    """Without ``--quiet``: that takes the warnings away which strictness counts."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# A\n\n[b](index.md#none)\n")
    config = "site_name: a\nvalidation: {links: {anchors: warn}}\nstrict: true\n"
    (tmp_path / "mkdocs.yml").write_text(config)
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", *STRICT, "--site-dir", str(tmp_path / "site")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
