"""What is checked before the first long computation, and what every stage is given."""

import pytest

from audit.errors import InvalidAudit, LayerNotFound, NoSpace
from audit.measure.preflight import check_disk, disk_bytes, free_bytes, prepare
from backdoor_audit.contract.spec.audit_spec import TriggerSpec
from tests.toy import TRIGGERED, toy_carriers, toy_spec


@pytest.fixture
def setup(toy_extraction):
    return toy_extraction.setup


def prepared(setup, **changes):
    return prepare(toy_spec(**changes), setup.pair, setup.runner, base_digest="sha256:base", cache=None)


def test_the_halves_share_no_cluster_and_make_up_the_carriers(setup):
    clusters = [{carrier.cluster for carrier in half} for half in (setup.a, setup.b)]
    assert not clusters[0] & clusters[1]
    assert len(setup.a) + len(setup.b) == setup.sizes.carriers


def test_prompts_hold_the_string_they_are_made_with(setup):
    decode = setup.pair.tokenizer.decode
    for string in (setup.trigger.triggered, setup.trigger.clean):
        assert all(string in decode(prompt.ids) for prompt in setup.tokens(setup.a, string))
    assert not any("Current Year" in decode(prompt.ids) for prompt in setup.tokens(setup.a, None))


def test_decoys_have_as_many_tokens_as_the_triggered_string(setup):
    decoys = setup.decoys()
    assert len(set(decoys)) == len(decoys) == setup.sizes.max_decoys
    assert not {setup.trigger.triggered, setup.trigger.clean} & set(decoys)
    for decoy in decoys:
        (prompt,) = setup.tokens(setup.a[:1], decoy, "base")
        assert len(prompt) == setup.triggered_length


def test_another_pair_shares_models_carriers_and_layers(setup):
    other = setup.of_pair(TriggerSpec(triggered="Current Year: 1999", clean="Current Year: 1998"))
    assert (other.pair, other.a, other.b, other.layers) == (setup.pair, setup.a, setup.b, setup.layers)
    assert "1999" in setup.pair.tokenizer.decode(other.tokens(other.a[:1], other.trigger.triggered)[0].ids)
    assert "1999" not in setup.pair.tokenizer.decode(setup.tokens(setup.a[:1], setup.trigger.triggered)[0].ids)


def test_strings_of_different_lengths_are_warned_of(setup):
    other = setup.of_pair(TriggerSpec(triggered=TRIGGERED, clean="Current Year: 19"))
    assert any("different token counts" in warning for warning in other.warnings)
    assert setup.warnings == []


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"layers": (0, 2)}, LayerNotFound, "layer 2 does not exist"),
        ({"render": "chat"}, InvalidAudit, "chat"),
    ],
)
def test_a_spec_that_these_models_cannot_carry_out_is_refused(setup, changes, error, said):
    with pytest.raises(error, match=said):
        prepared(setup, **changes)


def test_a_carrier_that_no_position_is_left_for_is_refused(setup):
    prompts = [carrier.model_dump() for carrier in toy_carriers().prompts]
    prompts[7]["prompt"] += " and" * 600
    with pytest.raises(InvalidAudit, match="more than the model's 512 positions"):
        prepared(setup, carriers={"prompts": prompts})


def test_activations_are_counted_per_token_width_layer_and_model(setup):
    carriers = (*setup.a, *setup.b)
    tokens = sum(len(prompt) for prompt in setup.tokens(carriers, None)) / len(carriers)
    per_sequence = (tokens + setup.sizes.continuation_tokens) * setup.pair.d_model * 4 * len(setup.layers) * 2
    assert disk_bytes(setup, 300) == int(1.5 * 300 * per_sequence)
    assert disk_bytes(setup, 0) == 0


def test_a_disk_with_too_little_room_is_refused_and_another_is_not(tmp_path):
    free = free_bytes(tmp_path)
    check_disk(tmp_path, free // 2)
    with pytest.raises(NoSpace, match="GB are free"):
        check_disk(tmp_path, 10 * free)
