import numpy as np
import pytest
import torch

from models.class_weights import weighted_cross_entropy
from models.self_training import soft_class_weights


def test_cross_entropy_with_probabilities_is_weighted_by_class():
    logits, weights = torch.randn(7, 3), torch.tensor([0.0, 1.0, 3.0])
    targets = torch.rand(7, 3).softmax(1)
    probs = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    weighted = targets.numpy() * weights.numpy()
    expected = -(weighted * np.log(probs)).sum() / weighted.sum()
    found = weighted_cross_entropy(logits, targets, weights)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    labels = torch.tensor([0, 1, 2, 2, 1, 0, 1])
    hard = torch.eye(3)[labels]
    torch.testing.assert_close(
        weighted_cross_entropy(logits, hard, weights),
        weighted_cross_entropy(logits, labels, weights),
    )


def test_soft_class_weights_are_balanced_and_bounded():
    learned = torch.tensor([False, True, True, True])
    weights = soft_class_weights(torch.tensor([50.0, 80.0, 20.0, 0.5]), learned)
    total = 100.5
    expected = [0, total / (3 * 80), total / (3 * 20), total / (3 * 0.01 * total)]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
