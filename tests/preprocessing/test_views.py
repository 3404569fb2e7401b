import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from preprocessing.views import (
    AUGMENTATIONS,
    NeighboringCrop,
    RandomAmplitudeJitter,
    RandomCrop,
    ToTensor,
    crop_columns,
)

UNIFORM = st.floats(0, 1, exclude_max=True, width=32)


@given(UNIFORM, UNIFORM, UNIFORM)
def test_neighbouring_crops_lie_where_they_should(a, b, c):
    u, u_l, u_k = NeighboringCrop().centres(torch.tensor([[a, b, c]]))[0].tolist()
    eps = 1e-6
    assert 0.125 - eps <= u <= 0.875 + eps
    assert abs(u_l - u) <= 0.025 + eps
    assert 0.125 - eps <= u_k <= 0.875 + eps and abs(u_k - u) >= 0.125 - eps


@given(UNIFORM, UNIFORM, UNIFORM, st.integers(20, 3000))
def test_crops_stay_inside_the_image(a, b, c, width):
    for crop in (NeighboringCrop(), RandomCrop()):
        columns = crop_columns(crop.centres(torch.tensor([[a, b, c]])), width)
        assert columns.shape == (1, len(crop.channel_of_view), 2 * (int(0.1 * width) // 2))
        assert columns.min() >= 0 and columns.max() < width
        assert (columns.diff(dim=-1) == 1).all()


@given(UNIFORM, UNIFORM)
def test_random_crop_centres(a, b):
    centres = RandomCrop().centres(torch.tensor([[a, b, 0.5]]))
    np.testing.assert_allclose(centres[0].numpy(), [0.1 + 0.8 * a, 0.1 + 0.8 * b], atol=1e-6)


def test_seventy_columns_around_the_centre():
    columns = crop_columns(torch.tensor([0.5], dtype=torch.float64), 711)[0]
    assert columns.tolist() == list(range(355 - 35, 355 + 35))
    with pytest.raises(ValueError, match="19 columns"):
        crop_columns(torch.tensor([0.5]), 19)


def test_one_step_draws_follow_the_redrawn_distributions():
    n = 20000
    rng = np.random.default_rng(0)
    centres = NeighboringCrop().centres(torch.from_numpy(rng.random((n, 3))))
    u, u_l, _ = centres.numpy().T
    assert stats.kstest(u, stats.uniform(0.125, 0.75).cdf).pvalue > 1e-3
    shift = rng.normal(0, 0.0125, 3 * n)
    assert stats.ks_2samp(u_l - u, shift[abs(shift) < 0.025][:n]).pvalue > 1e-3
    for anchor in (0.13, 0.3, 0.5, 0.86):  # redraw as the paper says, for fixed anchors
        redrawn = rng.uniform(0.125, 0.875, 4 * n)
        redrawn = redrawn[abs(redrawn - anchor) > 0.125][:n]
        v = torch.tensor((anchor - 0.125) / 0.75, dtype=torch.float64).expand(n)
        ours = (
            NeighboringCrop()
            .centres(torch.stack([v, v, torch.from_numpy(rng.random(n))], 1))[:, 2]
            .numpy()
        )
        assert stats.ks_2samp(ours, redrawn).pvalue > 1e-3


def test_jitter_scales_each_image_by_its_factor():
    images, uniforms = torch.rand(2, 3, 4, 5), torch.tensor([[0.0, 0.5, 0.999], [0.25, 0.75, 0.1]])
    jittered = RandomAmplitudeJitter()(images, uniforms)
    torch.testing.assert_close(jittered, images * (0.7 + 0.6 * uniforms)[:, :, None, None])


def test_known_names():
    assert set(AUGMENTATIONS) == {
        "NeighboringCrop",
        "RandomCrop",
        "RandomAmplitudeJitter",
        "ToTensor",
    }
    assert ToTensor()(torch.ones(2, dtype=torch.float64)).dtype == torch.float32
