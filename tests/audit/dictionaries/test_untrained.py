import pytest
import torch

from audit.dictionaries import CrosscoderConfig, DiffSAEConfig, TrainSettings, train, untrained_dictionary


@pytest.mark.parametrize("config", [DiffSAEConfig, CrosscoderConfig])
def test_untrained_dictionary_has_the_shape_and_the_sparsity_but_not_the_fit(config, planted):
    settings = TrainSettings(token_visits=20_000)
    sizes = config(d_model=32, n_latents=64, k=3)
    frozen, quality = untrained_dictionary(sizes, planted.source, settings)
    trained, summary = train(sizes, planted.source, settings)
    assert frozen.W_dec_tuned.shape == trained.W_dec_tuned.shape
    assert quality.l0 == pytest.approx(3.0, rel=0.05)
    assert quality.fve < summary.quality.fve - 0.2
    assert quality.var_ratio == pytest.approx(summary.quality.var_ratio)


def test_rows_are_random_even_where_training_would_draw_them_from_data(planted):
    settings = TrainSettings(token_visits=1_000)
    drawn = untrained_dictionary(DiffSAEConfig(d_model=32, n_latents=64, k=3), planted.source, settings)[0]
    random = untrained_dictionary(
        DiffSAEConfig(d_model=32, n_latents=64, k=3, initialise_from_data=False), planted.source, settings
    )[0]
    assert torch.equal(drawn.W_dec_tuned, random.W_dec_tuned)


def test_seeds_give_different_dictionaries(planted):
    config = DiffSAEConfig(d_model=32, n_latents=64, k=3)
    first = untrained_dictionary(config, planted.source, TrainSettings(token_visits=1, seed=0))[0]
    second = untrained_dictionary(config, planted.source, TrainSettings(token_visits=1, seed=1))[0]
    assert not torch.equal(first.W_dec_tuned, second.W_dec_tuned)


def test_width_must_be_the_sources(planted):
    with pytest.raises(ValueError, match="32 wide"):
        untrained_dictionary(
            DiffSAEConfig(d_model=16, n_latents=64, k=3), planted.source, TrainSettings(token_visits=1)
        )
