"""`gliolens predict`: scans to labels, measures, probabilities, maps and a report."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from gliolens.about import software
from gliolens.case import Case, CaseRow, Volume
from gliolens.cohorts.layouts.registry import read_case_folder
from gliolens.errors import CaseError, ConfigError
from gliolens.io.nifti import write_volume
from gliolens.io.store import file_hash, read_json, whole_folder, write_json
from gliolens.io.tables import read_cohort
from gliolens.labels import LABEL_TITLES, NECROTIC, NOTICE, OEDEMA, REGIONS, SERIES
from gliolens.loader import read_case
from gliolens.method import Model, find_method
from gliolens.progress import Counter, say
from gliolens.radiomics.shape import FEATURES, UNITS, shape_features
from gliolens.report.page import VOLUME_TITLES, Answer, Measured, Score, write_case_report
from gliolens.stats.intervals import Interval
from gliolens.train import read_run

WRITTEN: Final = frozenset({"labels.nii.gz", "prediction.json", "report.html", "heatmaps"})
"""What `predict` writes for a case."""


@dataclass(frozen=True)
class TrainedRun:
    """A run that answers one target."""

    folder: Path
    about: Mapping[str, Any]
    scores: Sequence[Mapping[str, Any]]
    model: Model

    @property
    def target(self) -> str:
        """What it tells."""
        return str(self.about["settings"]["target"])

    @property
    def seen(self) -> set[str]:
        """Every name of the patients it was trained on."""
        return {*self.about["train_patients"], *self.about["train_cases"], *self.about["train_aliases"]}


@dataclass(frozen=True)
class Predicted:
    """What `predict` came to: the report of each case, and why each other case failed."""

    reports: Mapping[str, Path]
    failures: Mapping[str, CaseError]


def predict(
    rows: Sequence[CaseRow], out: Path, *, runs: Sequence[Path] = (), notes: Sequence[str] = ()
) -> Predicted:
    """Answer cases and write `OUT/CASE/` for each: labels, `prediction.json`, `report.html`, `heatmaps/`.

    A case that fails leaves nothing behind and does not stop the others, beside which `OUT/failures.json` lists it.

    Args:
        rows: the cases; `rows_of` makes them from folders, tables or single files.
        out: where to write.
        runs: folders of trained runs, one a target. With none, the tumour is measured and nothing is predicted.
        notes: sentences that every report shows.

    Raises:
        ConfigError: two runs answer one target, or two cases share an id.
        ModelError, CohortError: a run cannot be used.
    """
    trained = [_read_trained(folder) for folder in runs]
    for names, what in (
        ([t.target for t in trained], "runs answer"),
        ([r.case for r in rows], "cases are called"),
    ):
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ConfigError(f"two {what} {', '.join(twice)}")
    tick, reports, failures = Counter("reading cases"), {}, {}
    for i, row in enumerate(rows):
        try:
            reports[row.case] = _predict_case(row, out, trained, notes)
        except CaseError as error:
            failures[row.case] = error
        tick(i + 1, len(rows))
    if failures and reports:
        write_json(out / "failures.json", {case: str(error) for case, error in failures.items()})
    return Predicted(reports, failures)


def named_rows(
    paths: Sequence[Path], files: Mapping[str, Path | None], mask_scheme: str | None, name: str | None
) -> tuple[CaseRow, ...]:
    """Cases from folders (one case each), cohort tables, or single files.

    Args:
        paths: folders and tables.
        files: files the user named: series, `mask`, `brain_mask`; they go before what a folder holds.
        mask_scheme: what the numbers in the masks mean, from `labels.MASK_SCHEMES`.
        name: the id of a single case.

    Raises:
        ConfigError: nothing to read, or files named beside several cases.
    """
    given = {kind: file for kind, file in files.items() if file is not None}
    rows = [row for path in paths for row in _rows_in(path)]
    if not rows and given:
        case = name or next(iter(given.values())).resolve().parent.name
        rows = [CaseRow(case, case)]
    if not rows:
        raise ConfigError("no case: name a folder, a cohort table, or files with --t1, --t1ce, --t2, --flair")
    if len(rows) > 1 and (given or name):
        raise ConfigError(f"{len(rows)} cases, but files or an id for one; call predict once for each")
    series = {kind: file for kind, file in given.items() if kind in SERIES}
    masks: dict[str, Any] = {kind: file for kind, file in given.items() if kind not in SERIES}
    if name:
        masks |= {"case": name, "patient": name}
    return tuple(
        replace(row, files={**row.files, **series}, mask_scheme=mask_scheme or row.mask_scheme, **masks)
        for row in rows
    )


def _rows_in(path: Path) -> Sequence[CaseRow]:
    if path.is_file() and path.suffix == ".csv":
        return read_cohort(path)
    row, notes = read_case_folder(path)
    for note in notes:
        say(f"{row.case}: {note}")
    return [row]


def _read_trained(folder: Path) -> TrainedRun:
    about = read_run(folder)
    settings = about["settings"]
    model = find_method(settings["method"]).load(folder / "model")
    return TrainedRun(folder, about, read_json(folder / "metrics.json")["scores"], model)


def _predict_case(row: CaseRow, out: Path, trained: Sequence[TrainedRun], notes: Sequence[str]) -> Path:
    _check_name(row)
    case = read_case(row, need_mask=True)
    answers = [_answer(case, row, run) for run in trained]
    for caution in dict.fromkeys(c for a in answers for c in a.cautions):
        say(f"{row.case}: {caution}")
    measured = measure(case)
    folder = out / row.case
    _check_place(row, folder)
    with whole_folder(folder) as unfinished:
        _write_case(unfinished, case, measured, answers, _provenance(row, trained), notes)
    return folder / "report.html"


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


def _answer(case: Case, row: CaseRow, run: TrainedRun) -> Answer:
    missing = [s for s in run.about["series"] if s not in case.series]
    if missing:
        raise CaseError(
            case.id,
            found=f"series {', '.join(case.series)}",
            expected=f"{', '.join(missing)} too: the run {run.folder.name} was trained with it",
            fix="add the file, or name a run trained without that series",
        )
    learnt, others = len(run.about["train_cases"]), run.scores[0]["n"]
    prediction = run.model.predict(case)
    prediction = replace(prediction, heatmaps=run.model.explain(case))
    return Answer(
        target=run.target,
        prediction=prediction,
        trained_on=f"{learnt} cases of {run.about['cohort']}, scored on {others} others",
        scores=[_score(s) for s in run.scores],
        cautions=_cautions(row, run),
    )


def _score(plain: Mapping[str, Any]) -> Score:
    def number(key: str) -> float:
        return float("nan") if plain.get(key) is None else float(plain[key])

    auc = Interval(number("auc"), number("auc_low"), number("auc_high"), plain.get("auc_reason", ""))
    return Score(str(plain["method"]), auc, bool(plain["control"]))


def _cautions(row: CaseRow, run: TrainedRun) -> list[str]:
    out = []
    if known := _trained_on(row, run):
        out.append(
            f"This patient was in the training set ({known}): the answer is a memory, not a prediction."
        )
    elif known := _named_in_files(row, run):
        out.append(
            f"Files are named {known}, as a patient of the training set: if so, the answer is a memory."
        )
    schemes = run.about["label_schemes"]
    if len(schemes) > 1 and run.target in ("grade", "who_grade"):
        out.append(f"The training labels mix {', '.join(schemes)}.")
    mine = next(s for s in run.scores if not s["control"])["auc"]
    better = [
        s["method"] for s in run.scores if s["control"] and None not in (s["auc"], mine) and s["auc"] >= mine
    ]
    if better:
        out.append(f"On the patients held out, it did no better than {', '.join(better)} alone.")
    return out


def _trained_on(row: CaseRow, run: TrainedRun) -> str | None:
    """The name by which this patient was trained on, if he was."""
    return next((name for name in (row.case, row.patient, *row.aliases) if name in run.seen), None)


def _named_in_files(row: CaseRow, run: TrainedRun) -> str | None:
    """The name of a trained patient with which a file's name begins; numbers alone name no one."""
    told = (n for n in sorted(run.seen, key=len, reverse=True) if not n.isdigit())
    starts = [file.name for file in row.files.values()]
    return next(
        (n for n in told if any(re.match(rf"{re.escape(n)}(?![0-9A-Za-z])", s) for s in starts)), None
    )


def measure(case: Case) -> Measured:
    """Volumes in ml of regions and labels, and the 14 shape features of the whole tumour."""
    masks: dict[str, Any] = {name: case.region(name) for name in REGIONS}
    known = case.tumour is not None and masks["core"] is not None
    masks |= {"necrotic": case.tumour == NECROTIC, "oedema": case.tumour == OEDEMA} if known else {}
    volumes = {
        name: float(np.count_nonzero(mask) * case.grid.voxel_ml)
        if (mask := masks.get(name)) is not None
        else None
        for name in VOLUME_TITLES
    }
    reasons = {name: "the mask tells the whole tumour only" for name, v in volumes.items() if v is None}
    whole = masks["whole"]
    if whole is None or not whole.any():
        return Measured(volumes, reasons | dict.fromkeys(FEATURES, "the mask holds no tumour"), {}, UNITS)
    shape = shape_features(whole, case.grid.spacing)
    undefined = {f: "not defined for so small a mask" for f, v in shape.items() if not np.isfinite(v)}
    return Measured(volumes, reasons | undefined, shape, UNITS)


def _provenance(row: CaseRow, trained: Sequence[TrainedRun]) -> dict[str, str]:
    files = {**row.files, **{k: f for k, f in (("mask", row.mask), ("brain mask", row.brain_mask)) if f}}
    out = {k: f"{f.name} (sha256 {file_hash(f)[:16]}...)" for k, f in files.items() if f.is_file()}
    for run in trained:
        settings = run.about["settings"]
        out[f"run for {run.target}"] = (
            f"{run.folder.name}: {settings['method']}, finished {run.about['finished']}"
        )
    out["read"] = datetime.now(UTC).isoformat(timespec="seconds")
    return out | software()


def _write_case(
    folder: Path,
    case: Case,
    measured: Measured,
    answers: Sequence[Answer],
    provenance: Mapping[str, str],
    notes: Sequence[str],
) -> None:
    if case.tumour is not None:
        write_volume(folder / "labels.nii.gz", Volume(case.tumour, case.grid.affine), case.source)
    for answer in answers:
        for name, heat in answer.prediction.heatmaps.items():
            write_volume(folder / "heatmaps" / f"{name}.nii.gz", heat, case.source)
    write_json(folder / "prediction.json", _as_json(case, measured, answers, provenance))
    write_case_report(folder / "report.html", case, measured, answers, provenance, notes)


def _as_json(
    case: Case, measured: Measured, answers: Sequence[Answer], provenance: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "notice": NOTICE,
        "case": case.id,
        "labels": {
            "file": "labels.nii.gz",
            "values": {"0": "background", **{str(k): v for k, v in LABEL_TITLES.items()}},
            "source": f"the mask that was given ({case.mask_scheme})",
        },
        "volumes_ml": measured.volumes_ml,
        "shape_whole_tumour": measured.shape,
        "not_known": measured.reasons,
        "predictions": [_answer_as_json(answer) for answer in answers],
        "provenance": provenance,
        "history": case.history,
    }


def _answer_as_json(answer: Answer) -> dict[str, Any]:
    told = answer.prediction
    scores = [
        {"name": s.name, "control": s.is_control, "auc": [s.auc.value, s.auc.low, s.auc.high]}
        for s in answer.scores
    ]
    return {
        "method": told.method,
        "probabilities": told.probabilities,
        "decisions": told.decisions,
        "cautions": list(answer.cautions),
        "trained_on": answer.trained_on,
        "auc_on_patients_held_out": scores,
        "evidence": told.evidence,
        "heatmaps": {name: f"heatmaps/{name}.nii.gz" for name in told.heatmaps},
    }
