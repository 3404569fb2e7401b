import numpy as np
import pytest
import torch

from models.heads import Discriminator
from models.losses import covariance_loss, invariance_loss, pearson, tnc_loss, variance_loss


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


@pytest.fixture
def triple():
    return torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0)).unbind(0)


def bce(logit: np.ndarray, target: float) -> float:
    p = 1 / (1 + np.exp(-logit))
    return -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()


@pytest.mark.parametrize("use_diag_loss", [False, True])
def test_tnc_loss_equals_retyped_formula(triple, use_diag_loss):
    discriminator = Discriminator(5).eval()
    y, y_l, y_k = triple
    loss, parts = tnc_loss(discriminator, y, y_l, y_k, use_diag_loss)
    near, far = (discriminator(y, other).detach().double().numpy() for other in (y_l, y_k))
    expected = bce(near, 1) + bce(far, 0)
    assert parts["tnc_bce"].item() == pytest.approx(expected, rel=1e-5)
    assert parts["tnc_accuracy"].item() == pytest.approx(((near > 0).sum() + (far <= 0).sum()) / 14)
    if use_diag_loss:
        c_p = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(y.numpy(), y_l.numpy())])
        c_n = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(y.numpy(), y_k.numpy())])
        expected += ((1 - c_p) ** 2).mean() + (c_n**2).mean()
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_pearson_is_invariant_to_scale_and_finite_for_constants(triple):
    y, y_l, _ = triple
    torch.testing.assert_close(pearson(2 * y + 1, y_l), pearson(y, y_l))
    torch.testing.assert_close(pearson(y, y), torch.ones(7))
    assert torch.equal(pearson(torch.ones(2, 5), y[:2]), torch.zeros(2))
