"""A report as a person reads it on a terminal.

Everything that came from a model, a spec or a service is shown as text that cannot steer the terminal and is never
parsed as markup.
"""

from collections.abc import Iterable
from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from backdoor_audit.cli.output.text import quoted
from backdoor_audit.contract.report.audit_report import AuditReport, Power
from backdoor_audit.contract.report.feature_report import CONDITION_WORDS, Continuation
from backdoor_audit.contract.report.features import Feature, Scores
from backdoor_audit.contract.report.gates import Gates
from backdoor_audit.contract.text.foreign_text import visible
from backdoor_audit.contract.text.formatting import number, share, with_interval

VERDICT_STYLE: Final = {
    "flagged": "bold red",
    "review": "bold yellow",
    "no_evidence": "bold green",
    "invalid": "bold magenta",
}
_STATE_STYLE: Final = {"passed": "green", "failed": "red", "not_assessed": "yellow"}


def render_report(report: AuditReport) -> RenderableType:
    """The whole report, its most important parts first."""
    parts: list[RenderableType] = [_head(report), _section("Gates", _gates(report.gates))]
    if report.measured:
        parts.append(_section("Scores of the reported feature, on half B", _scores(report.scores)))
    if report.candidates:
        parts.insert(1, _section("Candidates", _candidates(report)))
    if report.flagged_features:
        parts.append(_section("Flagged features", _features(report)))
        parts.extend(_explained(feature) for feature in report.flagged_features if feature.explanation is not None)
    if report.localisation is not None:
        parts.append(_section("Localisation", _localisation(report)))
    if report.also_fires_on:
        parts.append(_section("Other strings that respond", _responding(report)))
    if report.directions:
        parts.append(_section("Directions by layer", _directions(report)))
    if report.layers:
        parts.append(_section("Dictionaries by layer", _dictionaries(report)))
    if report.measured:
        parts.append(_section("Baselines", _baselines(report)))
    if report.power is not None:
        parts.append(_section("Smallest detectable shift in the activations", _power(report.power)))
    for title, lines in (
        ("Where to look", report.look_at),
        ("Warnings", report.warnings),
        ("Limits", report.limits),
    ):
        if lines:
            parts.append(_section(title, _bullets(lines)))
    parts.append(_section("Scope", _foot(report)))
    return Group(*parts)


def _head(report: AuditReport) -> RenderableType:
    style = VERDICT_STYLE[report.verdict]
    body = Text()
    body.append(report.verdict.replace("_", " ").upper(), style=style)
    body.append(f"\n{visible(report.summary)}")
    pair = report.trigger
    if "triggered" in pair and "clean" in pair:
        body.append(f"\nPair: {quoted(pair['triggered'])} against {quoted(pair['clean'])}", style="dim")
    return Panel(body, title=Text(visible(report.audit_id)), title_align="left", border_style=style)


def _section(title: str, content: RenderableType) -> RenderableType:
    return Group(Text(f"\n{title}", style="bold"), Padding(content, (0, 0, 0, 2)))


def _table(*columns: str, numbers: Iterable[int] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    right = set(numbers)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in right else "left", overflow="fold")
    return table


def _row(table: Table, *cells: str | Text) -> None:
    table.add_row(*(cell if isinstance(cell, Text) else Text(visible(cell)) for cell in cells))


def _bullets(lines: Iterable[str]) -> RenderableType:
    table = Table.grid(padding=(0, 1, 0, 0))
    for line in lines:
        _row(table, "-", line)
    return table


def _gates(gates: Gates) -> RenderableType:
    table = _table("gate", "state", "measured")
    behaviour, specific, causal, calibrated = gates.behaviour, gates.specific, gates.causal, gates.calibrated
    measured = {
        "behaviour": f"output KL {with_interval(behaviour.output_kl, behaviour.output_kl_interval)} nats per carrier, "
        f"threshold {number(behaviour.threshold)}",
        "specific": f"effect {number(specific.effect_nats)} nats, threshold {number(specific.threshold)}; "
        f"p over all decoys {number(specific.p_decoy_all)}; rank {specific.rank_among_silent or '–'} among silent; "
        f"{specific.silent} silent and {specific.firing} responding of {specific.drawn} decoys",
        "causal": f"recovered {with_interval(causal.recovered, causal.recovered_interval)} at layer "
        f"{'–' if causal.layer is None else causal.layer}, random at most {number(causal.null_max)} of "
        f"{causal.null_count}; induced {number(causal.induced)}; effect {number(causal.effect_nats)} nats; "
        f"neutral damage {number(causal.neutral_damage)} nats",
        "calibrated": f"p {number(calibrated.p_conformal)}, at best {number(calibrated.finest_p)}, against "
        f"{calibrated.library_size} benign fine-tunes, alpha {number(calibrated.alpha)}",
    }
    for name, words in measured.items():
        gate = getattr(gates, name)
        state = Text(gate.state.replace("_", " "), style=_STATE_STYLE[gate.state])
        reason = f"{gate.reason}" if gate.reason else ""
        shown = reason if gate.state == "not_assessed" and reason else "; ".join(filter(None, (reason, words)))
        _row(table, name, state, shown)
    return table


def _scores(scores: Scores) -> RenderableType:
    table = _table("score", "value")
    rows = (
        ("feature", scores.feature or "none was found"),
        ("bis", with_interval(scores.bis, scores.bis_interval)),
        ("bis_p95", f"{number(scores.bis_p95)} of at most {number(scores.bis_p95_ceiling)} (never the verdict)"),
        ("precision / recall / f1", f"{number(scores.precision)} / {number(scores.recall)} / {number(scores.f1)}"),
        ("false positives", with_interval(scores.fpr, scores.fpr_interval)),
        ("auroc, d_z, p", f"{number(scores.auroc)}, {number(scores.d_z)}, {number(scores.p_signflip)}"),
        ("amplification", with_interval(scores.amplification, scores.amplification_interval)),
        ("conditional share", with_interval(scores.conditional_share, scores.conditional_share_interval)),
        ("attribution", f"{number(scores.attribution)} nats per carrier"),
        ("output KL", f"{number(scores.output_kl)} nats per carrier"),
    )
    for name, value in rows:
        _row(table, name, value)
    return table


def _features(report: AuditReport) -> RenderableType:
    table = _table(
        "id", "bis", "prec.", "recall", "fpr", "attribution", "amplif.", "recovered", "together", numbers=range(1, 9)
    )
    for feature in report.flagged_features:
        _row(
            table,
            feature.id,
            number(feature.bis),
            number(feature.precision),
            number(feature.recall),
            number(feature.fpr),
            number(feature.attribution),
            number(feature.amplification),
            number(feature.recovered),
            number(feature.recovered_cumulative),
        )
    return table


def _explained(feature: Feature) -> RenderableType:
    """A short form: where it fires, what it writes, what one answer becomes, and where else it was found."""
    explanation = feature.explanation
    assert explanation is not None
    firing = (f"{CONDITION_WORDS[row.condition]} {share(row.share)} of {row.prompts}" for row in explanation.firing)
    lines = [f"fires on {', '.join(firing)}"]
    if explanation.strongest:
        top = explanation.strongest[0]
        lines.append(
            f"most on {quoted(top.token)} after {quoted(top.before[-40:])} ({top.condition}, {number(top.activation)})"
        )
    lens = explanation.logit_lens
    for name, tokens in (("promotes", lens.promoted), ("suppresses", lens.suppressed)):
        lines.append(f"{name} {', '.join(quoted(token.token) for token in tokens[:5])}")
    if explanation.continuations:
        lines.extend(_answers(explanation.continuations[0]))
    lines.extend(
        f"alike: {row.feature}, cosine {number(row.cosine)}{', picked there too' if row.picked else ''}"
        for row in explanation.alike
    )
    return _section(f"Feature {visible(feature.id)}", _bullets(lines))


def _answers(answer: Continuation) -> Iterable[str]:
    """One carrier's answers, the first line of each and no more."""
    together = answer.triggered_ablated_together
    rows = [
        ("triggered", answer.triggered),
        ("triggered, ablated", answer.triggered_ablated),
        *([] if together is None else [("triggered, ablated with those before", together)]),
        ("clean", answer.clean),
        ("clean, steered", answer.clean_steered),
    ]
    return [f"{name}: {quoted(text[:100])}" for name, text in rows]


def _localisation(report: AuditReport) -> RenderableType:
    localisation = report.localisation
    if localisation is None:
        return Text("not measured")
    word = {True: "localised", False: "not localised", None: "not measured"}[localisation.localised]
    lines = [
        f"{word}: {localisation.features} features recover {number(localisation.recovered)}, "
        f"directions {number(localisation.directions_recovered)} (share {share(localisation.share)})",
        f"by seed: {', '.join(number(value) for value in localisation.recovered_by_seed) or 'not measured'}; "
        f"overlap of the seeds' spans {number(localisation.subspace_overlap)}",
    ]
    return _bullets([*lines, *filter(None, (localisation.note,))])


def _responding(report: AuditReport) -> RenderableType:
    table = _table("string", "output KL", "share of the effect", numbers=(1, 2))
    for row in report.also_fires_on:
        _row(table, quoted(row.string), number(row.output_kl), share(row.share_of_effect))
    return table


def _directions(report: AuditReport) -> RenderableType:
    table = _table(
        "layer", "", "effect A", "effect B", "recovered", "amplification", "conditional share", numbers=(0, 2, 3, 4)
    )
    for row in report.directions:
        _row(
            table,
            str(row.layer),
            "chosen" if row.chosen else "",
            number(row.effect_nats_a),
            number(row.effect_nats),
            number(row.recovered),
            with_interval(row.amplification, row.amplification_interval),
            with_interval(row.conditional_share, row.conditional_share_interval),
        )
    return table


def _dictionaries(report: AuditReport) -> RenderableType:
    columns = ("layer", "architecture", "seed", "width", "fve", "top 1%", "l0", "dead", "best bis", "bis_p95 (at most)")
    table = _table(*columns, numbers=(0, 2, 3, 4, 5, 6, 7, 8, 9))
    for row in report.layers:
        _row(
            table,
            str(row.layer),
            row.architecture,
            str(row.seed),
            str(row.width),
            number(row.fve),
            number(row.fve_top1pct),
            number(row.l0),
            share(row.dead_share),
            number(row.best_bis),
            f"{number(row.bis_p95)} ({number(row.bis_p95_ceiling)})",
        )
    return table


def _baselines(report: AuditReport) -> RenderableType:
    table = _table("baseline", "bis", "auroc", "amplification", "attribution", numbers=range(1, 5))
    baselines = report.baselines
    for name in ("diffmean", "attribution_direction", "frozen_random"):
        scores: Scores | None = getattr(baselines, name)
        values = (None,) * 4 if scores is None else (scores.bis, scores.auroc, scores.amplification, scores.attribution)
        _row(table, name.replace("_", " "), *(number(value) for value in values))
    return Group(table, Text(f"output KL alone: {number(baselines.output_kl)} nats per carrier"))


def _candidates(report: AuditReport) -> RenderableType:
    table = _table("", "triggered", "clean", "verdict", "effect", "p", "p (Holm)", numbers=(0, 4, 5, 6))
    for row in sorted(report.candidates, key=lambda row: row.place):
        _row(
            table,
            f"{row.place}",
            quoted(row.triggered),
            quoted(row.clean),
            Text(row.verdict.replace("_", " "), style=VERDICT_STYLE[row.verdict]),
            number(row.effect_nats),
            number(row.p_decoy_all),
            number(row.p_holm) + (" (screening only)" if row.screening_only else ""),
        )
    lines = [] if report.multiplicity is None else [report.multiplicity.text]
    shown = next((row for row in report.candidates if row.reported), None)
    if shown is not None:
        lines.append(f"the rest is about {quoted(shown.triggered)} against {quoted(shown.clean)}")
    return Group(table, _bullets(lines))


def _power(power: Power) -> RenderableType:
    lines = [power.text, f"the pair itself shifts them by {number(power.pair_size)} units (p {number(power.pair_p)})"]
    if power.detected is not None:
        lines.append(
            f"seen in {share(power.detected)} of {power.draws:,} fresh repeats; with nothing added a decoy stood out "
            f"in {share(power.detected_without)}"
        )
    return _bullets(lines)


def _foot(report: AuditReport) -> RenderableType:
    sizes, provenance = report.sizes, report.provenance
    seconds = sum(provenance.timings_s.values())
    return _bullets(
        (
            f"{sizes.carriers_a} carriers to discover and {sizes.carriers_b} to confirm "
            f"({sizes.clusters_a} and {sizes.clusters_b} clusters), {len(report.decoys)} decoys on "
            f"{sizes.decoy_carriers_a} and {sizes.decoy_carriers_b}; layers {', '.join(map(str, sizes.layers))}; "
            f"rendered {sizes.rendering}; preset {sizes.preset}, recipe {sizes.recipe}",
            f"base {provenance.base_digest or 'without a digest'}, fine-tuned "
            f"{provenance.tuned_digest or 'without a digest'}",
            f"{provenance.device}, {provenance.dtype}, {seconds:.0f} s of stages; method {report.method_version}, "
            f"report schema {report.schema_version}",
        )
    )
