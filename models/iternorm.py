"""Iterative normalisation: decorrelate features without an eigendecomposition. [IN]

[IN] Huang, Zhou, Zhu, Liu, Shao, Iterative Normalization: Beyond Standardization towards Efficient
Whitening, arXiv 1904.03441.
"""

import torch
from torch import Tensor, nn


class IterNorm(nn.Module):
    """Whiten features (B, D) in groups of D / ``num_groups`` features. [IN, Algorithm 1]

    Training uses the statistics of the batch and updates the running ones with ``momentum``;
    evaluation uses the running ones. It computes in float32 also under autocast. Raises
    ``ValueError`` if ``num_groups`` does not divide D, or for a training batch of one.
    """

    running_mean: Tensor
    running_whitening: Tensor

    def __init__(
        self,
        num_features: int,
        num_groups: int = 64,
        n_iterations: int = 5,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
    ):
        super().__init__()
        if num_features % num_groups:
            raise ValueError(
                f"num_groups must divide num_features but found {num_groups} and {num_features}"
            )
        self.num_features, self.num_groups = num_features, num_groups
        self.n_iterations, self.eps, self.momentum = n_iterations, eps, momentum
        size = num_features // num_groups
        self.register_buffer("running_mean", torch.zeros(num_groups, size))
        self.register_buffer("running_whitening", torch.eye(size).repeat(num_groups, 1, 1))
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """Whiten (B, D) -> (B, D): float64 for float64 input, else float32."""
        with torch.autocast(x.device.type, enabled=False):
            x = x if x.dtype == torch.float64 else x.float()
            grouped = x.view(len(x), self.num_groups, -1).transpose(0, 1)  # (G, B, D / G)
            if self.training:
                if len(x) < 2:
                    raise ValueError(f"batch size must be > 1 in training but found {len(x)}")
                mean = grouped.mean(1)
                whitening = whitening_matrix(
                    grouped - mean.unsqueeze(1), self.n_iterations, self.eps
                )
                with torch.no_grad():
                    self.running_mean.lerp_(mean.detach().to(self.running_mean), self.momentum)
                    self.running_whitening.lerp_(
                        whitening.detach().to(self.running_whitening), self.momentum
                    )
            else:
                mean, whitening = self.running_mean.to(x), self.running_whitening.to(x)
            # the whitening matrix is symmetric, so it may be applied from the right
            white = ((grouped - mean.unsqueeze(1)) @ whitening).transpose(0, 1).reshape(x.shape)
            if self.weight is None or self.bias is None:
                return white
            return white * self.weight + self.bias


def whitening_matrix(centred: Tensor, n_iterations: int, eps: float) -> Tensor:
    """Return S^(-1/2) of the covariance S of each group, by Newton's iteration. [IN, Algorithm 1]

    ``centred`` X is (G, B, d). Returns (G, d, d): P_N / sqrt(tr S) after N = ``n_iterations`` of
    P_{k+1} = 1.5 P_k - 0.5 P_k^3 S_N, with P_0 = I, S = eps I + X'X / B and S_N = S / tr S.
    """
    identity = torch.eye(centred.shape[-1], dtype=centred.dtype, device=centred.device)
    covariance = eps * identity + centred.transpose(1, 2) @ centred / centred.shape[1]
    trace = covariance.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None]
    normalised = covariance / trace
    root = identity.expand_as(covariance)
    for _ in range(n_iterations):
        root = 1.5 * root - 0.5 * torch.linalg.matrix_power(root, 3) @ normalised
    return root / trace.sqrt()
