"""How sizes and quoted text are shown on a terminal."""

from backdoor_audit.contract.text.foreign_text import visible
from backdoor_audit.contract.text.formatting import UNMEASURED


def quoted(text: str) -> str:
    """Untrusted text, made visible and in quotation marks."""
    return f"'{visible(text)}'"


def size(n_bytes: int | None) -> str:
    """Bytes in a suitable unit."""
    if n_bytes is None:
        return UNMEASURED
    amount = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"
