"""Random numbers of simulated cases: each case draws from a generator of its own, so none depends on its batch."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gliolens.case import Grid


class Chance:
    """Random numbers for a batch of cases.

    They are drawn on the CPU whatever the device, so that a GPU makes the same cases.

    Args:
        seeds: one sequence of whole numbers a case.
        grid: where fields are made.
        device: where what was drawn goes.
    """

    def __init__(self, seeds: Sequence[Sequence[int]], grid: Grid, device: torch.device) -> None:
        self.grid, self.device = grid, device
        states = [int(np.random.SeedSequence(list(s)).generate_state(1, np.uint64)[0]) for s in seeds]
        self.generators = [torch.Generator().manual_seed(state % 2**63) for state in states]

    def normal(self, *shape: int) -> Float[Tensor, "b ..."]:
        """Standard normal numbers `(b, *shape)`."""
        return torch.stack([torch.randn(shape, generator=g) for g in self.generators]).to(self.device)

    def uniform(self, low: float, high: float, *shape: int) -> Float[Tensor, "b ..."]:
        """Numbers `(b, *shape)` evenly between `low` and `high`."""
        drawn = torch.stack([torch.rand(shape, generator=g) for g in self.generators]).to(self.device)
        return low + (high - low) * drawn

    def happens(self, probability: float, *shape: int) -> Float[Tensor, "b ..."]:
        """1 with the probability, else 0: `(b, *shape)`."""
        return (self.uniform(0.0, 1.0, *shape) < probability).float()

    def field(self, scale_mm: float, channels: int) -> Float[Tensor, "b c d h w"]:
        """Smooth noise: mean 0, variance 1 everywhere, correlated over about `scale_mm`."""
        axes = []
        for n, spacing in zip(self.grid.shape, self.grid.spacing, strict=True):
            knots = torch.arange(-1.0, np.ceil(n * spacing / scale_mm) + 2.0)
            weights = torch.exp(-((torch.arange(n)[:, None] * spacing / scale_mm - knots) ** 2))
            axes.append((weights / weights.norm(dim=1, keepdim=True)).to(self.device))
        field = self.normal(channels, *(a.shape[1] for a in axes))
        return along_axes(field, axes)

    def white(self, channels: int) -> Float[Tensor, "b c d h w"]:
        """Noise (b, channels, D, H, W) that knows nothing of its neighbours."""
        return self.normal(channels, *self.grid.shape)


def along_axes(image: Float[Tensor, "b c ..."], axes: Sequence[Tensor]) -> Float[Tensor, "b c ..."]:
    """Apply a matrix along each of the three spatial axes: `(n_out, n_in)`, or one a channel `(b, c, n_out, n_in)`."""
    d, h, w = axes
    image = torch.matmul(image, w.transpose(-1, -2).unsqueeze(-3) if w.ndim == 4 else w.T)
    image = torch.matmul(h.unsqueeze(-3) if h.ndim == 4 else h, image)
    shape = (*image.shape[:2], -1, *image.shape[3:])
    return torch.matmul(d, image.flatten(3)).reshape(shape)
