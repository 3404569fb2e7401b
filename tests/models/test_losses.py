import numpy as np
import pytest
import torch

from models.heads import Projector
from models.losses import covariance_loss, invariance_loss, variance_loss


def covariance_oracle(z: np.ndarray) -> float:
    correlation = np.corrcoef(z, rowvar=False)
    off_diagonal = correlation * (1 - np.eye(len(correlation)))
    return (off_diagonal**2).sum() / off_diagonal.size


def variance_oracle(z: np.ndarray) -> float:
    return np.maximum(0, 1 - np.sqrt(z.var(0, ddof=1) + 1e-4)).mean()


@pytest.fixture(params=[(8, 20), (20, 8)], ids=["B<D", "B>D"])
def pair(request):
    rng = np.random.default_rng(3)
    n, d = request.param
    mixing = rng.normal(size=(d, d))
    return [
        torch.tensor(rng.normal(size=(n, d)) @ mixing * 0.2 + 4, dtype=torch.float32)
        for _ in range(2)
    ]


def test_losses_equal_retyped_formulas(pair):
    a, b = (z.double().numpy() for z in pair)
    assert invariance_loss(*pair).item() == pytest.approx(((a - b) ** 2).mean(), rel=1e-5)
    assert variance_loss(*pair).item() == pytest.approx(
        variance_oracle(a) + variance_oracle(b), rel=1e-4
    )
    assert covariance_loss(*pair).item() == pytest.approx(
        covariance_oracle(a) + covariance_oracle(b), rel=1e-4
    )


def test_invariances(pair):
    a, b = pair
    for loss in (invariance_loss, variance_loss, covariance_loss):
        torch.testing.assert_close(loss(a, b), loss(b, a))
    torch.testing.assert_close(
        covariance_loss(3 * a + 1, b), covariance_loss(a, b), rtol=1e-3, atol=1e-6
    )
    assert invariance_loss(a, a) == 0
    assert variance_loss(100 * a, 100 * b) == 0


@pytest.mark.parametrize("loss", [variance_loss, covariance_loss])
def test_a_batch_of_one_is_refused(loss):
    with pytest.raises(ValueError, match=r"B > 1 but found \(1, 4\)"):
        loss(torch.ones(1, 4), torch.ones(1, 4))


def test_identical_samples_give_finite_losses_and_gradients():
    z = torch.full((6, 9), 2.0, requires_grad=True)
    loss = invariance_loss(z, z) + variance_loss(z, z) + covariance_loss(z, z)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(z.grad).all()


def test_bf16_input_is_computed_in_float32(pair):
    low = [z.bfloat16() for z in pair]
    for loss in (invariance_loss, variance_loss, covariance_loss):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(*low)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, loss(*(z.float() for z in low)))


def test_projector_layers_and_size():
    projector = Projector(10, 32, 128)
    names = [type(layer).__name__ for layer in projector.layers]
    assert names == [
        "Linear",
        "BatchNorm1d",
        "ReLU",
        "Linear",
        "BatchNorm1d",
        "ReLU",
        "Linear",
        "IterNorm",
    ]
    assert projector(torch.randn(6, 10)).shape == (6, 128)
    assert projector.layers[-1].num_groups == 2
    assert Projector(10, 32, 16).layers[-1].num_groups == 1
