"""`gliolens cohort ...`: the flags of each verb; the work is done in `gliolens.cohorts`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from gliolens.commands.flags import INPUT_REFUSED, SOME_FAILED, MaskScheme, Out, Target, as_json
from gliolens.labels import SERIES


def index(
    source: Positional[Path | None] = None,
    *,
    out: Out = Path("cohort.csv"),
    labels: Path | None = None,
    layout: str | None = None,
    pattern: str | None = None,
    series_order: tuple[str, ...] = (),
    mask_scheme: MaskScheme | None = None,
    label_scheme: Literal["brats_lgg_hgg", "who2016", "who2021"] | None = None,
    hgg: tuple[Literal["2", "3", "4"], ...] = (),
) -> int:
    """Index a folder of scans, join it with a clinical table, and write the cohort table.

    Args:
        source: folder of scans, or a manifest (datalist, CSV). Without it the clinical table alone is read.
        out: the cohort table to write.
        labels: clinical table (CSV or TSV) with age, sex, grade, IDH, 1p/19q, survival.
        layout: name of the layout; told from the files where not given.
        pattern: any other layout, such as '{site}/{case}/{case}_{series}.nii.gz'.
        series_order: series of unnamed channels, in order.
        mask_scheme: what the numbers in the masks mean; told from all masks together where not given.
        label_scheme: which of several grade columns to take.
        hgg: WHO grades that count as HGG, such as 3 4, the others as LGG, to fill grade where only who_grade is known.
    """
    from gliolens.cohorts.index import index
    from gliolens.progress import Counter

    made = index(
        source, out, labels=labels, layout=layout, pattern=pattern, series_order=series_order,
        mask_scheme=mask_scheme, label_scheme=label_scheme, hgg=hgg, tick=Counter("reading masks"),
    )  # fmt: skip
    print(made.to_text())
    return 0


def check(
    cohort: Positional[Path],
    *,
    target: Target | None = None,
    deep: bool = False,
    against: Path | None = None,
    encoder: str | None = "built-in",
    weights: Path | None = None,
    json: bool = False,
) -> int:
    """Read every case; say which are ok, fixable or refused, and what is suspicious about the cohort.

    Args:
        cohort: the cohort table.
        target: look for confounding of this target alone.
        deep: also ask whether two cases are one patient by their scans, whether the scans tell the site, which
            releases share patients, and which grades change from WHO 2016 to WHO 2021.
        against: with --deep, the table of another cohort, to find whose patients are in both.
        encoder: with --deep, whose embeddings are asked for the site (those of volume-embedding); none to leave it.
        weights: file or folder of the encoder's weights, where it needs one.
        json: print JSON.
    """
    from gliolens.cohorts.audit.check import check_cohort
    from gliolens.io.tables import read_cohort
    from gliolens.progress import Counter

    report = check_cohort(
        read_cohort(cohort), target=target, deep=deep, against=read_cohort(against) if against else (), jobs=-1,
        embed=_embed(encoder, weights) if deep and encoder else None,
        progress=Counter("checking cases"), comparing=Counter("comparing pairs"),
    )  # fmt: skip
    print(as_json(report.to_json()) if json else report.to_text())
    return (
        INPUT_REFUSED
        if all(v.verdict == "refused" for v in report.verdicts)
        else _some_refused(report.verdicts)
    )


def _embed(encoder: str, weights: Path | None) -> Any:
    from gliolens.embedding import means_of
    from gliolens.encoders.catalogue import find_encoder
    from gliolens.progress import Counter

    found = find_encoder(encoder, weights, offline=True)
    return lambda rows: means_of(rows, found, Counter("encoding cases"))


def _some_refused(verdicts: Sequence[Any]) -> int:
    return SOME_FAILED if any(v.verdict == "refused" for v in verdicts) else 0


def split(
    cohort: Positional[Path],
    *,
    target: Target,
    out: Out = Path("splits.json"),
    kind: Literal["kfold", "holdout", "leave-one-site-out"] = "kfold",
    folds: int = 5,
    repeats: int = 1,
    test: float = 0.25,
    seed: int = 0,
) -> int:
    """Divide a cohort by patient, stratified by the target; no patient is ever on both sides.

    Args:
        cohort: the cohort table.
        target: stratify by this; cases without it are left out.
        out: the split to write.
        kind: how to divide.
        folds: of a k-fold split.
        repeats: of a k-fold split.
        test: share held out by a hold-out split.
        seed: of the draw.
    """
    from gliolens.cohorts.splits import holdout, kfold, leave_one_site_out, write_split
    from gliolens.io.store import refuse_to_replace
    from gliolens.io.tables import read_cohort

    refuse_to_replace(out)
    rows = read_cohort(cohort)
    if kind == "kfold":
        made = kfold(rows, target, folds=folds, repeats=repeats, seed=seed)
    elif kind == "holdout":
        made = holdout(rows, target, test=test, seed=seed)
    else:
        made = leave_one_site_out(rows, target)
    write_split(out, made)
    sizes = "; ".join(f"{len(f.train)} train, {len(f.test)} test" for f in made.folds)
    print(
        f"{out}: {len(made.folds)} folds ({sizes}), {len(made.left_out)} cases without {target}, {made.hash[:12]}"
    )
    return 0


def export(
    cohort: Positional[Path],
    *,
    out: Out,
    format: Literal["nnunet", "monai"] = "nnunet",
    split: Path | None = None,
    dataset_id: int = 501,
) -> int:
    """Write the cohort for another tool, with the same split.

    Args:
        cohort: the cohort table.
        out: folder (nnunet) or JSON file (monai) to write.
        format: for whom.
        split: a stored split; nnU-Net reads it as splits_final.json.
        dataset_id: number of the nnU-Net data set.
    """
    from gliolens.cohorts.export import export_monai, export_nnunet, shared_series
    from gliolens.cohorts.splits import read_split
    from gliolens.io.tables import read_cohort
    from gliolens.progress import Counter

    rows = read_cohort(cohort)
    division = read_split(split, rows) if split else None
    series = shared_series(rows)
    print(f"{len(rows)} cases with {', '.join(series)}: the series that all of them have")
    for name in [s for s in SERIES if s not in series and any(s in row.files for row in rows)]:
        without = [row.case for row in rows if name not in row.files]
        print(
            f"left out: {name}, which {len(without)} cases lack ({', '.join(without[:5])}); take them out to keep it"
        )
    if format == "nnunet":
        print(export_nnunet(rows, out, split=division, dataset_id=dataset_id, progress=Counter("exporting")))
    else:
        print(export_monai(rows, out, split=division))
    return 0


def strip(cohort: Positional[Path], *, out: Out, tool: Literal["bet", "mri_synthstrip"] | None = None) -> int:
    """Make a brain mask of every case that has none, by a tool of yours, and write OUT/cohort.csv that names them.

    Args:
        cohort: the cohort table.
        out: folder to write; masks that lie there already are kept.
        tool: FSL's BET or FreeSurfer's SynthStrip; the first found on PATH where not given.
    """
    from gliolens.cohorts.skull_strip import strip_skulls
    from gliolens.io.tables import read_cohort
    from gliolens.progress import Counter

    rows = read_cohort(cohort)
    done = strip_skulls(rows, out, tool=tool, tick=Counter("stripping skulls"))
    print(
        f"{done.table}: {len(rows) - len(done.failures)} of {len(rows)} cases, {done.masks} masks by the tool"
    )
    return SOME_FAILED if done.failures else 0


def phantom(
    *,
    out: Out,
    n: Annotated[int, arg(aliases=["-n"])] = 24,
    seed: int = 0,
    spacing_mm: float = 2.0,
    healthy: float = 0.0,
    sites: int = 3,
    site_confounding: float = 0.0,
    prefix: str = "SIM",
) -> int:
    """Write simulated scans on the MNI152 anatomy, OUT/cohort.csv, and what is true of them.

    OUT/truth.csv has every class, every finding and what the best possible method would answer, a row a case;
    OUT/truth.json the settings and the ceiling, the AUC no method can be expected to pass. Methods must not see either.

    Args:
        out: folder to write.
        n: how many cases.
        seed: the same seed gives the same cohort.
        spacing_mm: voxel size in millimetres.
        healthy: share of healthy cases.
        sites: how many sites.
        site_confounding: 0, site tells nothing of the grade; 1, it tells all.
        prefix: before the number in a case's name; two cohorts that are used together need different ones.
    """
    from gliolens.cohorts.phantom.cohort import write_phantom
    from gliolens.cohorts.phantom.traits import PhantomConfig
    from gliolens.io.store import read_json, refuse_to_replace
    from gliolens.progress import Counter, say

    refuse_to_replace(out / "cohort.csv")
    config = PhantomConfig(
        spacing_mm=spacing_mm, healthy=healthy, sites=sites, site_confounding=site_confounding, prefix=prefix
    )
    print(write_phantom(out, n, seed=seed, config=config, progress=Counter("simulating")))
    for target, expected in read_json(out / "truth.json")["expected_auc"].items():
        aucs = ", ".join(f"{name} {'not known' if a is None else f'{a:.2f}'}" for name, a in expected.items())
        say(f"expected AUC for {target}: {aucs}")
    return 0
