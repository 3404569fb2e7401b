import numpy as np
import pytest
import torch

from models.iternorm import IterNorm


def whitening_oracle(x: np.ndarray, size: int, eps: float = 1e-5, steps: int = 5):
    """Retype the algorithm in NumPy, group by group."""
    mean = x.mean(0)
    out, matrices = np.empty_like(x), []
    for start in range(0, x.shape[1], size):
        centred = x[:, start : start + size] - mean[start : start + size]
        sigma = eps * np.eye(size) + centred.T @ centred / len(x)
        sigma_n = sigma / np.trace(sigma)
        p = np.eye(size)
        for _ in range(steps):
            p = 1.5 * p - 0.5 * p @ p @ p @ sigma_n
        matrices.append(p / np.sqrt(np.trace(sigma)))
        out[:, start : start + size] = centred @ matrices[-1].T
    return out, mean, np.stack(matrices)


@pytest.fixture
def x():
    mixing = torch.randn(12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return (
        torch.randn(40, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        @ mixing
        + 3
    )


def test_value_is_the_published_algorithms(x):
    layer = IterNorm(12, num_groups=3, affine=False).double()
    expected, _, _ = whitening_oracle(x.numpy(), 4)
    np.testing.assert_allclose(layer(x).numpy(), expected, atol=1e-10)


def test_many_iterations_whiten_completely(x):
    z = IterNorm(12, num_groups=3, n_iterations=14, eps=0, affine=False).double()(x)
    for group in z.split(4, dim=1):
        torch.testing.assert_close(
            group.T @ group / len(x), torch.eye(4, dtype=torch.float64), atol=1e-3, rtol=0
        )


def test_gradient(x):
    layer = IterNorm(12, num_groups=3).double()
    assert torch.autograd.gradcheck(lambda t: layer(t), x[:9].clone().requires_grad_())


def test_running_statistics_and_evaluation(x):
    layer = IterNorm(12, num_groups=3, momentum=0.1).double()
    mean, matrices = np.zeros(12), np.tile(np.eye(4), (3, 1, 1))
    for batch in (x[:20], x[20:]):
        _, batch_mean, batch_matrices = whitening_oracle(batch.numpy(), 4)
        mean, matrices = 0.9 * mean + 0.1 * batch_mean, 0.9 * matrices + 0.1 * batch_matrices
        layer(batch)
    with torch.no_grad():
        layer.weight.copy_(torch.linspace(1, 2, 12))
        layer.bias.copy_(torch.linspace(-1, 1, 12))
    layer.eval()
    centred = x.numpy() - mean
    white = np.concatenate([centred[:, 4 * g : 4 * g + 4] @ matrices[g] for g in range(3)], axis=1)
    np.testing.assert_allclose(
        layer(x).detach().numpy(), white * np.linspace(1, 2, 12) + np.linspace(-1, 1, 12), atol=1e-6
    )
    torch.testing.assert_close(layer(x[:1]), layer(x)[:1])


def test_defaults_are_64_groups_and_float32_under_autocast():
    layer = IterNorm(4096)
    assert layer.running_whitening.shape == (64, 64, 64)
    assert (layer.n_iterations, layer.eps, layer.momentum) == (5, 1e-5, 0.1)
    layer = IterNorm(64, num_groups=1)
    x = torch.randn(256, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = layer(x)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, IterNorm(64, num_groups=1)(x))


def test_what_cannot_be_whitened_is_refused():
    with pytest.raises(ValueError, match="found 5 and 12"):
        IterNorm(12, num_groups=5)
    with pytest.raises(ValueError, match="found 1"):
        IterNorm(12, num_groups=3)(torch.ones(1, 12))


def test_identical_samples_stay_finite():
    assert torch.isfinite(IterNorm(12, num_groups=3)(torch.full((8, 12), 5.0))).all()
