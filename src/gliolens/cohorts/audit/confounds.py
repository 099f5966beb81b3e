"""What gives a label away without an image: the site and the age. Numbers on labels, no images, no files."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

_DRAWS = 2000


@dataclass(frozen=True)
class SiteEffect:
    """How far the site tells the label.

    Attributes:
        cramers_v: Cramér's V of site by label, 0 to 1.
        p: share of permutations of the labels whose chi-squared is as large, the observed one counted in.
        accuracy: balanced accuracy of guessing, for each site, the label it has more than its share of.
        chance: the mean of that accuracy under permutation (above 1 / classes, as it is fitted and tested at once).
    """

    cramers_v: float
    p: float
    accuracy: float
    chance: float


@dataclass(frozen=True)
class AgeEffect:
    """Area under the ROC curve of age, taken in its better direction, with a 95 % interval."""

    auc: float
    low: float
    high: float
    older: bool


def site_effect(sites: Sequence[str], labels: Sequence[str], *, seed: int = 0) -> SiteEffect | None:
    """Measure how far the site tells the label, one entry a patient.

    Permutation in place of the chi-squared distribution, as small sites have small counts.

    Returns:
        The effect, or None where there are fewer than two sites or two labels.
    """
    site_names, site = np.unique(sites, return_inverse=True)
    label_names, label = np.unique(labels, return_inverse=True)
    if len(site_names) < 2 or len(label_names) < 2:
        return None
    # The first row is the labels as they are, the others are permuted.
    drawn = np.tile(label, (1 + _DRAWS, 1))
    drawn[1:] = np.random.default_rng(seed).permuted(drawn[1:], axis=1)
    chi2, accuracy = _table_scores(site, drawn, (len(site_names), len(label_names)))
    # A hair's breadth, so that the same table summed in another order counts as equal.
    p = float((chi2 >= chi2[0] * (1 - 1e-9)).mean())
    v = float(np.sqrt(chi2[0] / (site.size * (min(len(site_names), len(label_names)) - 1))))
    return SiteEffect(v, p, float(accuracy[0]), float(accuracy[1:].mean()))


def age_effect(ages: Sequence[float], positive: Sequence[bool]) -> AgeEffect | None:
    """Measure how far age alone tells two classes apart, one entry a patient.

    The interval is Hanley and McNeil's (Radiology 1982, doi 10.1148/radiology.143.1.7063747), cut at 0 and 1.

    Returns:
        The effect, or None where one side has nobody.
    """
    truth = np.asarray(positive, dtype=bool)
    if truth.all() or not truth.any():
        return None
    raw = float(roc_auc_score(truth, ages))
    auc, n1, n0 = max(raw, 1 - raw), int(truth.sum()), int((~truth).sum())
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + (n1 - 1) * (q1 - auc**2) + (n0 - 1) * (q2 - auc**2)) / (n1 * n0)
    half = 1.959964 * float(np.sqrt(max(variance, 0.0)))
    return AgeEffect(auc, max(auc - half, 0.0), min(auc + half, 1.0), raw >= 0.5)


def _table_scores(
    site: np.ndarray, labels: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Chi-squared of the table of site by label, and balanced accuracy of guessing, one of each a row of labels.

    The guess for a site is the label it has the largest share of. The recall of a label is then the sum of its
    shares at the sites where it is the guess, so their mean needs only each site's largest share.
    """
    cells = shape[0] * shape[1]
    index = np.arange(len(labels))[:, None] * cells + site * shape[1] + labels
    tables = np.bincount(index.ravel(), minlength=len(labels) * cells).reshape(-1, *shape)
    per_site, per_label = tables[0].sum(axis=1), tables[0].sum(axis=0)
    expected = np.outer(per_site, per_label) / site.size
    chi2 = ((tables - expected) ** 2 / expected).sum(axis=(1, 2))
    return chi2, (tables / per_label).max(axis=2).sum(axis=1) / shape[1]
