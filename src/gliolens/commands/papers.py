"""`gliolens reproduce`: tables and figures of a paper, on any cohort. `gliolens check`: whether its scores can be."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import import_module
from math import isfinite, isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tyro.conf import Positional

from gliolens.commands.flags import SOME_FAILED, Out, Scale, Target, as_json, settings_of
from gliolens.errors import ConfigError
from gliolens.labels import NOTICE
from gliolens.registry import PAPERS

if TYPE_CHECKING:
    from gliolens.stats.intervals import Interval
    from gliolens.stats.published import Reading

SHOWN: Final = 10
"""Confusion matrices of a reading; `--json` prints up to a thousand."""


def reproduce(
    paper: Positional[str],
    cohort: Positional[Path],
    *,
    out: Out,
    target: Target = "grade",
    scale: Scale = "paper",
    seed: int = 0,
    encoder: str | None = None,
    weights: str | None = None,
    offline: bool = False,
    set: tuple[str, ...] = (),
    json: bool = False,
) -> int:
    """Repeat a paper's tables and figures on a cohort, beside the published numbers.

    Args:
        paper: which one: chatterjee2022, farahani2025, janardhan2025, li2025 or zeng2024; or all of them, with what
            each is known for on one page.
        cohort: the cohort table.
        out: where to write.
        target: what to tell.
        scale: as published, or small enough for minutes on two cores.
        seed: of every random choice.
        encoder: another encoder than the paper's.
        weights: file or folder of the weights to start from, where the paper's network has some.
        offline: never open a connection.
        set: settings of the paper's method in place of those it states, as NAME=VALUE, e.g. epochs=4; of all papers as
            PAPER.NAME=VALUE.
        json: print JSON.
    """
    from gliolens.papers.summary import fetches

    modules = {**PAPERS, "all": "gliolens.papers.summary"}
    if paper not in modules:
        raise ConfigError(f"no paper is called {paper!r}; there are {', '.join(modules)}")
    asked = offline and (paper == "all" or fetches(paper))  # who fetches nothing is offline anyhow
    given = {"encoder": encoder, "weights": weights, "offline": asked or None}
    pattern = "PAPER.NAME" if paper == "all" else "NAME"
    module: Any = import_module(modules[paper])
    done = module.reproduce(
        cohort,
        out,
        target=target,
        scale=scale,
        seed=seed,
        settings={k: v for k, v in given.items() if v is not None} | dict(settings_of(set, pattern)),
    )
    if json:
        print(as_json({"folder": done.folder, "failures": done.failures}))
    else:
        print(f"{done.folder / 'report.html'}\n{NOTICE}")
    return SOME_FAILED if done.failures else 0


def survival(
    cohort: Positional[Path],
    *,
    out: Out,
    by: Target | None = None,
    predictions: Path | None = None,
    cut: str = "median",
    json: bool = False,
) -> int:
    """Draw and compare how long patients live, by class or by the risk that a bench's methods gave them.

    Who is alive when last seen is censored there. With --predictions every method and control of a bench parts the
    patients into low and high risk, by a cut from the training patients of each fold.

    Args:
        cohort: the cohort table with os_days and os_event.
        out: where to write.
        by: whose classes are compared.
        predictions: folder of a bench of this cohort, whose risk groups are compared instead.
        cut: high risk is from here on: median, that of the training patients; or a probability fixed beforehand.
        json: print JSON.
    """
    if (by is None) == (predictions is None):
        raise ConfigError("name either --by TARGET or --predictions BENCH")
    if predictions is not None:
        return _risk_groups(cohort, predictions, out, cut, json)
    return _by_class(cohort, str(by), out, json)


def _by_class(cohort: Path, by: str, out: Path, json: bool) -> int:
    from gliolens.survival import survival

    found = survival(cohort, out, by=by)
    if json:
        print((out / "survival.json").read_text(encoding="utf-8"))
        return 0
    for curve in found.curves:
        print(f"{curve.name}: {curve.n} patients, {curve.events} deaths, {_half(curve.median_days)}")
    if found.test:
        print(f"log-rank: chi-squared {found.test.chi_squared:.3f}, p = {found.test.p:.2g}")
    if found.hazards:
        print(f"hazards of {found.cox_n} patients with {found.cox_deaths} deaths, against {found.reference}:")
    for hazard in found.hazards:
        ratio = hazard.ratio
        print(
            f"  {hazard.name}: {ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f}), p = {hazard.p:.2g}; "
            f"proportional hazards: p = {hazard.proportional_p:.2g}"
        )
    print(f"{out / 'kaplan-meier.png'}\n{NOTICE}")
    return 0


def _risk_groups(cohort: Path, predictions: Path, out: Path, cut: str, json: bool) -> int:
    from gliolens.risk_groups import risk_groups

    found = risk_groups(cohort, predictions, out, cut=cut)
    if json:
        print((out / "risk-groups.json").read_text(encoding="utf-8"))
        return 0
    for one in found.judged:
        sizes = ", ".join(f"{c.n} at {c.name} risk with {c.events} deaths" for c in one.curves)
        test = "one group only" if one.test is None else f"log-rank p = {one.test.p:.2g}"
        c = one.concordance
        print(
            f"{one.method}{' (control)' if one.control else ''}: {sizes}, {test}; "
            f"C-index {c.value:.2f} ({c.low:.2f} to {c.high:.2f})"
        )
    print(f"{out / 'survival.html'}\n{NOTICE}")
    return 0


def _half(median: "Interval") -> str:
    if isnan(median.value):
        return median.reason
    high = f"{median.high:.0f}" if isfinite(median.high) else "not reached"
    return f"median {median.value:.0f} days ({median.low:.0f} to {high})"


def check(scores: Positional[tuple[str, ...]], *, positive: int, negative: int, json: bool = False) -> int:
    """List the confusion matrices that give the scores of a published table, or say which reading would.

    Args:
        scores: as printed, 0 to 1, as NAME=VALUE: accuracy=0.9936 sensitivity=1.000. Names: accuracy, sensitivity,
            specificity, ppv, npv, apca, f1, auc.
        positive: cases of the positive class in the test set.
        negative: cases of the other class.
        json: print JSON.
    """
    from gliolens.stats.published import readings

    found = readings(positive, negative, _printed(scores))
    if json:
        plain = [
            {"reading": r.name, "fits": [{**asdict(one), **one.scores()} for one in r.fits]} for r in found
        ]
        print(as_json({"readings": plain}))
    else:
        print("\n".join(_told(found)))
    return 0


def _printed(scores: Sequence[str]) -> dict[str, str]:
    parted = [score.partition("=") for score in scores]
    if wrong := [name for name, equals, _ in parted if not equals]:
        raise ConfigError(f"{', '.join(wrong)}: expected NAME=VALUE, such as accuracy=0.9936")
    names = [name for name, _, _ in parted]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{', '.join(twice)}: given twice")
    return {name: value for name, _, value in parted}


def _told(found: Sequence["Reading"]) -> Iterator[str]:
    if not found:
        yield "No confusion matrix gives these scores, nor with PPV and NPV, or the two classes, exchanged."
    for reading in found:
        many = f"; the first {SHOWN} of {reading.count}" if reading.count > SHOWN else ""
        yield f"{reading.name}{many}:"
        for one in reading.fits[:SHOWN]:
            counts = f"TP {one.true_positive}, FN {one.false_negative}, FP {one.false_positive}, TN {one.true_negative}"
            least, most = one.auc()
            values = ", ".join(f"{name} {value:.4f}" for name, value in one.scores().items())
            yield f"  {counts}: {values}, AUC from {least:.4f} to {most:.4f}"
