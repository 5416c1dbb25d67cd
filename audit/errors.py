"""The errors of an audit.

::

    AuditError                      code, message, hint
    ├── InvalidAudit                the spec asks for what cannot be done        (internal to preflight)
    │   ├── LayerNotFound           invalid_spec
    │   └── TriggerNotDistinguishable   trigger_not_distinguishable
    ├── ModelRejected               model_rejected
    │   ├── UnsupportedArchitecture model_rejected
    │   └── OutputsNotFinite        none from ``run_audit``: the verdict is ``invalid``
    ├── ModelsIncompatible          models_incompatible
    ├── IdenticalModels             identical_models
    ├── OutOfMemory                 out_of_memory
    ├── NoSpace                     no_space
    ├── InvalidDictionary           internal
    └── Interrupted                 raised by the sink, never by the science
        ├── Cancelled
        └── DeadlineExceeded        deadline_exceeded
"""

from typing import ClassVar

from backdoor_audit.contract.spec import FailureCode


class AuditError(Exception):
    """An audit that could not be done; ``code`` is one of the published failure codes."""

    code: ClassVar[FailureCode] = "internal"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidAudit(AuditError):
    """The spec is well-formed, but cannot be carried out on these models."""

    code: ClassVar[FailureCode] = "invalid_spec"


class LayerNotFound(InvalidAudit):
    """A layer was asked for that the model does not have."""


class TriggerNotDistinguishable(InvalidAudit):
    """The two strings of the pair give the same tokens, or none."""

    code: ClassVar[FailureCode] = "trigger_not_distinguishable"


class ModelRejected(AuditError):
    """A checkpoint that is not opened, or whose content is not usable (NaN weights)."""

    code: ClassVar[FailureCode] = "model_rejected"


class UnsupportedArchitecture(ModelRejected):
    """The layer locator does not know where this architecture keeps its blocks."""


class OutputsNotFinite(ModelRejected):
    """A model computes infinite values or NaN under a string; ``run_audit`` answers with the verdict ``invalid``.

    Attributes:
        trigger: the pair that was being measured, and its template.
    """

    def __init__(self, message: str, *, trigger: dict[str, str]) -> None:
        super().__init__(message, hint="the checkpoint may be damaged, or made to break under this string")
        self.trigger = trigger


class ModelsIncompatible(AuditError):
    """The fine-tuned model is not a fine-tune of the base: shapes, modules or tokenizers differ."""

    code: ClassVar[FailureCode] = "models_incompatible"


class IdenticalModels(AuditError):
    """Base and fine-tuned model have the same weights."""

    code: ClassVar[FailureCode] = "identical_models"


class OutOfMemory(AuditError):
    """Memory ran out even at half the batch."""

    code: ClassVar[FailureCode] = "out_of_memory"


class NoSpace(AuditError):
    """The disk that holds the audit's folder is full, or too small for what the audit needs."""

    code: ClassVar[FailureCode] = "no_space"


class InvalidDictionary(AuditError):
    """A saved dictionary whose files are damaged, or of a layout that is not ours."""


class Interrupted(AuditError):
    """The audit was stopped from outside; raised by a sink."""


class Cancelled(Interrupted):
    """A cancel was asked for."""


class DeadlineExceeded(Interrupted):
    """The audit ran longer than its deadline."""

    code: ClassVar[FailureCode] = "deadline_exceeded"
