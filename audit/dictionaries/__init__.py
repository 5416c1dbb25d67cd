"""Sparse dictionaries trained on the activations of a base and a fine-tuned model.

``train(config, source, settings)`` is the one entry point of training: the configuration decides the architecture
(:class:`DiffSAEConfig`, :class:`CrosscoderConfig`, and in paper mode :class:`PaperDiffSAEConfig`,
:class:`PaperCrosscoderConfig`). ``untrained_dictionary`` gives the untrained baseline; ``save`` and ``load`` keep
dictionaries.
"""

from audit.dictionaries.base import ActivationSource, Dictionary, DictionaryConfig, TokenBatch
from audit.dictionaries.crosscoder import Crosscoder, CrosscoderConfig, LatentScaling, latent_scaling
from audit.dictionaries.diff_sae import DiffSAE, DiffSAEConfig
from audit.dictionaries.export import SavedDictionary, load, save
from audit.dictionaries.paper import PaperCrosscoderConfig, PaperDiffSAEConfig
from audit.dictionaries.quality import Quality, measure
from audit.dictionaries.sources import BalancedOrder, TensorSource
from audit.dictionaries.training import TrainingSummary, TrainSettings, train
from audit.dictionaries.untrained import untrained_dictionary

__all__ = [
    "ActivationSource",
    "BalancedOrder",
    "Crosscoder",
    "CrosscoderConfig",
    "Dictionary",
    "DictionaryConfig",
    "DiffSAE",
    "DiffSAEConfig",
    "LatentScaling",
    "PaperCrosscoderConfig",
    "PaperDiffSAEConfig",
    "Quality",
    "SavedDictionary",
    "TensorSource",
    "TokenBatch",
    "TrainSettings",
    "TrainingSummary",
    "latent_scaling",
    "load",
    "measure",
    "save",
    "train",
    "untrained_dictionary",
]
