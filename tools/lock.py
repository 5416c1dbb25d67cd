"""``TOOLS/bin/python tools/lock.py constraints.txt requirements.lock``: adds to every pin the hashes of its files.

``constraints.txt`` names every package of the environment already, so nothing is resolved: pip-tools asks PyPI for the
files of each pin, for all systems and Pythons. Builds in the folders of ``PIP_FIND_LINKS`` count as well: so the
CPU build of torch gets in, which is not on PyPI. Pins that the lock file holds already are kept as they are: delete it
to ask for all of them again.
"""

import hashlib
import os
import re
import sys
from pathlib import Path

from pip._internal.req.constructors import install_req_from_line  # pip-tools stands on the same
from piptools.repositories import PyPIRepository

_PIN = re.compile(r"^[A-Za-z0-9._-]+==[^\s;]+$")
_HEAD = "# Every pin of constraints.txt with the hashes of its files. Written by `make lock`; not to be edited.\n"


def main(constraints: Path, lock: Path) -> int:
    """Write the lock file."""
    pins = [line for line in constraints.read_text(encoding="utf-8").splitlines() if _PIN.match(line)]
    folders = [Path(place) for place in os.environ.pop("PIP_FIND_LINKS", "").split() if "://" not in place]
    repository = PyPIRepository([], cache_dir=str(Path.home() / ".cache" / "pip-tools"))
    known = _entries(lock.read_text(encoding="utf-8")) if lock.exists() else {}
    entries: dict[str, str] = {}
    try:
        with repository.allow_all_wheels():
            for pin in pins:
                entries[pin] = known.get(pin) or _entry(repository, pin, folders)
    finally:  # what was found so far is not asked for again
        lock.write_text(_HEAD + "".join(f"{entry}\n" for entry in entries.values()), encoding="utf-8")
    return 0


def _entry(repository: PyPIRepository, pin: str, folders: list[Path]) -> str:
    hashes = repository.get_hashes(install_req_from_line(pin)) | _nearby(pin, folders)
    if not hashes:
        raise SystemExit(f"{pin}: the index has no file of it")
    return " \\\n".join([pin, *(f"    --hash={digest}" for digest in sorted(hashes))])


def _entries(text: str) -> dict[str, str]:
    """The entries of a lock file, by their pins."""
    entries = text.removeprefix(_HEAD).replace(" \\\n    ", "\0").splitlines()
    return {entry.partition("\0")[0]: entry.replace("\0", " \\\n    ") for entry in entries}


def _nearby(pin: str, folders: list[Path]) -> set[str]:
    """Hashes of builds of a pin with a local version, such as ``+cpu``."""
    name, _, version = pin.partition("==")
    found = set()
    for folder in folders:
        for file in folder.glob(f"{re.sub('[-.]', '_', name)}-{version}+*.whl"):
            with file.open("rb") as opened:
                found.add(f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}")
    return found


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
