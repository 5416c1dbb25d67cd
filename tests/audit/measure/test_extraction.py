"""The pair's activations and its decoys, against the model itself and against a second look at them."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from audit.measure import extraction
from audit.measure.contrast import effects, fit_directions, tuned_kl
from audit.measure.extraction import (
    CONDITIONS,
    RESPONSE_NATS,
    RESPONSE_SHARE,
    extract,
    read_decoy,
)
from tests.audit.recording import Counting


def test_every_condition_is_there_and_the_rest_of_a_is_never_plain(toy_extraction):
    halves = {(condition, half) for condition in CONDITIONS for half in ("a", "b")}
    rest = len(toy_extraction.setup.a) > toy_extraction.setup.decoys_a
    expected = halves | ({("triggered", "rest"), ("clean", "rest")} if rest else set())
    assert set(toy_extraction.tuned) == set(toy_extraction.base) == expected
    assert toy_extraction.has("plain", "b")
    assert not toy_extraction.has("plain", "rest")


@torch.no_grad()
def test_activations_are_the_models_own_hidden_states_under_the_string(toy_extraction, assert_close):
    setup = toy_extraction.setup
    model = setup.pair.models["tuned"]
    for condition, string in (("triggered", setup.trigger.triggered), ("clean", setup.trigger.clean), ("plain", None)):
        activations = toy_extraction.tuned[condition, "b"]
        sequence = activations.layout.sequences[1]
        assert sequence.prompt() == setup.tokens(setup.b, string)[1]
        theirs = model(input_ids=torch.tensor([sequence.ids]), output_hidden_states=True).hidden_states
        rows = activations.layout.rows(1)
        assert_close(activations.hidden[0][rows.start : rows.stop], theirs[1][0], atol=2e-4)


@torch.no_grad()
def test_what_is_forced_under_every_string_is_the_greedy_answer_to_the_clean_prompt(toy_extraction):
    setup = toy_extraction.setup
    length = setup.sizes.continuation_tokens
    clean = toy_extraction.tuned["clean", "a"].layout.sequences[0]
    ids = list(clean.ids[: clean.prompt_length])
    for _ in range(length):
        ids.append(int(setup.pair.models["tuned"](input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    for condition in CONDITIONS:
        sequence = toy_extraction.tuned[condition, "a"].layout.sequences[0]
        assert list(sequence.ids[sequence.prompt_length :]) == ids[-length:], condition


def test_a_span_is_the_prompts_tokens_from_the_string_on_of_both_models(toy_extraction):
    span = toy_extraction.span("triggered", "b", 1)
    tuned, base = toy_extraction.tuned["triggered", "b"], toy_extraction.base["triggered", "b"]
    ours, theirs, carriers = [], [], []
    for index in range(len(tuned.layout)):
        for row, other in zip(tuned.layout.prompt_span_rows(index), base.layout.prompt_span_rows(index), strict=True):
            ours.append(tuned.hidden[1][row])
            theirs.append(base.hidden[1][other])
            carriers.append(index)
    assert torch.equal(span.tuned, torch.stack(ours))
    assert torch.equal(span.base, torch.stack(theirs))
    assert span.carrier.tolist() == carriers


def test_a_contrast_with_decoys_is_on_the_carriers_that_decoys_are_shown_on(toy_extraction):
    whole, part = (toy_extraction.contrast("b", decoy_carriers_only=only) for only in (False, True))
    count = toy_extraction.setup.decoys_b
    assert len(whole.clean.layout) == len(toy_extraction.setup.b)
    assert part.clean.layout.sequences == whole.clean.layout.sequences[:count]


def test_decoys_are_drawn_until_enough_are_silent(toy_extraction):
    setup = toy_extraction.setup
    strings = [decoy.string for decoy in toy_extraction.decoys]
    assert strings == setup.decoys()[: len(strings)]
    silent = toy_extraction.responding.count(False)
    assert silent == setup.sizes.silent_decoys or len(strings) == len(setup.decoys())
    assert silent <= setup.sizes.silent_decoys
    limit = max(RESPONSE_NATS, RESPONSE_SHARE * toy_extraction.pair_reaction)
    assert toy_extraction.screened == (toy_extraction.pair_reaction >= RESPONSE_NATS)
    for decoy, responds in zip(toy_extraction.decoys, toy_extraction.responding, strict=True):
        assert responds == (toy_extraction.screened and (decoy.unexplained or 0.0) >= limit)


def test_a_decoys_numbers_and_activations_are_read_back_as_they_were_measured(toy_extraction):
    for index, decoy in enumerate(toy_extraction.decoys):
        find = toy_extraction.store.find
        assert read_decoy(find(f"decoy-{index:04d}"), find(f"fit-{index:04d}")) == decoy
        stored = load_file(find(f"decoy-tokens-{index:04d}") / "activations.safetensors")
        assert stored
        assert all(bool(torch.isfinite(value).all()) for value in stored.values() if value.is_floating_point())


def test_where_nothing_reacts_decoys_are_measured_alike_and_not_recorded(toy_extraction, tmp_path):
    setup = toy_extraction.setup
    spec = setup.spec.model_copy(update={"dictionaries": "auto"})
    quiet = replace(setup, plan=replace(setup.plan, spec=spec))
    found = extract(quiet, Counting(tmp_path / "w"), lambda fraction, message: None)
    assert toy_extraction.explains
    assert not found.explains
    assert (found.decoys, found.responding, found.effect) == (
        toy_extraction.decoys, toy_extraction.responding, toy_extraction.effect
    )  # fmt: skip
    assert not any(name.startswith("decoy-tokens-") for name in found.store.names())


def test_a_pair_that_reacts_is_explained_whatever_the_spec_asks_for(toy_extraction, monkeypatch):
    spec = toy_extraction.setup.spec.model_copy(update={"dictionaries": "auto"})
    quiet = replace(
        toy_extraction, setup=replace(toy_extraction.setup, plan=replace(toy_extraction.setup.plan, spec=spec))
    )
    assert not quiet.explains
    assert replace(quiet, effect=RESPONSE_NATS).explains
    monkeypatch.setattr(extraction, "RESPONSE_NATS", quiet.pair_reaction)
    assert quiet.explains


def test_a_second_attempt_measures_nothing_again(toy_extraction):
    written = list(toy_extraction.store.written)
    again = extract(toy_extraction.setup, toy_extraction.store, lambda fraction, message: None)
    assert toy_extraction.store.written == written
    assert (again.decoys, again.responding) == (toy_extraction.decoys, toy_extraction.responding)
    for key, activations in toy_extraction.tuned.items():
        assert torch.equal(again.tuned[key].hidden[1], activations.hidden[1])


@pytest.mark.parametrize("margin", [0.5, 5.0])
def test_an_effect_is_measured_where_it_could_rival_the_pairs_and_bounded_elsewhere(
    margin, toy_extraction, tmp_path, monkeypatch
):
    """The bound is what the decoy does to the outputs, which no ablation can undo more than once."""
    monkeypatch.setattr(extraction, "RESPONSE_NATS", toy_extraction.effect / 2)
    monkeypatch.setattr(extraction, "MARGIN_MEASURED", margin)
    found = extract(toy_extraction.setup, Counting(tmp_path / "w"), lambda fraction, message: None)
    assert len(found.decoy_bases()) == found.responding.count(False)
    for decoy in found.decoys:
        most = sum(decoy.change_b) / len(decoy.change_b)
        measured = decoy.measured_effect is not None
        assert measured == (margin * most > found.effect)
        assert (decoy.layer is not None) == measured
        assert decoy.effect <= most + 1e-6
        assert decoy.effect == (decoy.measured_effect if measured else most)


def test_no_directions_are_fitted_to_decoys_where_the_pair_has_no_effect(toy_extraction):
    assert toy_extraction.effect < RESPONSE_NATS
    assert toy_extraction.decoy_bases() == []
    assert {decoy.measured_effect for decoy in toy_extraction.decoys} == {None}
    assert not any(name.startswith("fit-") for name in toy_extraction.store.names())


def test_the_pairs_effect_is_that_of_its_leading_direction_and_never_more_than_its_reaction(toy_extraction):
    runner, directions = toy_extraction.setup.runner, toy_extraction.directions
    on_b = toy_extraction.contrast("b", decoy_carriers_only=True)
    fresh = fit_directions(runner, toy_extraction.contrast("a"), toy_extraction.setup.layers)
    assert (fresh.layer, fresh.effect_a) == (directions.layer, directions.effect_a)
    found = effects(runner, on_b, fresh.layer, [fresh.basis[fresh.layer][:, :1]])
    most = torch.minimum(found.intact, tuned_kl(runner, on_b.string, on_b.clean))
    assert toy_extraction.effect == min(found.nats(), float(most.mean()))
