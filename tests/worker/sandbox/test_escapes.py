"""Code planted in the sandbox tries each way out of the fence; without the fence every one of them works."""

import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.toy import toy_spec
from worker.sandbox import landlock
from worker.sandbox.process import sandbox_environment
from worker.sandbox.protocol import Limits, ModelFolder, Request

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the fence is made of Linux's walls")

PLANTED = Path(__file__).with_name("planted.py")
# Any one of these walls is enough against an attempt.
WALLS: dict[str, set[str]] = {
    "read a file outside": {"files"},
    "read an ignored file of the checkpoint": {"files"},
    "list the checkpoint behind its view": {"files"},
    "list a folder outside": {"files"},
    "write a file outside": {"files"},
    "change the checkpoint": {"files"},
    "read through a new link": {"files"},
    "link a file in": {"files"},
    "change a mode outside": {"system_calls"},
    "connect over TCP": {"no_network", "system_calls", "files"},
    "connect to a Unix socket": {"system_calls"},
    "connect to a Unix socket of packets": {"system_calls"},
    "send a datagram": {"no_network", "system_calls"},
    "run a set-uid program": {"system_calls", "files"},
    "outlive its parent": {"system_calls"},
    "signal its parent": {"system_calls"},
    "signal a bystander": {"system_calls"},
    "signal a bystander with a value": {"system_calls"},
    "signal a bystander through a descriptor": {"system_calls"},
    "signal the owner of a file": {"system_calls"},
    "signal the owner of a file, of a kind": {"system_calls"},
    "choose the signal of a file": {"system_calls"},
    "signal the owner of a socket": {"system_calls"},
    "signal the group of a socket": {"system_calls"},
    "be signalled of changes": {"system_calls"},
    "hold a lease on the checkpoint": {"system_calls"},
    "clear its death signal": {"system_calls"},
    "become another user": {"system_calls"},
    "compare itself with a bystander": {"system_calls"},
    "move a bystander to another processor": {"system_calls"},
    "schedule a bystander": {"system_calls"},
    "slow a bystander's disk": {"system_calls"},
    "share memory with the machine": {"system_calls"},
    "open the machine's message queues": {"system_calls"},
    "empty a file outside": {"system_calls"},
    "empty a file by reading it": {"system_calls"},
    "empty a file by controlling it": {"system_calls"},
    "change a file's flags": {"system_calls"},
    "set the times of a file outside": {"system_calls"},
    "set the times of the checkpoint": {"system_calls"},
    "watch a folder outside": {"system_calls"},
    "watch a file system": {"system_calls"},
    "take a queue of the machine's disks": {"system_calls"},
    "read the kernel's log": {"system_calls"},
    "trace a bystander": {"system_calls", "files"},
    "limit its parent": {"system_calls"},
    "read its parent's environment": {"files"},
    "read its parent's memory": {"files"},
    "write a huge file": {"file_size"},
    "allocate past the limit": {"memory"},
    "share memory past the limit": {"system_calls"},
    "share memory of a device past the limit": {"files"},
    "keep a file in memory": {"system_calls"},
    "grow a stack past the limit": {"system_calls"},
    "fill the kernel's memory with sockets": {"descriptors"},
    "mount a file system": {"no_capabilities", "system_calls", "files"},
}
# Needs root, or is often forbidden by a container's own filter.
OFTEN_FORBIDDEN = {
    "mount a file system",
    "trace a bystander",
    "read its parent's memory",
    "run a set-uid program",
    # Not in every kernel, or not on every file system.
    "compare itself with a bystander",
    "open the machine's message queues",
    "share memory with the machine",
    "hold a lease on the checkpoint",
    "change a file's flags",
    "watch a file system",
    "take a queue of the machine's disks",
    "read the kernel's log",
}


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A checkpoint with an ignored file, its view, and a secret beside it; listeners; a process of the same user."""
    folder = tmp_path_factory.mktemp("escapes")
    (folder / "models" / "base").mkdir(parents=True)
    (folder / "models" / "base" / "config.json").write_text('{"model_type": "llama"}')
    (folder / "models" / "base" / "optimizer.pt").write_bytes(b"a pickle")
    (folder / "view").mkdir()
    (folder / "view" / "config.json").symlink_to(folder / "models" / "base" / "config.json")
    (folder / "outside").mkdir()
    (folder / "outside" / "secret").write_text("a secret")
    (folder / "outside" / "emptied").write_text("not for the sandbox")
    programs = [Path(found) for name in ("su", "passwd", "mount") if (found := shutil.which(name)) is not None]
    setuid = next((path for path in programs if path.stat().st_mode & stat.S_ISUID), Path("/bin/true"))
    bystander = subprocess.Popen(["sleep", "600"])
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as packets,
    ):
        udp.bind(("127.0.0.1", 0))
        unix.bind(os.path.relpath(folder / "socket"))
        unix.listen()
        packets.bind(os.path.relpath(folder / "packets"))
        packets.listen()
        given = {
            "secret": str(folder / "outside" / "secret"),
            "ignored": str(folder / "models" / "base" / "optimizer.pt"),
            "tcp": tcp.getsockname(),
            "udp": udp.getsockname(),
            "unix": os.path.relpath(folder / "socket", folder / "scratch"),
            "packets": os.path.relpath(folder / "packets", folder / "scratch"),
            "setuid": str(setuid),
            "bystander": bystander.pid,
        }
        yield folder, given
    bystander.kill()
    bystander.wait()


def plant(folder: Path, given: dict[str, Any], mode: str) -> dict[str, Any]:
    """Run the planted code in the sandbox's environment, and return what it says."""
    model = ModelFolder(path=folder / "view", root=folder / "models", digest="sha256:0")
    workspace = folder / mode
    request = Request(
        audit_id="audit_1",
        spec=toy_spec(),
        base=model,
        tuned=model,
        workspace=workspace,
        cache=folder / "cache",
        cache_bytes=2**20,
        device="cpu",
        limits=Limits(memory_bytes=512 * 2**20, file_bytes=2**20),
        parent_pid=os.getpid(),
    )
    workspace.mkdir()
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    (folder / "request.json").write_bytes(request.line())
    (folder / "given.json").write_text(json.dumps(given))
    with_secrets = os.environ | {"PGPASSWORD": "s", "AWS_SECRET_ACCESS_KEY": "s", "BACKDOOR_AUDIT_API_KEY": "s"}
    process = subprocess.run(
        [sys.executable, "-P", str(PLANTED), str(folder / "request.json"), str(folder / "given.json"), mode],
        cwd=scratch,
        env=sandbox_environment(scratch, with_secrets),
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    said: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return said


@pytest.fixture(scope="module")
def fenced(laid_out: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    return plant(*laid_out, "fenced")


@pytest.fixture(scope="module")
def unfenced(laid_out: tuple[Path, dict[str, Any]], fenced: dict[str, Any]) -> dict[str, Any]:
    return plant(*laid_out, "open")


@pytest.fixture(scope="module")
def on_an_old_kernel(laid_out: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    return plant(*laid_out, "oldest")


@pytest.mark.parametrize("attempt", WALLS)
def test_no_way_out_where_landlock_is_as_old_as_can_be(on_an_old_kernel: dict[str, Any], attempt: str) -> None:
    if not WALLS[attempt] - set(on_an_old_kernel["missing"]):
        pytest.skip(f"this machine has none of the walls against it: {', '.join(sorted(WALLS[attempt]))}")
    assert on_an_old_kernel["said"][attempt] != "done"


@pytest.mark.parametrize("attempt", WALLS)
def test_no_way_out(fenced: dict[str, Any], attempt: str) -> None:
    if not WALLS[attempt] - set(fenced["missing"]):
        pytest.skip(f"this machine has none of the walls against it: {', '.join(sorted(WALLS[attempt]))}")
    assert fenced["said"][attempt] != "done"


@pytest.mark.parametrize("attempt", WALLS)
def test_the_attempt_works_where_there_is_no_fence(unfenced: dict[str, Any], attempt: str) -> None:
    outcome = unfenced["said"][attempt]
    if attempt in OFTEN_FORBIDDEN and outcome != "done":
        pytest.skip(f"this machine refuses it to everyone ({outcome})")
    assert outcome == "done"


SYSTEMS = {
    "fenced": "Linux 6.12 and newer, x86-64 or 64-bit Arm",
    "oldest": "Linux 5.13 to 6.11: a Landlock that knows less",
    "no-namespaces": "no user namespaces: most containers",
    "no-landlock": "no Landlock: Linux before 5.13, or switched off",
    "no-seccomp": "no seccomp filter: other processors",
    "open": "no fence: other systems than Linux, but for the limits",
}
"""What is known of each system that a sandbox may run on, by the mode of the planted code that has the same walls."""


def test_what_each_system_gives_is_written_down(
    laid_out: tuple[Path, dict[str, Any]],
    fenced: dict[str, Any],
    on_an_old_kernel: dict[str, Any],
    unfenced: dict[str, Any],
) -> None:
    """The table of the threat model is what the fence itself reports; ``WRITE=1 pytest …`` writes it."""
    lacking = [*fenced["missing"], *(name for name, known in fenced["landlock"].items() if not known)]
    if lacking:
        pytest.skip(f"this machine lacks {', '.join(lacking)}, so it can't report on those that have it")
    said = {"fenced": fenced, "oldest": on_an_old_kernel, "open": unfenced}
    said |= {mode: plant(*laid_out, mode) for mode in SYSTEMS if mode not in said}
    rows = ["| a sandbox on | lacks the walls | and could |", "| --- | --- | --- |"]
    for mode, system in SYSTEMS.items():
        missing = set(said[mode]["missing"]) if mode != "open" else set().union(*WALLS.values())
        outcomes = said[mode]["said"]
        # What this machine refuses to everyone counts as possible where no wall is against it.
        out = [
            name for name in WALLS
            if outcomes[name] == "done" or (unfenced["said"][name] != "done" and WALLS[name] <= missing)
        ]  # fmt: skip
        named = ", ".join(f"`{name}`" for name in sorted(missing)) if mode != "open" else "all"
        could = "; ".join(out) if len(out) < len(WALLS) else f"do all {len(WALLS)} things that are tried"
        rows.append(f"| {system} | {named or 'none'} | {could or 'do nothing of all that is tried'} |")
    page = Path(__file__).parents[3] / "docs" / "threat-model.md"
    before, _, rest = page.read_text(encoding="utf-8").partition("<!-- fence -->\n")
    old, _, after = rest.partition("<!-- end -->")
    new = "\n".join(rows) + "\n"
    if os.environ.get("WRITE"):
        page.write_text(f"{before}<!-- fence -->\n{new}<!-- end -->{after}", encoding="utf-8")
    else:
        assert old == new, "WRITE=1 pytest tests/worker/sandbox/test_escapes.py -k each_system"


def test_what_each_kernel_gives_is_written_down(fenced: dict[str, Any]) -> None:
    manual = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| \d+\.\d+ \|", manual, re.MULTILINE)
    assert {name: int(since) for name, since in rows} == landlock.SINCE
    assert f"tries {len(WALLS)} ways out" in manual
    assert fenced["landlock"] == landlock.features()


def test_every_attempt_is_known(fenced: dict[str, Any]) -> None:
    assert set(fenced["said"]) == set(WALLS)


def test_the_environment_holds_nothing_of_the_workers(fenced: dict[str, Any]) -> None:
    there = set(fenced["environment"])
    assert not {"PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "BACKDOOR_AUDIT_API_KEY"} & there
    assert there <= {*sandbox_environment(Path("/"), os.environ), "LC_CTYPE"}


@pytest.mark.parametrize("hidden", [True, False])
def test_a_workers_environment_is_hidden_without_landlock_too(hidden: bool) -> None:
    child = """
import os
from worker.sandbox import confinement
confinement._ROOT_KEEPS = 0
confinement._drop_capabilities()
try:
    print(len(open(f"/proc/{os.getppid()}/environ").read()) > 0)
except PermissionError:
    print("hidden")
"""
    code = f"""
import subprocess, sys
from worker.sandbox import confinement
confinement._ROOT_KEEPS = 0
confinement._drop_capabilities()  # root's would protect it already
assert not {hidden} or confinement.hide_memory()
subprocess.run([sys.executable, "-c", {child!r}], check=True)
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert process.stdout.strip() == ("hidden" if hidden else "True")
