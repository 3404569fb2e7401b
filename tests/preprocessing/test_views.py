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
    RandomMask,
    RandomNoise,
    RandomTimeShift,
    ToTensor,
    augment,
    build_changes,
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
        "WholeEvent",
        "RandomTimeShift",
        "RandomAmplitudeJitter",
        "RandomMask",
        "RandomNoise",
        "ToTensor",
    }
    assert ToTensor()(torch.ones(2, dtype=torch.float64)).dtype == torch.float32


@given(UNIFORM)
def test_time_shift_moves_by_at_most_an_eighth_and_loses_nothing(u):
    image = torch.arange(3 * 228.0).view(1, 1, 3, 228)
    moved = RandomTimeShift()(image, torch.tensor([[u]]))
    shift = int(np.floor(np.float32(u) * np.float32(57))) - 28  # 28 = floor(228 / 8)
    assert -28 <= shift <= 28
    np.testing.assert_array_equal(moved[0, 0].numpy(), np.roll(image[0, 0].numpy(), shift, axis=1))


def test_time_shifts_are_uniform_and_each_image_has_its_own():
    image = torch.arange(228.0).expand(5000, 2, 1, 228)
    moved = RandomTimeShift()(
        image, torch.rand(5000, 2, generator=torch.Generator().manual_seed(0))
    )
    shifts = (-moved[..., 0, 0]).long() % 228
    shifts = torch.where(shifts > 114, shifts - 228, shifts)
    counts = torch.bincount(shifts.flatten() + 28, minlength=57)
    assert len(counts) == 57 and stats.chisquare(counts.numpy()).pvalue > 1e-3
    assert abs(np.corrcoef(shifts.numpy().T)[0, 1]) < 0.05


@given(UNIFORM, UNIFORM, UNIFORM, UNIFORM)
def test_mask_sets_one_band_and_one_stretch_to_zero(a, b, c, d):
    masked = RandomMask()(torch.ones(1, 1, 41, 228), torch.tensor([[[a, b, c, d]]]))[0, 0] == 0
    rows, columns = masked.all(1), masked.all(0)
    assert rows.sum() <= 5 and columns.sum() <= 28  # an eighth of each
    assert torch.equal(masked, rows[:, None] | columns[None, :])
    for inside in (rows, columns):
        places = torch.nonzero(inside)[:, 0]
        assert not len(places) or len(places) == places[-1] - places[0] + 1


def test_masks_reach_their_largest_size_and_both_ends():
    uniforms = torch.rand(4000, 1, 4, generator=torch.Generator().manual_seed(1))
    masked = RandomMask()(torch.ones(4000, 1, 41, 228), uniforms)[:, 0] == 0
    rows = masked.all(2)
    assert set(rows.sum(1).tolist()) == {0, 1, 2, 3, 4, 5}
    assert rows[:, 0].any() and rows[:, -1].any() and masked.all(1)[:, -1].any()


def test_noise_has_the_drawn_size_and_is_the_same_in_any_batch():
    uniforms = torch.tensor([[[1.0, 0.3], [0.5, 0.3]], [[1.0, 0.7], [0.0, 0.1]]])
    images = torch.zeros(2, 2, 41, 228)
    noise = RandomNoise()(images, uniforms)
    for place, size in (((0, 0), 0.1), ((0, 1), 0.05), ((1, 0), 0.1), ((1, 1), 0.0)):
        assert noise[place].std() == pytest.approx(size, rel=0.03)
        assert abs(noise[place].mean()) < 0.003
    torch.testing.assert_close(noise[0, 0], 2 * noise[0, 1])  # same seed, half the size
    correlation = np.corrcoef(noise[0, 0].flatten(), noise[1, 0].flatten())[0, 1]
    neighbours = np.corrcoef(noise[0, 0, :, 1:].flatten(), noise[0, 0, :, :-1].flatten())[0, 1]
    assert abs(correlation) < 0.03 and abs(neighbours) < 0.03
    torch.testing.assert_close(RandomNoise()(images[1:], uniforms[1:]), noise[1:], rtol=0, atol=0)


def test_changes_are_applied_in_their_order_each_with_its_own_draws():
    images, draws = torch.rand(4, 2, 41, 228), torch.rand(4, 27)
    names = ["WholeEvent", "RandomMask", "RandomTimeShift", "RandomAmplitudeJitter", "ToTensor"]
    expected = RandomMask()(images, draws[:, 9:21].view(4, 3, 4)[:, :2])
    expected = RandomTimeShift()(expected, draws[:, 6:8])
    expected = RandomAmplitudeJitter()(expected, draws[:, 3:5])
    torch.testing.assert_close(augment(images, build_changes(names), draws), expected)
