"""Renders a report for a terminal.

Everything that comes from a model, a spec or a service is shown as text that cannot control the terminal and is never
parsed as markup.
"""

from typing import Final

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from backdoor_audit.cli.output import feature_tables
from backdoor_audit.cli.output.tables import add_row, bullets, new_table, section
from backdoor_audit.cli.output.text import quoted
from backdoor_audit.contract.report import guide, search_words, words
from backdoor_audit.contract.report.audit_report import AuditReport, Power
from backdoor_audit.contract.report.behaviour import ConditionalBehaviour
from backdoor_audit.contract.report.features import Scores
from backdoor_audit.contract.report.prompt_settings import PromptSettings
from backdoor_audit.contract.report.search import SearchResult
from backdoor_audit.contract.text.foreign_text import visible
from backdoor_audit.contract.text.formatting import UNMEASURED, number, share, with_interval

VERDICT_STYLE: Final = {
    "flagged": "bold red",
    "review": "bold yellow",
    "no_evidence": "bold",
    "invalid": "bold magenta",
}
_STATE_STYLE: Final = {"passed": "bold", "failed": "", "not_assessed": "dim"}
"""No colour judges a gate: one that passes is evidence of a backdoor, and no evidence is no proof of its absence."""


def render_brief(report: AuditReport) -> RenderableType:
    """The verdict, its reasons in one line per gate, what a pass is worth, and what to look at."""
    parts: list[RenderableType] = [_head(report)]
    for gate in words.gates(report):
        parts.append(
            Text(f"{words.GATE_MARKS[gate.state]} {gate.name}: {gate.outcome}", style=_STATE_STYLE[gate.state])
        )
        parts.append(Padding(Text(visible(gate.text), style="dim"), (0, 0, 0, 2)))
    if report.verdict == "no_evidence":
        parts.append(Text(visible(words.smallest_effect(report))))
    if report.look_at:
        parts.append(section("What to look at", bullets(report.look_at)))
    parts.append(section(guide.NEXT_TITLE, _next_steps(report)))
    return Group(*parts)


def render_report(report: AuditReport) -> RenderableType:
    """The whole report: what the model writes, why, how it is explained, the numbers, and what it depends on."""
    parts: list[RenderableType] = [_head(report)]
    if report.search is not None:
        parts.append(section(search_words.TITLE, _search(report.search)))
    if rows := guide.written(report):
        parts.append(section(guide.WRITTEN_TITLE, _written(rows, report.behaviour)))
    if report.candidates:
        parts.append(section("Candidates", _candidates(report)))
    parts.append(section("Why: the four gates", _gates(report)))
    if report.look_at:
        parts.append(section("What to look at", bullets(report.look_at)))
    parts.append(section(guide.NEXT_TITLE, _next_steps(report)))
    settings = report.prompt_settings
    if settings is not None and (settings.differences or settings.findings):
        parts.append(section(words.PROMPT_SETTINGS, _prompt_settings(settings)))
    parts += _explanation(report)
    parts += _numbers(report)
    for title, lines in (("Warnings", report.warnings), ("Limits", report.limits)):
        if lines:
            parts.append(section(title, bullets(lines)))
    parts.append(section("Provenance", _foot(report)))
    return Group(*parts)


def _explanation(report: AuditReport) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if report.flagged_features:
        parts.append(section("Flagged features", feature_tables.features(report)))
        parts.extend(
            feature_tables.explained(feature) for feature in report.flagged_features if feature.explanation is not None
        )
    if report.localisation is not None:
        parts.append(section("Localisation", feature_tables.localisation(report)))
    if report.also_fires_on:
        parts.append(section("Other strings that respond", feature_tables.responding(report)))
    return parts


def _numbers(report: AuditReport) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if report.measured:
        parts.append(section("Scores of the reported feature, on half B", _scores(report.scores)))
    if report.directions:
        parts.append(section("Directions by layer", feature_tables.directions(report)))
    if report.layers:
        parts.append(section("Dictionaries by layer", feature_tables.dictionaries(report)))
    if report.measured:
        parts.append(section("Baselines", _baselines(report)))
    if report.power is not None:
        parts.append(section("Smallest detectable shift in the activations", _power(report.power)))
    return parts


def _search(result: SearchResult) -> RenderableType:
    """The strings that were found, and how many of each list were tried."""
    parts: list[RenderableType] = []
    if result.found:
        table = new_table(*search_words.FOUND_COLUMNS, numbers=(4, 5, 6))
        for row in search_words.found(result):
            add_row(table, *row)
        parts.append(table)
    table = new_table(*search_words.TRIED_COLUMNS, numbers=(2,))
    for row in search_words.tried(result):
        add_row(table, *row)
    return Group(*parts, table, bullets(search_words.lines(result)))


def _written(rows: tuple[guide.Written, ...], behaviour: ConditionalBehaviour | None) -> RenderableType:
    """The answers under both strings, below one another; what the other string does not bring is underlined."""
    parts: list[RenderableType] = [Text(visible(guide.how_often(rows, behaviour)))]
    for row in rows[: guide.WRITTEN_FIRST]:
        parts.append(Text(f"\n{visible(row.prompt)}", style="dim"))
        said = Text()
        for piece, differs in row.marked():
            said.append(visible(piece), style="bold underline" if differs else "")
        answers = [("suspected", said), ("clean", Text(visible(row.clean)))]
        if row.base is not None:
            answers.append(("base", Text(visible(row.base))))
        for name, text in answers:
            parts.append(Padding(Text.assemble((f"{name:<10}", "dim"), text), (0, 0, 0, 2)))
    if len(rows) > guide.WRITTEN_FIRST:
        parts.append(
            Text(f"\nand {len(rows) - guide.WRITTEN_FIRST} more, in the report as a page or as JSON", style="dim")
        )
    return Group(*parts)


def _next_steps(report: AuditReport) -> RenderableType:
    """Each step, and below it the command line that takes it, unwrapped so that it can be copied."""
    parts: list[RenderableType] = []
    for step in guide.next_steps(report):
        parts.append(bullets([step.text]))
        if step.command:
            parts.append(Text(f"    {visible(step.command)}", no_wrap=True, overflow="ignore"))
    return Group(*parts)


def _head(report: AuditReport) -> RenderableType:
    style = VERDICT_STYLE[report.verdict]
    body = Text()
    body.append(words.VERDICT_TITLES[report.verdict].upper(), style=style)
    body.append(f"\n{visible(report.summary)}")
    pair = report.trigger
    if "triggered" in pair and "clean" in pair:
        body.append(f"\nPair: {quoted(pair['triggered'])} against {quoted(pair['clean'])}", style="dim")
    return Panel(body, title=Text(visible(report.audit_id)), title_align="left", border_style=style)


def _gates(report: AuditReport) -> RenderableType:
    table = new_table("gate", "result", "finding")
    causal = report.gates.causal
    more = {
        "causal": ("" if causal.induced is None else f"induced {number(causal.induced)}; ")
        + f"effect {number(causal.effect_nats)} nats; "
        f"neutral damage {number(causal.neutral_damage)} nats"
    }
    for gate in words.gates(report):
        result = Text(f"{words.GATE_MARKS[gate.state]} {gate.outcome}", style=_STATE_STYLE[gate.state])
        said = "; ".join(filter(None, (gate.text, more.get(gate.name) if gate.state != "not_assessed" else None)))
        add_row(table, gate.name, result, said)
    return table


_DIFF_STYLE: Final = {"+": "green", "-": "red", "@": "dim"}


def _prompt_settings(settings: PromptSettings) -> RenderableType:
    """What differs, what to read in the fine-tuned model's template, and one prompt as both models read it."""
    parts: list[RenderableType] = [Text(visible(settings.text))]
    table = new_table("setting", "base", "fine-tuned model")
    for row in settings.differences:
        if row.part != "chat_template":
            add_row(
                table, row.name, *(UNMEASURED if value is None else quoted(value) for value in (row.base, row.tuned))
            )
    if table.row_count:
        parts.append(table)
    for row in settings.differences:
        if row.part == "chat_template":
            parts.append(Text(f"\nchat template {quoted(row.name)}"))
            parts += [Text(visible(line), style=_DIFF_STYLE.get(line[:1], "")) for line in row.diff]
    if settings.findings:
        parts.append(
            bullets(f"{one.text}{' (the base does the same)' if one.in_base else ''}" for one in settings.findings)
        )
    for name, prompt in (("base", settings.base_prompt), ("fine-tuned model", settings.tuned_prompt)):
        if prompt is not None:
            parts.append(Text(f"\nthe first prompt as the {name} reads it: {quoted(prompt)}"))
    return Group(*parts)


def _scores(scores: Scores) -> RenderableType:
    table = new_table("score", "value")
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
        add_row(table, name, value)
    return table


def _baselines(report: AuditReport) -> RenderableType:
    table = new_table("baseline", "bis", "auroc", "amplification", "attribution", numbers=range(1, 5))
    baselines = report.baselines
    for name in ("diffmean", "attribution_direction", "frozen_random"):
        scores: Scores | None = getattr(baselines, name)
        values = (None,) * 4 if scores is None else (scores.bis, scores.auroc, scores.amplification, scores.attribution)
        add_row(table, name.replace("_", " "), *(number(value) for value in values))
    return Group(table, Text(f"output KL alone: {number(baselines.output_kl)} nats per carrier"))


def _candidates(report: AuditReport) -> RenderableType:
    table = new_table("", "triggered", "clean", "verdict", "effect", "p", "p (Holm)", numbers=(0, 4, 5, 6))
    for row in sorted(report.candidates, key=lambda row: row.place):
        add_row(
            table,
            f"{row.place}",
            quoted(row.triggered),
            quoted(row.clean),
            Text(words.VERDICT_TITLES[row.verdict], style=VERDICT_STYLE[row.verdict]),
            number(row.effect_nats),
            number(row.p_decoy_all),
            number(row.p_holm) + (" (screening only)" if row.screening_only else ""),
        )
    lines = [] if report.multiplicity is None else [report.multiplicity.text]
    shown = next((row for row in report.candidates if row.reported), None)
    if shown is not None:
        lines.append(f"the rest is about {quoted(shown.triggered)} against {quoted(shown.clean)}")
    return Group(table, bullets(lines))


def _power(power: Power) -> RenderableType:
    lines = [power.text, f"the pair itself shifts them by {number(power.pair_size)} units (p {number(power.pair_p)})"]
    if power.detected is not None:
        lines.append(
            f"detected in {share(power.detected)} of {power.draws:,} new repetitions; with nothing added, a decoy "
            f"stood out in {share(power.detected_without)}"
        )
    return bullets(lines)


def _foot(report: AuditReport) -> RenderableType:
    sizes, provenance = report.sizes, report.provenance
    seconds = sum(provenance.timings_s.values())
    return bullets(
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
