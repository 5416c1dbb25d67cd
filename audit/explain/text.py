"""Text of a model or its tokenizer, safe to show in a report."""

import re
from collections.abc import Sequence
from typing import Final

from audit.measure.preflight import AuditSetup

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def text_of(setup: AuditSetup, ids: Sequence[int]) -> str:
    """The text of tokens; empty for none."""
    return str(setup.pair.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)) if ids else ""


def excerpt(text: str, limit: int, *, keep_end: bool = False) -> str:
    """At most ``limit`` characters of untrusted text, control characters other than tab and newline replaced.

    Args:
        keep_end: cut at the beginning.
    """
    shown = _CONTROL.sub("\ufffd", text)
    if len(shown) <= limit:
        return shown
    return "…" + shown[len(shown) - limit + 1 :] if keep_end else shown[: limit - 1] + "…"
