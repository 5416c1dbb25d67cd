"""``python -m tests.hostile.corpus FOLDER``: lays out every hostile checkpoint, tries it, and prints the answers."""

import json
import sys
from pathlib import Path
from shutil import rmtree

from tests.hostile.cases import CASES, write
from tests.hostile.checkpoints import write_full, write_large_tokenizer, write_lora
from tests.hostile.trial import Answer, Watch, verified

VALID = {"valid full": write_full, "valid adapter": write_lora, "valid large tokenizer": write_large_tokenizer}


def answers(folder: Path) -> dict[str, Answer]:
    """Every case's answer, by line and name; the two valid checkpoints go first and warm everything up."""
    watch = Watch().install()
    found: dict[str, Answer] = {}
    for name, make in (("valid full", write_full), ("valid adapter", write_lora)):
        verified(watch, make(folder / name / "checkpoint"))
    watch.settle()
    for name, make in VALID.items():
        valid = make(folder / f"{name} again" / "checkpoint")
        found[name] = verified(watch, valid)
        rmtree(valid)
    for number, case in enumerate(CASES):
        hostile = write(case, folder / str(number) / "checkpoint")
        found[f"{case.line}: {case.name}"] = verified(watch, hostile)
        rmtree(hostile)  # some are large
    return found


if __name__ == "__main__":
    said = {name: answer.written() for name, answer in answers(Path(sys.argv[1])).items()}
    print(json.dumps(said))  # noqa: T201
