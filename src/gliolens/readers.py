"""Classifiers of patients whose slices are vectors: a pooling and a perceptron, or attention that is learnt.

A reader answers patients, says what it would answer without each slice, and is saved as plain arrays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final, Literal, Protocol, runtime_checkable

import lightning as L  # noqa: N812
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset

from gliolens.embedding import POOLINGS, Pooling, Pools, by_series, joined, pools_of, without_each
from gliolens.loader import Arrays
from gliolens.loop import forget, train
from gliolens.nn.attention import AttentionNet
from gliolens.stats.perceptron import Perceptron
from gliolens.stats.scaling import Scaling

EPOCHS: Final = 60
RATE: Final = 1e-3


@dataclass(frozen=True)
class Choice:
    """How vectors of slices become that of a patient.

    Attributes:
        pooling: over slices.
        series: which are joined.
    """

    pooling: Pooling | Literal["attention"]
    series: tuple[str, ...]


def choices(series: Sequence[str]) -> list[Choice]:
    """Each of mean, maximum and median with every set of series that is not empty: 45 for four series."""
    sets = [s for n in range(1, len(series) + 1) for s in combinations(series, n)]
    return [Choice(pooling, s) for s in sets for pooling in POOLINGS]


def vectors_for(choice: Choice, pools: Pools) -> np.ndarray:
    """Vectors of patients (n, dim x series). Raises ValueError for attention, which reads slices."""
    if choice.pooling == "attention":
        raise ValueError("attention reads slices, not vectors of patients")
    return joined(pools, choice.series, choice.pooling)


def preferred(losses: Mapping[Choice, np.ndarray]) -> Choice:
    """The pooling and series of the lowest loss; attention only where it is lower by more than a standard error.

    Attention has thousands of weights to learn, and of choices that serve about as well the simplest is the one to
    take (Breiman et al. 1984, Classification and Regression Trees, section 3.4.3). On real patients the rule made no
    difference that could be seen (docs/log.md).
    """
    simple = {c: loss for c, loss in losses.items() if c.pooling != "attention"}
    best = min(simple, key=lambda c: simple[c].mean())
    for choice in losses.keys() - simple.keys():
        gain = losses[best] - losses[choice]
        if gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
            return choice
    return best


@runtime_checkable
class Reader(Protocol):
    """What answers patients."""

    @property
    def series(self) -> tuple[str, ...]:
        """Series it looks at."""
        ...

    def __call__(self, embedded: Sequence[Arrays]) -> np.ndarray:
        """Probabilities (n, k) of patients."""
        ...

    def without_slices(self, embedded: Arrays) -> np.ndarray:
        """Probabilities (S, k) of one patient with one slice, of all series, left out at a time."""
        ...

    def arrays(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What was learnt: tensors, and what else is needed to make the reader again."""
        ...


@dataclass(frozen=True, eq=False)
class PooledReader:
    """Pools the slices of each series, joins the series, and asks a perceptron: `q = head(scaling(v))`.

    Without scaling, vectors stay as they are.
    """

    pooling: Pooling
    series: tuple[str, ...]
    scaling: Scaling | None
    head: Perceptron

    @classmethod
    def learn(
        cls, x: np.ndarray, truth: np.ndarray, pooling: Pooling, series: tuple[str, ...], *,
        hidden: int, standardise: bool, balanced: bool, seed: int,
    ) -> "PooledReader":  # fmt: skip
        """Fit to vectors of patients (n, dim x series), as `embedding.joined` makes them.

        Args:
            x: the vectors.
            truth: classes (n,), 0 to k - 1, each of which occurs.
            pooling: by which the vectors were made.
            series: whose they are.
            hidden: width of the hidden layer; 0 is logistic regression.
            standardise: give every number mean 0 and standard deviation 1.
            balanced: let every class weigh the same.
            seed: of the first weights.
        """
        scaling = Scaling.learn(x) if standardise else None
        penalty = x.shape[1] if standardise and not hidden else 1.0  # as strong whatever the number of series
        head = Perceptron.learn(
            _scaled(x, scaling), truth, hidden=hidden, balanced=balanced, seed=seed, penalty=penalty
        )
        return cls(pooling, series, scaling, head)

    def __call__(self, embedded: Sequence[Arrays]) -> np.ndarray:
        """Probabilities (n, k) of patients."""
        return self.of_vectors(
            joined(pools_of(embedded, self.series, (self.pooling,)), self.series, self.pooling)
        )

    def of_vectors(self, x: np.ndarray) -> np.ndarray:
        """Probabilities (n, k) of vectors of patients (n, dim x series)."""
        return self.head(_scaled(x, self.scaling))

    def without_slices(self, embedded: Arrays) -> np.ndarray:
        """Probabilities (S, k) of one patient with one slice left out at a time."""
        x = np.concatenate([without_each(embedded[s], self.pooling) for s in self.series], axis=1)
        return self.of_vectors(x)

    def arrays(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Layers as tensors; pooling, series and scaling."""
        tensors = {f"weight_{i}": torch.from_numpy(w.copy()) for i, w in enumerate(self.head.weights)}
        tensors |= {f"bias_{i}": torch.from_numpy(b.copy()) for i, b in enumerate(self.head.biases)}
        scaling = None if self.scaling is None else asdict(self.scaling)
        return tensors, {"pooling": self.pooling, "series": self.series, "scaling": scaling}

    @classmethod
    def made(cls, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> "PooledReader":
        """The reader that `arrays` took apart."""
        layers = len(tensors) // 2
        weights, biases = (
            tuple(tensors[f"{kind}_{i}"].numpy() for i in range(layers)) for kind in ("weight", "bias")
        )
        scaling = about["scaling"] and Scaling(**{k: tuple(v) for k, v in about["scaling"].items()})
        return cls(about["pooling"], tuple(about["series"]), scaling, Perceptron(weights, biases))


def _scaled(x: np.ndarray, scaling: Scaling | None) -> np.ndarray:
    return x if scaling is None else scaling(x)


# --- attention -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class AttentionReader:
    """Asks a network that weighs the slices; the series of a slice are one vector."""

    series: tuple[str, ...]
    scaling: Scaling
    net: AttentionNet

    @classmethod
    def learn(
        cls, embedded: Sequence[Arrays], truth: np.ndarray, series: tuple[str, ...], *,
        hidden: int, balanced: bool, seed: int, folder: Path,
    ) -> "AttentionReader":  # fmt: skip
        """Fit to patients whose classes (n,) are 0 to k - 1; a stopped fit goes on from `folder`."""
        L.seed_everything(seed, verbose=False)
        means = np.stack([by_series(e, series).mean(axis=0) for e in embedded])
        scaling, counts = Scaling.learn(means), np.bincount(truth)
        net = AttentionNet(means.shape[1], len(counts), hidden)
        weight = len(truth) / (len(counts) * counts) if balanced else np.ones(len(counts))
        patients = _Patients(embedded, series, scaling, truth)
        order = torch.Generator().manual_seed(seed)
        batches = DataLoader(patients, 8, shuffle=True, collate_fn=_padded, generator=order)
        task = _Task(net, torch.tensor(weight, dtype=torch.float32))
        train(
            task,
            batches,
            epochs=EPOCHS,
            folder=folder,
            label="learning which slices count, epochs",
            seed=seed,
        )
        forget(folder)
        return cls(series, scaling, net.eval())

    @torch.no_grad()
    def __call__(self, embedded: Sequence[Arrays]) -> np.ndarray:
        """Probabilities (n, k) of patients."""
        patients = _Patients(embedded, self.series, self.scaling, np.zeros(len(embedded), int))
        vectors, there, _ = _padded([patients[i] for i in range(len(patients))])
        return np.asarray(torch.softmax(self.net(vectors, there), dim=1).double().numpy())

    @torch.no_grad()
    def without_slices(self, embedded: Arrays) -> np.ndarray:
        """Probabilities (S, k) of one patient with one slice left out at a time."""
        vectors = torch.from_numpy(self.scaling(by_series(embedded, self.series)))
        n = len(vectors)
        q = torch.softmax(self.net(vectors.expand(n, n, -1), ~torch.eye(n, dtype=torch.bool)), dim=1)
        return np.asarray(q.double().numpy())

    @torch.no_grad()
    def attention(self, embedded: Arrays) -> np.ndarray:
        """How much each slice of a patient counts (S,); they sum to 1."""
        vectors = torch.from_numpy(self.scaling(by_series(embedded, self.series)))[None]
        return np.asarray(
            self.net.pool(vectors, torch.ones(vectors.shape[:2], dtype=torch.bool))[1][0].numpy()
        )

    def arrays(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights of the network; series and scaling."""
        state = {k: v.contiguous() for k, v in self.net.state_dict().items()}
        return state, {"pooling": "attention", "series": self.series, "scaling": asdict(self.scaling)}

    @classmethod
    def made(cls, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> "AttentionReader":
        """The reader that `arrays` took apart."""
        scaling = Scaling(**{k: tuple(v) for k, v in about["scaling"].items()})
        last = max(k for k in tensors if k.startswith("head") and k.endswith("weight"))
        hidden = len(tensors["head.0.weight"]) if last != "head.0.weight" else 0
        net = AttentionNet(len(scaling.mean), len(tensors[last]), hidden)
        net.load_state_dict(dict(tensors))
        return cls(tuple(about["series"]), scaling, net.eval())


class _Patients(Dataset[tuple[Tensor, int]]):
    def __init__(
        self, embedded: Sequence[Arrays], series: Sequence[str], scaling: Scaling, truth: np.ndarray
    ) -> None:
        # Read and scaled once: an epoch is over in less time than the files take.
        self.vectors = [torch.from_numpy(scaling(by_series(e, series))) for e in embedded]
        self.truth = truth

    def __len__(self) -> int:
        return len(self.vectors)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.vectors[i], int(self.truth[i])


def _padded(patients: Sequence[tuple[Tensor, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors (b, s, d) filled up with zeros, which of them are there (b, s), and classes (b,)."""
    vectors = torch.nn.utils.rnn.pad_sequence([v for v, _ in patients], batch_first=True)
    lengths = torch.tensor([len(v) for v, _ in patients])
    there = torch.arange(vectors.shape[1]) < lengths[:, None]
    return vectors, there, torch.tensor([k for _, k in patients])


class _Task(L.LightningModule):
    def __init__(self, net: AttentionNet, weight: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("weight", weight)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], _: int) -> Tensor:
        vectors, there, truth = batch
        return F.cross_entropy(self.net(vectors, there).float(), truth, weight=self.get_buffer("weight"))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.net.parameters(), lr=RATE, weight_decay=1e-2)


def slice_influence(reader: Reader, embedded: Arrays, k: int) -> np.ndarray:
    """How much the log odds of class k fall when each slice (S,) is left out: above 0 where it speaks for k."""
    told, without = reader([embedded])[:, k], reader.without_slices(embedded)[:, k]
    return np.asarray(log_odds(told) - log_odds(without))


def series_influence(
    reader: Reader, embedded: Arrays, usual: Mapping[str, np.ndarray], k: int
) -> dict[str, float]:
    """How much the log odds of class k fall when the pooled vector of a series is the one usual in training (dim,)."""
    told = log_odds(reader([embedded])[:, k])[0]
    plain = {s: {**embedded, s: np.broadcast_to(usual[s], embedded[s].shape)} for s in reader.series}
    return {s: float(told - log_odds(reader([plain[s]])[:, k])[0]) for s in reader.series}


def log_odds(p: np.ndarray) -> np.ndarray:
    """Logarithm of the odds, of probabilities kept a billionth away from 0 and 1."""
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(p) - np.log1p(-p))
