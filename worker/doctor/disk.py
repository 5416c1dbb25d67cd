"""Where artifacts go: the object store, the local folder, the free space."""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from common.private_files import open_to_others
from storage.errors import StorageError
from storage.locations import is_object_store
from storage.objects import ObjectArtifacts
from worker.doctor.finding import Finding
from worker.settings import WorkerSettings

MIN_FREE_BYTES: Final = 2 * 1024**3
"""Below this, an audit with preset quick may not fit."""
ENOUGH_FREE_BYTES: Final = 20 * 1024**3
_STORE_WITHIN_S: Final = 10.0


def check_artifacts(settings: WorkerSettings) -> Iterator[Finding]:
    """Check that artifacts can be written, in the object store if there is one, and on the local disk."""
    if is_object_store(settings.artifacts_url):
        yield _object_store(settings.artifacts_url)
    folder = Path(settings.workspaces.removeprefix("file://"))
    existing = _nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"doctor")
    except OSError as error:
        yield Finding(
            "artifacts", "bad", f"{existing} cannot be written: {error.strerror}", "give this user write access"
        )
    else:
        yield Finding("artifacts", "ok", f"{folder} can be written")


def check_disk(settings: WorkerSettings) -> Iterator[Finding]:
    """Check the free space of the data folder."""
    existing = _nearest(settings.data_dir)
    free = shutil.disk_usage(existing).free
    text = f"{free / 1024**3:.0f} GiB free in {existing}"
    if free < MIN_FREE_BYTES:
        yield Finding("disk", "bad", text, "free some space, or audits fail with no_space; delete old audits")
    elif free < ENOUGH_FREE_BYTES:
        yield Finding("disk", "warning", text, "large audits may not fit; the cache alone may take CACHE_GB")
    else:
        yield Finding("disk", "ok", text)


def check_private(settings: WorkerSettings) -> Iterator[Finding]:
    """Check that other users of this machine can't read the ledger, uploads and logs."""
    if not settings.data_dir.exists():
        return
    found = sorted(path.relative_to(settings.data_dir).as_posix() for path in open_to_others(settings.data_dir))
    if found:
        names = ", ".join("the data folder itself" if name == "." else name for name in found[:5])
        yield Finding(
            "privacy", "bad", f"open to other users of this machine: {names}",
            f"chmod -R go= {settings.data_dir}: the ledger holds secrets of webhooks, uploads are weights",
        )  # fmt: skip
    else:
        yield Finding("privacy", "ok", f"{settings.data_dir} is this user's alone")


def _object_store(location: str) -> Finding:
    """Try the store in a thread, and do not wait long: the library takes half a minute to give up on a silent one."""
    found: list[Finding] = []

    def probe() -> None:
        try:
            ObjectArtifacts(location).probe()
        except StorageError as error:
            found.append(Finding("artifacts", "bad", error.message, error.hint))
        else:
            found.append(Finding("artifacts", "ok", "the object store can be written, read and deleted from"))

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(_STORE_WITHIN_S)
    silent = Finding("artifacts", "bad", "the object store does not answer", "check its address and the network")
    return found[0] if found else silent


def _nearest(folder: Path) -> Path:
    """Return the folder, or its first parent that exists."""
    return next(each for each in (folder, *folder.parents) if each.exists())
