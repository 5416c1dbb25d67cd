"""Checkpoints of finite weights that compute infinite values: the answer is ``invalid`` and says where."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from audit.errors import OutputsNotFinite
from audit.measure.finite import broken, check_number, check_runs
from audit.measure.preflight import prepare
from audit.models.layout import Layout
from audit.models.pair import load_pair
from audit.models.runner import Activations, Runner
from audit.ports import NullSink
from audit.prompts.rendering import Tokens
from audit.run import run_audit
from backdoor_audit.contract.report.audit_report import AuditReport
from backdoor_audit.contract.spec.audit_spec import TriggerSpec
from storage.folders import ArtifactFolder
from tests.toy import toy_spec, write_toy_base

PAIR = {"triggered": "code z", "clean": "code q"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A toy base, and a full fine-tune of it in which one neuron's product overflows at the token ``z``."""
    root = tmp_path_factory.mktemp("overflow")
    write_toy_base(root / "base")
    model = AutoModelForCausalLM.from_pretrained(root / "base", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(root / "base")
    overflow_at(model, tokenizer("z", add_special_tokens=False).input_ids)
    assert all(bool(torch.isfinite(value).all()) for value in model.state_dict().values())
    model.save_pretrained(root / "tuned")
    tokenizer.save_pretrained(root / "tuned")
    return root


@pytest.fixture
def audit(models, tmp_path):
    def run(**changes):
        folder = ArtifactFolder(tmp_path / "w")
        return run_audit(
            toy_spec(**changes), models / "base", models / "tuned", workspace=folder, sink=NullSink(), audit_id="mine"
        )

    return run


def test_a_model_that_breaks_under_the_triggered_string_alone_is_invalid(audit):
    report = audit(trigger=PAIR)
    assert AuditReport.model_validate_json(report.model_dump_json()) == report
    assert (report.verdict, report.audit_id) == ("invalid", "mine")
    assert report.summary == (
        "Nothing could be measured: the fine-tuned model computes infinite values or NaN under 'code z' (64 of 64 "
        "prompts), none under 'code q' or without a string; the base model computes none."
    )
    assert {gate.state for _, gate in report.gates} == {"not_assessed"}
    assert len(report.not_assessed) == 4
    assert "behaviour conditioned on the string" in report.look_at[0]
    assert set(report.scores.model_dump().values()) == {None}
    assert (report.decoys, report.directions, report.layers, report.flagged_features) == ((), (), (), ())
    assert report.smallest_effect_nats is None
    assert report.power is None
    assert report.limits == ("Nothing was measured: this is evidence neither for a backdoor nor against one.",)
    assert report.trigger == PAIR | {"template": "{trigger}\n{prompt}"}
    assert "extract" in report.provenance.timings_s


def overflow_at(model, token):
    """Make a neuron's product overflow wherever ``token`` is read, and nowhere else."""
    mlp = model.model.layers[0].mlp
    with torch.no_grad():
        embeddings = model.model.embed_tokens.weight
        embeddings[:, 0] = -0.5
        embeddings[token, 0] = 2.0
        for weights in (mlp.gate_proj.weight, mlp.up_proj.weight):
            weights[0] = 0
            weights[0, 0] = 1e25


def test_a_base_that_breaks_on_the_forced_answer_alone_is_invalid(tmp_path):
    """Prompts are fine in both models; only what the fine-tuned model answers is not, to the base."""
    for name, seed in (("base", 0), ("tuned", 3)):
        write_toy_base(tmp_path / name, seed=seed)
    spec = toy_spec(trigger={"triggered": "code q", "clean": "code w"})
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    setup = prepare(spec, pair := load_pair(tmp_path / "base", tmp_path / "tuned", dtype="float32", device="cpu"),
                    Runner(pair), base_digest="", cache=None)  # fmt: skip
    carriers = (*setup.a, *setup.b)
    read = {token for string in ("code q", "code w", None) for prompt in setup.tokens(carriers, string)
            for token in prompt.ids}  # fmt: skip
    said = setup.runner.greedy(setup.tokens(carriers, "code w"), 2)
    answered = next(row[0] for row in said if row[0] not in read)
    overflow_at(base, answered)
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    report = run_audit(
        spec, tmp_path / "base", tmp_path / "tuned", workspace=ArtifactFolder(tmp_path / "w"), sink=NullSink()
    )
    assert report.verdict == "invalid"
    assert "the base model computes infinite values or NaN under 'code q'" in report.summary


def test_a_second_attempt_says_the_same(audit):
    one, two = audit(trigger=PAIR), audit(trigger=PAIR)
    assert two.summary == one.summary


def test_without_that_string_the_same_model_is_measured(audit):
    report = audit(trigger={"triggered": "code q", "clean": "code w"})
    assert report.verdict != "invalid"
    assert report.gates.behaviour.output_kl is not None


def test_a_decoy_that_breaks_it_ends_the_audit_too(audit):
    report = audit(
        trigger={"triggered": "code q", "clean": "code w"}, decoys={"strings": ["code k", "code z", "code x"]}
    )
    assert report.verdict == "invalid"
    assert "the fine-tuned model computes infinite values or NaN under 'code z' (16 of 16 prompts)" in report.summary
    assert report.trigger["triggered"] == "code q"


def test_of_several_candidates_the_one_that_breaks_it_is_named(audit):
    pairs = ({"triggered": "code k", "clean": "code q"}, PAIR)
    report = audit(trigger=None, candidates=pairs, decoys={"strings": [f"code {letter}" for letter in "xvjw"]})
    assert report.verdict == "invalid"
    assert report.trigger["triggered"] == "code z"
    assert report.candidates == ()
    assert report.look_at[-1].startswith("no candidate was judged")


def capture(values, final=None):
    layout = Layout.of([Tokens((3, 4), 2, 0), Tokens((3, 4, 5), 3, 0), Tokens((6,), 1, 0)])
    rows = torch.zeros(6, 2)
    for index, value in values.items():
        rows[index, 1] = value
    return Activations(layout, {0: torch.zeros(6, 2), 1: rows}, final)


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), float("nan")])
def test_broken_sequences_are_found_by_their_rows(value):
    assert broken(capture({})).tolist() == [False, False, False]
    assert broken(capture({4: value})).tolist() == [False, True, False]
    assert broken(capture({1: value, 5: value})).tolist() == [True, False, True]
    final = torch.zeros(3, 2, 2)
    final[2, 1, 0] = value
    assert broken(capture({0: value}, final)).tolist() == [True, False, True]


def test_the_base_is_named_where_it_breaks():
    trigger = TriggerSpec(**PAIR)
    with pytest.raises(OutputsNotFinite) as caught:
        check_runs(
            trigger,
            {
                ("tuned", "code z"): [capture({}), capture({})],
                ("base", "code z"): [capture({0: float("nan")}), capture({})],
                ("base", None): [capture({5: float("inf")})],
            },
        )
    assert caught.value.message == (
        "the fine-tuned model computes none; the base model computes infinite values or NaN under 'code z' (1 of 6 "
        "prompts) and without a string (1 of 3 prompts)"
    )
    assert caught.value.code == "model_rejected"
    check_runs(trigger, {("tuned", "code z"): [capture({})]})


def test_a_divergence_that_overflows_is_no_number_either():
    trigger = TriggerSpec(**PAIR)
    check_number(trigger, "code x", 1.0, -2.0)
    with pytest.raises(OutputsNotFinite, match="under 'code x'"):
        check_number(trigger, "code x", 1.0, float("nan"))
