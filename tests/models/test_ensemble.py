import numpy as np
import pytest
import torch

from models.ensemble import ensemble_log_probs


def oracle(logits: np.ndarray) -> np.ndarray:
    """Mean log-softmax over the sensors of one event (S, K), renormalised."""
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    mean = np.exp(log_probs.mean(0))
    return np.log(mean / mean.sum())


@pytest.mark.parametrize("n_sensors", [1, 3, 24])
def test_mean_log_probability_renormalised(n_sensors):
    logits = torch.randn(5, n_sensors, 8) * 3
    result = ensemble_log_probs(logits)
    expected = np.stack([oracle(event) for event in logits.double().numpy()])
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)
    torch.testing.assert_close(result.exp().sum(-1), torch.ones(5))


def test_masked_sensors_have_no_say_whatever_they_hold():
    logits = torch.randn(4, 6, 3)
    mask = torch.rand(4, 6) > 0.4
    mask[:, 0] = True
    spoiled = logits.masked_fill(~mask[..., None], float("nan"))
    expected = np.stack(
        [oracle(event[living].double().numpy()) for event, living in zip(logits, mask)]
    )
    np.testing.assert_allclose(ensemble_log_probs(spoiled, mask).numpy(), expected, atol=1e-5)


def test_order_of_sensors_does_not_matter_and_dead_events_are_uniform():
    logits = torch.randn(2, 5, 4)
    torch.testing.assert_close(ensemble_log_probs(logits.flip(1)), ensemble_log_probs(logits))
    none = ensemble_log_probs(logits, torch.zeros(2, 5, dtype=torch.bool))
    torch.testing.assert_close(none.exp(), torch.full((2, 4), 0.25))
    assert ensemble_log_probs(logits.bfloat16()).dtype == torch.float32


def test_weights_count_sensors_more_or_less():
    logits, weights = torch.randn(2, 4, 3), torch.tensor([[1.0, 0.0, 2.5, 0.5], [0, 0, 0, 3]])
    logits[0, 1] = torch.nan  # weight 0
    found = ensemble_log_probs(logits, weights)
    log_p = logits.double().log_softmax(-1)
    for b in range(2):
        mean = sum(float(w) * log_p[b, s] for s, w in enumerate(weights[b]) if w > 0) / float(
            weights[b].sum()
        )
        torch.testing.assert_close(found[b].double(), mean.log_softmax(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ensemble_log_probs(logits[1:], 7 * weights[1:]), found[1:])
