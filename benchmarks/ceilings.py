"""The areas under the curve of docs/simulator.md: of the ceilings, and of single facts by Bayes' rule.

python benchmarks/ceilings.py [PATIENTS]
"""

import sys

import numpy as np
from sklearn.metrics import roc_auc_score

from gliolens.cohorts.phantom.ceiling import subtype_posterior
from gliolens.cohorts.phantom.literature import AGE, ENHANCEMENTS, FINDINGS, SUBTYPES, subtype_shares
from gliolens.cohorts.phantom.traits import PhantomConfig, draw_columns, random_lots

POSITIVE = {"grade": (0, "HGG"), "idh": (1, "mutant"), "1p/19q": (2, "codeleted")}


def posterior(law, values, place):
    """Of each subtype, given the value of one fact whose law does not rest on the enhancement."""
    p = subtype_shares() * np.exp(law.log_density(values, place))
    return p / p.sum(axis=1, keepdims=True)


def main():
    patients = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    columns = draw_columns(random_lots(patients, 0), PhantomConfig())
    place = np.array([ENHANCEMENTS.index(e) for e in columns["enhancement"].tolist()])
    known = {
        "ceiling": subtype_posterior(columns, with_age=False),
        "ceiling with age": subtype_posterior(columns, with_age=True),
        "age alone": posterior(AGE, columns["age"], place),
        "volume alone": posterior(FINDINGS["volume_ml"], columns["volume_ml"], place),
    }
    low = columns["subtype"] < 3
    print(
        f"| over {patients:,} patients | "
        + " | ".join(POSITIVE)
        + " | IDH among LGG |\n|---|---|---|---|---|"
    )
    for name, p in known.items():
        each = [auc(columns["subtype"], p, *which) for which in POSITIVE.values()]
        each.append(auc(columns["subtype"][low], p[low][:, :3], *POSITIVE["idh"]))
        print(f"| {name} | " + " | ".join(f"{a:.3f}" for a in each) + " |")


def auc(subtype, p, k, positive):
    """Area under the curve of one class against the rest."""
    mine = np.array([s[k] == positive for s in SUBTYPES])[: p.shape[1]]
    return roc_auc_score(mine[subtype], p[:, mine].sum(axis=1) / p.sum(axis=1))


if __name__ == "__main__":
    main()
