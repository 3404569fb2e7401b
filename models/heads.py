"""Networks on top of the encoder in self-supervised learning: projector, discriminator. [V21, TNC]

[V21] Lee & Aune, VIbCReg, arXiv 2109.00783. [TNC] Tonekaboni, Eytan, Goldenberg, arXiv 2106.00750.
"""

import torch
from torch import Tensor, nn

from models.iternorm import IterNorm
from utils.names import WHITENING_GROUP_SIZE


class Projector(nn.Module):
    """Map representations (B, D) to whitened projections (B, P). [V21]

    Twice Linear–BatchNorm–ReLU, then Linear and IterNorm. IterNorm whitens groups of 64 features;
    fewer than 64 features are one group.
    """

    def __init__(self, out_size_enc: int, proj_hid: int, proj_out: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(out_size_enc, proj_hid),
            nn.BatchNorm1d(proj_hid),
            nn.ReLU(),
            nn.Linear(proj_hid, proj_hid),
            nn.BatchNorm1d(proj_hid),
            nn.ReLU(),
            nn.Linear(proj_hid, proj_out),
            IterNorm(proj_out, num_groups=max(1, proj_out // WHITENING_GROUP_SIZE)),
        )

    def forward(self, y: Tensor) -> Tensor:
        """Map representations (B, D) to projections (B, P)."""
        return self.layers(y)


class Discriminator(nn.Module):
    """Classify whether two representations (B, D) are of neighbouring crops. [TNC, section 3]"""

    def __init__(self, input_size: int):
        super().__init__()
        first, last = nn.Linear(2 * input_size, 4 * input_size), nn.Linear(4 * input_size, 1)
        self.layers = nn.Sequential(first, nn.ReLU(), nn.Dropout(0.5), last)
        for layer in (first, last):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, y: Tensor, y_other: Tensor) -> Tensor:
        """Return logits (B,), positive for neighbours, of two batches (B, D)."""
        return self.layers(torch.cat([y, y_other], dim=-1)).squeeze(-1)
