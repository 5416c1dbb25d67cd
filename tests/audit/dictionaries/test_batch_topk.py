import pytest
import torch
from torch.nn import functional as F

from audit.dictionaries import DiffSAEConfig
from audit.dictionaries.batch_topk import BatchTopKCore, aux_k_loss


def core(sample: torch.Tensor, *, unit_norm: bool = True, token_visits: int = 1_000, **config) -> BatchTopKCore:
    settings = DiffSAEConfig(d_model=sample.shape[1], **config)
    generator = torch.Generator().manual_seed(0)
    return BatchTopKCore(settings, sample, generator=generator, token_visits=token_visits, unit_norm=unit_norm)


def naive_aux_k(inputs, residual, dead, W_enc, bias, W_dec, aux_k):
    """Token by token, latent by latent."""
    missed, energy = 0.0, 0.0
    dead_latents = [latent for latent in range(len(dead)) if dead[latent]]
    for token in range(len(inputs)):
        activations = {latent: (inputs[token] @ W_enc[latent] + bias[latent]).relu() for latent in dead_latents}
        strongest = sorted(dead_latents, key=lambda latent: -activations[latent].item())[:aux_k]
        explained = sum(activations[latent] * W_dec[latent] for latent in strongest)
        missed = missed + (residual[token] - explained).square().sum()
        energy = energy + residual[token].square().sum()
    return missed / energy * min(1.0, len(dead_latents) / aux_k)


@pytest.mark.parametrize("aux_k", [2, 4, 50])
def test_auxiliary_loss_agrees_with_loops_gradients_included(aux_k, assert_close):
    generator = torch.Generator().manual_seed(1)
    inputs, residual = torch.randn(2, 9, 5, generator=generator)
    weights = [torch.randn(7, 5, generator=generator), torch.randn(7, generator=generator)]
    weights.append(F.normalize(torch.randn(7, 5, generator=generator), dim=1))
    dead = torch.tensor([True, False, True, True, False, True, True])
    outcomes = []
    for fast in (True, False):
        W_enc, bias, W_dec = (weight.clone().requires_grad_() for weight in weights)
        if fast:
            loss = aux_k_loss(inputs, residual, dead, W_enc=W_enc, bias=bias, W_dec=W_dec, aux_k=aux_k)
        else:
            loss = naive_aux_k(inputs, residual, dead, W_enc, bias, W_dec, aux_k)
        loss.backward()
        outcomes.append([loss.detach(), W_enc.grad, bias.grad, W_dec.grad])
    for actual, expected in zip(*outcomes, strict=True):
        assert_close(actual, expected)
    assert not outcomes[0][1][~dead].any()  # the living get no auxiliary gradient


def test_auxiliary_loss_is_zero_where_the_dead_explain_the_residual():
    inputs = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    loss = aux_k_loss(
        inputs,
        inputs.clone(),
        torch.tensor([True, True, False]),
        W_enc=torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
        bias=torch.zeros(3),
        W_dec=torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
        aux_k=2,
    )
    assert float(loss) == 0.0


@pytest.mark.parametrize(("k", "n_latents"), [(3, 64), (20, 40)])
def test_loss_agrees_with_the_formula(k, n_latents, assert_close):
    """The sparse and the dense path against the definition, with the bias taken off the input, gradients included."""
    sample = torch.randn(100, 16, generator=torch.Generator().manual_seed(2)) + 3.0
    subject = core(sample, n_latents=n_latents, k=k, aux_coefficient=0.0)
    batch = sample[:50]
    loss = subject.loss(batch)
    loss.backward()
    fast = [parameter.grad.clone() for parameter in subject.parameters()]

    W_enc, W_dec, b_enc, b_dec = (parameter.detach().clone().requires_grad_() for parameter in (subject.parameters()))
    preactivations = (batch - b_dec) @ W_enc.T + b_enc
    kth = preactivations.flatten().sort(descending=True).values[50 * k - 1]
    latents = torch.where(preactivations >= kth, preactivations, 0.0).relu()
    variance = (sample - sample.mean(dim=0)).square().sum(dim=1).mean()
    expected = (latents @ W_dec + b_dec - batch).square().sum(dim=1).mean() / variance
    expected.backward()
    assert_close(loss.detach(), expected.detach())
    for actual, parameter in zip(fast, (W_enc, W_dec, b_enc, b_dec), strict=True):
        assert_close(actual, parameter.grad)


def test_gradient_along_a_decoder_row_is_removed_and_rows_are_renormalised(assert_close):
    subject = core(torch.randn(50, 8, generator=torch.Generator().manual_seed(0)), n_latents=12, k=2)
    subject.W_dec.grad = torch.randn(12, 8, generator=torch.Generator().manual_seed(1))
    before = subject.W_dec.grad.clone()
    subject.before_step()
    along = (subject.W_dec.grad * subject.W_dec.data).sum(dim=1)
    assert_close(along, torch.zeros(12))
    across = before - (before * subject.W_dec.data).sum(dim=1, keepdim=True) * subject.W_dec.data
    assert_close(subject.W_dec.grad, across)
    subject.W_dec.data *= 3.0
    subject.after_step()
    assert_close(subject.W_dec.data.norm(dim=1), torch.ones(12))


def test_a_latent_dies_after_its_share_of_the_budget_and_comes_back_when_it_fires():
    sample = torch.eye(4).repeat(25, 1)
    subject = core(sample, n_latents=4, k=3, token_visits=1_000, dead_after_share=0.2, initialise_from_data=False)
    subject.b_enc.data = torch.tensor([-100.0, 100.0, 100.0, 100.0])
    for _ in range(2):
        subject.loss(sample)
    assert subject.dead.tolist() == [True, False, False, False]
    subject.b_enc.data[0] = 100.0
    subject.loss(sample)
    assert not subject.dead[0]


def test_dead_latents_get_a_gradient_from_the_auxiliary_loss_alone():
    sample = torch.randn(200, 8, generator=torch.Generator().manual_seed(5))
    for coefficient, moved in ((1 / 32, True), (0.0, False)):
        subject = core(sample, n_latents=16, k=2, aux_coefficient=coefficient)
        subject.silent_tokens[3] = 10**6
        subject.W_enc.data[3] *= 0.05  # sometimes positive, never among the k largest
        subject.loss(sample).backward()
        assert subject.silent_tokens[3] > 10**6
        assert bool(subject.W_enc.grad[3].any()) is moved


def test_threshold_is_the_running_mean_of_the_batches():
    sample = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    subject = core(sample, n_latents=16, k=2, threshold_momentum=0.5)
    assert subject.threshold == 0.0
    thresholds = []
    for batch in (sample[:32], 2 * sample[32:]):
        preactivations = (batch - subject.b_dec) @ subject.W_enc.T + subject.b_enc
        thresholds.append(float(preactivations.detach().flatten().sort(descending=True).values[2 * 32 - 1]))
        subject.loss(batch)
    assert subject.threshold == pytest.approx((thresholds[0] + 2 * thresholds[1]) / 3, rel=1e-5)


def test_calibration_gives_k_active_latents():
    sample = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    subject = core(sample, n_latents=32, k=3)
    subject.calibrate(sample)
    preactivations = (sample - subject.b_dec) @ subject.W_enc.T + subject.b_enc
    assert float((preactivations >= subject.threshold).sum(dim=1).float().mean()) == pytest.approx(3.0, abs=0.01)


def test_bfloat16_selection_keeps_float32_values():
    sample = torch.randn(300, 16, generator=torch.Generator().manual_seed(0))
    exact = core(sample, n_latents=128, k=4)
    quick = core(sample, n_latents=128, k=4, bfloat16_selection=True)
    # bfloat16 scores tie at the threshold, and all ties are kept: a little more than k, hence the tolerance.
    assert quick.loss(sample).item() == pytest.approx(exact.loss(sample).item(), rel=0.03)
    assert quick.threshold == pytest.approx(exact.threshold, rel=0.01)


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0},
        {"k": 9},
        {"d_model": 0},
        {"aux_k": 0},
        {"aux_coefficient": -0.1},
        {"dead_after_share": 0.0},
        {"threshold_momentum": 1.0},
    ],
)
def test_impossible_configurations_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        DiffSAEConfig(**({"d_model": 4, "n_latents": 8, "k": 2} | wrong))
