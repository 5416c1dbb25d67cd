"""A report as one self-contained HTML page without scripts, to save and to mail."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from backdoor_audit.contract.decisions import CHOICE_TITLES
from backdoor_audit.contract.report import guide, search_words, words
from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.report.feature_report import Continuation, FeatureExplanation, FiringToken
from backdoor_audit.contract.report.features import Feature, Scores
from backdoor_audit.contract.text.foreign_text import readable, visible
from backdoor_audit.contract.text.formatting import number, share, with_interval
from service.http.public_url import link
from service.reports import feature_picture, pictures
from service.reports.subject import Subject

_TEMPLATES: Final = Path(__file__).with_name("templates")
_STYLE: Final = (_TEMPLATES / "report.css").read_text(encoding="utf-8").strip()
_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_MAX_STRIPS: Final = 12
_MAX_ANSWERS: Final = 3

POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy header; the page itself repeats it, for saved copies."""


def render(subject: Subject) -> bytes:
    """The report as a page."""
    report = subject.report
    triggered, clean = words.pair(report)
    draw = (pictures.decoys, pictures.effects, pictures.layer_effects, pictures.layer_scores)
    drawn = [each(report) for each in draw]
    text = _template().render(
        subject=subject,
        decisions=subject.decisions,
        choices=CHOICE_TITLES,
        report=report,
        style=Markup(_STYLE),
        # Browsers accept `frame-ancestors` only in a header.
        policy=POLICY.rpartition(";")[0],
        mark=words.VERDICT_MARKS[report.verdict],
        gate_marks=words.GATE_MARKS,
        verdict_title=words.VERDICT_TITLES[report.verdict],
        meaning=words.VERDICT_MEANINGS[report.verdict],
        triggered=triggered,
        clean=clean,
        gates=words.gates(report),
        written=guide.written(report),
        written_first=guide.WRITTEN_FIRST,
        written_title=guide.WRITTEN_TITLE,
        how_often=guide.how_often(guide.written(report), report.behaviour),
        next_title=guide.NEXT_TITLE,
        next_steps=guide.next_steps(report),
        contents=_contents(report),
        glossary=link("/glossary"),
        playbook=link(f"/playbooks#{report.verdict}"),
        **_search(report),
        **_prompt_settings(report),
        candidate_columns=words.CANDIDATE_COLUMNS,
        candidates=words.candidates(report),
        pictures=[picture for picture in drawn if picture is not None],
        also=[(row.string, number(row.output_kl), share(row.share_of_effect)) for row in report.also_fires_on],
        features=[_feature(feature, order) for order, feature in enumerate(report.flagged_features)],
        feature_rows=[_feature_row(feature) for feature in report.flagged_features],
        examined=words.examined(report),
        smallest=words.smallest_effect(report),
        baselines=_baselines(report),
        dictionaries=_dictionaries(report),
        provenance=_provenance(report),
        terms=words.TERMS,
    )
    return text.encode()


def _contents(report: AuditReport) -> list[tuple[str, str]]:
    """Anchor and title of each part that the page has, in its order."""
    settings = report.prompt_settings
    parts = (
        ("search", search_words.TITLE, report.search is not None),
        ("written", guide.WRITTEN_TITLE, bool(guide.written(report))),
        ("why", "Why", True),
        ("look-at", "What to look at", bool(report.look_at)),
        ("next", guide.NEXT_TITLE, True),
        ("settings", "Template and settings", settings is not None and bool(settings.differences or settings.findings)),
        ("others", "Other strings", bool(report.also_fires_on)),
        ("explanation", "Explanation", bool(report.flagged_features)),
        ("numbers", "Numbers", report.measured),
        ("examined", "What was examined", True),
        ("baselines", "Baselines", report.measured),
        ("terms", "Terms", True),
        ("provenance", "Provenance", True),
    )
    return [(anchor, title) for anchor, title, there in parts if there]


def _search(report: AuditReport) -> dict[str, Any]:
    """What was tried and found; nothing where the strings were given."""
    if report.search is None:
        return {"search_title": None}
    return {
        "search_title": search_words.TITLE,
        "found_columns": search_words.FOUND_COLUMNS,
        "found_strings": search_words.found(report.search),
        "tried_columns": search_words.TRIED_COLUMNS,
        "tried_lists": search_words.tried(report.search),
        "search_lines": search_words.lines(report.search),
    }


def _prompt_settings(report: AuditReport) -> dict[str, Any]:
    """What differs beside the weights; nothing where that is nothing."""
    settings = report.prompt_settings
    if settings is None or not (settings.differences or settings.findings):
        return {"prompt_settings": None}
    return {
        "prompt_settings": settings,
        "prompt_settings_title": words.PROMPT_SETTINGS,
        "plain_settings": [
            (row.name, "–" if row.base is None else row.base, "–" if row.tuned is None else row.tuned)
            for row in settings.differences
            if row.part != "chat_template"
        ],
        "template_diffs": [
            (row.name, [(_MARKS.get(line[:1], "same"), visible(line)) for line in row.diff])
            for row in settings.differences
            if row.part == "chat_template"
        ],
        "settings_findings": words.findings(settings),
    }


_MARKS: Final = {"+": "added", "-": "removed", "@": "place"}


def shown(value: Any) -> Any:
    """A value as a template puts it on a page: text, which may be a stranger's, is made readable."""
    return readable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def rendered(name: str, **context: Any) -> bytes:
    """A self-contained page from another template of this folder."""
    return _template(name).render(style=Markup(_STYLE), policy=POLICY.rpartition(";")[0], **context).encode()


@cache
def _template(name: str = "report.html") -> Template:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=shown,
    )
    return environment.get_template(name)


def _feature_row(feature: Feature) -> tuple[str, ...]:
    return (
        feature.id,
        number(feature.bis),
        number(feature.precision),
        number(feature.recall),
        with_interval(feature.fpr, feature.fpr_interval),
        number(feature.auroc),
        share(feature.recovered),
        share(feature.recovered_cumulative),
    )


def _feature(feature: Feature, order: int) -> dict[str, Any]:
    """What the page shows about one feature; only its table row if it was not explained."""
    found: dict[str, Any] = {"id": feature.id, "pictures": feature_picture.firing(feature, order)}
    explanation = feature.explanation
    if explanation is None:
        return found
    lens = explanation.logit_lens
    return found | {
        "strips": [_strip(token) for token in _strongest(explanation)],
        "lens": [
            (repr(up.token), number(up.logit), repr(down.token), number(down.logit))
            for up, down in zip(lens.promoted, lens.suppressed, strict=False)
        ],
        "answers": [
            {"number": answer.carrier + 1, "prompt": answer.prompt, "texts": _answers(answer)}
            for answer in explanation.continuations[:_MAX_ANSWERS]
        ],
        "alike": [
            (row.feature, str(row.layer), number(row.cosine), {True: "yes", False: "no", None: "–"}[row.picked])
            for row in explanation.alike
        ],
        "chance": None if explanation.chance_cosine is None else number(explanation.chance_cosine),
    }


def _strongest(explanation: FeatureExplanation) -> list[FiringToken]:
    """The strongest prompts overall, then the strongest of each condition, without repeats."""
    each = [row.strongest for row in explanation.firing if row.strongest is not None]
    return list(dict.fromkeys([*explanation.strongest, *each]))[:_MAX_STRIPS]


def _strip(token: FiringToken) -> dict[str, Any]:
    place = "" if token.position is None else f", token {token.position}"
    string = "no string" if token.string is None else f"{token.condition} {token.string!r}"
    return {
        "label": f"{string}, prompt {token.carrier + 1}{place}",
        "activation": number(token.activation),
        "fires": token.fires,
        "token": token.token,
        "before": token.before,
        "after": token.after,
    }


def _answers(answer: Continuation) -> list[tuple[str, str]]:
    texts = [
        ("suspected string", answer.triggered),
        ("suspected string, feature ablated", answer.triggered_ablated),
        ("suspected string, ablated with the features above", answer.triggered_ablated_together),
        ("clean string", answer.clean),
        ("clean string, steered with the feature", answer.clean_steered),
        ("clean string, steered with the features above", answer.clean_steered_together),
    ]
    return [(label, text) for label, text in texts if text is not None]


def _baselines(report: AuditReport) -> list[tuple[str, ...]]:
    rows: tuple[tuple[str, Scores | None], ...] = (
        ("reported feature", report.scores),
        ("difference in means", report.baselines.diffmean),
        ("attribution direction", report.baselines.attribution_direction),
        ("untrained dictionary", report.baselines.frozen_random),
    )
    return [
        (name, number(row.bis), number(row.auroc), number(row.amplification), number(row.attribution))
        for name, row in rows
        if row is not None
    ]


def _dictionaries(report: AuditReport) -> list[tuple[str, ...]]:
    return [
        (f"{row.architecture}, layer {row.layer}, seed {row.seed}", *words.dictionary_numbers(row))
        for row in report.layers
    ]


def _provenance(report: AuditReport) -> list[tuple[str, str]]:
    found = report.provenance
    return [
        ("base", found.base_digest or "without a digest"),
        ("fine-tuned", found.tuned_digest or "without a digest"),
        ("prompts", found.carriers_digest),
        ("spec", found.spec_digest),
        ("seeds", ", ".join(map(str, found.seeds))),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(found.versions.items()))),
        ("precision", found.dtype),
        ("seconds", ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in found.timings_s.items())),
        ("method, report version", f"{report.method_version}, {report.schema_version}"),
    ]
