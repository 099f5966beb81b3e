"""Table 6: accuracies that others published for telling LGG from HGG, beside those found here.

Each number is of the paper named, as its abstract states it; none is on the same patients as another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from gliolens.labels import HEALTHY
from gliolens.papers.chatterjee2022.tables import Row
from gliolens.stats.intervals import Interval, bootstrap, over_folds


@dataclass(frozen=True)
class Published:
    """One paper.

    Attributes:
        paper: authors, year, DOI.
        method: in a few words.
        patients: whose.
        accuracy: of LGG against HGG.
        with_healthy: or of these two and healthy people.
    """

    paper: str
    method: str
    patients: str
    accuracy: str
    with_healthy: bool = False


LITERATURE: Final = (
    Published("Yang et al. 2018, 10.3389/fnins.2018.00804", "GoogLeNet from scratch, slices",
              "113 of one hospital, a fifth held out", ".909"),
    Published("Decuyper and Van Holen 2019, 10.48550/arXiv.1908.01506", "3-D U-Net, then a 3-D network",
              "549 of several collections; another hospital", ".91; .92"),
    Published("Mzoughi et al. 2020, 10.1007/s10278-020-00347-9", "3-D network, T1 with contrast",
              "BraTS 2018, validation patients", ".9649"),
    Published("Zhuge et al. 2020, 10.1002/mp.14168", "U-Net, then Mask R-CNN; or a 3-D network",
              "BraTS 2018 and TCIA LGG, five folds", ".963; .971"),
    Published("Chatterjee et al. 2022, 10.1038/s41598-022-05572-6", "pretrained MC3",
              "BraTS 2019 and IXI, three folds", ".9698", with_healthy=True),
)  # fmt: skip
"""By year."""


def literature_table(answers: Mapping[str, Sequence[pd.DataFrame]], seed: int) -> list[Row]:
    """Accuracies of others; then of each network here, and of whoever calls every tumour the commonest.

    Args:
        answers: of each network, one table a fold.
        seed: of the bootstrap over patients.
    """
    rows: list[Row] = [
        {
            "": p.paper, "method": p.method, "patients": p.patients, "accuracy": p.accuracy,
            "LGG against HGG": "" if p.with_healthy else p.accuracy,
        }
        for p in LITERATURE
    ]  # fmt: skip
    for name, folds in answers.items():
        told = pd.concat(folds, ignore_index=True)
        found = {"accuracy": told, "LGG against HGG": _tumours(told)}
        scores = {title: over_folds(accuracy(mine, seed), len(folds)) for title, mine in found.items()}
        rows.append({"": f"here: {name}", "method": "", "patients": "these"} | scores)
    tumours = _tumours(told)
    commonest = tumours["truth"].mode()[0]
    always = tumours.assign(decision=commonest)
    return [
        *rows,
        {
            "": f"here: every tumour is {commonest}", "method": "", "patients": "these", "accuracy": "",
            "LGG against HGG": accuracy(always, seed),
        },
    ]  # fmt: skip


def _tumours(told: pd.DataFrame) -> pd.DataFrame:
    """The patients with a tumour; one who is called healthy counts as an error."""
    return told[told["truth"] != HEALTHY].reset_index(drop=True)


def accuracy(told: pd.DataFrame, seed: int) -> Interval:
    """Share of answers that are right, over patients."""
    right = (told["truth"] == told["decision"]).to_numpy(float)

    def share(rows: np.ndarray) -> float:
        return float(right[rows].mean())

    return bootstrap(share, list(told["patient"]), told["truth"].to_numpy(), seed=seed, resamples=500)
