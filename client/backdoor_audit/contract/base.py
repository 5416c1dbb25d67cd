"""The base class of all models in the contract. Torch-free."""

import re

from pydantic import BaseModel, ConfigDict

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Frozen(BaseModel):
    """Immutable, validated on construction, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def clean_text(text: str) -> str:
    """``text`` itself.

    Raises:
        ValueError: it holds control characters or a lone surrogate.
    """
    if _CONTROL.search(text):
        raise ValueError("holds control characters")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("holds a lone surrogate, which is not text") from None
    return text
