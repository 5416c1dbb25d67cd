"""Folders that tests fill, and a process that is killed while it fills one."""

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def put(store, name, size=10):
    with store.create(name) as folder:
        (folder / "data").write_bytes(b"x" * size)
        (folder / "sub").mkdir()
        (folder / "sub" / "note").write_text(name)


def entries(root):
    return sorted(path.name for path in root.iterdir())


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def hold_open(root, name):
    """A process that fills ``name``, says so, and waits to be killed."""
    code = (
        "import sys, time, pathlib; from storage.folder_cache import *; from storage.folders import *\n"
        "store = ArtifactFolder(pathlib.Path(sys.argv[1]))\n"
        "with store.create(sys.argv[2]) as folder:\n"
        "    (folder / 'half').write_text('half')\n"
        "    print('filling', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(root), name], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "filling\n"
    return process


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
