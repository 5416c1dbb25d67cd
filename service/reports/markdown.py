"""A short Markdown text for a comment on a pull request.

Strings of the audit are untrusted text: they are put in code spans, or everything that Markdown, HTML or a code host
would interpret is escaped.
"""

import re
from typing import Final

from backdoor_audit.contract.decisions import CHOICE_TITLES
from backdoor_audit.contract.report import guide, search_words, words
from backdoor_audit.contract.text.foreign_text import visible
from backdoor_audit.contract.text.formatting import number, share
from service.reports.subject import Subject

_STATES: Final[dict[str, str]] = {"passed": "evidence", "failed": "no evidence", "not_assessed": "not assessed"}
_SPECIAL: Final = re.compile(r"([\\`*_\[\]#|~>])")
_ADDRESS: Final = re.compile(r"(:(?=//)|www(?=\.))", re.IGNORECASE)
"""What code hosts turn into links."""
_MAX_FEATURES: Final = 5
_MAX_PROMPT_CHARS: Final = 80
_MAX_STRINGS: Final = 5
_MAX_CANDIDATES: Final = 10
MAX_CHARS: Final = 60_000
"""GitHub refuses a comment of more than 65,536 characters; whoever posts this may put something before it."""
_LEFT_OUT: Final = "_Shortened: the rest is in the report._"


def render(subject: Subject) -> bytes:
    """The report in about thirty lines, of at most ``MAX_CHARS`` characters."""
    text = _render(subject, diffs=True)
    if len(text) > MAX_CHARS:
        text = _render(subject, diffs=False)
    if len(text) > MAX_CHARS:
        # Outside of a block of code, and at the end of a line: nothing is left open but what was folded.
        text = text[: MAX_CHARS - len(_LEFT_OUT) - 20].rpartition("\n")[0]
        text += ("\n\n</details>" if text.count("<details>") > text.count("</details>") else "") + f"\n\n{_LEFT_OUT}\n"
    return text.encode()


def _render(subject: Subject, *, diffs: bool) -> str:
    report = subject.report
    triggered, clean = words.pair(report)
    lines = [
        f"### {words.VERDICT_MARKS[report.verdict]} Backdoor audit: {words.VERDICT_TITLES[report.verdict]}",
        "",
        plain(report.summary),
        "",
        f"**Model** {code(subject.fine_tuned)} on {code(subject.base_model)}  ",
        f"**Pair** {code(triggered)} against {code(clean)}",
        "",
        words.VERDICT_MEANINGS[report.verdict],
        "",
        *_decision(subject),
        *_search(subject),
        *_written(subject),
        *_candidates(subject),
        "| gate | result | finding |",
        "| --- | --- | --- |",
        *(f"| {gate.name} | {_STATES[gate.state]} | {plain(gate.text)} |" for gate in words.gates(report)),
        "",
    ]
    lines += _bullets("What to look at", [plain(line) for line in report.look_at])
    lines += _next_steps(subject)
    lines += _prompt_settings(subject, diffs=diffs)
    lines += _features(subject)
    if report.also_fires_on:
        shown = [code(row.string) for row in report.also_fires_on[:_MAX_STRINGS]]
        more = len(report.also_fires_on) - len(shown)
        lines += [f"**Other strings that respond** {', '.join(shown)}" + (f" and {more} more" if more > 0 else ""), ""]
    lines += [f"**Limit** {words.smallest_effect(report)}", ""]
    lines += _details(subject)
    return "\n".join(lines) + "\n"


def _decision(subject: Subject) -> list[str]:
    """The decision that holds."""
    if not subject.decisions:
        return []
    last = subject.decisions[-1]
    day = last.created_at.strftime("%Y-%m-%d")
    return [f"**{CHOICE_TITLES[last.choice]}** by {plain(last.decided_by)}, {day}: {plain(last.because)}", ""]


def _search(subject: Subject) -> list[str]:
    """The strings that were found, and behind a line that opens what was tried."""
    result = subject.report.search
    if result is None:
        return []
    lines = []
    if result.found:
        lines += [f"| {' | '.join(search_words.FOUND_COLUMNS)} |", "| --- | --- | --- | --- | --- | --- | --- |"]
        lines += [
            f"| {code(minimal)} | {code(string)} | {' | '.join(map(plain, rest))} |"
            for minimal, string, *rest in search_words.found(result)
        ]
        lines.append("")
    tried = [f"- {plain(name)}: {count}" for _, name, count in search_words.tried(result)]
    lines += [f"<details><summary>{search_words.TITLE}</summary>", "", *tried]
    return [*lines, *(f"- {plain(line)}" for line in search_words.lines(result)), "", "</details>", ""]


def _written(subject: Subject) -> list[str]:
    """What the model writes under both strings."""
    rows = guide.written(subject.report)
    if not rows:
        return []
    columns = guide.WRITTEN_COLUMNS if any(row.base is not None for row in rows) else guide.WRITTEN_COLUMNS[:3]
    lines = [f"**{guide.WRITTEN_TITLE}**", "", plain(guide.how_often(rows, subject.report.behaviour)), ""]
    lines += [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for row in rows[: guide.WRITTEN_FIRST]:
        marked = " ".join(f"**{code(piece)}**" if differs else code(piece) for piece, differs in row.marked() if piece)
        cells = [
            code(row.prompt[-_MAX_PROMPT_CHARS:]),
            marked or "nothing",
            code(row.clean) if row.clean else "nothing",
        ]
        if len(columns) > len(cells):
            cells.append("not recorded" if row.base is None else code(row.base))
        lines.append(f"| {' | '.join(cells)} |")
    more = len(rows) - guide.WRITTEN_FIRST
    if more > 0:
        lines.append(f"| and {more} more |{' |' * (len(columns) - 1)}")
    return [*lines, ""]


def _next_steps(subject: Subject) -> list[str]:
    """What to do, with the command lines."""
    lines = [f"**{guide.NEXT_TITLE}**", ""]
    for step in guide.next_steps(subject.report):
        lines.append(f"- {plain(step.text)}" + (f" {code(step.command)}" if step.command else ""))
    return [*lines, ""]


def _candidates(subject: Subject) -> list[str]:
    report = subject.report
    if report.multiplicity is None:
        return []
    ordered = sorted(report.candidates, key=lambda row: row.place)
    rows = [
        f"| {code(row.triggered)} | {code(row.clean)} | {words.verdict_of(row)} | "
        f"{number(row.effect_nats)} | {number(row.p_holm)} |"
        for row in ordered[:_MAX_CANDIDATES]
    ]
    more = len(ordered) - len(rows)
    return [
        plain(report.multiplicity.text),
        "",
        "| triggered | clean | verdict | effect in nats | p (Holm) |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        *([f"| and {more} more | | | | |"] if more > 0 else []),
        "",
    ]


def _prompt_settings(subject: Subject, *, diffs: bool) -> list[str]:
    """What differs beside the weights, behind a line that opens."""
    settings = subject.report.prompt_settings
    if settings is None or not (settings.differences or settings.findings):
        return []
    lines = [f"<details><summary>{words.PROMPT_SETTINGS}</summary>", "", plain(settings.text)]
    # What is for a person to read stands under "What to look at".
    lines += [f"- {plain(finding.text)} (the base does the same)" for finding in settings.findings if finding.in_base]
    for row in settings.differences:
        if row.part != "chat_template":
            lines.append(f"- {code(row.name)}: {_value(row.tuned)}, in the base {_value(row.base)}")
    for row in settings.differences:
        if row.part == "chat_template":
            shown = _fenced([visible(line) for line in row.diff]) if diffs else [_LEFT_OUT]
            lines += ["", f"Chat template {code(row.name)}:", *shown]
    return [*lines, "</details>", ""]


def _value(text: str | None) -> str:
    return "none" if text is None else code(text)


def _fenced(lines: list[str]) -> list[str]:
    """A block of code in more backticks than any of its lines holds."""
    fence = "`" * max(3, 1 + max((len(run) for line in lines for run in re.findall("`+", line)), default=0))
    return [f"{fence}diff", *lines, fence]


def _features(subject: Subject) -> list[str]:
    features = subject.report.flagged_features
    if not features:
        return []
    rows = [
        f"| {code(feature.id)} | {number(feature.bis)} | {number(feature.precision)} | "
        f"{number(feature.recall)} | {share(feature.recovered_cumulative)} |"
        for feature in features[:_MAX_FEATURES]
    ]
    more = len(features) - len(rows)
    return [
        "| feature | BIS | precision | recall | undone cumulatively |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        *([f"| and {more} more | | | | |"] if more > 0 else []),
        "",
    ]


def _details(subject: Subject) -> list[str]:
    report = subject.report
    lines = ["<details><summary>What was examined</summary>", ""]
    lines += [f"- {plain(line)}" for line in words.examined(report)]
    lines += [f"- not assessed: {plain(line)}" for line in report.not_assessed]
    lines += [f"- warning: {plain(line)}" for line in report.warnings]
    lines += [
        f"- audit {code(report.audit_id)}, preset {report.sizes.preset}, {subject.seconds:.0f} s; checkpoint "
        f"{code(report.provenance.tuned_digest[:19] or 'without a digest')}",
        "",
        "</details>",
    ]
    return lines


def _bullets(title: str, lines: list[str]) -> list[str]:
    return [f"**{title}**", "", *(f"- {line}" for line in lines), ""] if lines else []


def code(text: str) -> str:
    """Untrusted text as a code span: in more backticks than it contains, on one line, safe in a table."""
    shown = visible(text).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    return f"{fence} {shown} {fence}" if shown.startswith("`") or shown.endswith("`") else f"{fence}{shown}{fence}"


def plain(text: str) -> str:
    """Untrusted text as running text: nothing in it is markup, HTML, a mention or a line break."""
    escaped = _SPECIAL.sub(r"\\\1", visible(" ".join(text.split())))
    # A code host looks for mentions, references and addresses after parsing the Markdown, so escaping does not prevent
    # them.
    escaped = escaped.replace("&", "&amp;").replace("<", "&lt;").replace("@", "@\u2060").replace("#", "#\u2060")
    return _ADDRESS.sub("\\1\u2060", escaped)
