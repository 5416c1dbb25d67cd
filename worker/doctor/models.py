"""Where models come from: the models root, and MLflow's registry."""

import os
from collections.abc import Iterator

from models_store.errors import StoreError
from models_store.sources.mlflow_registry import MlflowRegistry
from models_store.store import ModelsStore
from worker.doctor.finding import Finding
from worker.settings import WorkerSettings


def check_root(settings: WorkerSettings) -> Iterator[Finding]:
    """Check that the models root is a readable folder that holds models."""
    root = settings.models_root
    if not root.is_dir():
        yield Finding("models root", "bad", f"{root} is not a folder", "create it, or set BACKDOOR_AUDIT_MODELS_ROOT")
        return
    if not os.access(root, os.R_OK | os.X_OK):
        yield Finding("models root", "bad", f"{root} cannot be read", "give this user read access")
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


def check_registry(settings: WorkerSettings) -> Iterator[Finding]:
    """Check the MLflow server; nothing if none is configured."""
    registry = MlflowRegistry.from_settings(settings)
    if registry is None:
        return
    try:
        registry.ping()
    except StoreError as error:
        yield Finding("mlflow", "bad", error.message, error.hint or "see the worker's log")
        return
    if not settings.mlflow_models:
        yield Finding(
            "mlflow", "warning", "the server answers, but no registered model is allowed",
            "list the allowed models in BACKDOOR_AUDIT_MLFLOW_MODELS",
        )  # fmt: skip
    elif settings.offline:
        yield Finding(
            "mlflow", "warning", "the server answers, but downloads are off",
            "set BACKDOOR_AUDIT_OFFLINE=false, or audit only versions that were fetched before",
        )  # fmt: skip
    else:
        yield Finding("mlflow", "ok", "the server answers")
