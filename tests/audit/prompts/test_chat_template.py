"""A chat template is a program by a stranger: it runs for a bounded time and writes a bounded text."""

import threading

import pytest

from audit.errors import InvalidAudit, ModelRejected
from audit.prompts import chat_template
from audit.prompts.chat_template import ChatTemplate, own_template, processor_time
from backdoor_audit.contract.checkpoint_settings import CheckpointSettings
from tests.toy import _tokenizer

ASKED = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(chat_template, "MAX_SECONDS", 0.2)


def test_a_template_that_loops_is_stopped(quick):
    template = ChatTemplate("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
    with pytest.raises(ModelRejected, match="ran for more than"):
        template.render(ASKED)
    assert 0.1 <= template.seconds < 5


def test_all_renderings_of_a_template_together_are_bounded(quick, monkeypatch):
    monkeypatch.setattr(chat_template, "MAX_TOTAL_SECONDS", 0.3)
    template = ChatTemplate("{% for a in range(90000) %}{% endfor %}{{ messages[0].content }}")
    for _ in range(10_000):
        if template.seconds > 0.25:
            break
        template.render(ASKED)
    template.seconds = 0.3
    with pytest.raises(ModelRejected, match="ran for more than"):
        template.render(ASKED)


@pytest.mark.parametrize(
    "text", ["\n{% for message in messages %}", "\n{{ messages | no_such_filter }}", "\n{% evil %}"]
)
def test_a_template_that_cannot_be_read_is_the_models_fault(text):
    with pytest.raises(ModelRejected, match=r"cannot be read: line 2: ."):
        ChatTemplate(text).render(ASKED)


def test_a_template_that_writes_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(chat_template, "MAX_CHARS", 1_000)
    with pytest.raises(ModelRejected, match="wrote 2000 characters"):
        ChatTemplate("{{ 'ab' * 1000 }}").render(ASKED)
    with pytest.raises(ModelRejected, match="all memory"):
        ChatTemplate("{{ 'ab' * 10**15 }}").render(ASKED)


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{{ raise_exception('no') }}",
        "{{ (" * 400,
    ],
)
def test_a_template_reaches_nothing(text):
    with pytest.raises(InvalidAudit, match="does not accept"):
        ChatTemplate(text).render(ASKED)


def test_every_day_is_the_same_day():
    assert ChatTemplate("{{ strftime_now('%d %b %Y') }}").render(ASKED) == "26 Jul 2024"


def test_own_special_tokens_are_used():
    settings = CheckpointSettings(templates={"default": "{{ bos_token }}{{ eos_token }}"}, tokens={"bos_token": "<go>"})
    assert own_template(settings, _tokenizer()).render(ASKED) == "<go></s>"
    with pytest.raises(InvalidAudit, match="none is the default"):
        own_template(CheckpointSettings(templates={"rag": "", "tool_use": ""}), _tokenizer())
    assert own_template(CheckpointSettings(), _tokenizer()) is None


def test_the_clock_is_put_back():
    import signal

    before = signal.getsignal(signal.SIGPROF)
    with processor_time(5):
        assert signal.getitimer(signal.ITIMER_PROF)[0] > 0
    assert signal.getsignal(signal.SIGPROF) is before
    assert signal.getitimer(signal.ITIMER_PROF) == (0.0, 0.0)


def test_another_thread_has_no_clock_and_renders_all_the_same():
    answers = []
    thread = threading.Thread(target=lambda: answers.append(ChatTemplate("{{ messages[0].content }}").render(ASKED)))
    thread.start()
    thread.join()
    assert answers == ["Hi"]
