"""Views for self-supervised learning: position of crops and scaling of images. [L22, V22]

Each view is computed from uniform random numbers in [0, 1) that are fixed by event and epoch. The
crops therefore do not depend on device or batch size. Where the paper redraws until a condition
holds, the truncated distribution is sampled directly.

[V22] Lee et al., VNIbCReg, arXiv 2204.02697.
"""

import torch
from torch import Tensor

CROP_FRACTION = 0.1  # r: width of a crop / width of the image
SHIFT_FRACTION = 0.25 * CROP_FRACTION  # s: largest shift of a neighbour / width of the image
MIN_COLUMNS_TO_CROP = 20  # gives crops of two columns
AMPLITUDE_RANGE = (0.7, 1.3)


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


class RandomAmplitudeJitter:
    """Multiply each image by a factor from U(0.7, 1.3). [L22]"""

    def __call__(self, images: Tensor, uniforms: Tensor) -> Tensor:
        """Scale images (B, V, H, W) by factors computed from uniform numbers (B, V)."""
        low, high = AMPLITUDE_RANGE
        return images * (low + (high - low) * uniforms)[..., None, None].to(images.dtype)


class ToTensor:
    """Convert images to float32. Kept so that older configurations load; images are float32."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return images as float32."""
        return images.float()


AUGMENTATIONS = {
    view.__name__: view for view in (NeighboringCrop, RandomCrop, RandomAmplitudeJitter, ToTensor)
}


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


def _truncated_normal(uniforms: Tensor, bound: float) -> Tensor:
    """Map uniform numbers to a standard normal distribution truncated at ±bound."""
    edge = torch.special.ndtr(torch.tensor(bound, dtype=torch.float64))
    return torch.special.ndtri((1 - edge) + uniforms * (2 * edge - 1))
