"""The pages build without a broken link, and every command block says whether it is run."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.commands import WITH_SERVICE, blocks

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = list(blocks())


@pytest.mark.parametrize("block", BLOCKS, ids=[f"{block.page}-{block.number}" for block in BLOCKS])
def test_a_block_is_run_or_says_why_not(block):
    assert block.run.startswith(WITH_SERVICE) or (block.run.startswith("no (") and block.run.endswith(")"))
    subprocess.run(["bash", "-n", "-c", block.body], check=True)


def test_some_blocks_are_run():
    assert sum(block.run.startswith(WITH_SERVICE) for block in BLOCKS) >= 5


def test_the_site_builds_strictly(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "how-to" / "ci.html").is_file()
