"""``python -m worker.doctor``: looks at everything that the service stands on, and says what to do about it.

It changes nothing but a file that it writes and removes again where artifacts go. It answers within seconds, whatever
is out, and prints one JSON document: a list of findings.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import redis

from common.logs import configure
from jobs.errors import LedgerError
from jobs.ledger import Ledger
from models_store.errors import StoreError
from models_store.store import ModelsStore
from storage.errors import StorageError
from storage.locations import is_object_store
from storage.objects import ObjectArtifacts
from worker.dispatch import broker_client
from worker.errors import SettingsError
from worker.sandbox.process import sandbox_environment
from worker.settings import WorkerSettings

State = Literal["ok", "warning", "bad"]

LEAST_FREE_BYTES: Final = 2 * 1024**3
"""Under this, an audit with preset quick may not fit."""
ENOUGH_FREE_BYTES: Final = 20 * 1024**3
MOST_SKEW_S: Final = 2.0
LONG_QUEUED_S: Final = 900.0
_DEVICES_WITHIN_S: Final = 120.0
_STORE_WITHIN_S: Final = 10.0
_SHARED_FILE_SYSTEMS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p"})


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it stands, and what to do; ``advice`` is empty where all is well."""

    name: str
    state: State
    found: str
    advice: str = ""


def examine(settings: WorkerSettings) -> list[Finding]:
    """Look at database, broker, models, registry, artifacts, disk, clocks and devices, in this order."""
    found: list[Finding] = []
    for look in (_database, _broker, _models, _registry, _artifacts, _disk, _devices):
        found.extend(look(settings))
    return found


def _database(settings: WorkerSettings) -> Iterator[Finding]:
    kind = settings.ledger_url.split(":", 1)[0].split("+", 1)[0]
    ledger = Ledger(settings.ledger_url, busy_s=2)
    try:
        if kind == "sqlite" and not _sqlite_file(settings.ledger_url).exists():
            yield Finding("database", "ok", "SQLite; the file will be made at the first start")
            return
        ledger.ping()
        if not ledger.schema_is_current():
            yield Finding(
                "database", "bad", f"{kind} answers, its schema is not the one that this version needs",
                "start the API or a worker of this version: each brings an older schema up to date; where the schema "
                "is newer, install the version that made it",
            )  # fmt: skip
            return
        yield Finding("database", "ok", f"{kind} answers, the schema is current")
        yield from _on_shared_disk(settings, kind)
        yield _skew("database clock", ledger.now())
        counts = ledger.counts()
        queued, running = counts.by_status.get("queued", 0), counts.by_status.get("running", 0)
        text = f"{queued} queued, {running} running, the oldest has waited {counts.oldest_queued_s:.0f} s"
        if queued and not running and counts.oldest_queued_s > LONG_QUEUED_S:
            yield Finding("queue", "warning", text, "nothing takes them: is a worker running, and does it reach both?")
        else:
            yield Finding("queue", "ok", text)
    except LedgerError as error:
        yield Finding(
            "database", "bad", f"{kind} cannot be used: {type(error).__name__}",
            "is it running, and is BACKDOOR_AUDIT_DATABASE_URL right? Nothing works without it",
        )  # fmt: skip
    finally:
        ledger.close()


def _sqlite_file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///").partition("?")[0])


def _on_shared_disk(settings: WorkerSettings, kind: str) -> Iterator[Finding]:
    system = _file_system(settings.data_dir)
    if kind == "sqlite" and system in _SHARED_FILE_SYSTEMS:
        yield Finding(
            "database file", "bad", f"SQLite on {system}",
            "SQLite's locks do not hold there: put the data folder on a local disk, or use PostgreSQL",
        )  # fmt: skip


def _file_system(path: Path) -> str:
    """The type of the file system that holds ``path``; empty where it cannot be told."""
    best, kind = "", ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
            _, point, system, *_ = line.split(" ")
            inside = str(path) == point or str(path).startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, system
    return kind


def _skew(name: str, theirs: datetime) -> Finding:
    """Compare another clock with this machine's."""
    seconds = abs((datetime.now(UTC) - theirs).total_seconds())
    if seconds <= MOST_SKEW_S:
        return Finding(name, "ok", f"{seconds:.1f} s from this machine's")
    return Finding(
        name, "warning", f"{seconds:.0f} s from this machine's",
        "set both by NTP: leases use one clock and are safe, but times in logs, keys and webhooks will not agree",
    )  # fmt: skip


def _broker(settings: WorkerSettings) -> Iterator[Finding]:
    client = broker_client(settings.queue_url)
    try:
        info: Any = client.info()
        yield Finding("broker", "ok", f"{info.get('server_name', 'redis')} {info.get('redis_version', '')} answers")
        seconds, microseconds = client.time()
        yield _skew("broker clock", datetime.fromtimestamp(seconds + microseconds / 1e6, UTC))
        yield from _broker_policy(client, info)
    except redis.RedisError as error:
        bundled = not settings.broker_url
        yield Finding(
            "broker", "warning" if bundled else "bad", f"no answer: {type(error).__name__}",
            "the bundled broker runs while `backdoor-audit serve` does; start that" if bundled else
            "is it running, and is BACKDOOR_AUDIT_BROKER_URL right? Audits are accepted without it and wait",
        )  # fmt: skip
    finally:
        client.close()


def _broker_policy(client: "redis.Redis", info: dict[str, Any]) -> Iterator[Finding]:
    """Messages must not be evicted, and should survive a restart."""
    policy = str(info.get("maxmemory_policy", ""))
    limit = int(info.get("maxmemory", 0))
    if policy == "noeviction":
        yield Finding("broker eviction", "ok", "noeviction")
    else:
        state: State = "bad" if limit else "warning"
        yield Finding(
            "broker eviction", state, f"{policy or 'unknown'}, maxmemory {limit}",
            "set maxmemory-policy noeviction: an evicted message delays its audit until it is sent again",
        )  # fmt: skip
    if int(info.get("aof_enabled", 0)):
        yield Finding("broker persistence", "ok", "append-only file")
    else:
        yield Finding(
            "broker persistence", "warning", "no append-only file",
            "set appendonly yes: without it a restarted broker is empty, and queued audits wait to be sent again",
        )  # fmt: skip


def _models(settings: WorkerSettings) -> Iterator[Finding]:
    root = settings.models_root
    if not root.is_dir():
        yield Finding("models root", "bad", f"{root} is not a folder", "make it, or set BACKDOOR_AUDIT_MODELS_ROOT")
        return
    if not os.access(root, os.R_OK | os.X_OK):
        yield Finding("models root", "bad", f"{root} cannot be read", "give this user the right to read it")
        return
    try:
        store = ModelsStore(models_root=root, store_dir=settings.store_dir, hub_dir=settings.hub_dir)
        seen = len(store.list())
    except (StoreError, OSError) as error:
        yield Finding("models root", "bad", f"{root}: {type(error).__name__}", "see the worker's log")
        return
    if seen:
        yield Finding("models root", "ok", f"{root}, {seen} models")
    else:
        yield Finding("models root", "warning", f"{root} holds no model", "put base models and checkpoints there")


def _registry(settings: WorkerSettings) -> Iterator[Finding]:
    """Nothing where no MLflow server is set up."""
    registry = settings.registry
    if registry is None:
        return
    try:
        registry.ping()
    except StoreError as error:
        yield Finding("mlflow", "bad", error.message, error.hint or "see the worker's log")
        return
    if not settings.mlflow_models:
        yield Finding(
            "mlflow", "warning", "the server answers, and no registered model is allowed",
            "name them in BACKDOOR_AUDIT_MLFLOW_MODELS",
        )  # fmt: skip
    elif settings.offline:
        yield Finding(
            "mlflow", "warning", "the server answers, and nothing is downloaded",
            "set BACKDOOR_AUDIT_OFFLINE=false, or audit only versions that were fetched before",
        )  # fmt: skip
    else:
        yield Finding("mlflow", "ok", "the server answers")


def _nearest(folder: Path) -> Path:
    """The folder itself, or the first above it that is there."""
    return next(place for place in (folder, *folder.parents) if place.exists())


def _artifacts(settings: WorkerSettings) -> Iterator[Finding]:
    if is_object_store(settings.artifacts):
        yield _object_store(settings.artifacts)
    folder = Path(settings.workspaces.removeprefix("file://"))
    existing = _nearest(folder)
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"doctor")
    except OSError as error:
        yield Finding(
            "artifacts", "bad", f"{existing} cannot be written: {error.strerror}", "give this user the right to write"
        )
    else:
        yield Finding("artifacts", "ok", f"{folder} can be written")


def _object_store(location: str) -> Finding:
    """Try it, in a thread that is not waited for long: a store that is silent takes the library half a minute."""
    found: list[Finding] = []

    def probe() -> None:
        try:
            ObjectArtifacts(location).probe()
        except StorageError as error:
            found.append(Finding("artifacts", "bad", error.message, error.hint))
        else:
            found.append(Finding("artifacts", "ok", "the object store takes, gives and deletes objects"))

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(_STORE_WITHIN_S)
    silent = Finding("artifacts", "bad", "the object store is silent", "check its address, and the network on the way")
    return found[0] if found else silent


def _disk(settings: WorkerSettings) -> Iterator[Finding]:
    existing = _nearest(settings.data_dir)
    free = shutil.disk_usage(existing).free
    text = f"{free / 1024**3:.0f} GiB free in {existing}"
    if free < LEAST_FREE_BYTES:
        yield Finding("disk", "bad", text, "free some: audits end with no_space. DELETE audits that nobody reads")
    elif free < ENOUGH_FREE_BYTES:
        yield Finding("disk", "warning", text, "large audits may not fit; the cache alone may grow to CACHE_GB")
    else:
        yield Finding("disk", "ok", text)


def _seen(device: str, *options: str) -> dict[str, Any] | None:
    """What torch sees behind the fence of an audit, or (``--open``) without one; None where it cannot be loaded."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "worker.sandbox.probe_devices", device, *options],
                capture_output=True, text=True,
                timeout=_DEVICES_WITHIN_S, check=True, cwd=scratch,
                env=sandbox_environment(Path(scratch), os.environ),
            )  # fmt: skip
            found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        except (subprocess.SubprocessError, ValueError, IndexError):
            return None
    return found


def _devices(settings: WorkerSettings) -> Iterator[Finding]:
    """What torch sees where an audit would run: behind the fence."""
    device = settings.device
    seen = _seen(device)
    if seen is None:
        yield Finding("device", "bad", "torch cannot be loaded", "install the package again, with its constraints")
        return
    wanted = int(device.partition(":")[2] or 0) if device.startswith("cuda") else 0
    if device != "cpu" and wanted >= len(seen["cuda"]):
        outside = _seen(device, "--open") if seen["built_for_gpus"] else None
        if outside is not None and wanted < len(outside["cuda"]):
            yield Finding(
                "device", "bad", f"torch {seen['torch']} sees {outside['cuda'][wanted]}, but not behind the fence, "
                "where audits run",
                "report it with the driver's version: the fence refuses something that this driver needs. Until then "
                "set BACKDOOR_AUDIT_DEVICE=cpu",
            )  # fmt: skip
            return
        if device.startswith("cuda"):
            yield Finding(
                "device", "bad", f"DEVICE is {device}, torch {seen['torch']} sees {len(seen['cuda'])} GPUs",
                "install a CUDA build of torch and the driver, or set BACKDOOR_AUDIT_DEVICE=cpu",
            )  # fmt: skip
            return
    if seen["cuda"] and device != "cpu":
        yield Finding("device", "ok", f"torch {seen['torch']}, {', '.join(seen['cuda'])}")
    elif seen["bf16"]:
        yield Finding("device", "ok", f"torch {seen['torch']}, CPU with bfloat16, {seen['threads']} threads")
    else:
        yield Finding(
            "device", "warning", f"torch {seen['torch']}, CPU without bfloat16, {seen['threads']} threads",
            "audits run in float32 and take several times as long",
        )  # fmt: skip


def main(write: Callable[[str], Any] = sys.stdout.write) -> int:
    """Print the findings as JSON; 0 where nothing is bad, 1 where something is, 2 where the settings are not usable."""
    configure()
    try:
        settings = WorkerSettings.load()
    except SettingsError as error:
        write(json.dumps([asdict(Finding("settings", "bad", str(error), "mend the environment"))]) + "\n")
        return 2
    found = examine(settings)
    with contextlib.suppress(BrokenPipeError):
        write(json.dumps([asdict(each) for each in found], indent=2) + "\n")
    return 1 if any(each.state == "bad" for each in found) else 0


if __name__ == "__main__":
    sys.exit(main())
