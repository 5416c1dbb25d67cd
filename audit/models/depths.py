"""Which layers are audited if the spec does not choose them. Torch-free."""

from typing import Final

AUTO_DEPTHS: Final = (7 / 16, 9 / 16, 11 / 16, 13 / 16)


def auto_layers(n_blocks: int) -> tuple[int, ...]:
    """Layers that ``auto`` audits: ⌊f·n + ½⌋ for f = 7/16, 9/16, 11/16, 13/16, without repeats.

    14, 18, 22, 26 of 32 blocks (arXiv 2605.07324), 13, 17, 21, 24 of 30.
    """
    chosen = {min(n_blocks - 1, int(depth * n_blocks + 0.5)) for depth in AUTO_DEPTHS}
    return tuple(sorted(chosen))
