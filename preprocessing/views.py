"""Views of an event for self-supervised learning: where images are cut and how they are scaled. [L22, V22]

[V22] Lee et al., VNIbCReg, arXiv 2204.02697. Every view is a pure function of uniform numbers in [0, 1) that belong to the
event and the epoch, so the same numbers give the same crops on any device, in batches of any size. The draws that the
paper describes as "redrawn until" are made in one step from the same truncated distributions.
"""

import torch
from torch import Tensor

CROP_FRACTION = 0.1  # r: a crop's share of the image's width
SHIFT_FRACTION = (
    0.25 * CROP_FRACTION
)  # s: a neighbour's centre is nearer than this, as a share of the width
MIN_COLUMNS_TO_CROP = 20  # a crop of two
AMPLITUDE_RANGE = (0.7, 1.3)


class NeighboringCrop:
    """Cut an anchor from one channel, a neighbour and a distant crop from another. [V22; TNC, arXiv 2106.00750]"""

    channel_of_view = (0, 1, 1)
    r, s = CROP_FRACTION, SHIFT_FRACTION

    def centres(self, uniforms: Tensor) -> Tensor:
        """Map uniforms (B, 3) to the centres (B, 3) of anchor, neighbour and distant crop, as shares of the width.

        u ~ U(s + r, 1 - s - r); u_l ~ N(u, s/2) given |u_l - u| < s; u_k ~ U(s + r, 1 - s - r) given |u_k - u| > s + r.
        """
        low, high = self.s + self.r, 1 - self.s - self.r
        v, v_l, v_k = uniforms.double().unbind(-1)
        u = low + (high - low) * v
        return torch.stack(
            [u, u + self.s / 2 * _truncated_normal(v_l, 2.0), self._distant(u, v_k, low, high)], -1
        )

    def _distant(self, u: Tensor, v: Tensor, low: float, high: float) -> Tensor:
        """Draw uniformly from [low, high) without the closed neighbourhood of u."""
        before = (u - (self.s + self.r) - low).clamp(min=0)
        after = (high - (u + self.s + self.r)).clamp(min=0)
        along = v * (before + after)
        return torch.where(along < before, low + along, u + (self.s + self.r) + (along - before))


class RandomCrop:
    """Cut two independent crops, one from each of two channels: plain VIbCReg. [V21, arXiv 2109.00783]"""

    channel_of_view = (0, 1)

    def centres(self, uniforms: Tensor) -> Tensor:
        """Map uniforms (B, 2 or more) to crop centres (B, 2), u ~ U(r, 1 - r), as shares of the width."""
        return CROP_FRACTION + (1 - 2 * CROP_FRACTION) * uniforms[..., :2].double()


class RandomAmplitudeJitter:
    """Multiply each image by a factor from U(0.7, 1.3). [L22]"""

    def __call__(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Scale images (B, V, H, W) by factors made from uniforms (B, V)."""
        low, high = AMPLITUDE_RANGE
        return images * (low + (high - low) * uniforms)[..., None, None].to(images.dtype)


class ToTensor:
    """Make images float32 tensors, which they are here already: the name is known so that older configs load."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return images as float32."""
        return images.float()


AUGMENTATIONS = {
    view.__name__: view for view in (NeighboringCrop, RandomCrop, RandomAmplitudeJitter, ToTensor)
}


def crop_columns(centres: Tensor, width: int) -> Tensor:
    """Return the columns (…, w) of crops with centres (…) in an image of ``width``: [t - crop//2, t + crop//2).

    ``crop = floor(0.1 * width)`` and ``t = floor(u * width)``: 70 columns of 711. Raises ``ValueError`` below 20 columns.
    """
    half = int(CROP_FRACTION * width) // 2
    if half < 1:
        raise ValueError(
            f"images of {width} columns are too narrow to crop; they need {MIN_COLUMNS_TO_CROP}"
        )
    middle = torch.floor(centres * width).long()
    return middle.unsqueeze(-1) + torch.arange(-half, half, device=centres.device)


def _truncated_normal(uniforms: Tensor, bound: float) -> Tensor:
    """Map uniforms to a standard normal variable given that it lies within ±bound."""
    edge = torch.special.ndtr(torch.tensor(bound, dtype=torch.float64))
    return torch.special.ndtri((1 - edge) + uniforms * (2 * edge - 1))
