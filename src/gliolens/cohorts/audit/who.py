"""Which grades and names change from WHO 2016 to WHO 2021, as far as IDH and 1p/19q tell.

Rules of the fifth edition (Louis 2021, doi 10.1093/neuonc/noab106) for diffuse gliomas of adults:

- IDH-mutant with 1p/19q codeletion: oligodendroglioma, grade 2 or 3, as before.
- IDH-mutant without: astrocytoma; what was an IDH-mutant glioblastoma is astrocytoma grade 4 now. Grade 2 or 3 becomes
  4 where CDKN2A/B is lost on both copies, which the cohort table does not hold.
- IDH-wildtype: glioblastoma, grade 4, where TERT, EGFR or chromosomes 7 and 10 say so, whatever the microscope shows;
  else it has no class of its own among diffuse gliomas of adults (not elsewhere classified).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

from gliolens.case import CaseRow
from gliolens.cohorts.audit.verdicts import Finding, counted

Change = Literal["same", "name", "to 4", "impossible", "not told"]
"""What becomes of a WHO 2016 grade: nothing; the name alone; grade 4 in all likelihood; no such tumour; no markers."""


def change(grade: str, idh: str | None, codel: str | None) -> Change:
    """What WHO 2021 makes of a WHO 2016 grade.

    Args:
        grade: WHO 2016 grade, 2 to 4.
        idh: class of IDH, if known.
        codel: class of 1p/19q, if known.

    >>> change("3", "wildtype", "intact"), change("3", "mutant", "codeleted"), change("3", None, None)
    ('to 4', 'same', 'not told')
    """
    if codel == "codeleted" and (idh == "wildtype" or grade == "4"):
        return "impossible"
    if idh is None:
        return "not told"
    if idh == "wildtype":
        return "same" if grade == "4" else "to 4"
    return "name" if grade == "4" else "same"


def grade_changes(rows: Sequence[CaseRow]) -> Iterator[Finding]:
    """What changes in the WHO grades of a cohort, or does not fit the edition they are said to follow."""
    graded = [row for row in rows if "who_grade" in row.targets]
    now = [row for row in graded if row.label_scheme == "who2021"]
    before = [row for row in graded if row.label_scheme != "who2021"]
    if before:
        yield _changed(before)
    old = tuple(row.case for row in now if _of(row) == "to 4")
    if old:
        text = (
            f"{counted(len(old), 'IDH-wildtype case')} of {len(now)} graded 2 or 3 under WHO 2021, which calls them "
            "glioblastoma, grade 4, once TERT, EGFR or chromosomes 7 and 10 are tested, and not elsewhere classified "
            "until then; test them, or leave them out of a study of grade"
        )
        yield Finding("grade of WHO 2016 under WHO 2021", "warning", text, old, float(len(old)))
    divided = [row for row in rows if row.targets.get("grade") == "LGG" and "who_grade" not in row.targets]
    wild = tuple(row.case for row in divided if row.targets.get("idh") == "wildtype")
    if wild:
        text = (
            f"{len(wild)} of {counted(len(divided), 'case')} of LGG are IDH-wildtype: most such are glioblastoma, "
            "grade 4, under WHO 2021; report results without them too"
        )
        yield Finding("LGG and WHO 2021", "warning", text, wild, float(len(wild)))


def _of(row: CaseRow) -> Change:
    return change(row.targets["who_grade"], row.targets.get("idh"), row.targets.get("codel_1p19q"))


def _changed(rows: Sequence[CaseRow]) -> Finding:
    found = {row.case: _of(row) for row in rows}
    n = Counter(found.values())
    to_4 = tuple(case for case, kind in found.items() if kind == "to 4")
    edition = "WHO 2016" if all(row.label_scheme == "who2016" for row in rows) else "no stated edition of WHO"
    text = (
        f"{counted(len(rows), 'grade')} of {edition}; under WHO 2021 {n['to 4']} would be grade 4 (IDH-wildtype of "
        f"grade 2 or 3, where TERT, EGFR or chromosomes 7 and 10 confirm it), {n['name']} would change the name alone "
        f"(IDH-mutant glioblastoma to astrocytoma grade 4), {n['same']} stay, unless CDKN2A/B is lost "
        f"in an astrocytoma, and {n['not told']} cannot be told without IDH"
    )
    if n["impossible"]:
        text += f"; {n['impossible']} are no tumour of either edition (codeleted and wildtype, or of grade 4)"
    text += "; do not pool the editions: grade anew by WHO 2021, or report by IDH and 1p/19q"
    severity = "warning" if n["to 4"] or n["name"] or n["not told"] else "note"
    return Finding("grade changes from WHO 2016 to 2021", severity, text, to_4, float(n["to 4"]))
