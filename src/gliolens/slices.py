"""Slices of patients as a network reads them: which there are, which are drawn in an epoch, what their mean says.

A patient may be one volume instead: then there is one "slice" of three dimensions.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler

from gliolens.loader import Arrays


class PatientSlices(Dataset[tuple[Tensor, Tensor, int]]):
    """Every slice of every patient, with its patient's features and class.

    Args:
        prepared: of each patient, `slices` (S, C, P, P) or (1, C, D, P, P), mapped into memory.
        features: of each patient, `(n, d)`.
        classes: of each patient, `(n,)`.
    """

    def __init__(self, prepared: Sequence[Arrays], features: np.ndarray, classes: np.ndarray) -> None:
        self.prepared, self.features, self.classes = prepared, features.astype(np.float32), classes
        self.where = [(i, s) for i, arrays in enumerate(prepared) for s in range(len(arrays["slices"]))]

    def __len__(self) -> int:
        return len(self.where)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        i, s = self.where[index]
        image = torch.from_numpy(self.prepared[i]["slices"][s].astype(np.float32))
        return image, torch.from_numpy(self.features[i]), int(self.classes[i])


class SliceDraw(Sampler[int]):
    """Slices of one epoch, in random order.

    Args:
        slices: what to draw from.
        per_patient: random slices of each patient; 0 takes all. A patient with fewer gives some twice.
        repeat_rare: draw rarer classes more often, until patients of all classes are equally many (to a whole
            number of times).
        seed: of the draws; each epoch has its own, so that a restarted training draws what it would have drawn.
    """

    def __init__(self, slices: PatientSlices, per_patient: int, repeat_rare: bool, seed: int = 0) -> None:
        self.seed, self.epoch = seed, 0
        of_patient: dict[int, list[int]] = {}
        for index, (i, _) in enumerate(slices.where):
            of_patient.setdefault(i, []).append(index)
        counts = np.bincount(slices.classes)
        self.plan = [
            (
                indices,
                (per_patient or len(indices)) * self._times(counts, int(slices.classes[i]), repeat_rare),
            )
            for i, indices in of_patient.items()
        ]

    @staticmethod
    def _times(counts: np.ndarray, mine: int, repeat_rare: bool) -> int:
        return round(counts.max() / counts[mine]) if repeat_rare else 1

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes; Lightning does."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(wanted for _, wanted in self.plan)

    def __iter__(self) -> Iterator[int]:
        dice = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        chosen: list[int] = []
        for indices, wanted in self.plan:
            pool = indices * -(-wanted // len(indices))
            chosen += [pool[j] for j in torch.randperm(len(pool), generator=dice)[:wanted].tolist()]
        return iter([chosen[j] for j in torch.randperm(len(chosen), generator=dice).tolist()])


def as_seen(images: Tensor) -> Tensor:
    """Slices or volumes laid out with their channels last, as networks are fastest."""
    layout = torch.channels_last if images.ndim == 4 else torch.channels_last_3d
    return images.contiguous(memory_format=layout)


@torch.no_grad()
def each_slice(net: nn.Module, slices: np.ndarray, features: np.ndarray, at_once: int = 32) -> np.ndarray:
    """Class probabilities of each slice of a patient.

    Args:
        net: from slices `(n, C, P, P)` and features `(n, d)` to logits `(n, k)`; it is left in evaluation mode.
        slices: of one patient, `(S, C, P, P)`.
        features: of that patient, `(d,)`.
        at_once: slices a pass.

    Returns:
        Probabilities `(S, k)`.
    """
    net.eval()
    device = next(net.parameters()).device
    image = as_seen(torch.from_numpy(slices.astype(np.float32))).to(device)
    z = torch.from_numpy(features.astype(np.float32)).to(device).expand(len(image), -1)
    q = [torch.softmax(net(a, b), dim=1) for a, b in zip(image.split(at_once), z.split(at_once), strict=True)]
    return np.asarray(torch.cat(q).cpu().double().numpy())


def mean_over_slices(net: nn.Module, slices: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Class probabilities of a patient `(k,)`: those of each slice, averaged; see `each_slice`."""
    return np.asarray(each_slice(net, slices, features).mean(axis=0))
