"""The train stage: dictionaries on half A's activations under every string."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from audit.dictionaries import export
from audit.dictionaries.base import Dictionary, DictionaryConfig, TokenBatch
from audit.dictionaries.crosscoder import Crosscoder, CrosscoderConfig
from audit.dictionaries.diff_sae import DiffSAE, DiffSAEConfig
from audit.dictionaries.paper import PaperCrosscoderConfig, PaperDiffSAEConfig
from audit.dictionaries.quality import Quality
from audit.dictionaries.sources import TensorSource
from audit.dictionaries.training import TrainSettings, train
from audit.dictionaries.untrained import untrained_dictionary
from audit.measure.extraction import CONDITIONS, Extraction
from audit.ports import ProgressCallback
from backdoor_audit.contract.spec.audit_spec import Architecture


@dataclass(frozen=True)
class Trained:
    """One trained dictionary and how well it reconstructs."""

    dictionary: Dictionary
    layer: int
    architecture: Architecture
    seed: int
    k: int
    quality: Quality

    def feature_id(self, index: int) -> str:
        """``architecture/layer/seed/index``."""
        return f"{self.architecture}/{self.layer}/{self.seed}/{index}"

    def direction(self, index: int) -> Float[Tensor, "d_model"]:
        """A feature's unit decoder row on the fine-tuned side, float32, on the CPU."""
        return self.dictionary.W_dec_tuned[index].float().cpu()


def train_dictionaries(
    extraction: Extraction, chosen_layer: int, progress: ProgressCallback
) -> tuple[tuple[Trained, ...], dict[Architecture, Trained]]:
    """Train the dictionaries that the preset asks for; those that an earlier attempt finished are read back.

    Returns:
        The trained dictionaries, and for each architecture the untrained one of the same shape at the chosen layer;
        none where the outputs do not react to the pair and the spec asks for none (``Extraction.explains``).
    """
    if not extraction.explains:
        return (), {}
    setup = extraction.setup
    jobs = [
        _Job(architecture, layer, seed)
        for architecture in setup.spec.architectures
        for layer in setup.layers
        for seed in range(setup.sizes.seeds)
        if seed == 0 or layer == chosen_layer or setup.sizes.seeds_everywhere
    ]
    trained = _train_all(extraction, jobs, progress)
    source = training_source(extraction, chosen_layer)
    untrained = {}
    for architecture in setup.spec.architectures:
        shape = CrosscoderConfig if architecture == "crosscoder" else DiffSAEConfig
        width, k = _width(extraction)
        config = shape(d_model=setup.pair.d_model, n_latents=width, k=k)
        dictionary, quality = untrained_dictionary(config, source, _settings(extraction, setup.spec.seed))
        # On the CPU, like those that are read back from files, so that the same rows are used.
        untrained[architecture] = Trained(dictionary.to("cpu"), chosen_layer, architecture, 0, setup.sizes.k, quality)
    return trained, untrained


class _Job(NamedTuple):
    """One dictionary to train."""

    architecture: Architecture
    layer: int
    seed: int


def _train_all(extraction: Extraction, jobs: Sequence[_Job], progress: ProgressCallback) -> tuple[Trained, ...]:
    """Train every (architecture, layer, seed).

    On a CPU several are trained at once, each on one core: their matrices are too small to use more, and with one
    thread each, the weights do not depend on the number of cores. An exception from ``progress`` ends all of them.
    """
    done = [0.0] * len(jobs)
    stopped = threading.Event()
    lock = threading.Lock()

    def run(number: int) -> Trained:
        job = jobs[number]

        def tell(fraction: float) -> None:
            if stopped.is_set():
                raise _Stopped
            done[number] = fraction
            with lock:
                finished = sum(part == 1.0 for part in done)
                progress(sum(done) / len(jobs), f"{len(jobs)} dictionaries, {finished} finished")

        with _one_thread(on_cpu):
            return _train_one(extraction, job, tell)

    on_cpu = extraction.setup.pair.device.type == "cpu"
    workers = max(1, torch.get_num_threads()) if on_cpu else 1
    with ThreadPoolExecutor(max_workers=workers) as pool:
        futures = [pool.submit(run, number) for number in range(len(jobs))]
        wait(futures, return_when=FIRST_EXCEPTION)
        failed = [future for future in futures if future.done() and future.exception() is not None]
        if failed:
            stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)
            causes = [error for future in failed if not isinstance(error := future.exception(), _Stopped)]
            raise next(error for error in causes if error is not None)
    return tuple(future.result() for future in futures)


class _Stopped(Exception):
    """Another training failed, or the audit was stopped."""


@contextlib.contextmanager
def _one_thread(wanted: bool) -> Iterator[None]:
    """Restrict torch to one core in this thread."""
    before = torch.get_num_threads()
    if wanted:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if wanted:
            torch.set_num_threads(before)


def training_source(extraction: Extraction, layer: int) -> TensorSource:
    """Half A's prompt tokens from the string on, under every string that was drawn, on the decoys' carriers.

    Every string has the same carriers, so the dictionary represents the suspected string no better than a decoy
    (docs/decisions/0012-dictionaries-see-the-span.md). The paper's recipe sees one row per prompt, the mean over these
    tokens.
    """
    spans = [extraction.span(condition, "a", layer) for condition in CONDITIONS]
    spans += [extraction.decoy_tokens(index).span("a", layer) for index in range(len(extraction.decoys))]
    if extraction.setup.spec.recipe == "paper":
        spans = [span.pooled() for span in spans]
    groups = [torch.full((len(span.base),), group) for group, span in enumerate(spans)]
    return TensorSource(
        torch.cat([span.base for span in spans]), torch.cat([span.tuned for span in spans]), torch.cat(groups)
    )


def _config(extraction: Extraction, architecture: Architecture) -> DictionaryConfig:
    setup = extraction.setup
    d_model = setup.pair.d_model
    width, k = _width(extraction)
    # The active latents may be chosen in the precision of the activations; their values are float32.
    quick = setup.pair.precision == "bfloat16"
    if setup.spec.recipe == "paper":
        if architecture == "crosscoder":
            return PaperCrosscoderConfig(d_model=d_model, n_latents=width, k=k)
        return PaperDiffSAEConfig(d_model=d_model, n_latents=width)
    if architecture == "crosscoder":
        return CrosscoderConfig(d_model=d_model, n_latents=width, k=k, bfloat16_selection=quick)
    return DiffSAEConfig(d_model=d_model, n_latents=width, k=k, bfloat16_selection=quick)


def _width(extraction: Extraction) -> tuple[int, int]:
    """Number of latents, and of active latents per token."""
    width = extraction.setup.sizes.width_factor * extraction.setup.pair.d_model
    return width, min(extraction.setup.sizes.k, width)


def _settings(extraction: Extraction, seed: int) -> TrainSettings:
    setup = extraction.setup
    return TrainSettings(
        token_visits=setup.sizes.token_visits, seed=setup.spec.seed + seed, device=str(setup.pair.device)
    )


def _train_one(extraction: Extraction, job: _Job, progress: Callable[[float], None]) -> Trained:
    def write(folder: Path) -> None:
        source = training_source(extraction, job.layer)
        settings = _settings(extraction, job.seed)
        dictionary, summary = train(_config(extraction, job.architecture), source, settings, progress=progress)
        assert isinstance(dictionary, DiffSAE | Crosscoder)
        export.save(dictionary, folder, provenance={"layer": job.layer, "seed": job.seed})
        (folder / "quality.json").write_text(json.dumps(asdict(summary.quality)), encoding="utf-8")

    folder = extraction.store.obtain(f"dictionary-{job.architecture}-{job.layer}-{job.seed}", write)
    progress(1.0)
    k = extraction.setup.sizes.k
    return Trained(export.load(folder).dictionary, job.layer, job.architecture, job.seed, k, _quality(folder))


def _quality(folder: Path) -> Quality:
    return Quality(**json.loads((folder / "quality.json").read_text(encoding="utf-8")))


def encoder(trained: Trained) -> Callable[[TokenBatch], Tensor]:
    """The dictionary's inference encoder, without gradients."""

    @torch.no_grad()
    def encode(batch: TokenBatch) -> Tensor:
        return trained.dictionary.encode(batch)

    return encode
