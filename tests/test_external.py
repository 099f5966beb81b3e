"""Another cohort: none of its patients may be of this one, and what is lost there is told."""

import pandas as pd
import pytest

from gliolens import external
from gliolens.case import CaseRow
from gliolens.errors import LeakError
from gliolens.external import check_strangers, drop_rows
from gliolens.stats.intervals import Interval


def row(folder, case, content, **more):
    file = folder / f"{case}.nii.gz"
    file.write_bytes(content)
    return CaseRow(case, more.pop("patient", case), files={"t1": file}, **more)


def test_the_same_scan_under_another_name_is_found(tmp_path):
    here = [row(tmp_path, "a", b"scan of a"), row(tmp_path, "b", b"scan of b")]
    there = [row(tmp_path, "x", b"scan of x"), row(tmp_path, "y", b"scan of b")]
    with pytest.raises(LeakError, match=r"1 cases .* y;"):
        check_strangers(here, there)


@pytest.mark.parametrize(
    "more", [{"patient": "a"}, {"aliases": ("a",)}, {"aliases": ("old-a",)}, {"aliases": ("Old_A",)}]
)
def test_a_shared_name_is_found(tmp_path, more):
    here = [row(tmp_path, "a", b"1", aliases=("old-a",))]
    with pytest.raises(LeakError, match="x"):
        check_strangers(here, [row(tmp_path, "x", b"2", **more)])


def test_of_files_as_long_the_content_decides(tmp_path):
    here = [row(tmp_path, "a", b"123")]
    check_strangers(here, [row(tmp_path, "x", b"321")])
    with pytest.raises(LeakError, match="y"):
        check_strangers(here, [row(tmp_path, "x", b"321"), row(tmp_path, "y", b"123")])


def test_of_a_patient_who_is_met_every_exam_is_named(tmp_path):
    here = [row(tmp_path, "UCSF-PDGM-004", b"1")]
    there = [
        row(tmp_path, "first", b"2", patient="X", aliases=("ucsf_pdgm_0004",)),
        row(tmp_path, "second", b"3", patient="X"),
        row(tmp_path, "other", b"4"),
    ]
    with pytest.raises(LeakError, match=r"2 cases .* first, second;"):
        check_strangers(here, there)


def test_each_file_is_read_once_and_only_where_sizes_are_shared(tmp_path, monkeypatch):
    here = [row(tmp_path, f"a{i}", f"a{i}".encode()) for i in range(5)]
    there = [row(tmp_path, f"x{i}", f"x{i}".encode()) for i in range(4)]
    alone = row(tmp_path, "long", b"of another size")
    read = []
    monkeypatch.setattr(external, "file_hash", lambda file: read.append(file) or file.name)
    check_strangers([*here, alone], there)
    assert sorted(read) == sorted(r.files["t1"] for r in (*here, *there))


def test_the_drop_is_here_less_there():
    def table(auc):
        same = {
            "method": "m",
            "control": False,
            "n": 6,
            "brier": Interval(0.2, 0.1, 0.3),
            "ece": Interval(0.1, 0, 0.2),
        }
        return [same | {"auc": Interval(auc, auc - 0.1, auc + 0.05)}]

    answers = pd.DataFrame({"method": "m", "truth": list("abbaba"), "p_b": [0.2, 0.9, 0.4, 0.5, 0.7, 0.3]})
    (found,) = drop_rows(table(0.9), table(0.6), answers, ("a", "b"))
    assert found["drop"].value == pytest.approx(0.3)
    assert found["drop"].low < 0.3 < found["drop"].high
    assert {"slope there", "intercept there"} < set(found)
    (more,) = drop_rows(table(0.9), table(0.6), answers, ("a", "b", "c"))
    assert "slope there" not in more
