"""The table of ``benchmarks.dictionaries``: compares variants over the backdoors."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final

GOAL: Final = 0.5
"""The goal: the share of what the directions recover that at most four features should reach."""

INTRODUCTION: Final = """\
# Which dictionary's features carry a backdoor

Written by `python -m benchmarks.dictionaries`; do not edit. All variants are trained on the same activations of a
backdoor, at the layer that its audit chooses. `share` is what at most four features recover on half B over what the
directions recover there, the median of the seeds; the goal is 0.5 on 80% of the backdoors. The other columns are
medians over the backdoors: what the first feature recovers by itself, the variance of the difference on the span that
is explained, the share of dead latents, the overlap of the seeds' spans. `seeds` is the fewest of any backdoor.
"""

COLUMNS: Final = (
    "variant", "backdoors", f"share ≥ {GOAL}", "median share", "smallest", "first feature", "FVE", "dead", "overlap",
    "seeds", "training, s",
)  # fmt: skip

Summary = Sequence[Mapping[str, Any]]


def page(organisms: Mapping[str, Summary], variants: Sequence[str], version: str) -> str:
    """Both tables as Markdown.

    Args:
        organisms: the summaries of each organism's file.
        variants: in the order of the rows.
        version: of the method; measurements by another version are left out.
    """
    measured = {
        name: {row["variant"]: row for row in summary if row["method_version"] == version}
        for name, summary in organisms.items()
    }
    known = {name: rows for name, rows in measured.items() if rows}
    shown = [name for name in variants if any(name in rows for rows in known.values())]
    return "\n".join([INTRODUCTION, *_over_all(known, shown), "", *_by_backdoor(known, shown), ""])


def _head(title: str, columns: Sequence[str]) -> list[str]:
    return [f"## {title}", "", f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]


def _over_all(known: Mapping[str, Mapping[str, Any]], variants: Sequence[str]) -> list[str]:
    lines = _head("Over the backdoors", COLUMNS)
    for variant in variants:
        rows = [by_variant[variant] for by_variant in known.values() if variant in by_variant]
        shares = [row["share"] for row in rows]
        overlaps = [row["overlap"] for row in rows if row["overlap"] is not None]
        cells = [
            variant,
            str(len(rows)),
            f"{sum(share >= GOAL for share in shares)} of {len(rows)}",
            f"{statistics.median(shares):.2f}",
            f"{min(shares):.2f}",
            f"{statistics.median(row['recovered_first'] for row in rows):.2f}",
            f"{statistics.median(row['fve'] for row in rows):.2f}",
            f"{statistics.median(row['dead_share'] for row in rows):.2f}",
            f"{statistics.median(overlaps):.2f}" if overlaps else "one seed",
            str(min(row["seeds"] for row in rows)),
            f"{statistics.median(row['training_seconds'] for row in rows):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _by_backdoor(known: Mapping[str, Mapping[str, Any]], variants: Sequence[str]) -> list[str]:
    lines = _head("Share, by backdoor", ("variant", *known))
    for variant in variants:
        cells = [f"{rows[variant]['share']:.2f}" if variant in rows else "not run" for rows in known.values()]
        lines.append(f"| {variant} | {' | '.join(cells)} |")
    layers = [str(next(iter(rows.values()))["layer"]) for rows in known.values()]
    lines.append(f"| layer | {' | '.join(layers)} |")
    return lines
