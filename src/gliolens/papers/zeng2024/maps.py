"""Heatmaps of whole brain and tumour alone: where the heat lies, and whether it is what was learnt."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gliolens.explain import likeness, shuffled
from gliolens.io.nifti import write_volume
from gliolens.loader import Arrays, Cases
from gliolens.method import Run
from gliolens.methods import shape_resnet
from gliolens.ops.intensity import share_inside
from gliolens.papers.zeng2024.trials import Trial
from gliolens.stats.intervals import Interval, bootstrap

MOST = 20
"""Test patients whose maps are measured; the first of each class in turn."""
SHUFFLES = 3
"""Networks of shuffled weights that a map is compared with."""


def measured(trials: Mapping[str, Trial], test: Cases, run: Run) -> list[dict[str, Any]]:
    """For each network, means over test patients of what `_of_patient` measures."""
    chosen = test.only([case for case, _ in _in_turn(test, run)][:MOST])
    rows = []
    for name, trial in trials.items():
        model = trial.model()
        made = shape_resnet.ready(chosen, trial.network.config, run.cache)
        found = [_of_patient(model, arrays, run.seed) for arrays in made]
        patients = [row.patient for row in chosen.rows]
        means = {key: mean_over([f[key] for f in found], patients, run.seed) for key in found[0]}
        rows.append({"network sees": name, "patients": len(chosen), **means})
    return rows


def _of_patient(model: shape_resnet.Model, ready: Arrays, seed: int) -> dict[str, float]:
    """Grad-CAM's heat in the tumour, the tumour's share of the frame, and likeness to maps of what knows nothing."""
    images = np.asarray(ready["slices"])
    seen, tumour = (images != 0).any(axis=1), np.asarray(ready["tumour"])
    decided = int(model.probabilities(ready).argmax())
    heat = model.heat(ready, decided)
    other = [replace(model, net=shuffled(model.net, seed + i)).heat(ready, decided) for i in range(SHUFFLES)]
    alike = [likeness(heat, o, seen) for o in other]
    flat = np.isnan(alike)  # a map without any difference is like nothing
    return {
        "heat in the tumour": share_inside(heat, tumour),
        "tumour, of the frame": float(tumour.mean()),
        "likeness to maps of shuffled weights": np.nan
        if np.ptp(heat[seen]) == 0
        else float(np.where(flat, 0, alike).mean()),
        "shuffled maps that are flat": float(flat.mean()),
    }


def mean_over(values: Sequence[float], patients: Sequence[str], seed: int) -> Interval:
    """Mean of values (n,), with its interval over patients; those that are NaN do not count."""
    known = np.array([v for v in values if not np.isnan(v)])
    who = [p for p, v in zip(patients, values, strict=True) if not np.isnan(v)]
    if not len(known):
        return Interval(np.nan, np.nan, np.nan, "none is known")
    return bootstrap(lambda rows: float(known[rows].mean()), who, np.zeros(len(known), int), seed=seed)


def _in_turn(test: Cases, run: Run) -> Iterator[tuple[str, str]]:
    """Case and class of test patients, one of each class at a time."""
    of = {c: [r.case for r in test.rows if r.targets[run.target] == c] for c in run.classes}
    for i in range(max(len(cases) for cases in of.values())):
        yield from ((cases[i], c) for c, cases in of.items() if i < len(cases))


def shown(trials: Mapping[str, Trial], test: Cases, run: Run, out: Path) -> list[dict[str, Any]]:
    """Maps of the first test patient of each class, written as NIfTI on the scan's grid too.

    Returns:
        For each class and network: `label`, `image` (P, P) of the last series, `tumour` (P, P), and `maps` (P, P) by
        name, all of the slice with most tumour.
    """
    first = {c: case for case, c in reversed(list(_in_turn(test, run)))}
    pictures = []
    for name, trial in trials.items():
        model = trial.model()
        for c, case_id in sorted(first.items(), key=lambda item: run.classes.index(item[0])):
            (case,) = replace(test.only([case_id]), series=trial.network.config.series)
            ready = shape_resnet.prepare(case, trial.network.config)
            slice_ = int(ready["tumour"].sum(axis=(1, 2)).argmax())
            maps = {}
            for label, volume in model.explain(case).items():
                kind = "occlusion" if label.endswith("occlusion") else "Grad-CAM"
                write_volume(
                    out / "heatmaps" / f"{c}-{name}-{kind.lower()}.nii.gz".replace(" ", "-"),
                    volume,
                    case.source,
                )
                height = np.round(np.linalg.inv(volume.affine) @ ready["affines"][slice_] @ [0, 0, 0, 1])[2]
                maps[kind] = volume.voxels[:, :, int(height)]
            told = run.classes[int(model.probabilities(ready).argmax())]
            image, tumour = ready["slices"][slice_, -1].astype(np.float32), ready["tumour"][slice_]
            label = f"{c}: {name}\n{case_id}, told {told}"
            pictures.append({"label": label, "image": image, "tumour": tumour, "maps": maps})
    return pictures
