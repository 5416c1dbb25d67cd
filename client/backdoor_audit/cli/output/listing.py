"""An audit's state and lists, for a terminal."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from backdoor_audit.cli.output.tables import add_row, new_table
from backdoor_audit.cli.output.text import quoted, size
from backdoor_audit.client.responses import Audit, Estimate, Model
from backdoor_audit.contract.text.foreign_text import visible
from backdoor_audit.contract.text.formatting import duration, timing


def render_audit(audit: Audit) -> RenderableType:
    """An audit's state, without its report."""
    table = Table.grid(padding=(0, 2, 0, 0))
    rows = [("audit", audit.id), ("status", audit.status)]
    if audit.queue_position is not None:
        rows.append(("queue", f"place {audit.queue_position}"))
    elif not audit.terminal:
        rows.append(("stage", f"{audit.stage or 'none yet'}, {100 * audit.progress:.0f}%"))
    rows.append(("time", elapsed_and_left(audit)))
    rows.append(("attempt", str(audit.attempt)))
    if audit.verdict is not None:
        rows.append(("verdict", audit.verdict.replace("_", " ")))
    if audit.decision is not None:
        decision = audit.decision
        rows.append(("decision", f"{decision.decision.replace('_', ' ')} by {decision.decided_by}: {decision.because}"))
    if audit.failure is not None:
        rows.append(("failure", f"{audit.failure.code}: {audit.failure.message}"))
        rows.append(("hint", audit.failure.hint))
    for name in ("created_at", "started_at", "finished_at"):
        moment = getattr(audit, name)
        if moment is not None:
            rows.append((name.removesuffix("_at"), moment.isoformat(timespec="seconds")))
    for name, value in rows:
        if value:
            table.add_row(Text(name, style="dim"), Text(visible(value)))
    return table


def elapsed_and_left(audit: Audit) -> str:
    """How long an audit has run and how long it may still take; empty once it has ended, or if neither is known."""
    return "" if audit.terminal else timing(audit.started_at, audit.expected_s, datetime.now(UTC))


def render_audits(audits: Sequence[Audit], now: datetime) -> RenderableType:
    """A line for each audit."""
    if not audits:
        return Text("No matching audits.")
    table = new_table("id", "result", "fine-tuned model", "labels", "filed", numbers=(4,))
    for column in (table.columns[0], table.columns[-1]):
        column.no_wrap = True
    for audit in audits:
        labels = audit.spec.get("labels")
        said = [f"{name}={value}" for name, value in labels.items()] if isinstance(labels, dict) else []
        filed = "" if audit.created_at is None else f"{duration((now - audit.created_at).total_seconds())} ago"
        add_row(table, audit.id, _result(audit), str(audit.spec.get("fine_tuned", "")), " ".join(said), filed)
    return table


def _result(audit: Audit) -> str:
    if audit.verdict is not None:
        decided = "" if audit.decision is None else f", {audit.decision.decision.replace('_', ' ')}"
        return audit.verdict.replace("_", " ") + decided
    if audit.queue_position is not None:
        return f"{audit.status}, place {audit.queue_position}"
    if audit.status == "failed" and audit.failure is not None:
        return f"failed: {audit.failure.code.replace('_', ' ')}"
    return audit.status if audit.terminal else f"{audit.status} {100 * audit.progress:.0f}%"


def render_estimate(estimate: Estimate) -> RenderableType:
    """What an audit would take."""
    table = Table.grid(padding=(0, 2, 0, 0))
    seconds = "not known yet" if estimate.seconds is None else f"about {duration(estimate.seconds)}"
    rows = [
        ("strings", "" if estimate.strings is None else f"at most {estimate.strings:,}, and their neighbours"),
        ("prompts", "" if estimate.sequences is None else f"at most {estimate.sequences:,}"),
        ("tokens", "" if estimate.tokens is None else f"about {estimate.tokens:,}"),
        ("time", seconds),
        ("disk", "" if estimate.disk_gb is None else f"about {estimate.disk_gb:.2g} GB while it runs"),
        ("weights", "" if estimate.weights_gb is None else f"{estimate.weights_gb:.2g} GB"),
        ("decoys", ", ".join(map(quoted, estimate.decoys or ()))),
        ("spec", estimate.spec_digest),
        *(("not told", line) for line in estimate.not_given),
    ]
    for name, value in rows:
        if value:
            table.add_row(Text(name, style="dim"), Text(visible(value)))
    return table


def render_models(models: Sequence[Model]) -> RenderableType:
    """The models that the service can see, by the reference to use in a spec."""
    if not models:
        return Text("The service sees no models. Put checkpoints under the folder that serve uses as --models-root.")
    table = new_table("reference", "kind", "architecture", "size", "digest or reason", numbers=(3,))
    for model in models:
        cells = (model.reference or model.name, model.kind or "", model.architecture or "", size(model.size_bytes))
        if model.refused is not None:
            cells = (model.reference or model.name, "refused", "", "")
        last = model.refused or (model.digest or "")[:19]
        add_row(table, *cells, last)
    return table
