"""Readers of layouts that list their files: nnU-Net, Medical Decathlon, MONAI datalists, GaNDLF tables."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gliolens.case import CaseRow
from gliolens.cohorts.layouts.folders import MASK, Cases, Survey, kind_of, shared_start, stem
from gliolens.errors import CohortError
from gliolens.io.tables import read_text_table
from gliolens.labels import ENHANCING, MASK_SCHEMES, NECROTIC, OEDEMA, SERIES, series_in

_LISTS = ("training", "validation", "test", "testing")
_SPLIT = re.compile(r"[_\-. ]+")


def nnunet(survey: Survey) -> list[CaseRow]:
    """nnU-Net raw: `dataset.json`, `imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz`; `imagesTs` has no labels."""
    content = _dataset(survey)
    if content is None or _lists_whole_images(content, survey):
        return []
    channels = _channels(content, survey)
    scheme = _scheme_by_name(content.get("labels", {}))
    cases = Cases()
    for scan in survey.scans:
        place, _, name = scan.partition("/")
        image = re.fullmatch(r"(.+)_(\d{4})", stem(name))
        if place in ("imagesTr", "imagesTs") and image and "/" not in name:
            if (series := channels.get(int(image[2]))) is None:
                raise CohortError(f"{survey.root / scan}: channel {image[2]} is not in dataset.json")
            cases.add(image[1], series, survey.root / scan)
        elif place in ("labelsTr", "labelsTs") and "/" not in name:
            cases.add(stem(name), MASK, survey.root / scan, mask_scheme=scheme)
    return cases.rows()


def msd(survey: Survey) -> list[CaseRow]:
    """Medical Decathlon: `dataset.json` lists 4-D images, whose volumes are addressed as `FILE.nii.gz#K`."""
    content = _dataset(survey)
    if content is None or "modality" not in content or "training" not in content:
        return []
    channels, absent, cases = _channels(content, survey), [], Cases()
    scheme = _scheme_by_name(content.get("labels", {}))
    for entry in (e for name in _LISTS for e in content.get(name, ())):
        image, label = (entry["image"], entry.get("label")) if isinstance(entry, dict) else (entry, None)
        file = _path(survey.root, image)
        if not file.is_file():
            absent.append(file)
            continue
        for number, series in channels.items():
            cases.add(stem(file.name), series, Path(f"{file}#{number}"))
        if label is not None and _path(survey.root, label).is_file():
            told = "msd" if scheme in (None, "nnunet137") else scheme
            cases.add(stem(file.name), MASK, _path(survey.root, label), mask_scheme=told)
    _tell_absent(survey, absent)
    return cases.rows()


def monai(survey: Survey) -> list[CaseRow]:
    """MONAI datalist: a JSON of lists `training`, `validation`, `test` with `image` (or one key a series), `label`."""
    absent: list[Path] = []
    cases: dict[str, CaseRow] = {}
    for manifest in _manifests(survey, ".json"):
        content = _json(manifest)
        if not isinstance(content, dict) or {"modality", "channel_names"} & set(content):
            continue
        entries = [e for name in _LISTS for e in _list(content.get(name))]
        for entry in entries:
            row = _monai_row(entry, manifest, survey.series_order, absent)
            if row and cases.setdefault(row.case, row).files != row.files:
                raise CohortError(f"{manifest}: case {row.case!r} is listed twice, with different files")
    _tell_absent(survey, absent)
    return sorted(cases.values(), key=lambda row: row.case)


def gandlf(survey: Survey) -> list[CaseRow]:
    """GaNDLF table: columns SubjectID, Channel_0 on, Label, ValueToPredict."""
    cases, absent = Cases(), []
    for manifest in _manifests(survey, ".csv"):
        table = read_text_table(manifest)
        names = {str(c).lower(): str(c) for c in table}
        channels = sorted((c for c in names if re.fullmatch(r"channel_\d+", c)), key=lambda c: int(c[8:]))
        if "subjectid" not in names or not channels:
            continue
        if any(c.startswith("valuetopredict") for c in names):
            survey.notes.append(
                f"{manifest.name}: ValueToPredict does not say which target it is; give a clinical table too"
            )
        for cells in table.to_dict("records"):
            files = {c: cells[names[c]].strip() for c in channels}
            paths = [_path(manifest.parent, f) for f in files.values() if f]
            case, label = cells[names["subjectid"]].strip(), cells.get(names.get("label", ""), "").strip()
            told = _series_of(paths, survey.series_order, f"{manifest}: case {case!r}")
            mask = {MASK: _path(manifest.parent, label)} if label else {}
            for kind, file in {**told, **mask}.items():
                if _there(file):
                    cases.add(case, kind, file)
                else:
                    absent.append(file)
    _tell_absent(survey, absent)
    return cases.rows()


# --- JSON ------------------------------------------------------------------------------------------------------


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CohortError(f"{path}: not a readable JSON file ({error})") from error


def _dataset(survey: Survey) -> dict[str, Any] | None:
    path = survey.manifest or survey.root / "dataset.json"
    if path.name != "dataset.json" or not path.is_file():
        return None
    content = _json(path)
    if not isinstance(content, dict) or not {"channel_names", "modality"} & set(content):
        return None
    return content


def _lists_whole_images(content: Mapping[str, Any], survey: Survey) -> bool:
    """Whether the listed images are files as they stand (Decathlon) and not stems of channels (nnU-Net 1)."""
    entries = [e["image"] for e in _list(content.get("training")) if isinstance(e, dict) and "image" in e]
    return any(_path(survey.root, str(image)).is_file() for image in entries)


def _manifests(survey: Survey, suffix: str) -> list[Path]:
    files = [survey.manifest] if survey.manifest else sorted(survey.root.glob(f"*{suffix}"))
    return [f for f in files if f.suffix.lower() == suffix and not f.name.startswith(".")]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _path(folder: Path, name: str) -> Path:
    # Lexical, so that a link to a scan keeps the name that tells its series.
    return Path(os.path.normpath(folder / name))


def _there(file: Path) -> bool:
    return file.is_file() or Path(re.sub(r"#\d+$", "", str(file))).is_file()


def _tell_absent(survey: Survey, absent: Sequence[Path]) -> None:
    if absent:
        survey.notes.append(f"{len(absent)} listed files are not there and were left out, e.g. {absent[0]}")


# --- which channel is which series -----------------------------------------------------------------------------


def _channels(content: Mapping[str, Any], survey: Survey) -> dict[int, str]:
    names = {int(number): str(name) for number, name in _channel_names(content).items()}
    if survey.series_order:
        _check_order(survey.series_order, len(names), str(survey.root / "dataset.json"))
        return dict(zip(sorted(names), survey.series_order, strict=True))
    series = {number: series_in(name) for number, name in names.items()}
    told = {number: s for number, s in series.items() if s}
    if len(told) < len(names) or len(set(told.values())) < len(told):
        raise CohortError(
            f"{survey.root / 'dataset.json'}: channels {list(names.values())} do not name four series apart; "
            f"say which is which with --series-order, e.g. --series-order {' '.join(SERIES)}"
        )
    return told


def _channel_names(content: Mapping[str, Any]) -> Mapping[str, Any]:
    names = content.get("channel_names", content.get("modality"))
    if not isinstance(names, dict):
        raise CohortError(f'dataset.json: channels are {names!r}, expected e.g. {{"0": "FLAIR", "1": "T1w"}}')
    return names


def _check_order(order: Sequence[str], n: int, where: str) -> None:
    if len(order) != n:
        raise CohortError(
            f"{where}: {n} channels, but the series order names {len(order)}: {' '.join(order)}"
        )


def _series_of(paths: Sequence[Path], order: Sequence[str], where: str) -> dict[str, Path]:
    if order and len(paths) == 1 and len(order) > 1:
        return {series: Path(f"{paths[0]}#{number}") for number, series in enumerate(order)}
    if order:
        _check_order(order, len(paths), where)
        return dict(zip(order, paths, strict=True))
    # A channel number says nothing here: only nnU-Net's own folders have a dataset.json beside it.
    words = [re.sub(r"(?<!\d)\d{4}$", "", stem(p.name)) for p in paths]
    told = {s: p for w, p in zip(words, paths, strict=True) if (s := series_in(w))}
    if len(told) < len(paths):
        raise CohortError(
            f"{where}: the file names do not tell the series apart: {', '.join(p.name for p in paths)}; say which "
            f"channel is which with --series-order, e.g. --series-order {' '.join(SERIES)}"
        )
    return told


# --- MONAI -----------------------------------------------------------------------------------------------------


def _monai_row(entry: object, manifest: Path, order: Sequence[str], absent: list[Path]) -> CaseRow | None:
    if not isinstance(entry, dict):
        entry = {"image": entry}
    where = f"{manifest}: entry {json.dumps(entry, ensure_ascii=False)[:200]}"
    images = entry.get("image")
    if images is None:
        told = {s: _path(manifest.parent, _text(v, where)) for k, v in entry.items() if (s := _key(k))}
    else:
        names = images if isinstance(images, list) else [images]
        told = _series_of([_path(manifest.parent, _text(n, where)) for n in names], order, where)
    label = next((entry[k] for k in ("label", "seg", "mask") if entry.get(k)), None)
    if not told:
        return None
    files = {**told, **({} if label is None else {MASK: _path(manifest.parent, _text(label, where))})}
    absent += [f for f in files.values() if not _there(f)]
    cases = Cases()
    case = next((str(entry[k]) for k in ("case", "case_id", "id", "subject_id") if k in entry), None)
    for kind, file in files.items():
        if _there(file):
            cases.add(case or _case_of(list(told.values())), kind, file)
    return next(iter(cases.rows()), None)


def _key(name: str) -> str | None:
    return series_in(name) if kind_of(name) in SERIES else None


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise CohortError(f"{where}: found {type(value).__name__} where the path of a file was expected")
    return value


def _case_of(files: Sequence[Path]) -> str:
    """The words that all of a case's file names begin with, or the folder they lie in."""
    names = [stem(re.sub(r"#\d+$", "", f.name)) for f in files]
    words = [_SPLIT.split(n) for n in names]
    if len(set(names)) == 1:
        common = [w for i, w in enumerate(words[0]) if i == 0 or not series_in(w)]
        common = [] if series_in(words[0][0]) else common
    else:
        common = shared_start(words)
    if not common:
        return files[0].parent.name
    pattern = r"[_\-. ]+".join(re.escape(w) for w in common)
    found = re.match(pattern, names[0])
    return found[0] if found else files[0].parent.name


# --- mask schemes by the names of their labels -----------------------------------------------------------------


def _scheme_by_name(labels: Mapping[str, Any]) -> str | None:
    """The scheme that a dataset.json's names of labels describe, or None where they do not say."""
    meaning = _meaning(labels)
    if meaning is None:
        return None
    if meaning == {1: None}:
        return "binary"
    order = ("nnunet137", "brats2023", "brats2020")
    return next((s for s in order if {0: 0, **meaning} == dict(MASK_SCHEMES[s])), None)


def _meaning(labels: Mapping[str, Any]) -> dict[int, int | None] | None:
    regions: dict[str, set[int]] = {}
    for name, value in labels.items():
        # nnU-Net 1 and the Decathlon write {"1": "edema"}, nnU-Net 2 {"edema": 1} or {"whole tumor": [1, 2, 3]}.
        if name.isdigit():
            name, value = str(value), int(name)
        values = set(value if isinstance(value, list) else [value])
        if values != {0} and name != "ignore":
            regions[_tissue(name)] = values
    whole = regions.pop("whole", None)
    if whole == {1} and not regions:
        return {1: None}
    if whole and set(regions) == {"core", "enhancing"}:
        core, enhancing = regions["core"], regions["enhancing"]
        regions = {"oedema": whole - core, "necrotic": core - enhancing, "enhancing": enhancing}
    if set(regions) != {"oedema", "necrotic", "enhancing"}:
        return None
    inside = {"oedema": OEDEMA, "necrotic": NECROTIC, "enhancing": ENHANCING}
    return {v: inside[tissue] for tissue, values in regions.items() for v in values}


def _tissue(name: str) -> str:
    words = name.lower()
    if re.search(r"o?edema|\bed\b", words):
        return "oedema"
    if re.search(r"necro|non.?enhanc|\bncr|\bnet\b", words):
        return "necrotic"
    if re.search(r"enhanc|\bet\b", words):
        return "enhancing"
    if re.search(r"core|\btc\b", words):
        return "core"
    return "whole" if re.search(r"whole|tumou?r|\bwt\b", words) else words
