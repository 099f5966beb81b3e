"""Heatmaps of whole brain and tumour alone: where the heat lies, and whether it is what was learnt."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gliolens.explain import likeness, share_inside, shuffled
from gliolens.io.nifti import write_volume
from gliolens.loader import Arrays, Cases
from gliolens.method import Run
from gliolens.methods import shape_resnet
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
        means = {key: _mean([f[key] for f in found], patients, run.seed) for key in found[0]}
        rows.append({"network sees": name, "patients": len(chosen), **means})
    return rows


def _of_patient(model: shape_resnet.Model, ready: Arrays, seed: int) -> dict[str, float]:
    """Grad-CAM's heat in the tumour, the tumour's share of what is seen, and likeness to maps of what knows nothing."""
    images = np.asarray(ready["slices"])
    seen, tumour = (images != 0).any(axis=1), np.asarray(ready["tumour"])
    decided = int(model.probabilities(ready).argmax())
    heat = model.heat(ready, decided)
    other = [replace(model, net=shuffled(model.net, seed + i)).heat(ready, decided) for i in range(SHUFFLES)]
    alike = [likeness(heat, o, seen) for o in other]
    return {
        "heat in the tumour": share_inside(heat, tumour),
        "tumour, of what is seen": float((tumour & seen).sum() / seen.sum()),
        "likeness to the map of shuffled weights": float(np.mean([0.0 if np.isnan(a) else a for a in alike])),
    }


def _mean(values: Sequence[float], patients: Sequence[str], seed: int) -> Interval:
    known = np.array([v for v in values if not np.isnan(v)])
    who = [p for p, v in zip(patients, values, strict=True) if not np.isnan(v)]
    if not len(known):
        return Interval(np.nan, np.nan, np.nan, "no map has any heat")
    return bootstrap(lambda rows: float(known[rows].mean()), who, np.zeros(len(known), int), seed=seed)


def _in_turn(test: Cases, run: Run) -> Iterator[tuple[str, str]]:
    """Case and class of test patients, one of each class at a time."""
    of = {c: [r.case for r in test.rows if r.targets[run.target] == c] for c in run.classes}
    for i in range(max(len(cases) for cases in of.values())):
        yield from ((cases[i], c) for c, cases in of.items() if i < len(cases))


def shown(trials: Mapping[str, Trial], test: Cases, run: Run, out: Path) -> list[dict[str, Any]]:
    """Maps of the first test patient of each class, written as NIfTI on the scan's grid too.

    Returns:
        For each class and network: `class`, `network`, `image` (P, P) of the last series, `tumour` (P, P), and `maps`
        (P, P) by name, all of the slice with most tumour.
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
            image = ready["slices"][slice_, -1].astype(np.float32)
            pictures.append(
                {"class": c, "network": name, "image": image, "tumour": ready["tumour"][slice_], "maps": maps}
            )
    return pictures
