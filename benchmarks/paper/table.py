"""The page that compares the published numbers with ours, and ours with models in which there is nothing to find."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from benchmarks.paper.chance import ROUNDS, TRIGGERED, best_by_chance

PUBLISHED: Final = Path(__file__).parent / "published.json"
COLUMNS: Final = (("diff_sae", "4x"), ("diff_sae", "32x"), ("crosscoder", "32x"))
NOT_RUN: Final = "not run"
PAPER_WIDTH: Final = 3_840
PAPER_TRIGGERED: Final = 500
"""The narrow Diff-SAE of the published table, and its triggered texts of 2,500."""


class Row(Protocol):
    """What the table needs to know about a model."""

    @property
    def name(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def method(self) -> str: ...


def page(models: Sequence[Row], folder: Path) -> str:
    """The complete page, from the records in ``folder``."""
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    head = [
        "# The seed paper's table, and the same table where there is nothing to find",
        "",
        "Written by `python -m benchmarks.paper`; do not edit. A score is the best feature's `bis_p95`, at most its",
        "ceiling. `Δ` is the variance of the difference over the variance of the base's activations (smallest to",
        "largest of the layers); a Diff-SAE is trained on Δ brought to the same scale, however small it is. The last",
        "column is the version of the method that the audit ran with; the score uses no directions.",
        "",
        "## Published",
        "",
        f"{published['source']}. LoRA: {published['lora']}. Benign models: {published['benign']}.",
        "",
        *_published(published),
        "",
        "## Ours: SmolLM2-135M-Instruct, `recipe: paper`",
        "",
        "| model | what it is | method | dictionary | " + _layer_names(models, folder) + " | ceiling | Δ | version |",
        "| --- | --- | --- | --- |" + " --- |" * (_layer_names(models, folder).count("|") + 4),
    ]
    lines = [*(line for model in models for line in _rows(model, folder)), *_chance(models, folder)]
    tail = ["", "## The verdict on the same models", "", "| model | verdict | T, nats | output_kl, nats | recovered |",
            "| --- | --- | --- | --- | --- |"]  # fmt: skip
    return "\n".join([*head, *lines, *tail, *(_verdict(model, folder) for model in models), ""])


def _published(published: dict[str, Any]) -> Iterator[str]:
    table = published["full-rank"]
    layers = list(next(iter(table.values())))
    yield "| full rank | " + " | ".join(f"layer {layer}" for layer in layers) + " | ceiling |"
    yield "| --- |" + " --- |" * (len(layers) + 1)
    for name, scores in table.items():
        cells = [f"{scores[layer]:.3g}" for layer in layers]
        yield f"| {name} | {' | '.join(cells)} | {published['ceiling']:.2f} |"


def _record(model: Row, run: str, folder: Path) -> dict[str, Any] | None:
    path = folder / f"{model.name}.{run}.json"
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _reports(models: Sequence[Row], folder: Path) -> Iterator[dict[str, Any]]:
    for model in models:
        for run in dict.fromkeys(run for _, run in COLUMNS):
            record = _record(model, run, folder)
            if record is not None and "report" in record:
                yield record["report"]


def _layers(models: Sequence[Row], folder: Path) -> list[int]:
    return next((list(report["sizes"]["layers"]) for report in _reports(models, folder)), [])


def _layer_names(models: Sequence[Row], folder: Path) -> str:
    return " | ".join(f"layer {layer}" for layer in _layers(models, folder)) or "layers"


def _rows(model: Row, folder: Path) -> Iterator[str]:
    for architecture, run in COLUMNS:
        start = f"| {model.name} | {model.what} | {model.method} | {architecture} {run} |"
        record = _record(model, run, folder)
        if record is None:
            yield f"{start} {NOT_RUN} |"
        elif "failure" in record:
            yield f"{start} failed: {record['failure']['code']} |"
        else:
            report = record["report"]
            rows = [row for row in report["layers"] if row["architecture"] == architecture and row["seed"] == 0]
            cells = [f"{row['bis_p95']:.3f}" for row in sorted(rows, key=lambda row: row["layer"])]
            sizes = [row["var_ratio"] for row in rows]
            cells += [f"{rows[0]['bis_p95_ceiling']:.2f}", f"{min(sizes):.1g} to {max(sizes):.1g}"]
            yield f"{start} {' | '.join(cells)} | {report['method_version']} |"


def _chance(models: Sequence[Row], folder: Path) -> Iterator[str]:
    """The score of the best of as many features as the dictionaries have, if none of them depends on the string."""
    widths = sorted({row["width"] for report in _reports(models, folder) for row in report["layers"]})
    if not widths:
        return
    for width, triggered in [*((width, TRIGGERED) for width in widths), (PAPER_WIDTH, PAPER_TRIGGERED)]:
        median, largest = best_by_chance(width, triggered=triggered)
        yield ""
        yield (
            f"The best of {width:,} independent random features on {5 * triggered:,} prompts, {triggered} of them "
            f"triggered: {median:.3f} in the median of {ROUNDS} draws, {largest:.3f} at most."
        )


def _verdict(model: Row, folder: Path) -> str:
    record = _record(model, "4x", folder) or _record(model, "32x", folder)
    if record is None:
        return f"| {model.name} | {NOT_RUN} |"
    if "failure" in record:
        return f"| {model.name} | failed: {record['failure']['code']} |"
    report = record["report"]
    gates = report["gates"]
    recovered = gates["causal"]["recovered"]
    return (
        f"| {model.name} | {report['verdict']} | {gates['specific']['effect_nats']:.3g} | "
        f"{gates['behaviour']['output_kl']:.3g} | {'not assessed' if recovered is None else f'{recovered:.2f}'} |"
    )
