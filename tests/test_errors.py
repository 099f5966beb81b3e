"""The tree of errors: exit codes, texts, and the way back from a worker process."""

import copy
import pickle

import joblib
import pytest

from gliolens.errors import CaseError, CohortError, ConfigError, GlioLensError, LeakError, ModelError


def made() -> CaseError:
    return CaseError("007", file="t1.nii.gz", found="a folder", expected="a file", fix="name it")


def test_a_case_error_names_case_file_finding_expectation_and_mend():
    lines = str(made()).splitlines()
    assert lines[0] == "case '007'"
    assert [line.split(":", 1)[0].strip() for line in lines[1:]] == ["file", "found", "expected", "to mend"]
    assert [line.split(":", 1)[1].strip() for line in lines[1:]] == [
        "t1.nii.gz",
        "a folder",
        "a file",
        "name it",
    ]


@pytest.mark.parametrize("travel", [lambda e: pickle.loads(pickle.dumps(e)), copy.deepcopy])
def test_a_case_error_survives_the_way_between_processes(travel):
    back = travel(made())
    assert type(back) is CaseError
    assert (str(back), back.case, back.file, back.fix) == (str(made()), "007", "t1.nii.gz", "name it")
    assert travel(CaseError("p", found="a", expected="b", fix="c")).file is None


def refuse() -> None:
    raise made()


def test_a_case_error_of_a_worker_reaches_the_caller_as_itself():
    with pytest.raises(CaseError, match="'007'"):
        joblib.Parallel(n_jobs=2, backend="multiprocessing")([joblib.delayed(refuse)()] * 2)


def test_exit_codes_are_those_of_the_design():
    codes = {
        e: e.exit_code for e in (GlioLensError, ConfigError, CaseError, CohortError, LeakError, ModelError)
    }
    assert list(codes.values()) == [1, 2, 4, 4, 4, 1]
    assert issubclass(ConfigError, ValueError)
