"""What a GPU's driver needs is left open by the fence. The first test needs no GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.toy import toy_spec
from worker.sandbox.process import sandbox_environment
from worker.sandbox.protocol import Limits, ModelFolder, Request

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the fence is made of Linux's walls")


def fenced(folder: Path, code: str, *, device: str) -> Any:
    """What ``code`` prints as JSON in a process that put up the fence of an audit on ``device``."""
    for name in ("model", "workspace", "cache", "scratch"):
        (folder / name).mkdir()
    model = ModelFolder(path=folder / "model", root=folder, digest="sha256:0")
    request = Request(
        audit_id="audit_1", spec=toy_spec(), base=model, tuned=model, workspace=folder / "workspace",
        cache=folder / "cache", cache_bytes=2**20, device=device, parent_pid=os.getpid(),
        limits=Limits(memory_bytes=None, file_bytes=None),
    )  # fmt: skip
    before = """
import json, sys, tempfile
from pathlib import Path
from worker.sandbox.protocol import read_request
from worker.sandbox.__main__ import fence
missing = fence(read_request(sys.stdin.buffer.read().strip()))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", before + code], input=request.line(), capture_output=True, timeout=120,
        cwd=folder / "scratch", env=sandbox_environment(folder / "scratch", os.environ), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_sockets_that_connect_may_be_made_and_others_not(tmp_path: Path) -> None:
    code = """
import socket
def made(kind):
    try:
        with socket.socket(socket.AF_UNIX, kind) as one:
            one.bind(f"\\0backdoor-audit-test-{kind}-{tempfile.gettempdir()}")
            one.listen() if kind != socket.SOCK_DGRAM else None
        return True
    except PermissionError:
        return False
print(json.dumps([missing, *map(made, (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM))]))
"""
    missing, *made = fenced(tmp_path, code, device="cpu")
    if "system_calls" in missing:
        pytest.skip("this machine permits no filter of system calls")
    assert made == [True, True, False]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_driver_works_behind_the_fence(tmp_path: Path) -> None:
    code = """
import torch
x = torch.randn(512, 512, device="cuda", dtype=torch.bfloat16)
print(json.dumps([missing, float((x @ x.T).diagonal().float().mean()) > 100, torch.cuda.get_device_name()]))
"""
    _, computed, name = fenced(tmp_path, code, device="cuda:0")
    assert computed
    assert name == torch.cuda.get_device_name()
