"""`gliolens train`, `evaluate`, `bench` and `predict`: the flags of each verb. The modules named so do the work."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, Positional, arg

from gliolens.commands.flags import (
    INPUT_REFUSED,
    SOME_FAILED,
    MaskScheme,
    Out,
    OutIfAny,
    Preset,
    Scale,
    Series,
    Target,
    as_json,
    settings_of,
)
from gliolens.errors import ConfigError
from gliolens.io.store import read_json
from gliolens.labels import NOTICE, TARGET_TITLES
from gliolens.method import changed, find_method


def train(words: Sequence[str]) -> Callable[..., int]:
    """Make the function that `gliolens train METHOD` calls: its flags are the settings of the method.

    Args:
        words: the method's name and all flags; `--preset`, `--scale` and `--config` set the defaults of the others.
    """
    method: Any = find_method(words[0])
    default = _default(method, words[1:])

    def fit(
        cohort: Positional[Path],
        *,
        target: Target,
        out: Out,
        preset: Preset = "sound",
        scale: Scale = "paper",
        split: Path | None = None,
        seed: int = 0,
        healthy: bool = False,
        config_file: Annotated[Path | None, arg(name="config")] = None,
        settings: Any = default,
        json: bool = False,
    ) -> int:
        """Fit a method, and every control, on one side of a split and score the other side.

        Args:
            cohort: the cohort table.
            target: what to tell.
            out: the run folder.
            preset: paper, as published; sound, its quirks mended; sets the defaults of the method's settings.
            scale: full size, or small enough for minutes on two cores; sets the defaults too.
            split: a stored split, of which the first fold is used; a quarter is held out where not given.
            seed: of every random choice.
            healthy: healthy cases count too, and those without a tumour mask: for methods that look at none.
            config_file: the run.json of an earlier run, whose settings become the defaults.
            settings: the method's settings.
            json: print JSON.
        """
        from gliolens.train import train

        done = train(
            words[0], cohort, out, target=target, config=settings, split=split, seed=seed, healthy=healthy
        )
        return _print_outcome(done, json)

    fit.__annotations__["settings"] = Annotated[method.Config, OmitArgPrefixes]
    return fit


def _default(method: Any, words: Sequence[str]) -> Any:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset", default="sound")
    parser.add_argument("--scale", default="paper", choices=["paper", "demo"])
    parser.add_argument("--config", default=None, type=Path)
    try:
        found, _ = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise ConfigError(str(error)) from error
    settings = method.Config.preset(found.preset).scaled(found.scale)
    if found.config is None:
        return settings
    given = read_json(found.config).get("settings", {}).get("config")
    if given is None:
        raise ConfigError(
            f"{found.config} holds no settings of a method; give the run.json of a training run"
        )
    return changed(settings, given)


def evaluate(
    run: Positional[Path],
    cohort: Positional[Path],
    *,
    out: OutIfAny = None,
    prevalence: tuple[str, ...] = (),
    json: bool = False,
) -> int:
    """Score a run on the patients its split held out, or on another cohort.

    Args:
        run: folder of a finished run.
        cohort: the cohort table.
        out: where to write; RUN/evaluation-COHORT where not given.
        prevalence: share of each class where the cohort comes from, as CLASS=SHARE, known from elsewhere: it takes the
            place of the training share in all probabilities.
        json: print JSON.
    """
    from gliolens.evaluate import evaluate

    local = dict(settings_of(prevalence, "CLASS", "--prevalence"))
    return _print_outcome(evaluate(run, cohort, out, local or None), json)


def bench(
    cohort: Positional[Path],
    *,
    target: tuple[Target, ...],
    out: Out = Path("bench"),
    methods: tuple[str, ...] = ("shape-resnet",),
    series: tuple[Series, ...] = (),
    preset: Preset = "sound",
    scale: Scale = "paper",
    folds: int = 5,
    split: Path | None = None,
    leave_site_out: bool = False,
    seed: tuple[int, ...] = (0,),
    healthy: bool = False,
    calibrate: bool = False,
    external: Path | None = None,
    shuffle_labels: bool = False,
    set: tuple[str, ...] = (),
    json: bool = False,
) -> int:
    """Cross-validate methods and every control under one split.

    Args:
        cohort: the cohort table.
        target: what to tell; of several, each has a folder, and one page shows all.
        out: where to write; a stopped bench goes on there.
        methods: which methods (gliolens train --help lists them), or NAME=METHOD to have one with several settings; the
            controls are always there.
        series: series every case must have; those that all cases share where not given.
        preset: paper, as published; sound, its quirks mended.
        scale: full size, or small enough for minutes on two cores.
        folds: how many.
        split: a stored split instead.
        leave_site_out: test on each site in turn instead.
        seed: of every random choice; of several, each is a bench of its own.
        healthy: healthy cases count too, and those without a tumour mask: for methods that look at none.
        calibrate: learn from inner folds how sure answers may be, and when to abstain; four times the trainings.
        external: the table of another cohort, which every method answers too.
        shuffle_labels: deal the labels of the cohort out anew among its patients first, where every honest method has
            an AUC of 0.5: one that has more sees test labels.
        set: settings in place of the preset's, as METHOD.NAME=VALUE, e.g. volume-embedding.encoder=histogram; where a
            method was given a name, under that.
        json: print JSON.
    """
    settings: dict[str, Any] = {
        "methods": methods, "series": series, "preset": preset, "scale": scale, "folds": folds, "split": split,
        "sites": leave_site_out, "settings": _settings(set), "healthy": healthy, "calibrate": calibrate,
        "external": external, "shuffle": shuffle_labels,
    }  # fmt: skip
    if len(target) == len(seed) == 1:
        from gliolens.bench import bench

        return _print_outcome(bench(cohort, out, target=target[0], seed=seed[0], **settings), json)
    from gliolens.rounds import bench_rounds

    done = bench_rounds(cohort, out, targets=target, seeds=seed, **settings)
    return _print_rounds(done, out, json)


def _print_rounds(done: Mapping[tuple[str, int], Any], out: Path, json: bool) -> int:
    if json:
        told: dict[str, dict[str, Any]] = {}
        for (target, seed), outcome in done.items():
            told.setdefault(target, {})[f"seed {seed}"] = _as_told(outcome)
        print(as_json({"folder": str(out), "targets": told}))
        return SOME_FAILED if any(outcome.failures for outcome in done.values()) else 0
    codes = []
    for (target, seed), outcome in done.items():
        print(f"\n{TARGET_TITLES[target]}, seed {seed}:")
        codes.append(_print_outcome(outcome, json))
    print(f"all together: {out / 'bench.html'}")
    return max(codes)


def _settings(
    given: Sequence[str], pattern: str = "METHOD.NAME", option: str = "--set"
) -> dict[str, dict[str, Any]]:
    """Values by the two parts of their names, of `METHOD.NAME=VALUE`."""
    out: dict[str, dict[str, Any]] = {}
    for place, value in settings_of(given, pattern, option):
        method, name = place.split(".")
        out.setdefault(method, {})[name] = value
    return out


def _as_told(done: Any) -> dict[str, Any]:
    from gliolens.outline_scores import plain_outlines
    from gliolens.protocol import metrics_of

    told = {"folder": str(done.folder), **metrics_of(done.table), "failures": done.failures}
    if done.outlines:
        told["outlines"] = plain_outlines(done.outlines)
    if done.further:
        told["further"] = {t: metrics_of(table) for t, table in done.further.items()}
    return told


def _print_outcome(done: Any, json: bool) -> int:
    from gliolens.report.terminal import print_outlines, print_scores

    if json:
        print(as_json(_as_told(done)))
    else:
        print_scores(done.table)
        for target, table in done.further.items():
            print(f"\n{TARGET_TITLES[target]}, told too:")
            print_scores(table)
        if done.outlines:
            print_outlines(done.outlines)
        print(f"written to {done.folder}\n{NOTICE}")
    return SOME_FAILED if done.failures else 0


def report(run: Positional[Path], *, out: OutIfAny = None, json: bool = False) -> int:
    """Write a model card, and the CLAIM 2024 and TRIPOD+AI checklists as far as a run's files can answer them.

    What the files do not know is marked open, with what the authors must write there.

    Args:
        run: folder of a finished run of train or bench.
        out: where to write; RUN/report where not given.
        json: print JSON.
    """
    from gliolens.report.run.checklist import counts
    from gliolens.report.run.page import write_run_report

    done = write_run_report(run, out)
    if json:
        told = {filled.list.name: counts(filled.entries) for filled in done.checklists}
        print(as_json({"folder": done.folder, **told}))
        return 0
    for filled in done.checklists:
        print(f"{filled.list.title}, {filled.counts}")
    print(f"{done.folder / 'report.html'}\n{NOTICE}")
    return 0


def predict(
    cases: Positional[tuple[Path, ...]] = (),
    *,
    out: Out = Path("predictions"),
    run: tuple[Path, ...] = (),
    outline: Path | None = None,
    redraw: bool = False,
    age: float | None = None,
    t1: Path | None = None,
    t1ce: Path | None = None,
    t2: Path | None = None,
    flair: Path | None = None,
    mask: Path | None = None,
    brain_mask: Path | None = None,
    mask_scheme: MaskScheme | None = None,
    id: str | None = None,
    prevalence: tuple[str, ...] = (),
    json: bool = False,
) -> int:
    """Answer cases and write OUT/CASE/ for each: labels, prediction.json, report.html, maps.

    Args:
        cases: folders of one case each, or cohort tables.
        out: where to write; one folder a case.
        run: folders of trained runs, one a target; the built-in predictors answer the targets that no run does.
        outline: folder of a trained outline network, for cases without a mask; the built-in one where not given.
        redraw: draw cases that have a mask too, and say how well the two agree.
        age: age in years of a single case; the answers are better with it.
        t1: the T1 scan of a single case.
        t1ce: its T1 scan with contrast.
        t2: its T2 scan.
        flair: its FLAIR scan.
        mask: its tumour labels; drawn by a network where not given.
        brain_mask: its brain mask.
        mask_scheme: what the numbers in the mask mean.
        id: its name; that of its folder where not given.
        prevalence: share of each class where the cases come from, as TARGET.CLASS=SHARE, e.g. idh.mutant=0.3
            idh.wildtype=0.7: it takes the place of the training share in what a run tells.
        json: print JSON.
    """
    from gliolens.cohorts.named import named_rows
    from gliolens.infer import predict

    files = {"t1": t1, "t1ce": t1ce, "t2": t2, "flair": flair, "mask": mask, "brain_mask": brain_mask}
    done = predict(
        named_rows(cases, files, mask_scheme, id, age), out, runs=run, outline=outline, redraw=redraw,
        prevalence=_settings(prevalence, "TARGET.CLASS", "--prevalence"),
    )  # fmt: skip
    if json:
        print(as_json({"reports": done.reports, "failures": {k: str(e) for k, e in done.failures.items()}}))
    else:
        print(*done.reports.values(), sep="\n")
    for error in done.failures.values():
        print(f"gliolens: {error}", file=sys.stderr)
    return 0 if not done.failures else (SOME_FAILED if done.reports else INPUT_REFUSED)
