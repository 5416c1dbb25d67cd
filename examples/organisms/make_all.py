"""Trains every organism.

``python -m examples.organisms.make_all --base BASE --out OUT`` writes ``OUT/<name>/`` for each. Each in its own
process, so that one after the other has the machine to itself and a missed gate does not stop the rest.
"""

import argparse
import logging
import subprocess
import sys
from pathlib import Path

from examples.organisms.prepare_base import BaseNotFound, prepare
from examples.organisms.recipes import RECIPES

logger = logging.getLogger("organisms")


def main(argv: list[str] | None = None) -> int:
    """Train what was asked for; returns the exit status, 1 if any organism missed its gates."""
    parser = argparse.ArgumentParser(description="Train all model organisms.")
    parser.add_argument("--base", type=Path, required=True, help="folder of the base checkpoint; prepared if missing")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets one folder an organism")
    parser.add_argument("--full", action="store_true", help="train all weights, not adapters")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--only", nargs="+", choices=sorted(RECIPES), default=sorted(RECIPES))
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        prepare(options.base)
    except BaseNotFound as error:
        logger.error("%s", error)
        return 1
    failed = []
    for name in options.only:
        logger.info("%s", name)
        command = [sys.executable, "-m", "examples.organisms.train", name, "--base", str(options.base)]
        command += ["--out", str(options.out / name), "--device", options.device, *(["--full"] if options.full else [])]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if failed:
        logger.error("missed their gates: %s", ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
