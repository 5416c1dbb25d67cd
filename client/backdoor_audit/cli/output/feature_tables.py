"""Where the behaviour sits, as a person reads it on a terminal: features, directions and dictionaries."""

from collections.abc import Iterable

from rich.console import RenderableType
from rich.text import Text

from backdoor_audit.cli.output.tables import add_row, bullets, new_table, section
from backdoor_audit.cli.output.text import quoted
from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.report.feature_report import CONDITION_WORDS, Continuation
from backdoor_audit.contract.report.features import Feature
from backdoor_audit.contract.report.words import dictionary_numbers
from backdoor_audit.contract.text.foreign_text import visible
from backdoor_audit.contract.text.formatting import number, share, with_interval


def features(report: AuditReport) -> RenderableType:
    """The flagged features, a row each."""
    table = new_table(
        "id", "bis", "prec.", "recall", "fpr", "attribution", "amplif.", "recovered", "together", numbers=range(1, 9)
    )
    for feature in report.flagged_features:
        add_row(
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


def explained(feature: Feature) -> RenderableType:
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
        f"alike: {row.feature}, cosine {number(row.cosine)}{', also selected there' if row.picked else ''}"
        for row in explanation.alike
    )
    return section(f"Feature {visible(feature.id)}", bullets(lines))


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


def localisation(report: AuditReport) -> RenderableType:
    """Whether the flagged features carry the behaviour."""
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
    return bullets([*lines, *filter(None, (localisation.note,))])


def responding(report: AuditReport) -> RenderableType:
    """The decoys that trigger the behaviour too."""
    table = new_table("string", "output KL", "share of the effect", numbers=(1, 2))
    for row in report.also_fires_on:
        add_row(table, quoted(row.string), number(row.output_kl), share(row.share_of_effect))
    return table


def directions(report: AuditReport) -> RenderableType:
    """The leading direction of each layer."""
    table = new_table(
        "layer", "", "effect A", "effect B", "recovered", "amplification", "conditional share", numbers=(0, 2, 3, 4)
    )
    for row in report.directions:
        add_row(
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


def dictionaries(report: AuditReport) -> RenderableType:
    """The dictionaries that were trained, a row each."""
    columns = ("layer", "architecture", "seed", "width", "fve", "top 1%", "l0", "dead", "best bis", "bis_p95 (at most)")
    table = new_table(*columns, numbers=(0, 2, 3, 4, 5, 6, 7, 8, 9))
    for row in report.layers:
        add_row(table, str(row.layer), row.architecture, str(row.seed), *dictionary_numbers(row))
    return table
