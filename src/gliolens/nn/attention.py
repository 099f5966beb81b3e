"""Attention over the slices of a volume: which of them count is learnt."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class AttentionPool(nn.Module):
    """Gated attention pooling (Ilse et al. 2018, arXiv 1802.04712, equation 9).

        a_s = softmax_s( w^T ( tanh(V h_s) * sigmoid(U h_s) ) ),   pooled = sum_s a_s h_s

    Args:
        dim: numbers of a vector.
        width: of the attention.
    """

    def __init__(self, dim: int, width: int = 64) -> None:
        super().__init__()
        self.told, self.gate, self.score = nn.Linear(dim, width), nn.Linear(dim, width), nn.Linear(width, 1)

    def forward(
        self, vectors: Float[Tensor, "b s d"], there: Bool[Tensor, "b s"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b s"]]:
        """Pooled vectors, and how much each slice counts; slices that are not `there` count nothing."""
        raw = self.score(torch.tanh(self.told(vectors)) * torch.sigmoid(self.gate(vectors)))[..., 0]
        weights = torch.softmax(raw.masked_fill(~there, -torch.inf), dim=1)
        return (weights[..., None] * vectors).sum(dim=1), weights


class AttentionNet(nn.Module):
    """A classifier of volumes: attention over slices, then a perceptron of one hidden layer, or a linear map.

    Args:
        dim: numbers of a slice's vector.
        classes: how many.
        hidden: width of the hidden layer; 0 for none.
    """

    def __init__(self, dim: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.pool = AttentionPool(dim)
        deep = [nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(0.2)] if hidden else []
        self.head = nn.Sequential(*deep, nn.Linear(hidden or dim, classes))

    def forward(self, vectors: Float[Tensor, "b s d"], there: Bool[Tensor, "b s"]) -> Float[Tensor, "b k"]:
        """Logits."""
        logits: Tensor = self.head(self.pool(vectors, there)[0])
        return logits
