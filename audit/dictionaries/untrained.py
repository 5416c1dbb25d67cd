"""The untrained dictionary: the baseline that a trained dictionary's scores have to beat."""

from dataclasses import replace

import torch

from audit.dictionaries.base import ActivationSource, Dictionary, require
from audit.dictionaries.crosscoder import CrosscoderConfig, CrosscoderTrainee
from audit.dictionaries.diff_sae import DiffSAEConfig, DiffSAETrainee
from audit.dictionaries.quality import Quality, measure
from audit.dictionaries.sources import BalancedOrder
from audit.dictionaries.training import TrainSettings, finite_sample, measured_tokens


def untrained_dictionary(
    config: DiffSAEConfig | CrosscoderConfig, source: ActivationSource, settings: TrainSettings
) -> tuple[Dictionary, Quality]:
    """A dictionary of the same shape with random unit rows, scaled and centred alike, thresholded to k active latents.

    Only scale, bias and threshold come from the data. Its rows are never drawn from data, whatever the configuration
    says, because that would be a kind of training.

    Raises:
        ValueError: the source's width is not the configuration's.
        audit.errors.ModelRejected: activations are not finite.
    """
    require(source.d_model == config.d_model, f"activations are {source.d_model} wide, the config {config.d_model}")
    generator = torch.Generator().manual_seed(settings.seed)
    sample = finite_sample(source, BalancedOrder(source.groups, generator), settings)
    untrained = replace(config, initialise_from_data=False)
    trainee: DiffSAETrainee | CrosscoderTrainee
    if isinstance(untrained, DiffSAEConfig):
        trainee = DiffSAETrainee(untrained, sample, generator=generator, token_visits=settings.token_visits)
    else:
        trainee = CrosscoderTrainee(untrained, sample, generator=generator, token_visits=settings.token_visits)
    trainee.calibrate(sample)
    dictionary = trainee.finish()
    return dictionary, measure(dictionary, source, measured_tokens(source, settings), device=settings.device)
