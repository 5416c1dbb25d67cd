"""Runs the code blocks of the README and the how-tos against a real service with the demo's models.

``make test-docs`` does it: ``python -m tests.docs.commands``. Every ``sh`` or ``python`` block is preceded by a comment
that says whether it is run: ``<!-- run: with the service … -->``, ``<!-- run: in a copy of the repository -->``,
``<!-- run: in the same copy, without a network -->`` or ``<!-- run: no (why) -->``; what is not run is printed with its
reason. Afterwards the demo is run with no network but loopback, where the system permits that.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from backdoor_audit.client.blocking import AuditClient
from examples.demo import BASE, copy_whole, running_stack
from examples.organisms.prepare_base import prepare
from tests.registry import RegistryServer

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "README.md",
    "docs/quickstart.md",
    "docs/operations.md",
    *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs/how-to").glob("*.md")),
)
ADDRESSES = ("http://127.0.0.1:8321", "https://audits.internal")
REGISTRY = "https://mlflow.internal"
A_KEY = " BACKDOOR_AUDIT_API_KEY=ba_…"
WITH_SERVICE = "with the service"
IN_COPY = ("in a copy of the repository", "in the same copy, without a network")
ISOLATE = ("unshare", "--map-root-user", "--net")
NO_ISOLATION = "this system does not let us leave the network (unshare -rn)"
_BLOCK = re.compile(
    r"(?:<!-- run: (?P<run>[^>]*?) -->\s*)?^(?P<indent> *)```(?P<language>sh|python)\n(?P<body>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One block of shell commands or of Python, and what its page says about running it."""

    page: str
    number: int
    body: str
    run: str
    language: str

    @property
    def waits(self) -> bool:
        """Whether it waits for a verdict; these come first, before the queue fills."""
        return re.search(r"--wait|audit wait|\.wait\(", self.body) is not None

    @property
    def command(self) -> list[str]:
        """What runs it."""
        return [sys.executable, "-c"] if self.language == "python" else ["bash", "-e", "-o", "pipefail", "-c"]


def blocks() -> Iterator[Block]:
    """All blocks, page by page."""
    for page in PAGES:
        for number, found in enumerate(_BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")), start=1):
            indent = len(found["indent"])
            body = "".join(line[indent:] if line.strip() else line for line in found["body"].splitlines(keepends=True))
            yield Block(page, number, body, (found["run"] or "").strip(), found["language"])


def run_in_copy(block: Block, folder: Path) -> int | None:
    """Run one block in a copy of the repository, with no environment to help it; None where that is not permitted."""
    copy = folder / "copy"
    if not copy.exists():
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for name in tracked.rstrip("\0").split("\0"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    alone = block.run == IN_COPY[1]
    if alone and not can_isolate():
        return None
    return subprocess.run([*(ISOLATE if alone else ()), *block.command, block.body], cwd=copy, check=False).returncode


def can_isolate() -> bool:
    """Whether this system lets a process leave the network."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*ISOLATE, "true"], check=False, capture_output=True).returncode == 0


def run_block(block: Block, address: str, registry: str, folder: Path) -> int:
    """Run one block as a person would; gives its exit code."""
    body = block.body.replace(A_KEY, "")  # a service on this machine needs none, and refuses what is none
    for written in ADDRESSES:
        body = body.replace(written, address)
    body = body.replace(REGISTRY, registry)
    environment = os.environ | {
        "BACKDOOR_AUDIT_URL": address,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run([*block.command, body], cwd=folder, env=environment, check=False)
    return done.returncode


def with_models(data: Path) -> None:
    """The models that the pages name."""
    models = data / "models"
    prepare(models / BASE)
    for organism in ("sql-year", "sql-year-benign", "deployment-tag"):
        copy_whole(ROOT / "examples/organisms" / organism, models / "organisms" / organism)
    copy_whole(models / BASE, models / "base")
    copy_whole(ROOT / "examples/organisms/sql-year-benign", models / "candidates" / "4711")


@contextmanager
def running_registry(folder: Path) -> Iterator[str]:
    """An empty MLflow server, by its address; what is started inside knows it."""
    folder.mkdir()
    server = RegistryServer(folder)
    try:
        os.environ |= {
            "BACKDOOR_AUDIT_MLFLOW_TRACKING_URI": server.url,
            "BACKDOOR_AUDIT_MLFLOW_MODELS": "*",
            "BACKDOOR_AUDIT_OFFLINE": "false",
        }
        yield server.url
    finally:
        server.stop()


def run_blocks(console: Console) -> list[str]:
    """Run what is to be run; gives the blocks that failed."""
    failed = []
    scratch = Path(tempfile.mkdtemp(prefix="docs-"))
    try:
        with_models(scratch / "data")
        (scratch / ".venv").symlink_to(Path(sys.executable).parent.parent)
        with (
            running_registry(scratch / "registry") as registry,
            running_stack(scratch / "data", console) as address,
        ):
            for block in sorted(blocks(), key=lambda block: not block.waits):
                name = f"{block.page}, block {block.number}"
                if block.run in IN_COPY:
                    code = run_in_copy(block, scratch)
                elif block.run.startswith(WITH_SERVICE):
                    code = run_block(block, address, registry, scratch)
                else:
                    console.print(f"SKIPPED  {name}: {block.run}")
                    continue
                if code is None:
                    console.print(f"SKIPPED  {name}: {NO_ISOLATION}")
                    continue
                console.print(f"{'PASSED ' if code == 0 else 'FAILED '}  {name} (exit code {code})")
                failed += [name] if code else []
            with AuditClient(address) as client:
                _cancel_all(client)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return failed


def _cancel_all(client: AuditClient) -> None:
    """What the pages file without waiting is not worked off."""
    for status in ("queued", "running"):
        for audit in client.audits(status=status):
            client.cancel(audit.id)


def run_demo_without_network(console: Console) -> bool | None:
    """Run the demo where nothing but loopback is reachable; None where the system does not permit that."""
    if not can_isolate():
        console.print(f"SKIPPED  the demo without a network: {NO_ISOLATION}")
        return None
    command = (
        f"ip link set lo up 2>/dev/null || true; exec '{sys.executable}' -m examples.demo --data '{ROOT / 'data'}'"
    )
    done = subprocess.run([*ISOLATE, "bash", "-c", command], cwd=ROOT, check=False)
    console.print(f"{'PASSED ' if done.returncode == 0 else 'FAILED '}  the demo without a network")
    return done.returncode == 0


def main() -> int:
    """Run everything; 0 where nothing failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skip-demo", action="store_true", help="the blocks alone")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is ended
    console = Console(highlight=False, width=160)
    failed = run_blocks(console)
    if not options.skip_demo and run_demo_without_network(console) is False:
        failed.append("the demo without a network")
    console.print(f"failed: {', '.join(failed)}" if failed else "Nothing failed.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
