"""The boundary of the audit: foreign errors become the audit's own, and work that runs out of memory is retried
once.
"""

import contextlib
import errno
import gc
import re
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import torch
from safetensors import SafetensorError

from audit.errors import AuditError, NoSpace, OutOfMemory

BATCH_TOKENS: Final = 4096
"""Padded tokens per batch."""
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_OUT_OF_MEMORY: Final = (
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "cuda error: out of memory",
    "status_alloc_failed",
)

T = TypeVar("T")


def within_memory(work: Callable[[int], T]) -> T:
    """Run ``work`` with a budget of padded tokens per batch, and once more with half of it if memory runs out.

    Raises:
        OutOfMemory: memory ran out with half the batch, too.
        NoSpace: the disk is full.
    """
    with translated():
        try:
            return work(BATCH_TOKENS)
        except (MemoryError, torch.OutOfMemoryError):
            pass
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # The failed attempt's models and tensors are freed with its frames, and with the reference cycles of modules;
        # finished stages are read back.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return work(BATCH_TOKENS // 2)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()  # the CPU's allocator raises a plain RuntimeError, CUDA's libraries raise others
    return any(words in text for words in _OUT_OF_MEMORY)


def is_out_of_space(error: BaseException) -> bool:
    """Whether an error means that the disk is full."""
    if isinstance(error, OSError):
        return error.errno in _NO_SPACE
    # safetensors gives the number of an OSError only in its text
    number = re.search(r"\(os error (\d+)\)", str(error)) if isinstance(error, SafetensorError) else None
    return number is not None and int(number[1]) in _NO_SPACE


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Translate errors of torch and the file system into the audit's own, keeping the cause."""
    try:
        yield
    except AuditError:
        raise
    except (OSError, SafetensorError) as error:
        if is_out_of_space(error):
            raise NoSpace(
                "no space left for the audit's activations",
                hint="free some disk space, or submit a smaller preset (--preset quick)",
            ) from error
        raise
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise OutOfMemory(
                "memory ran out even at half the batch",
                hint="use a worker with more memory, or set BACKDOOR_AUDIT_DEVICE_MAP=auto on this one",
            ) from error
        raise
