"""`gliolens predict`: scans to labels, measures, probabilities, maps and a report."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from gliolens.about import software
from gliolens.answers import BUILT_IN, Answered, Answers, read_answers
from gliolens.case import Case, CaseRow, Volume
from gliolens.errors import CaseError, ConfigError
from gliolens.io.nifti import write_volume
from gliolens.io.store import file_hash, whole_folder, write_json
from gliolens.labels import NECROTIC, OEDEMA, REGIONS
from gliolens.loader import read_case
from gliolens.outline import Outliner, read_outliner
from gliolens.progress import Counter, say
from gliolens.radiomics.shape import FEATURES, UNITS, shape_features
from gliolens.report.built_in import Drawn
from gliolens.report.case_page import VOLUME_TITLES, Answer, Measured, write_case_report
from gliolens.report.record import record
from gliolens.runs import NOTHING, TrainedRun, answers_of, read_trained
from gliolens.stats.doubt import doubts
from gliolens.stats.segmentation import dice_by_region

WRITTEN: Final = frozenset(
    {"labels.nii.gz", "prediction.json", "report.html", "heatmaps", "outlines", "probabilities"}
)
"""What `predict` writes for a case."""


@dataclass(frozen=True)
class Readers:
    """All that reads a case.

    Attributes:
        trained: runs, one a target.
        answers: the built-in predictors.
        outliner: the network that draws outlines, where a case needs one.
        by: what the report calls that network.
        redraw: whether it draws cases that have a mask too.
    """

    trained: Sequence[TrainedRun]
    answers: Answers
    outliner: Outliner | None
    by: str
    redraw: bool = False


@dataclass(frozen=True)
class Predicted:
    """What `predict` came to: the report of each case, and why each other case failed."""

    reports: Mapping[str, Path]
    failures: Mapping[str, CaseError]


def predict(
    rows: Sequence[CaseRow],
    out: Path,
    *,
    runs: Sequence[Path] = (),
    outline: Path | None = None,
    redraw: bool = False,
    notes: Sequence[str] = (),
    prevalence: Mapping[str, Mapping[str, float]] = NOTHING,
) -> Predicted:
    """Answer cases and write `OUT/CASE/` for each.

    There are `labels.nii.gz`, `prediction.json`, `report.html`, the `heatmaps/` of runs, the `outlines/` of runs
    whose method draws them, and the `probabilities/` of an outline that the network drew (per cent). A case that fails
    leaves nothing behind and does not stop the others; of several, `OUT/failures.json` lists those that failed, and is
    gone where none did.

    Args:
        rows: the cases; `cohorts.named.named_rows` makes them from folders, tables or single files. Where a case has
            a mask, it is used; elsewhere a network draws the outline.
        out: where to write.
        runs: folders of trained runs, one a target. The built-in predictors answer the targets that no run does.
        outline: folder of the network that draws outlines; the built-in one where not given.
        redraw: draw cases that have a mask too, and say how well the two agree.
        notes: sentences that every report shows.
        prevalence: by target, the share of each class where the cases come from, for the targets of runs.

    Raises:
        ConfigError: a prevalence of a target that no run tells; two runs answer one target, or two cases share an id.
        ModelError, CohortError: a run, the outline network or the built-in predictors cannot be used.
    """
    needed = redraw or any(row.mask is None for row in rows)
    readers = _readers(rows, runs, outline, needed, redraw, prevalence)
    if outline is not None and not needed:
        say("every case has a mask, which is used: --outline is not used without --redraw")
    (out / "failures.json").unlink(missing_ok=True)  # of an earlier call
    tick, reports, failures = Counter("reading cases"), {}, {}
    for i, row in enumerate(rows):
        try:
            reports[row.case] = _predict_case(row, out, readers, notes)
        except CaseError as error:
            failures[row.case] = error
        tick(i + 1, len(rows))
    if failures and len(rows) > 1:
        write_json(out / "failures.json", {case: str(error) for case, error in failures.items()})
    return Predicted(reports, failures)


def _readers(
    rows: Sequence[CaseRow], runs: Sequence[Path], outline: Path | None, needed: bool, redraw: bool,
    prevalence: Mapping[str, Mapping[str, float]],
) -> Readers:  # fmt: skip
    trained = [read_trained(folder, prevalence) for folder in runs]
    if unasked := sorted(set(prevalence) - {t.target for t in trained}):
        raise ConfigError(
            f"prevalence of {', '.join(unasked)}, which no run given with --run tells: the built-in answers hold the "
            "class shares of the patients they were learnt from"
        )
    for names, what in (
        ([t.target for t in trained], "runs answer"),
        ([r.case for r in rows], "cases are called"),
    ):
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ConfigError(f"two {what} {', '.join(twice)}")
    return Readers(
        trained, read_answers(), read_outliner(outline) if needed else None, _named(outline), redraw
    )


def _named(outline: Path | None) -> str:
    return "the built-in network" if outline is None else f"the network in {outline.resolve().name}"


def _predict_case(row: CaseRow, out: Path, readers: Readers, notes: Sequence[str]) -> Path:
    _check_name(row)
    folder = out / row.case
    _check_place(row, folder)
    say(f"{row.case}: reading the files")
    case, drawn = read_case(row), None
    if case.tumour is None or readers.redraw:
        say(f"{row.case}: drawing the outline with {readers.by}")
        case, drawn = _draw(case, readers)
    found = drawn is None or drawn.found
    asked = [run for run in readers.trained if found or not run.needs_tumour]
    told = [_not_asked(run) for run in readers.trained if run not in asked]
    settled = {run.target for run in asked}
    answers = [a for run in asked for a in answers_of(case, row, run, drawn, settled)]
    for caution in dict.fromkeys([*told, *(c for a in answers for c in a.cautions)]):
        say(f"{row.case}: {caution}")
    measured = measure(case, {} if drawn is None else drawn.guesses)
    built_in = _built_in(case, measured, readers.answers, {a.target for a in answers}, drawn)
    say(f"{row.case}: writing labels and report")
    provenance = _provenance(row, asked, drawn)
    with whole_folder(folder) as unfinished:
        _write_volumes(unfinished, case, answers, drawn)
        content = record(case, measured, answers, provenance, built_in=built_in, drawn=drawn)
        write_json(unfinished / "prediction.json", content)
        write_case_report(
            unfinished / "report.html", case, measured, answers, provenance, [*notes, *told],
            built_in=built_in, drawn=drawn,
        )  # fmt: skip
    return folder / "report.html"


def _draw(case: Case, readers: Readers) -> tuple[Case, Drawn]:
    """The case with the outline a network draws, and what is to be said of it."""
    if readers.outliner is None:
        raise RuntimeError("a case without a mask, and no network to draw one")
    outline = readers.outliner.outline(case)
    sure = doubts(outline.labels, outline.probabilities, case.grid.voxel_ml)
    agreed = (
        {} if case.tumour is None else dice_by_region(case.tumour, outline.labels, scheme=case.mask_scheme)
    )
    drawn = Drawn(
        readers.by, readers.outliner.card, outline.missing, outline.probabilities, sure,
        readers.outliner.precision, float(outline.brain.sum() * case.grid.voxel_ml), agreed,
    )  # fmt: skip
    done = f"outline drawn by {readers.by} from {', '.join(case.series)}"
    lacking = [f"without {', '.join(outline.missing)}, which it was trained with"] if outline.missing else []
    history = (*case.history, "; ".join([done, *lacking]))
    return replace(case, tumour=outline.labels, mask_scheme="gliolens", history=history), drawn


def _not_asked(run: TrainedRun) -> str:
    return f"The run {run.folder.name} ({run.target}) was not asked: no tumour was found."


def _built_in(
    case: Case, measured: Measured, answers: Answers, answered: Collection[str], drawn: Drawn | None
) -> Sequence[Answered]:
    """The built-in answers to the targets that no run answered."""
    age = case.covariates.get("age")
    try:
        told = answers.answer(measured.known, None if age is None else float(age), measured.reasons)
    except ConfigError as error:  # one strange case must not stop the others
        raise CaseError(
            case.id,
            found=str(error),
            expected="an age of 0 or more, and an outline that can be measured",
            fix="correct the age, or the outline",
        ) from error
    outline = () if drawn is None else (drawn.beside_built_in,)
    return [
        replace(a, cautions=(*a.cautions, *(outline if a.probabilities else ())))
        for a in told
        if a.target not in answered
    ]


def _check_name(row: CaseRow) -> None:
    if row.case in ("", ".", "..") or any(c in row.case for c in "/\\\0"):
        raise CaseError(
            row.case,
            found="an id that cannot name a folder",
            expected="an id without / and \\",
            fix="give the case another id with --id, or in the cohort table's column case",
        )


def _check_place(row: CaseRow, folder: Path) -> None:
    """Refuse to write where something lies that an earlier prediction did not write: it may be the scans."""
    strange = sorted({f.name for f in folder.iterdir()} - WRITTEN) if folder.is_dir() else []
    if strange:
        raise CaseError(
            row.case,
            file=folder,
            found=f"a folder that holds {', '.join(strange[:3])}",
            expected="a new folder, or one of an earlier prediction: what is in it is replaced",
            fix="write somewhere else with -o",
        )


def measure(case: Case, guesses: Mapping[str, str] = MappingProxyType({})) -> Measured:
    """Volumes in ml of regions and labels, and the 14 shape features of the whole tumour.

    Args:
        case: the case with its labels.
        guesses: volumes that these labels cannot tell, and why. They are not known, nor is the shape of a whole
            tumour that is a guess.
    """
    masks: dict[str, Any] = {name: case.region(name) for name in REGIONS}
    known = case.tumour is not None and masks["core"] is not None
    masks |= {"necrotic": case.tumour == NECROTIC, "oedema": case.tumour == OEDEMA} if known else {}
    volumes = {
        name: float(np.count_nonzero(mask) * case.grid.voxel_ml)
        if (mask := masks.get(name)) is not None and name not in guesses
        else None
        for name in VOLUME_TITLES
    }
    only = "the mask tells the whole tumour only"
    reasons = {name: guesses.get(name, only) for name, v in volumes.items() if v is None}
    whole = masks["whole"]
    if "whole" in guesses:
        unknown = dict.fromkeys(FEATURES, float("nan"))
        return Measured(volumes, reasons | dict.fromkeys(FEATURES, guesses["whole"]), unknown, UNITS)
    if whole is None or not whole.any():
        return Measured(
            volumes, reasons | dict.fromkeys(FEATURES, "there is no tumour in the outline"), {}, UNITS
        )
    shape = shape_features(whole, case.grid.spacing)
    undefined = {f: "not defined for so small a mask" for f, v in shape.items() if not np.isfinite(v)}
    return Measured(volumes, reasons | undefined, shape, UNITS)


def _provenance(row: CaseRow, trained: Sequence[TrainedRun], drawn: Drawn | None) -> dict[str, str]:
    files = {**row.files, **{k: f for k, f in (("mask", row.mask), ("brain mask", row.brain_mask)) if f}}
    out = {k: f"{f.name} (sha256 {file_hash(f)[:16]}...)" for k, f in files.items() if f.is_file()}
    for run in trained:
        settings = run.about["settings"]
        out[f"run for {run.target}"] = (
            f"{run.folder.name}: {settings['method']}, finished {run.about['finished']}"
        )
    if drawn is not None:
        out["outline"] = f"{drawn.by} (sha256 {drawn.card['sha256'][:16]}...), computed in {drawn.precision}"
    out["built-in answers"] = f"{BUILT_IN.name} (sha256 {file_hash(BUILT_IN)[:16]}...)"
    out["read"] = datetime.now(UTC).isoformat(timespec="seconds")
    return out | software()


def _write_volumes(folder: Path, case: Case, answers: Sequence[Answer], drawn: Drawn | None) -> None:
    if case.tumour is not None:
        write_volume(folder / "labels.nii.gz", Volume(case.tumour, case.grid.affine), case.source)
    for name, share in ({} if drawn is None else drawn.probabilities).items():
        percent = Volume(np.rint(100 * share).astype(np.uint8), case.grid.affine)
        write_volume(folder / "probabilities" / f"{name}.nii.gz", percent, case.source)
    for answer in answers:
        if answer.prediction.labels is not None:
            write_volume(
                folder / "outlines" / f"{answer.target}.nii.gz", answer.prediction.labels, case.source
            )
        for name, heat in answer.prediction.heatmaps.items():
            write_volume(folder / "heatmaps" / f"{name}.nii.gz", heat, case.source)
