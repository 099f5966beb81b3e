"""Li and McMillan, Leveraging Volume Embeddings for Glioma Classification: its Table 1 and Figure 1, on any cohort.

The paper fits 45 configurations (three poolings, 15 sets of four series) on 276 patients, scores them on 93 others, and
reports the best of each size. That is repeated here, and what choosing on the test set was worth is said; then pooling
and series are chosen honestly, on inner folds of training patients, by the `sound` preset with the same encoder.
"""

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from matplotlib.figure import Figure
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from gliolens.about import software
from gliolens.bench import bench
from gliolens.case import Case, CaseRow
from gliolens.cohorts.splits import Fold, holdout, write_split
from gliolens.embedding import POOLINGS, Pooling, pictures_of, pooled, pools_of
from gliolens.io.store import read_json, write_json, write_text
from gliolens.io.tables import read_cohort
from gliolens.labels import SERIES_TITLES
from gliolens.loader import Arrays
from gliolens.method import changed
from gliolens.methods.volume_embedding import Config, pooled_reader, ready
from gliolens.papers.headline import Headline, interval_of
from gliolens.progress import Counter, say
from gliolens.protocol import Entrant, controls, read_answers
from gliolens.readers import choices, vectors_for
from gliolens.report.paper_page import Section, write_paper_report
from gliolens.report.words import cell
from gliolens.stats.classification import class_scores
from gliolens.stats.intervals import Interval, over_folds
from gliolens.usable import common_series, usable_cases

METHOD: Final = "volume-embedding"
TEST_SHARE: Final = 93 / 369
_BEST: Final = (("t1ce",), ("t1ce", "flair"), ("t1ce", "t2", "flair"), ("t1", "t1ce", "t2", "flair"))
PUBLISHED: Final[Mapping[Pooling, Mapping[tuple[str, ...], float]]] = {
    "mean": dict(zip(_BEST, (91.4, 92.5, 93.6, 91.4), strict=True)),
    "max": dict(zip(_BEST, (93.6, 96.8, 94.6, 92.5), strict=True)),
    "median": dict(zip(_BEST, (91.4, 92.5, 92.5, 92.5), strict=True)),
}
"""Accuracy in per cent of the best set of each size, Table 1; series in GlioLens's order."""
SCORES: Final = ("accuracy", "precision", "recall", "f1")
"""Precision, recall and F1 are means over classes weighted by their patients: in the paper recall equals accuracy in
every row, which no other mean does."""


@dataclass(frozen=True, eq=False)
class Table1:
    """Every configuration on one split.

    Attributes:
        rows: a row a configuration: `pooling`, `series`, `size`, each of `SCORES`.
        right: which test patients each configuration got right (configurations, n), bool.
        seconds: to fit and score all of them.
    """

    rows: pd.DataFrame
    right: np.ndarray
    seconds: float


@dataclass(frozen=True, eq=False)
class Reproduced:
    """What a reproduction came to.

    Attributes:
        folder: where everything lies.
        table1: every configuration on one split.
        nested: accuracy of the nested choice over all patients, with its interval.
        optimism: what choosing on the test patients was worth in accuracy, and the middle 95 % of it.
        failures: cases that were refused, with the reason.
    """

    folder: Path
    table1: Table1
    nested: Interval
    optimism: Interval
    failures: Mapping[str, str]


def table1(
    embedded: Sequence[Arrays],
    truth: np.ndarray,
    sides: tuple[list[int], list[int]],
    config: Config,
    seed: int,
) -> Table1:
    """Fit every configuration to the first side and score it on the second.

    Args:
        embedded: vectors of all patients.
        truth: their classes (n,), 0 to k - 1.
        sides: places of the training and of the test patients.
        config: the classifier; `series` are those to choose from.
        seed: of the classifier.
    """
    train, test = sides
    tried, start = choices(config.series), time.perf_counter()
    pools = pools_of(embedded, config.series)
    x = [vectors_for(c, pools) for c in tried]
    fitted = Parallel(n_jobs=-1)(
        delayed(pooled_reader)(v[train], truth[train], c, config, seed) for c, v in zip(tried, x, strict=True)
    )
    decided = [reader.of_vectors(v[test]).argmax(axis=1) for reader, v in zip(fitted, x, strict=True)]
    rows = [
        {
            "pooling": c.pooling,
            "series": " + ".join(c.series),
            "size": len(c.series),
            **_scores(truth[test], d),
        }
        for c, d in zip(tried, decided, strict=True)
    ]
    right = np.stack([d == truth[test] for d in decided])
    return Table1(pd.DataFrame(rows), right, time.perf_counter() - start)


def _scores(truth: np.ndarray, decided: np.ndarray) -> dict[str, float]:
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, decided, average="weighted", zero_division=0
    )
    numbers = (accuracy_score(truth, decided), precision, recall, f1)
    return dict(zip(SCORES, map(float, numbers), strict=True))


def best_of_each_size(rows: pd.DataFrame) -> pd.DataFrame:
    """For each pooling and number of series the set of most accuracy; of equals the first."""
    return rows.loc[rows.groupby(["pooling", "size"], sort=False)["accuracy"].idxmax()]


def optimism(right: np.ndarray, *, draws: int = 2000, seed: int = 0) -> Interval:
    """What choosing the best of many on the patients it is scored on is worth, and the middle 95 % of it.

    Test patients are drawn with replacement; the best configuration on those drawn is scored on those left out
    (Efron 1983, doi 10.1080/01621459.1983.10477973). By how much the best accuracy on all test patients exceeds the
    mean of these scores is the optimism. Accuracy on those drawn would exceed it by more: they repeat themselves.

    Args:
        right: which patients (n,) each configuration got right, `(configurations, n)`.
        draws: how many.
        seed: of the draws.
    """
    rng, n = np.random.default_rng(seed), right.shape[1]
    honest = []
    for _ in range(draws):
        drawn = rng.integers(0, n, n)
        out = np.setdiff1d(np.arange(n), drawn)
        if out.size:
            best = right[:, drawn].mean(axis=1).argmax()
            honest.append(right[best][out].mean())
    worth = right.mean(axis=1).max() - np.array(honest)
    value, (low, high) = float(worth.mean()), np.quantile(worth, (0.025, 0.975))
    return Interval(
        value, min(value, float(low)), max(value, float(high))
    )  # few draws can carry the whole mean


# --- the whole of it -------------------------------------------------------------------------------------------


def reproduce(
    cohort: Path, out: Path, *, target: str = "grade", scale: str = "paper", seed: int = 0,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> Reproduced:  # fmt: skip
    """Repeat Table 1 and Figure 1 on a cohort, then the same choice by nested cross-validation.

    Args:
        cohort: the cohort table.
        out: `table1.csv`, `results.json`, `figure1.png`, `report.html`, and `nested/`, a bench of the `sound` preset.
        target: what to tell.
        scale: `paper`, with MedImageInsight; or `demo`, with the built-in encoder.
        seed: of every random choice.
        settings: of the method, such as `encoder` and `weights`, in place of the preset's.

    Raises:
        CohortError: too few usable cases.
        ConfigError: the encoder's weights are not at hand.
    """
    rows = read_cohort(cohort)
    series = common_series(rows, target)
    paper = _config("paper", scale, series, settings)
    cache = out / "nested" / "cache"
    found = usable_cases(
        rows, target=target, series=series, entrants=(Entrant(METHOD, METHOD, paper), *controls()), cache=cache,
        tick=Counter("encoding cases"),
    )  # fmt: skip
    cases = found.cases
    embedded = ready(cases, paper, cache)
    division = holdout(cases.rows, target, test=TEST_SHARE, seed=seed)
    write_split(out / "splits.json", division)
    truth = np.array([found.classes.index(c) for c in cases.classes(target)])
    say(f"fitting {len(choices(series))} configurations")
    sides = _places(cases.rows, division.folds[0])
    first = table1(embedded, truth, sides, paper, seed)
    same = {"encoder": paper.encoder, "weights": paper.weights, "offline": paper.offline}
    nested = bench(
        cohort, out / "nested", target=target, methods=(METHOD,), series=series, preset="sound",
        scale=scale, folds=3 if scale == "demo" else 5, seed=seed, settings={METHOD: same},
    )  # fmt: skip
    done = Reproduced(
        out, first, _accuracy_of(nested.folder, METHOD), optimism(first.right, seed=seed), nested.failures
    )
    shown = sides[1][0]
    figure = figure1(cases[shown], embedded[shown], paper)
    _write(done, figure, paper, len(sides[0]), target)
    best = float(first.rows["accuracy"].max())
    say(
        f"best of {len(first.rows)} on the test patients {best:.3f}, of which choosing {done.optimism.value:.3f}"
    )
    say(f"chosen on inner folds, scored on all patients {cell(done.nested)}")
    return done


def headlines(folder: Path) -> list[Headline]:
    """Accuracy of the best configuration, from a finished folder."""
    told = read_json(folder / "results.json")
    best = max(value for row in PUBLISHED.values() for value in row.values()) / 100
    worth = told["optimism"]["value"]
    return [
        Headline(
            "accuracy, best configuration", best if told["target"] == "grade" else None,
            float(told["best"]["accuracy"]), interval_of(told["nested_accuracy"]),
            _accuracy_of(folder / "nested", "age and sex"),
            f"as published, the best of {told['configurations']} configurations on the {told['test']} patients tested; "
            "soundly, chosen on inner folds and scored on all patients. Age alone: with sex, over the same folds.",
            more=f"Choosing on the patients tested was worth {worth:.2f} of accuracy.",
        )
    ]  # fmt: skip


def _config(preset: str, scale: str, series: Sequence[str], settings: Mapping[str, Any]) -> Config:
    asked: Config = changed(Config.preset(preset).scaled(scale), settings)
    return replace(asked, series=tuple(series))


def _places(rows: Sequence[CaseRow], fold: Fold) -> tuple[list[int], list[int]]:
    place = {row.case: i for i, row in enumerate(rows)}
    return [place[c] for c in fold.train], [place[c] for c in fold.test]


def _accuracy_of(nested: Path, method: str) -> Interval:
    """Accuracy of the likelier class that a method of a bench tells, over the patients of all folds."""
    answers = read_answers(nested / "predictions.csv")
    mine = answers[answers["method"] == method]
    classes = [c.removeprefix("p_") for c in map(str, mine) if c.startswith("p_")]
    p = mine[[f"p_{c}" for c in classes]].to_numpy(dtype=float)
    truth = [classes.index(c) for c in mine["truth"]]
    found = class_scores(truth, p, p.argmax(axis=1), list(mine["patient"]))["accuracy"]
    return over_folds(found, mine["fold"].nunique())


# --- what is written -------------------------------------------------------------------------------------------


def _write(done: Reproduced, figure: bytes, paper: Config, trained: int, target: str) -> None:
    first, out = done.table1, done.folder
    write_text(out / "table1.csv", first.rows.to_csv(index=False, float_format="%.4f"))
    (out / "figure1.png").write_bytes(figure)
    best = first.rows.iloc[int(first.rows["accuracy"].to_numpy().argmax())]
    results = {
        "target": target, "encoder": paper.encoder, "configurations": len(first.rows), "train": trained,
        "test": first.right.shape[1], "seconds": first.seconds, "best": best.to_dict(),
        "nested_accuracy": asdict(done.nested), "optimism": asdict(done.optimism), "software": software(),
    }  # fmt: skip
    write_json(out / "results.json", results)
    sections = [_table_section(done, trained, target), _choice_section(done, best), _figure_section(figure)]
    told = {"target": target, "encoder": paper.encoder, "series": ", ".join(paper.series), **software()}
    title = "Li and McMillan: volume embeddings, reproduced"
    write_paper_report(out / "report.html", title, sections, {k: str(v) for k, v in told.items()})


def _table_section(done: Reproduced, trained: int, target: str) -> Section:
    table = done.table1.rows.sort_values(["pooling", "size"], key=_in_order, kind="stable")
    best = set(best_of_each_size(table).index)
    rows: list[list[object]] = []
    bold: list[tuple[int, int]] = []
    for place, row in zip(table.index, table.to_dict("records"), strict=True):
        told = _published(row["pooling"], row["size"]) if place in best and target == "grade" else ("", "")
        bold += [(len(rows), column) for column in range(len(SCORES) + 1) if place in best]
        rows.append([f"{row['pooling']}: {row['series']}", *(row[s] for s in SCORES), *told])
    test = done.table1.right.shape[1]
    notes = (
        f"{len(table)} configurations fitted to {trained} patients and scored on {test} others; bold, the best set of "
        f"each size, as the paper chose it: on the patients it is scored on. One patient is {1 / test:.3f}.",
        "Precision, recall and F1 are means over classes weighted by their patients. Published: accuracy of the grade "
        "on BraTS 2020 with MedImageInsight, of the paper's best set of that size.",
    )
    columns = ("pooling and series", *SCORES, "published accuracy", "of")
    return Section("Table 1", notes, columns, rows, bold)


def _in_order(column: "pd.Series[Any]") -> "pd.Series[Any]":
    return column.map(POOLINGS.index) if column.name == "pooling" else column


def _published(pooling: Pooling, size: int) -> tuple[str, str]:
    """The paper's best accuracy with so many series, and which they were."""
    series = _BEST[size - 1]
    return f"{PUBLISHED[pooling][series]} %", " + ".join(series)


def _choice_section(done: Reproduced, best: pd.Series) -> Section:
    rows = [
        ["best of all, chosen on the test patients", float(best["accuracy"])],
        ["what choosing on them was worth", done.optimism],
        ["chosen on inner folds, with the sound preset's classifier, scored on all patients", done.nested],
    ]
    notes = (
        "What choosing was worth: test patients drawn anew 2,000 times, the best configuration on those drawn scored "
        "on those left out. The nested figure, with its controls and intervals, stands in nested/bench.html.",
    )
    return Section("What the choice was worth", notes, ("", "accuracy"), rows)


def _figure_section(figure: bytes) -> Section:
    caption = (
        "A test patient on the way to an answer: slices, the vector of each slice (rows), the pooled vector of each "
        "series. Brighter is more."
    )
    return Section("Figure 1", figures=[(caption, figure)])


def figure1(case: Case, embedded: Arrays, config: Config) -> bytes:
    """The way from slices to vectors, of one patient: a PNG."""
    pictures, _ = pictures_of(case, config.series)
    figure = Figure(figsize=(11, 2.4 * len(config.series)), layout="constrained")
    axes = figure.subplots(len(config.series), 3, squeeze=False, width_ratios=(2, 3, 3))
    for row, name in zip(axes, config.series, strict=True):
        slices, vectors = pictures[name], np.asarray(embedded[name])
        shown = slices[np.linspace(0, len(slices) - 1, 5).astype(int)[1:4]]
        row[0].imshow(np.concatenate(list(shown.numpy()), axis=1), cmap="gray")
        row[0].set_ylabel(SERIES_TITLES[name])
        low, high = np.percentile(vectors, (1, 99))
        row[1].imshow(vectors, aspect="auto", cmap="magma", vmin=low, vmax=high)
        both = np.stack([pooled(vectors, how) for how in POOLINGS])
        row[2].imshow(both, aspect="auto", cmap="magma", vmin=low, vmax=high)
        row[2].set_yticks(range(len(POOLINGS)), POOLINGS)
        for ax in row[:2]:
            ax.set_xticks([]), ax.set_yticks([])
        row[2].set_xticks([])
    for ax, title in zip(axes[0], ("slices", "a vector a slice", "a vector a series"), strict=True):
        ax.set_title(title)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()
