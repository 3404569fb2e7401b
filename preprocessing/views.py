"""Random views of an event for training: crops or whole images, moved, scaled, masked. [L22, V22]

Each view is computed from uniform random numbers in [0, 1) that are fixed by event and epoch. The
views therefore do not depend on device or batch size. Where the paper redraws until a condition
holds, the truncated distribution is sampled directly.

[V22] Lee et al., VNIbCReg, arXiv 2204.02697.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from preprocessing.dataset import MASK_DRAWS, N_VIEWS, NOISE_DRAWS, SCALE_DRAWS, SHIFT_DRAWS

CROP_FRACTION = 0.1  # r: width of a crop / width of the image
SHIFT_FRACTION = 0.25 * CROP_FRACTION  # s: largest shift of a neighbour / width of the image
MIN_COLUMNS_TO_CROP = 20  # gives crops of two columns
AMPLITUDE_RANGE = (0.7, 1.3)
# not in the paper; the values of docs/few_labels.md
LARGEST_SHIFT = 1 / 8  # RandomTimeShift, of the image width: 2 s of 16 s
LARGEST_MASK = 1 / 8  # RandomMask, of the image height and width
LARGEST_NOISE = 0.1  # RandomNoise, standard deviation; images are scaled to [0, 1]


class NeighboringCrop:
    """Anchor crop of one channel; neighbouring and distant crops of another channel.

    Source: [V22]; TNC, arXiv 2106.00750.
    """

    channel_of_view = (0, 1, 1)
    r, s = CROP_FRACTION, SHIFT_FRACTION

    def centres(self, uniforms: Tensor) -> Tensor:
        """Map uniform numbers (B, 3) to the centres (B, 3) of anchor, neighbour and distant crop.

        Centres are fractions of the image width: u ~ U(s + r, 1 - s - r);
        u_l ~ N(u, s/2) given |u_l - u| < s; u_k ~ U(s + r, 1 - s - r) given |u_k - u| > s + r.
        """
        low, high = self.s + self.r, 1 - self.s - self.r
        v, v_l, v_k = uniforms.double().unbind(-1)
        u = low + (high - low) * v
        return torch.stack(
            [u, u + self.s / 2 * _truncated_normal(v_l, 2.0), self._distant(u, v_k, low, high)], -1
        )

    def _distant(self, u: Tensor, v: Tensor, low: float, high: float) -> Tensor:
        """Sample uniformly from [low, high) outside [u - s - r, u + s + r]."""
        before = (u - (self.s + self.r) - low).clamp(min=0)
        after = (high - (u + self.s + self.r)).clamp(min=0)
        along = v * (before + after)
        return torch.where(along < before, low + along, u + (self.s + self.r) + (along - before))


class RandomCrop:
    """Two independent crops, one from each of two channels (VIbCReg). [V21, arXiv 2109.00783]"""

    channel_of_view = (0, 1)

    def centres(self, uniforms: Tensor) -> Tensor:
        """Map uniform numbers (B, 2 or more) to crop centres (B, 2), u ~ U(r, 1 - r).

        Centres are fractions of the image width.
        """
        return CROP_FRACTION + (1 - 2 * CROP_FRACTION) * uniforms[..., :2].double()


class WholeEvent:
    """The whole images of two channels of an event, drawn independently. Not in the paper."""

    channel_of_view = (0, 1)


class Augmentation(Protocol):
    """A random change of images; ``draws`` are its columns of ``EventBatch.draws``."""

    draws: slice

    def __call__(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Change images (B, V, H, W) by uniform numbers (B, V), or (B, V, n) if it needs n."""
        ...


class RandomTimeShift:
    """Move each image along time by up to an eighth of its width; what leaves enters again."""

    draws = SHIFT_DRAWS

    def __call__(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Move images (B, V, H, W) by whole columns, from uniform numbers (B, V)."""
        width = images.shape[-1]
        largest = int(LARGEST_SHIFT * width)
        shift = torch.floor(uniforms * (2 * largest + 1)).long() - largest
        columns = torch.arange(width, device=images.device) - shift[..., None]
        return images.gather(-1, (columns % width).unsqueeze(-2).expand(images.shape))


class RandomAmplitudeJitter:
    """Multiply each image by a factor from U(0.7, 1.3). [L22]"""

    draws = SCALE_DRAWS

    def __call__(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Scale images (B, V, H, W) by factors computed from uniform numbers (B, V)."""
        low, high = AMPLITUDE_RANGE
        return images * (low + (high - low) * uniforms)[..., None, None].to(images.dtype)


class RandomMask:
    """Set a band of frequencies and a stretch of time to 0, each up to an eighth of the image.

    This is SpecAugment without its time warp: Park et al., arXiv 1904.08779.
    """

    draws = MASK_DRAWS

    def __call__(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Mask images (B, V, H, W), from uniform numbers (B, V, 4): size and place of both."""
        height, width = images.shape[-2:]
        rows = self._inside(height, uniforms[..., :2])
        columns = self._inside(width, uniforms[..., 2:])
        return images.masked_fill(rows[..., :, None] | columns[..., None, :], 0.0)

    @staticmethod
    def _inside(length: int, uniforms: Tensor) -> Tensor:
        """Return which of ``length`` rows or columns are masked (…, length)."""
        size = torch.floor(uniforms[..., 0] * (int(LARGEST_MASK * length) + 1))
        start = torch.floor(uniforms[..., 1] * (length - size + 1))
        place = torch.arange(length, device=uniforms.device)
        return (place >= start[..., None]) & (place < (start + size)[..., None])


class RandomNoise:
    """Add noise to each image, of a standard deviation from U(0, 0.1).

    The numbers have a triangular distribution. They come from a hash of event and pixel, so that
    they are the same on every device and in every batch.
    """

    draws = NOISE_DRAWS

    def __call__(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Add noise to images (B, V, H, W), from uniform numbers (B, V, 2): size and seed."""
        height, width = images.shape[-2:]
        pixel = torch.arange(height * width, device=images.device).view(height, width)
        seed = (uniforms[..., 1] * 2**24).long()[..., None, None]
        bits = _hash32(_hash32(seed) + pixel)
        unit_variance = 6**0.5 * ((bits & 0xFFFF) + (bits >> 16) - 0xFFFF).float() / 0xFFFF
        return images + LARGEST_NOISE * uniforms[..., :1, None] * unit_variance


class ToTensor:
    """Convert images to float32. Kept so that older configurations load; images are float32."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return images as float32."""
        return images.float()


VIEWS = {view.__name__: view for view in (NeighboringCrop, RandomCrop, WholeEvent)}
CHANGES: dict[str, type[Augmentation]] = {
    change.__name__: change
    for change in (RandomTimeShift, RandomAmplitudeJitter, RandomMask, RandomNoise)
}
# the names allowed under ``augmentations`` in configurations
AUGMENTATIONS = VIEWS | CHANGES | {"ToTensor": ToTensor}


def build_changes(names: Sequence[str]) -> list[Augmentation]:
    """Build the changes of images among the names of augmentations, in their order."""
    return [CHANGES[name]() for name in names if name in CHANGES]


def augment(images: Tensor, augmentations: Sequence[Augmentation], draws: Tensor) -> Tensor:
    """Apply augmentations to the views (B, V, H, W) of B events, one after the other.

    ``draws`` (B, n) are those of ``EventBatch``.
    """
    for augmentation in augmentations:
        uniforms = draws[:, augmentation.draws].unflatten(1, (N_VIEWS, -1)).squeeze(-1)
        images = augmentation(images, uniforms[:, : images.shape[1]])
    return images


def crop_columns(centres: Tensor, width: int) -> Tensor:
    """Return the columns (…, w) of crops with centres (…) in an image of ``width`` columns.

    A crop is [t - crop//2, t + crop//2) with ``crop = floor(0.1 * width)`` and
    ``t = floor(u * width)``: 70 of 711 columns. Raises ``ValueError`` below 20 columns.
    """
    half = int(CROP_FRACTION * width) // 2
    if half < 1:
        raise ValueError(
            f"images of {width} columns are too narrow to crop; at least {MIN_COLUMNS_TO_CROP} "
            "are needed"
        )
    middle = torch.floor(centres * width).long()
    return middle.unsqueeze(-1) + torch.arange(-half, half, device=centres.device)


def _hash32(numbers: Tensor) -> Tensor:
    """Return 32 well mixed bits of each integer >= 0; multiplications are modulo 2^64."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        numbers = ((numbers ^ (numbers >> shift)) * factor) & 0xFFFFFFFF
    return numbers ^ (numbers >> 16)


def _truncated_normal(uniforms: Tensor, bound: float) -> Tensor:
    """Map uniform numbers to a standard normal distribution truncated at ±bound."""
    edge = torch.special.ndtr(torch.tensor(bound, dtype=torch.float64))
    return torch.special.ndtri((1 - edge) + uniforms * (2 * edge - 1))
