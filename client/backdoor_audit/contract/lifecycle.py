"""The life of an audit: its states, its stages, and its failure codes. Torch-free."""

from typing import Final, Literal

from backdoor_audit.contract.base import Frozen

Status = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
Stage = Literal["resolve", "preflight", "search", "extract", "train", "confirm", "calibrate", "explain", "report"]
FailureCode = Literal[
    "model_not_found",
    "model_rejected",
    "models_incompatible",
    "identical_models",
    "trigger_not_distinguishable",
    "invalid_spec",
    "out_of_memory",
    "no_space",
    "worker_lost",
    "deadline_exceeded",
    "internal",
]

STAGES: Final[tuple[Stage, ...]] = (
    "resolve",
    "preflight",
    "search",
    "extract",
    "train",
    "confirm",
    "calibrate",
    "explain",
    "report",
)
TERMINAL: Final[frozenset[Status]] = frozenset({"succeeded", "failed", "cancelled"})


class Failure(Frozen):
    """Why an audit could not be carried out."""

    code: FailureCode
    message: str
    hint: str = ""
