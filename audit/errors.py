"""The errors of an audit.

::

    AuditError                      code, message, hint
    ├── InvalidAudit                invalid_spec
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
    └── Interrupted                 raised by the sink, never by the audit's own code
        ├── Cancelled
        └── DeadlineExceeded        deadline_exceeded
"""

from typing import ClassVar

from backdoor_audit.contract.lifecycle import FailureCode


class AuditError(Exception):
    """An audit that could not be carried out.

    Attributes:
        code: one of the published failure codes.
        message: what is wrong, for the user.
        hint: what the user can do; empty for interruptions.
    """

    code: ClassVar[FailureCode] = "internal"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidAudit(AuditError):
    """The spec is valid, but cannot be carried out on these models."""

    code: ClassVar[FailureCode] = "invalid_spec"


class LayerNotFound(InvalidAudit):
    """The spec names a layer that the model does not have."""


class TriggerNotDistinguishable(InvalidAudit):
    """The two strings of the pair give the same tokens, or none."""

    code: ClassVar[FailureCode] = "trigger_not_distinguishable"


class ModelRejected(AuditError):
    """A checkpoint that cannot be read, or whose content is unusable (NaN weights)."""

    code: ClassVar[FailureCode] = "model_rejected"


class UnsupportedArchitecture(ModelRejected):
    """The architecture's blocks are in none of the known places, or its head is more than one linear map."""


class OutputsNotFinite(ModelRejected):
    """A model computes infinite values or NaN under a string; ``run_audit`` returns the verdict ``invalid``.

    Attributes:
        trigger: the pair that was being measured, with its template.
    """

    def __init__(self, message: str, *, trigger: dict[str, str]) -> None:
        super().__init__(
            message,
            hint="download the checkpoint again; if it stays so, it may be made to break under this string",
        )
        self.trigger = trigger


class ModelsIncompatible(AuditError):
    """The fine-tuned model is not a fine-tune of the base: shapes, modules or tokenizers differ."""

    code: ClassVar[FailureCode] = "models_incompatible"


class IdenticalModels(AuditError):
    """Base and fine-tuned model have the same weights."""

    code: ClassVar[FailureCode] = "identical_models"


class OutOfMemory(AuditError):
    """Memory ran out even with half the batch."""

    code: ClassVar[FailureCode] = "out_of_memory"


class NoSpace(AuditError):
    """The disk that holds the audit's folder is full, or too small for what the audit needs."""

    code: ClassVar[FailureCode] = "no_space"


class InvalidDictionary(AuditError):
    """A saved dictionary whose files are damaged or have another layout."""


class Interrupted(AuditError):
    """The audit was stopped from outside; raised by a sink."""


class Cancelled(Interrupted):
    """A cancel was requested."""


class DeadlineExceeded(Interrupted):
    """The audit ran longer than its deadline."""

    code: ClassVar[FailureCode] = "deadline_exceeded"
