"""The losses of VIbCReg and its projector: variance, invariance, better covariance. [V21]

[V21] Lee & Aune, VIbCReg, arXiv 2109.00783. [VIC] Bardes, Ponce, LeCun, VICReg, arXiv 2105.04906. All losses take two
batches of projections (B, D) and compute in float32.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.iternorm import IterNorm
from utils.names import WHITENING_GROUP_SIZE

STD_TARGET = 1.0
STD_EPS = 1e-4


class Projector(nn.Module):
    """Map representations (B, D) to whitened projections (B, P): Linear–BatchNorm–ReLU twice, Linear, IterNorm. [V21]

    IterNorm works in groups of 64 features; fewer than 64 are one group.
    """

    def __init__(self, out_size_enc: int, proj_hid: int, proj_out: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(out_size_enc, proj_hid), nn.BatchNorm1d(proj_hid), nn.ReLU(),
            nn.Linear(proj_hid, proj_hid), nn.BatchNorm1d(proj_hid), nn.ReLU(),
            nn.Linear(proj_hid, proj_out), IterNorm(proj_out, num_groups=max(1, proj_out // WHITENING_GROUP_SIZE)),
        )  # fmt: skip

    def forward(self, y: Tensor) -> Tensor:
        """Map representations (B, D) to projections (B, P)."""
        return self.layers(y)


def invariance_loss(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Return the mean squared difference of two batches (B, D). [VIC, eq. 5]"""
    return F.mse_loss(z_a.float(), z_b.float())


def variance_loss(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Return how far the standard deviations of the D features fall short of 1, summed over both batches. [VIC, eq. 1–2]"""
    return _std_shortfall(z_a) + _std_shortfall(z_b)


def covariance_loss(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Return the mean squared off-diagonal correlation of the D features, summed over both batches. [V21]"""
    return _off_diagonal_correlation(z_a) + _off_diagonal_correlation(z_b)


def _std_shortfall(z: Tensor) -> Tensor:
    _require_batch(z)
    return F.relu(STD_TARGET - torch.sqrt(z.float().var(0) + STD_EPS)).mean()


def _off_diagonal_correlation(z: Tensor) -> Tensor:
    _require_batch(z)
    n, d = z.shape
    with torch.autocast(z.device.type, enabled=False):
        z = z.float()
        z = F.normalize(z - z.mean(0), dim=0)
        # ||Z'Z||_F = ||ZZ'||_F: the smaller of the two Gram matrices will do
        gram = z @ z.T if n < d else z.T @ z
        diagonal = z.square().sum(0).square().sum()
        return (gram.square().sum() - diagonal) / d**2


def _require_batch(z: Tensor) -> None:
    if z.ndim != 2 or len(z) < 2:
        raise ValueError(f"projections must be (B, D) with B > 1 but found {tuple(z.shape)}")
