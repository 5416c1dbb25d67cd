import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backdoor_audit.contract.text.foreign_text import readable, visible, visible_json, visible_lines

HOSTILE = [
    "\x1b]0;title\x07",
    "\x1b[2J",
    "\x9b2J",
    "done\rfailed",
    "\u202egnp.exe",
    "\u2066x\u2069",
    "zero\u200bwidth",
    "a\u2028b",
    "a\x85b",
    "::stop-commands::x",
    "  ::set-output name=a::b",
    "ok\n::add-mask::x",
    "ok\r::add-mask::x",
    "text ##[set-env name=PATH]x",
    "##vso[task.setvariable variable=a]b",
    "##teamcity[message text='x']",
    "section_start:1560896352:x\r\x1b[0Ktitle",
    "hangul\u3164filler",
    "\u115f\u1160",
    "half\uffa0width",
    "joined\u034fgraphemes",
    "blank\u2800pattern",
    "a" + "".join(chr(0xE0100 + byte) for byte in b"hidden in variation selectors"),
    "\ufe00\ufe0f",
]
COMMAND = re.compile(r"^\s*::|##(?:vso|teamcity)?\[|section_(?:start|end):[0-9]", re.MULTILINE)


def harmless(text):
    return text.replace("\n", "").isprintable() and COMMAND.search(text) is None


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_is_obeyed_and_everything_is_seen(text):
    assert harmless(visible(text))
    assert harmless(visible_lines(text))
    assert "\n" not in visible(text)
    assert len(visible(text)) > len(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_on_a_page_lines_stay_and_nothing_is_turned_round_or_hidden(text):
    shown = readable(f"one\r\n\ttwo{text}")
    assert shown.startswith("one\n\ttwo")
    assert shown.replace("\n", "").replace("\t", "").isprintable()
    assert not set(shown) & set("\u3164\u115f\u1160\uffa0\u034f\u2800\ufe00\ufe0f\U000e0168")


@given(st.text())
def test_no_text_is_obeyed(text):
    assert harmless(visible(text))
    assert harmless(visible_lines(text))


def test_ordinary_text_stays_as_it_is():
    text = "std::vector, a: b, # head, ## head, 'ä é 漢', section_start"
    assert visible(text) == text
    assert visible("ä é 漢 \t") == "ä é 漢 \\t"
    assert visible_lines("one\r\ntwo\n") == "one\ntwo\n"


@pytest.mark.parametrize("text", [*HOSTILE, "\U000e0001 tag", '漢 ä \\ "'])
def test_json_means_the_same(text):
    document = visible_json(json.dumps({"text": text}, indent=1, ensure_ascii=False))
    assert harmless(document)
    assert json.loads(document) == {"text": text}
