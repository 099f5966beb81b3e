"""`gliolens report`: a model card, and CLAIM 2024 and TRIPOD+AI as far as a run's files can answer them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gliolens.cohorts.phantom.ceiling import EXPLANATION
from gliolens.fidelity import fidelity_of
from gliolens.io.store import refuse_to_replace, write_text
from gliolens.labels import REGION_TITLES, TARGET_TITLES
from gliolens.outline_scores import TITLES
from gliolens.protocol import SCORES
from gliolens.report.curves import read_curves
from gliolens.report.pictures import picture
from gliolens.report.run.about_cohort import cohort_of, elsewhere, is_simulated, shuffled, simulated_source
from gliolens.report.run.about_model import except_as_set, fidelity, methods
from gliolens.report.run.about_scores import interval_of, score_rows
from gliolens.report.run.checklist import Checklist, Entry, as_csv, counts, fill, read_checklist
from gliolens.report.run.files import METRICS, NotKnownError, RunFiles, read_run_files
from gliolens.report.run.markdown import ShownTable, by_section, card_markdown, checklist_markdown
from gliolens.report.words import in_words, render
from gliolens.stats.classification import SCORE_TITLES

CHECKLISTS: Final = ("claim_2024", "tripod_ai")
"""Files beside this module, in the order of the page."""


@dataclass(frozen=True)
class Filled:
    """A checklist and its entries.

    Attributes:
        list: what is asked.
        entries: as filled in.
    """

    list: Checklist
    entries: Sequence[Entry]

    @property
    def counts(self) -> str:
        """How many items have each status, in words."""
        told = ", ".join(f"{n} {status}" for status, n in counts(self.entries).items())
        return f"{len(self.entries)} items: {told}"

    @property
    def sections(self) -> Sequence[tuple[str, Sequence[Entry]]]:
        """Entries by section."""
        return by_section(self.entries)


@dataclass(frozen=True)
class RunReport:
    """What was written of a run.

    Attributes:
        folder: where.
        checklists: CLAIM 2024 and TRIPOD+AI, filled in.
    """

    folder: Path
    checklists: Sequence[Filled]


def write_run_report(run: Path, out: Path | None = None) -> RunReport:
    """Write what a run's files know of the questions that journals ask; what they do not know is marked open.

    Model card after Mitchell et al. 2019 (doi 10.1145/3287560.3287596), CLAIM 2024 (Tejani et al., doi
    10.1148/ryai.240300), TRIPOD+AI (Collins et al. 2024, doi 10.1136/bmj-2023-078378).

    Args:
        run: folder of a run of `train` or `bench`.
        out: `model_card.md`, `report.html`, and `claim-2024` and `tripod-ai` as `.csv` and `.md`; RUN/report where not
            given. What the authors have filled in there is not replaced.

    Raises:
        ModelError: the folder holds no finished run.
        ConfigError: a file is there already that says something else.
        LeakError: the files tell of a patient on both sides of a fold.
    """
    files = read_run_files(run)
    out = out or run / "report"
    card, *checklists = (_filled(name, files) for name in ("model_card", *CHECKLISTS))
    texts = _texts(files, card, checklists)
    for name, text in texts.items():
        refuse_to_replace(out / name, text)
    for name, text in texts.items():
        write_text(out / name, text)
    return RunReport(out, checklists)


def _filled(name: str, run: RunFiles) -> Filled:
    asked = read_checklist(name)
    return Filled(asked, fill(asked, run))


def _texts(run: RunFiles, card: Filled, checklists: Sequence[Filled]) -> dict[str, str]:
    """What goes into each file."""
    title, notices, tables = f"Report of a run: {_subject(run)}", _notices(run), _tables(run)
    page = render(
        "run.html",
        title=title,
        notices=notices,
        card=card,
        checklists=checklists,
        tables=tables,
        pictures=[picture(png, caption) for caption, png in read_curves(run.folder / "figures")],
        provenance={"files of the run": ", ".join(sorted(run.contents)), **_versions(run)},
    )
    texts = {
        "report.html": page,
        "model_card.md": card_markdown(f"Model card: {_subject(run)}", notices, card.entries, tables),
    }
    for filled in checklists:
        texts[f"{filled.list.name}.csv"] = as_csv(filled.entries)
        texts[f"{filled.list.name}.md"] = checklist_markdown(
            filled.list, notices, filled.entries, filled.counts
        )
    return texts


def _subject(run: RunFiles) -> str:
    target = run.contents[run.name]["settings"].get("target")
    return TARGET_TITLES.get(target, "target not known")


def _versions(run: RunFiles) -> Mapping[str, str]:
    return {name: str(version) for name, version in run.contents[run.name].get("software", {}).items()}


def _notices(run: RunFiles) -> list[str]:
    """What is to be said loudly: that the labels are shuffled, that the cohort is simulated."""
    told = [shuffled(run), simulated_source(run) if is_simulated(run) else ""]
    return [notice for notice in told if notice]


# --- tables of the model card ----------------------------------------------------------------------------------


def _tables(run: RunFiles) -> dict[str, list[ShownTable]]:
    """Tables by the section of the card that they stand in."""
    scored = {METRICS: "Scores on patients held out"}
    for file in run.named("further/", "/metrics.json"):
        scored[file] = f"{TARGET_TITLES[file.split('/')[1]]}, told too"
    for file in run.named("", "/evaluation.json"):
        folder = file.removesuffix("/evaluation.json")
        which = "Another cohort" if folder in elsewhere(run) else "Patients held out, asked again"
        scored[f"{folder}/metrics.json"] = f"{which}: {cohort_of(run, folder)}"
    tables = [_scores(run, file, title) for file, title in scored.items() if file in run.contents]
    return {
        "Quantitative analyses": [*tables, *_outlines(run)],
        "Caveats and recommendations": _departures(run),
    }


def _scores(run: RunFiles, file: str, title: str) -> ShownTable:
    rows = score_rows(run, file)
    note = "The controls are what a score must beat to mean anything."
    return ShownTable(
        title,
        ("", "n", *(SCORE_TITLES[s] for s in SCORES)),
        [(_kind(row), _cells(row)) for row in rows],
        numbers=True,
        note=f"{note} {EXPLANATION}" if any(row["ceiling"] for row in rows) else note,
    )


def _outlines(run: RunFiles) -> list[ShownTable]:
    """How well outlines match the masks, where a method draws any."""
    means = run.contents.get("outlines.json", {}).get("means", ())
    rows = [
        ("", [str(row["method"]), REGION_TITLES[row["region"]].lower(), str(row["n"]),
              *(in_words(interval_of(row, s)) for s in TITLES)])
        for row in means
    ]  # fmt: skip
    columns = ("", "outline of", "n", *TITLES.values())
    return [ShownTable("Outlines of patients held out", columns, rows, numbers=True)] if rows else []


def _kind(row: Mapping[str, Any]) -> str:
    return "control" if row["control"] else "ceiling" if row["ceiling"] else ""


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [str(row["method"]), str(row["n"]), *(in_words(interval_of(row, s)) for s in SCORES)]


def _departures(run: RunFiles) -> list[ShownTable]:
    """What each paper says and what was done, of the methods whose list the run holds."""
    out = []
    for name, (method, _) in methods(run).items():
        try:
            told = None if fidelity_of(method) is None else fidelity(run, name)
        except NotKnownError:
            continue
        if told:
            rows = [("", [i[k] for k in ("item", "source_says", "we_do", "why")]) for i in told["items"]]
            columns = ("item", "the paper says", "done here", "why")
            note = except_as_set(run, name).strip()
            out.append(ShownTable(f"{name}: {told['source']}", columns, rows, note=note))
    return out
