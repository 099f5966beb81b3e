"""Whether the healthy class is free: who is healthy, told without a look at any tumour.

Two controls: networks that see nothing but where the brain is, and a linear reader of how bright the brain is.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gliolens.case import Case
from gliolens.labels import HEALTHY
from gliolens.loader import Arrays, Cases
from gliolens.method import Run
from gliolens.papers.chatterjee2022.tables import by_class, confusion
from gliolens.preprocess import brain_of
from gliolens.stats.intervals import Interval, delong

BRIGHT: Final = "how bright the brain is"
PERCENTILES: Final = (1, 5, 25, 50, 75, 95, 99)
NEARLY: Final = 0.05
"""F1 by which a control may lie below a network and still do nearly as well."""
GOOD: Final = 0.7
"""F1 from which a network can be said to tell who is healthy."""
EVERYBODY: Final = "calling everybody healthy"
CLEARLY: Final = 0.2
"""F1 by which it must lie above that of `EVERYBODY`."""


def brightness(case: Case) -> dict[str, np.ndarray]:
    """Mean, standard deviation and `PERCENTILES` of each series over the brain, in the file's own unit.

    Where a mask tells of a tumour, that is left out.

    Returns:
        `brightness` (n,).
    """
    brain = brain_of(case) if case.tumour is None else brain_of(case) & (case.tumour == 0)
    told: list[float] = []
    for image in case.series.values():
        inside = image[brain]
        told += [float(inside.mean()), float(inside.std()), *np.percentile(inside, PERCENTILES).tolist()]
    return {"brightness": np.array(told)}


def measured(cases: Cases, run: Run) -> list[Arrays]:
    """Brightness of each case."""
    return cases.prepared(brightness, "chatterjee2022 brightness 2", run.cache)


def told_by_brightness(train: Cases, test: Cases, run: Run) -> pd.DataFrame:
    """Who is healthy, by logistic regression on brightness: `patient`, `healthy` and its probability `p`."""
    x, y = ([a["brightness"] for a in measured(side, run)] for side in (train, test))
    truth = [np.array([c == HEALTHY for c in side.classes(run.target)]) for side in (train, test)]
    reader = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000, class_weight="balanced"))
    p = reader.fit(np.stack(x), truth[0]).predict_proba(np.stack(y))[:, 1]
    return pd.DataFrame({"patient": [row.patient for row in test.rows], "healthy": truth[1], "p": p})


def free_table(
    answers: Mapping[str, Sequence[pd.DataFrame]], masks: Mapping[str, Sequence[pd.DataFrame]],
    bright: Sequence[pd.DataFrame], classes: Sequence[str],
) -> list[dict[str, Any]]:  # fmt: skip
    """F1 and AUC of healthy against tumour, of the networks and of both controls, over the tests of all folds."""
    rows = [_of_network(name, folds, classes) for name, folds in {**answers, **masks}.items()]
    told = pd.concat(bright, ignore_index=True)
    decided, truth = (told["p"] > 0.5).to_numpy(), told["healthy"].to_numpy(bool)
    f1 = 2 * (decided & truth).sum() / (decided.sum() + truth.sum())
    rows.append({"told by": BRIGHT, "F1, healthy": float(f1), "AUC, healthy, first fold": _auc(bright)})
    rows.append({"told by": EVERYBODY, "F1, healthy": float(2 * truth.mean() / (1 + truth.mean()))})
    return rows


def _of_network(name: str, folds: Sequence[pd.DataFrame], classes: Sequence[str]) -> dict[str, Any]:
    counts = confusion(pd.concat(folds, ignore_index=True), classes)
    told = [pd.DataFrame({"healthy": f["truth"] == HEALTHY, "p": f[f"p_{HEALTHY}"]}) for f in folds]
    f1 = float(by_class(counts)["F1"][list(classes).index(HEALTHY)])
    return {"told by": name, "F1, healthy": f1, "AUC, healthy, first fold": _auc(told)}


def _auc(folds: Sequence[pd.DataFrame]) -> Interval:
    """Of the first fold: a patient who is tested in several would count as several."""
    return delong(folds[0]["healthy"].to_numpy(bool), folds[0]["p"].to_numpy(float))


def verdict(rows: Sequence[Mapping[str, Any]], controls: Sequence[str]) -> str:
    """Whether a control tells who is healthy, and nearly as well as the best network."""
    f1 = {row["told by"]: float(row["F1, healthy"]) for row in rows}
    nobody = f1.pop(EVERYBODY, 0.0)
    best = max((name for name in f1 if name not in controls), key=lambda name: f1[name])
    asked = [name for name in f1 if name in controls]
    near = [name for name in asked if f1[name] >= max(GOOD, nobody + CLEARLY, f1[best] - NEARLY)]
    if near:
        told = " and ".join(f"{name} ({f1[name]:.2f})" for name in near)
        return (
            f"The third class is free: {told} tell who is healthy without a look at any tumour; the best network is "
            f"{best} ({f1[best]:.2f}). Read F1 of LGG and HGG alone."
        )
    if f1[best] < max(GOOD, nobody + CLEARLY):
        return (
            f"Nobody clearly tells who is healthy: the best network is {best} ({f1[best]:.2f}), {EVERYBODY} gives "
            f"{nobody:.2f}, and no control tells."
        )
    return f"No control comes near {best} ({f1[best]:.2f}): the healthy class has to be seen."
