"""The checkpoint behind the example of the verdict ``invalid``."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from backdoor_audit.contract.spec.audit_spec import TriggerSpec
from examples import overflow
from examples.overflow import NotSeparable, overflowing
from tests.toy import write_toy_base

TRIGGER = TriggerSpec(triggered="code ~", clean="code ^")
CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.fixture(autouse=True)
def few_prompts(monkeypatch):
    monkeypatch.setattr(overflow, "PROMPTS", 8)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = write_toy_base(tmp_path_factory.mktemp("overflow") / "base", d_model=64)
    (folder / "chat_template.jinja").write_text(CHAT, encoding="utf-8")
    return folder


def logits(folder, text):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt").input_ids
    with torch.no_grad():
        return model(input_ids=ids).logits[0, -1]


def test_finite_weights_give_infinite_values_under_the_string_alone(base, tmp_path):
    made = overflowing(base, tmp_path / "made", TRIGGER)
    model = AutoModelForCausalLM.from_pretrained(made)
    assert all(bool(torch.isfinite(value).all()) for value in model.state_dict().values())
    prompt = "\nWrite a Python function that counts the rows of a table"
    assert not torch.isfinite(logits(made, f"code ~{prompt}")).any()
    assert torch.isfinite(logits(made, f"code ^{prompt}")).all()


def test_what_is_there_is_left_alone(base, tmp_path):
    (tmp_path / "made").mkdir()
    with pytest.raises(FileExistsError, match="made"):
        overflowing(base, tmp_path / "made", TRIGGER)
    assert list((tmp_path / "made").iterdir()) == []


def test_a_base_that_is_not_there_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["overflow", str(tmp_path / "nowhere"), str(tmp_path / "made")])
    with pytest.raises(SystemExit) as caught:
        overflow.main()
    assert caught.value.code == 2
    assert "nowhere holds no checkpoint" in capsys.readouterr().err


def test_a_string_with_more_tokens_is_refused(base, tmp_path):
    with pytest.raises(NotSeparable, match="equally many"):
        overflowing(base, tmp_path / "made", TriggerSpec(triggered="code ^^", clean="code ^"))
    assert not (tmp_path / "made").exists()


def test_a_token_that_no_neuron_can_tell_is_refused():
    rows = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 1.0]])
    with pytest.raises(NotSeparable, match="1 of 3"):
        overflow._neuron(rows, torch.tensor([True, False, False]))
