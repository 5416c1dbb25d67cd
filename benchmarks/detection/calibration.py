"""S of the calibration models: one score per model and key, without decoys or dictionaries."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from audit.errors import AuditError
from audit.measure.calibrate import score_model
from audit.ports import NullSink
from backdoor_audit.contract.report.audit_report import METHOD_VERSION
from benchmarks.detection.make_split import QUICK
from benchmarks.detection.specs import spec_of
from benchmarks.harness.audits import PASSING, Bench, done
from benchmarks.harness.machine import describe
from benchmarks.harness.records import Line, write
from storage.folders import ArtifactFolder

logger = logging.getLogger("detection")


class Maker(Protocol):
    """Provides the weights."""

    base: Path
    bench: Bench
    device: str

    @property
    def time_is_up(self) -> bool: ...
    def card(self, organism: dict[str, Any]) -> dict[str, Any] | None: ...
    def weights(self, organism: dict[str, Any]) -> Path: ...
    def claim(self, name: str) -> AbstractContextManager[bool]: ...


def score_place(results: Path, organism: Mapping[str, Any], key: Mapping[str, Any]) -> Line:
    """The place of a model's score under a key."""
    name = f"{organism['id']}.{key['carriers']}.{key['string_kind'].replace('_', '-')}"
    return Line(results / "calibration.jsonl", name)


def is_own(organism: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    """Whether the model's own pair is of the key's kind."""
    return (organism["carriers"], organism["string_kind"]) == (key["carriers"], key["string_kind"])


def pair_for(organism: Mapping[str, Any], key: Mapping[str, Any]) -> dict[str, str]:
    """The pair that the model's data mentions if it is of the key's kind, otherwise the key's own."""
    if is_own(organism, key):
        return dict(organism["strings"])
    return {"triggered": key["triggered"], "clean": key["clean"]}


def score_missing(
    organisms: Sequence[dict[str, Any]], keys: Sequence[Mapping[str, Any]], run: Maker, results: Path
) -> None:
    """Score every calibration model that passed its limits under every key, unless this has been done."""
    for key in keys:
        for organism in organisms:
            out = score_place(results, organism, key)
            if organism["part"] != "calibration" or done(out):
                continue
            if run.time_is_up:
                return
            card = run.card(organism)
            if card is None or card["missed"]:
                continue
            with run.claim(out.name) as ours:
                if ours and not done(out):
                    _score_one(organism, key, run, out)


def _score_one(organism: dict[str, Any], key: Mapping[str, Any], run: Maker, out: Line) -> None:
    folder = run.weights(organism)
    if (run.card(organism) or {})["missed"]:
        return  # trained again, and these weights miss a limit
    try:
        write(out, _score(organism, key, folder, run))
    except PASSING as error:
        logger.warning("%s: %s; nothing is recorded, a later run tries again", out.name, error)
    else:
        logger.info("%s", out.name)


def _score(organism: dict[str, Any], key: Mapping[str, Any], folder: Path, run: Maker) -> dict[str, Any]:
    pair = pair_for(organism, key)
    spec = spec_of(pair, QUICK, key["carriers"], base=run.base.name, tuned=folder.name)
    base, tuned = run.bench.resolve(run.base), run.bench.resolve(folder)
    extra = {"organism": organism["id"], "recipe": organism["recipe"], **pair, "method_version": METHOD_VERSION}
    try:
        with run.bench.workspace() as workspace:
            entry = score_model(
                spec, base.path, tuned.path, workspace=ArtifactFolder(Path(workspace)), sink=NullSink(),
                base_digest=base.digest, tuned_digest=tuned.digest, cache=run.bench.cache(),
                recipe=organism["recipe"], device=run.device,
            )  # fmt: skip
    except PASSING:
        raise
    except AuditError as error:
        return {**extra, "failure": {"code": error.code, "message": str(error)}, **describe()}
    return {**extra, "entry": entry.model_dump(mode="json"), **describe()}
