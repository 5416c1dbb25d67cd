"""Time the metrics of all features of a wide dictionary, compared with the seed paper's way of scoring them.

``python -m benchmarks.metrics`` scores 18,432 features on 2,500 prompts (500 triggered, 500 clean, 500 plain, 1,000
under decoys; the thresholds come from 500 more clean prompts): thresholds, precision, recall, FPR, F1, BIS, AUROC, d_z
and bis_p95 of every feature, and the cluster-bootstrap interval of the best feature's BIS.

The naive side does what the paper does (arXiv 2605.07324): every bootstrap round resamples the prompts and recomputes
the 95th percentile of *all* features over them before the best feature is chosen. It gives only bis_p95 and its
interval: no AUROC, no d_z, no threshold from other prompts. A few rounds are timed and scaled to the same number of
rounds, as the result notes.
"""

import argparse
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit.stats.bis_p95 import bis_p95
from audit.stats.metrics import bis_interval, feature_metrics, firing_threshold
from audit.stats.resampling import BOOTSTRAP_ROUNDS
from benchmarks.harness.machine import write_result

GOAL_S = 2.0
CLUSTERS = 25


@dataclass(frozen=True)
class Activations:
    """Latent activations by condition, [prompts, features]; row i of each is the same carrier."""

    clean_a: Tensor
    triggered: Tensor
    clean: Tensor
    plain: Tensor
    decoys: Tensor
    clusters: Tensor


def simulate(prompts: int, features: int, seed: int = 0) -> Activations:
    """Draw sparse activations; the first feature fires only under the trigger, and every tenth is biased towards it."""
    generator = torch.Generator().manual_seed(seed)

    def draw(rows: int) -> Tensor:
        # About one activation in six is positive.
        return torch.randn(rows, features, generator=generator).sub_(1).relu_()

    each = prompts // 5
    triggered = draw(each)
    triggered[:, ::10] += torch.rand(each, len(triggered[0, ::10]), generator=generator)
    triggered[:, 0] += 5
    clusters = torch.arange(each) % CLUSTERS
    return Activations(draw(each), triggered, draw(each), draw(each), draw(2 * each), clusters)


def score(data: Activations, rounds: int) -> tuple[Any, Any, Any]:
    """Score everything like an audit."""
    metrics = feature_metrics(data.triggered, data.clean, firing_threshold(data.clean_a))
    paper = bis_p95(
        data.triggered,
        torch.cat([data.clean, data.plain]),
        data.decoys,
        benign_clusters=data.clusters.repeat(2),
        decoy_clusters=data.clusters.repeat(2),
    )
    best = int(metrics.firing.bis.argmax())
    limit = metrics.threshold.value[best]
    interval = bis_interval(data.triggered[:, best] > limit, data.clean[:, best] > limit, data.clusters, rounds=rounds)
    return metrics.at(best), paper, interval


def naive_scores(everything: np.ndarray, triggered: np.ndarray, benign: np.ndarray) -> np.ndarray:
    """Score all features the paper's way: own percentile, then F1 * (1 - FPR_benign)."""
    fires = everything > np.percentile(everything, 95, axis=0)
    hits, fired = fires[triggered].sum(axis=0), fires.sum(axis=0)
    precision = hits / np.maximum(fired, 1)
    recall = hits / triggered.sum()
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return f1 * (1 - fires[benign].mean(axis=0))


def naive_round(everything: np.ndarray, label: np.ndarray, generator: np.random.Generator) -> float:
    """One bootstrap round the paper's way."""
    rows = generator.integers(len(everything), size=len(everything))
    return float(naive_scores(everything[rows], label[rows] == 0, label[rows] == 1).max())


def main() -> None:
    """Measure both sides in one run and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", type=int, default=18_432)
    parser.add_argument("--prompts", type=int, default=2_500)
    parser.add_argument("--rounds", type=int, default=BOOTSTRAP_ROUNDS, help="bootstrap rounds on both sides")
    parser.add_argument("--naive-rounds", type=int, default=3, help="rounds of the naive side that are actually run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    data = simulate(arguments.prompts, arguments.features)
    times, cpu_times = [], []
    for _ in range(arguments.repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        best, paper, interval = score(data, arguments.rounds)
        times.append(time.perf_counter() - start)
        cpu_times.append(time.process_time() - cpu_start)

    benign = len(data.clean) + len(data.plain)
    label = np.repeat([0, 1, 2], [len(data.triggered), benign, len(data.decoys)])
    everything = torch.cat([data.triggered, data.clean, data.plain, data.decoys]).numpy()
    generator = np.random.default_rng(0)
    naive_times = []
    for _ in range(arguments.naive_rounds):
        start = time.perf_counter()
        naive_round(everything, label, generator)
        naive_times.append(time.perf_counter() - start)
    difference = np.abs(naive_scores(everything, label == 0, label == 1) - paper.score.numpy()).max()

    seconds, naive_round_s = statistics.median(times), statistics.median(naive_times)
    figures = {
        "features": arguments.features,
        "prompts": arguments.prompts,
        "bootstrap_rounds": arguments.rounds,
        "seconds": round(seconds, 3),
        "seconds_of_each_repeat": [round(value, 3) for value in times],
        "cpu_seconds": round(statistics.median(cpu_times), 3),
        "goal_seconds": GOAL_S,
        "goal_met": seconds <= GOAL_S,
        "naive_seconds_a_round": round(naive_round_s, 3),
        "naive_rounds_run": arguments.naive_rounds,
        "naive_seconds_scaled": round(naive_round_s * arguments.rounds, 1),
        "ratio": round(naive_round_s * arguments.rounds / seconds, 1),
        "ratio_note": (
            f"naive: median of {arguments.naive_rounds} rounds, scaled to {arguments.rounds}; it bootstraps the best "
            "feature's bis_p95 with all percentiles taken anew and gives neither AUROC, d_z nor thresholds"
        ),
        "largest_difference_of_bis_p95_between_the_two": float(difference),
        "best_feature_bis": best.bis,
        "best_feature_bis_interval": interval,
        "best_bis_p95": float(paper.score.max()),
        "bis_p95_ceiling": paper.ceiling,
    }
    path = write_result("metrics", figures)
    print(f"{arguments.features} features x {arguments.prompts} prompts: {seconds:.2f} s (goal {GOAL_S:g} s)")
    print(f"naive: {naive_round_s:.2f} s a round, {figures['naive_seconds_scaled']} s for {arguments.rounds} (scaled)")
    print(f"ratio {figures['ratio']:g}; written to {path}")


if __name__ == "__main__":
    main()
