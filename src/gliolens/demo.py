"""`gliolens demo`: the main job on a simulated cohort, step by step, ending in a report."""

from dataclasses import asdict
from pathlib import Path

from gliolens.bench import bench
from gliolens.cohorts.audit.check import check_cohort
from gliolens.cohorts.phantom.cohort import write_phantom
from gliolens.cohorts.phantom.traits import PhantomConfig, draw_cohort
from gliolens.cohorts.splits import read_split
from gliolens.errors import ConfigError
from gliolens.infer import predict
from gliolens.io.store import read_json
from gliolens.io.tables import read_cohort
from gliolens.method import find_method
from gliolens.progress import Counter, say
from gliolens.report.terminal import print_scores
from gliolens.train import train

TARGET = "grade"
FEWEST = 24
CONFIG = PhantomConfig(spacing_mm=3.0)


def demo(out: Path, *, n: int = 32, seed: int = 0) -> Path:
    """Simulate a cohort, check it, cross-validate a method beside the controls, train it, and predict one case.

    Args:
        out: where to write.
        n: how many simulated cases.
        seed: of every random choice.

    Returns:
        Path of the report of a case that the method was not trained on.

    Raises:
        ConfigError: too few patients.
    """
    if n < FEWEST:
        raise ConfigError(f"the demo needs {FEWEST} patients or more for its three folds, not {n}")
    say(f"1 of 5: {n} simulated patients with a glioma")
    table = _simulated(out / "cohort", n, seed)
    rows = read_cohort(table)
    say("2 of 5: is this cohort fit for use?")
    say(check_cohort(rows, target=TARGET, progress=Counter("checking cases")).to_text())
    say(f"3 of 5: {TARGET} by shape-resnet and by every control, three folds by patient")
    done = bench(table, out / "bench", target=TARGET, scale="demo", folds=3, seed=seed)
    print_scores(done.table)
    say("4 of 5: a model to use, trained on three quarters of the patients")
    config = find_method("shape-resnet").Config.preset("sound").scaled("demo")
    train("shape-resnet", table, out / "run", target=TARGET, config=config, seed=seed)
    say("5 of 5: a patient it has not seen")
    unseen = read_split(out / "run" / "splits.json", rows).folds[0].test[0]
    row = next(row for row in rows if row.case == unseen)
    note = "This patient is simulated, and so are those the run was trained on: the report shows what GlioLens does."
    return predict([row], out / "predictions", runs=[out / "run"], notes=[note]).reports[unseen]


def _simulated(folder: Path, n: int, seed: int) -> Path:
    """The cohort of an earlier call that was stopped, where it is the one asked for; or a new one."""
    table = folder / "cohort.csv"
    if table.is_file() and _is_asked_for(table, n, seed):
        return table
    return write_phantom(folder, n, seed=seed, config=CONFIG, progress=Counter("simulating"))


def _is_asked_for(table: Path, n: int, seed: int) -> bool:
    """Whether a cohort has these settings, in `truth.json`, and these patients: a former simulator drew others."""
    truth = table.with_name("truth.json")
    if not truth.is_file() or read_json(truth).get("settings") != asdict(CONFIG):
        return False
    drawn = [(t.case, t.age, t.sex, t.site, t.targets) for t in draw_cohort(n, seed, CONFIG)]
    return drawn == [(row.case, row.age, row.sex, row.site, row.targets) for row in read_cohort(table)]
