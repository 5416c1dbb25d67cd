"""What one audit's sandbox may open: the two checkpoints, Python, parts of the system; its own folders to write."""

import os
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

import audit
import backdoor_audit
import common
import models_store
import storage
import worker
from models_store.errors import StoreError
from models_store.files import listing
from worker.sandbox.landlock import Reach
from worker.sandbox.protocol import ModelFolder, Request

_SYSTEM: Final = (
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/bin",
    "/sbin",
    "/proc",
    "/sys",
    "/etc/alternatives",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki/tls/openssl.cnf",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
)
_DEVICES: Final = ("/dev/null", "/dev/full", "/dev/random", "/dev/urandom")
_GPU_DEVICES: Final = ("nvidia*", "nvidia-caps/*", "dri/*", "kfd")


def reach_of(request: Request, scratch: Path) -> Reach:
    """The reach of one audit; makes its folders, since a rule needs something to stand on.

    Raises:
        OSError: the folders cannot be made.
    """
    writable = (request.workspace, request.cache, scratch)
    for folder in writable:
        folder.mkdir(parents=True, exist_ok=True)
    bare = bare_reach(request.device, scratch)
    readable = (*bare.readable, *_checkpoint(request.base), *_checkpoint(request.tuned))
    return replace(bare, readable=readable, writable=writable)


def bare_reach(device: str, scratch: Path) -> Reach:
    """The reach of a process that holds no checkpoints: Python, parts of the system, the devices, a folder to write."""
    devices = [Path(name) for name in _DEVICES]
    if device != "cpu":
        devices += [node for pattern in _GPU_DEVICES for node in Path("/dev").glob(pattern)]
    return Reach(readable=(*python_folders(), *map(Path, _SYSTEM)), writable=(scratch,), devices=tuple(devices))


def python_folders() -> tuple[Path, ...]:
    """Interpreter, libraries and our own packages; not the folder that those lie in, which may hold anything."""
    own = [
        Path(folder)
        for package in (backdoor_audit, audit, models_store, storage, common, worker)
        for folder in package.__path__
    ]
    around = {package.parent for package in own}
    libraries = [
        Path(entry).resolve() for entry in (*sys.path, *os.environ.get("LD_LIBRARY_PATH", "").split(":")) if entry
    ]
    prefixes = [Path(prefix) for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix)]
    return tuple(
        dict.fromkeys(
            [*own, *(path for path in [*prefixes, *libraries] if path.is_absolute() and _is_narrow(path, around))]
        )
    )


def _is_narrow(path: Path, around: Iterable[Path]) -> bool:
    """Whether a folder is a library's and neither the root nor the source tree."""
    return path != Path(path.anchor) and not any(
        folder.is_relative_to(path) and "site-packages" not in folder.parts for folder in around
    )


def _checkpoint(model: ModelFolder) -> tuple[Path, ...]:
    """The private view, and the files that its links lead to: no other file of the checkpoint."""
    try:
        files = listing(model.path, model.root).files
    except StoreError:
        return (model.path,)  # It is refused when it is verified, which says why.
    return (model.path, *(file.path for file in files if not file.path.is_relative_to(model.path)))
