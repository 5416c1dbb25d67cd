"""An audit's state and lists, for a terminal."""

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from backdoor_audit.cli.output.tables import add_row, new_table
from backdoor_audit.cli.output.text import size
from backdoor_audit.client.responses import Audit, Model
from backdoor_audit.contract.text.foreign_text import visible


def render_audit(audit: Audit) -> RenderableType:
    """What is known about an audit without its report."""
    table = Table.grid(padding=(0, 2, 0, 0))
    rows = [("audit", audit.id), ("status", audit.status)]
    if not audit.terminal:
        rows.append(("stage", f"{audit.stage or 'none yet'}, {100 * audit.progress:.0f}%"))
    rows.append(("attempt", str(audit.attempt)))
    if audit.verdict is not None:
        rows.append(("verdict", audit.verdict.replace("_", " ")))
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


def render_models(models: Sequence[Model]) -> RenderableType:
    """The models that the service can see, by the reference that a spec names them with."""
    if not models:
        return Text("The service sees no models. Put checkpoints under the folder that serve has as --models-root.")
    table = new_table("reference", "kind", "architecture", "size", "digest or reason", numbers=(3,))
    for model in models:
        cells = (model.reference or model.name, model.kind or "", model.architecture or "", size(model.size_bytes))
        if model.refused is not None:
            cells = (model.reference or model.name, "refused", "", "")
        last = model.refused or (model.digest or "")[:19]
        add_row(table, *cells, last)
    return table
