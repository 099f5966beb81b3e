"""What harmonising is worth: IDH from shape where sites measure differently, with ComBat and without.

nice python benchmarks/harmonisation.py ../shared/data/tables > docs/tables/harmonisation.md

Logarithms of the shape features of UCSF-PDGM, whose patients are dealt out to four made-up sites that move and stretch
every feature, as other outliners and scanners would; once at random, once so that mutants gather at two sites. Nine
sizes, none of which follows from the others; at the end all 14, of which five all but do. Everything, ComBat
too, is learnt from training patients. Two minutes on one core.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gliolens.cohorts.clinical.table import read_clinical
from gliolens.radiomics.shape import FEATURES
from gliolens.stats.combat import Combat

SITES, REPEATS = 4, 20
SIZES = (
    "VoxelVolume", "SurfaceArea", "Maximum3DDiameter", "Maximum2DDiameterSlice", "Maximum2DDiameterColumn",
    "Maximum2DDiameterRow", "MajorAxisLength", "MinorAxisLength", "LeastAxisLength",
)  # fmt: skip


def patients(tables, features):
    """Logarithms of features, one exam a patient; and who is mutant."""
    rows = read_clinical(tables / "ucsf_pdgm_metadata_v2.csv").rows
    shapes = pd.read_csv(tables / "ucsf_pdgm_pyradiomics_t1gd_whole_tumour.csv").set_index("ID")
    _, one = np.unique([rows[case].patient for case in shapes.index], return_index=True)
    x = np.log(shapes[[f"original_shape_{f}" for f in features]].to_numpy(float))
    mutant = np.array([rows[case].targets["idh"] == "mutant" for case in shapes.index])
    return x[one], mutant[one]


def dealt_out(x, mutant, seed, *, gathered, strength):
    """A site for each patient, and what it measures."""
    rng = np.random.default_rng(seed)
    high = np.where(mutant, 0.75, 0.35) if gathered else np.full(len(x), 0.5)
    site = 2 * (rng.random(len(x)) < high) + (rng.random(len(x)) < 0.5)
    spread = x.std(axis=0)
    moved = strength * spread * rng.normal(size=(SITES, x.shape[1]))
    stretched = np.exp(0.3 * strength * rng.normal(size=(SITES, x.shape[1])))
    middle = x.mean(axis=0)
    return np.array([f"s{i}" for i in site]), (x - middle) * stretched[site] + middle + moved[site]


def learnt(x, site, train, *, harmonise):
    """All patients as they are read once the training patients were learnt from."""
    return Combat.learn(x[train], site[train])(x, site) if harmonise else x


def machine():
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))


def folds(x, mutant, site, seed, *, harmonise):
    """Balanced accuracy of telling the site, and AUC of IDH, of patients held out."""
    p, told = np.zeros(len(x)), np.empty(len(x), dtype=site.dtype)
    for train, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(x, mutant):
        read = learnt(x, site, train, harmonise=harmonise)
        p[test] = machine().fit(read[train], mutant[train]).predict_proba(read[test])[:, 1]
        told[test] = machine().fit(read[train], site[train]).predict(read[test])
    return balanced_accuracy_score(site, told), roc_auc_score(mutant, p)


def left_out(x, mutant, site, *, harmonise):
    """AUC of IDH at a site that was never seen, whose patients cannot be harmonised: mean over the sites."""
    found = []
    for name in np.unique(site):
        train, test = np.flatnonzero(site != name), np.flatnonzero(site == name)
        read = learnt(x, site, train, harmonise=harmonise)
        fitted = machine().fit(read[train], mutant[train])
        found.append(roc_auc_score(mutant[test], fitted.predict_proba(read[test])[:, 1]))
    return float(np.mean(found))


def cell(values):
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"


def line(x, mutant, *, gathered, strength, harmonise):
    rows = []
    for seed in range(REPEATS):
        site, seen = dealt_out(x, mutant, seed, gathered=gathered, strength=strength)
        away = left_out(seen, mutant, site, harmonise=harmonise)
        rows.append((*folds(seen, mutant, site, seed, harmonise=harmonise), away))
    return " | ".join(cell(column) for column in zip(*rows, strict=True))


def main(tables):
    x, mutant = patients(tables, SIZES)
    print(
        f"{len(x)} patients, {mutant.sum()} mutant; {REPEATS} draws of sites, mean ± standard deviation over them.\n"
    )
    print(
        "| features | mutants | moved by | harmonised | site told (chance .25) | IDH, known sites | IDH, a new site |"
    )
    print("|---|---|---|---|---|---|---|")
    asked = [(SIZES, gathered, strength) for gathered in (False, True) for strength in (0.0, 0.5, 1.0)]
    for features, gathered, strength in [*asked, (FEATURES, False, 0.0), (FEATURES, False, 1.0)]:
        x, mutant = patients(tables, features)
        for harmonise in (False, True):
            where = "gather at two sites" if gathered else "everywhere alike"
            told = line(x, mutant, gathered=gathered, strength=strength, harmonise=harmonise)
            print(
                f"| {len(features)} | {where} | {strength} SD | {'ComBat' if harmonise else 'no'} | {told} |",
                flush=True,
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
