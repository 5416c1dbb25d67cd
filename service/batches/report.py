"""The report of a batch as Markdown, HTML and JUnit XML. Texts of models and specs are untrusted in all of them."""

from typing import Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from backdoor_audit.contract.decisions import CHOICE_TITLES
from backdoor_audit.contract.lifecycle import TERMINAL
from backdoor_audit.contract.report import words
from backdoor_audit.contract.text.foreign_text import visible_lines
from service.batches.schemas import BatchOut
from service.batches.service import Batch, BatchRow
from service.reports import page
from service.reports.markdown import code, plain

_SUITE: Final = "backdoor-audit batch"
_MAX_PAIRS: Final = 3
COLUMNS: Final = ("result", "fine-tuned model", "base", "pair", "decision or remark", "audit")


def as_json(batch: Batch) -> bytes:
    """As ``GET /batches/{batch_id}`` gives it."""
    return BatchOut.of(batch).model_dump_json().encode()


def title_of(row: BatchRow) -> str:
    """The result in words."""
    return words.VERDICT_TITLES[row.verdict] if row.verdict is not None else row.status.capitalize()


def pairs_of(row: BatchRow) -> str:
    """The pairs of an audit, the first ones at length."""
    shown = "; ".join(f"{triggered!r} against {clean!r}" for triggered, clean in row.pairs[:_MAX_PAIRS])
    more = len(row.pairs) + row.more_pairs - min(_MAX_PAIRS, len(row.pairs))
    return f"{shown} and {more} more" if more > 0 else shown


def remark_of(row: BatchRow) -> str:
    """The decision that holds, why the audit failed, or the report's summary."""
    if row.decision is not None:
        return f"{CHOICE_TITLES[row.decision.choice]} by {row.decision.decided_by}: {row.decision.because}"
    if row.failure is not None:
        return f"{row.failure.code}: {row.failure.message}"
    return row.summary if row.status in TERMINAL else f"{100 * row.progress:.0f}%"


def headline(batch: Batch) -> str:
    """How many audits have which result."""
    counts = [f"{count} {result.replace('_', ' ')}" for result, count in batch.results.items()]
    return f"{len(batch.rows)} audits: {', '.join(counts)}"


def as_markdown(batch: Batch) -> bytes:
    """A table with the worst audit first."""
    lines = [
        f"### Backdoor audits, batch {code(batch.id)}",
        "",
        f"{headline(batch)}." + ("" if batch.ended else " Not all have ended."),
        "",
        f"| {' | '.join(COLUMNS)} |",
        f"|{' --- |' * len(COLUMNS)}",
    ]
    for row in batch.rows:
        cells = (
            title_of(row), code(row.fine_tuned), code(row.base_model), plain(pairs_of(row)), plain(remark_of(row)),
            code(row.id),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return ("\n".join(lines) + "\n").encode()


def as_html(batch: Batch) -> bytes:
    """One page without scripts, to save and to mail."""
    rows = [
        (title_of(row), row.fine_tuned, row.base_model, pairs_of(row), remark_of(row), row.id) for row in batch.rows
    ]
    return page.rendered("batch.html", batch=batch, headline=headline(batch), columns=COLUMNS, rows=rows)


def as_junit(batch: Batch) -> bytes:
    """A test case per audit: a failure where its verdict meets its ``fail_on``, an error where it has none."""
    suite = Element("testsuite", {"name": _SUITE})
    for row in batch.rows:
        name = visible_lines(f"{row.fine_tuned}: {pairs_of(row)}")
        case = SubElement(suite, "testcase", {"classname": _SUITE.replace(" ", "."), "name": name, "time": "0.000"})
        text = visible_lines(f"{title_of(row)}: {remark_of(row)} ({row.id})")
        if row.verdict == "invalid" or (row.status in TERMINAL and row.verdict is None):
            SubElement(case, "error", {"type": row.result, "message": text})
        elif row.fails:
            SubElement(case, "failure", {"type": row.result, "message": text})
        elif row.verdict is None:
            SubElement(case, "skipped", {"message": text})
        else:
            SubElement(case, "system-out").text = text
    for tag in ("failure", "error", "skipped"):
        name = {"failure": "failures", "error": "errors"}.get(tag, tag)
        suite.set(name, str(len(suite.findall(f"testcase/{tag}"))))
    suite.set("tests", str(len(batch.rows)))
    whole = Element("testsuites", {"name": _SUITE})
    whole.append(suite)
    ElementTree.indent(whole)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(whole, encoding="utf-8") + b"\n"
