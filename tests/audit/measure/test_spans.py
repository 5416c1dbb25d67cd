import torch

from audit.measure.spans import DecoyTokens, SpanTokens

CARRIER = torch.tensor([0, 0, 1, 1, 1, 2])


def test_pooling_gives_each_carriers_mean_in_float32(assert_close):
    base = torch.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, 0.0], [3.0, 3.0], [6.0, 0.0], [5.0, 6.0]]).bfloat16()
    pooled = SpanTokens(base, 2 * base, CARRIER).pooled()
    assert_close(pooled.base, torch.tensor([[2.0, 3.0], [3.0, 1.0], [5.0, 6.0]]))
    assert_close(pooled.tuned, 2 * pooled.base)
    assert pooled.base.dtype == torch.float32
    assert pooled.carrier.tolist() == [0, 1, 2]


def test_a_decoys_last_delta_is_the_last_row_of_each_carrier(assert_close):
    generator = torch.Generator().manual_seed(0)
    base, tuned = torch.randn(2, 6, 3, generator=generator).unbind(0)
    tokens = DecoyTokens({"b.base.4": base, "b.tuned.4": tuned, "b.carrier": CARRIER})
    assert_close(tokens.last_delta("b", 4), (tuned - base)[[1, 4, 5]])
    assert torch.equal(tokens.span("b", 4).carrier, CARRIER)
