"""The errors of the worker.

::

    WorkerError
    ├── BrokerUnavailable    the broker does not answer, or refuses to store a message
    ├── ProtocolError        a process at either end of the sandbox's pipes said something that is not a message
    └── SettingsError        the environment does not describe a worker
"""

from typing import ClassVar

from common.problem_type import INTERNAL, ProblemType


class WorkerError(Exception):
    """Root of everything that this room raises."""

    problem: ClassVar[ProblemType] = INTERNAL


class BrokerUnavailable(WorkerError):
    """The broker could not be reached in time, or refused the message (because it is out of memory)."""

    problem: ClassVar[ProblemType] = ProblemType(
        "broker_unavailable", "Broker unavailable", "The message broker did not answer. Try again."
    )


class ProtocolError(WorkerError):
    """What came over a pipe is not a message of the protocol."""

    problem: ClassVar[ProblemType] = INTERNAL


class SettingsError(WorkerError):
    """A setting is missing or contradicts another."""

    problem: ClassVar[ProblemType] = INTERNAL
