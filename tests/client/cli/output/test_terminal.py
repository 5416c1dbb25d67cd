import json
import re

import pytest

from backdoor_audit.cli.output.listing import render_audit
from backdoor_audit.cli.output.terminal import as_text, out, print_form, print_json, print_line, say
from backdoor_audit.client.responses import Audit

HOSTILE = "\x1b]0;x\x07\x9b2J\r\u202e\n::stop-commands::t\n  ##[set-env name=PATH]y\nsection_end:1:z"
COMMAND = re.compile(r"^\s*::|##\[|section_(?:start|end):[0-9]", re.MULTILINE)


def failed(message):
    failure = {"code": "internal", "message": message, "hint": HOSTILE}
    return Audit(id=f"audit_1{HOSTILE}", status="failed", failure=failure)


def harmless(text):
    return text.replace("\n", "").isprintable() and COMMAND.search(text) is None


@pytest.mark.parametrize(
    "show",
    [
        lambda: say(HOSTILE, f"Error: {HOSTILE}"),
        lambda: print_line(HOSTILE),
        lambda: print_json({"x": HOSTILE, HOSTILE: [HOSTILE]}),
        lambda: print_form(json.dumps({"x": HOSTILE}, ensure_ascii=False).encode(), "sarif"),
        lambda: print_form(HOSTILE.encode() + b"\xff", "markdown"),
        lambda: out().print(render_audit(failed(HOSTILE))),
    ],
    ids=["messages", "result", "json", "sarif", "markdown", "table"],
)
def test_no_way_of_printing_passes_a_command_on(capfd, show):
    show()
    captured = capfd.readouterr()
    assert captured.out + captured.err
    assert harmless(captured.out + captured.err)


@pytest.mark.parametrize("before", range(90, 130))
def test_a_word_that_is_folded_begins_no_command(before):
    assert harmless(as_text(render_audit(failed("x" * before + "::stop-commands::t"))))
