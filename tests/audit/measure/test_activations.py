import pytest
import torch

from audit.measure.activations import BaseRuns, after, first, read_activations, span_rows, write_activations
from storage.folders import ArtifactFolder
from tests.audit.small_models import random_sequences, small_runner


@pytest.fixture(scope="module")
def runner():
    return small_runner()


@pytest.fixture(scope="module")
def activations(runner):
    return runner.capture(random_sequences(5, prefix=2), "tuned", (0, 2))


def test_activations_survive_the_disk(activations, tmp_path):
    write_activations(tmp_path, activations)
    read = read_activations(tmp_path)
    assert read.layout == activations.layout
    assert torch.equal(read.final, activations.final)
    assert all(torch.equal(read.hidden[layer], activations.hidden[layer]) for layer in (0, 2))


def test_the_first_and_the_rest_are_the_whole(activations):
    for count in range(6):
        parts = first(activations, count), after(activations, count)
        assert tuple(s for part in parts for s in part.layout.sequences) == activations.layout.sequences
        assert torch.equal(torch.cat([part.hidden[0] for part in parts]), activations.hidden[0])
        assert torch.equal(torch.cat([part.final for part in parts]), activations.final)


def test_span_rows_by_hand(activations):
    expected = []
    for index, sequence in enumerate(activations.layout.sequences):
        expected += list(activations.layout.rows(index))[sequence.span_start : sequence.prompt_length]
    assert span_rows(activations.layout).tolist() == expected


def test_cached_runs_are_told_apart_by_all_they_depend_on(runner, tmp_path):
    cache = ArtifactFolder(tmp_path)
    prompts = random_sequences(4)

    def misses(digest="sha256:1", layers=(0,), prompts=prompts, cache=cache):
        runs = BaseRuns(runner, layers, digest, cache)
        runs.capture(prompts)
        assert runs.hits + runs.misses == 1
        return runs.misses

    assert [misses(), misses()] == [1, 0]
    assert misses(digest="sha256:2") == 1
    assert misses(layers=(0, 1)) == 1
    assert misses(prompts=random_sequences(4, seed=1)) == 1
    # The forced continuation is the fine-tuned model's own and never reaches the base's key.
    assert misses(prompts=[prompt.continued((9,)) for prompt in prompts]) == 0
    assert [misses(cache=None), misses(digest="")] == [1, 1]


@pytest.mark.parametrize("damage", ["gone", "cut", "emptied"])
def test_a_damaged_entry_of_the_cache_is_computed_anew(runner, tmp_path, damage):
    cache = ArtifactFolder(tmp_path)
    prompts = random_sequences(4)
    whole = BaseRuns(runner, (0,), "sha256:1", cache).capture(prompts)
    (entry,) = (tmp_path / name for name in cache.names())
    for file in entry.iterdir():
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:20] if damage == "cut" else b"")
    runs = BaseRuns(runner, (0,), "sha256:1", cache)
    assert torch.equal(runs.capture(prompts).hidden[0], whole.hidden[0])
    assert (runs.hits, runs.misses) == (0, 1)
    mended = BaseRuns(runner, (0,), "sha256:1", cache)
    assert torch.equal(mended.capture(prompts).hidden[0], whole.hidden[0])
    assert mended.hits == 1
