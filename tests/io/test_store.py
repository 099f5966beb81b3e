"""Files are written whole or not at all, and JSON comes back as it went."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gliolens.errors import ModelError
from gliolens.io.store import (
    content_hash,
    file_hash,
    read_json,
    whole_file,
    whole_folder,
    write_json,
    write_text,
)

few = settings(
    max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
contents = st.dictionaries(
    st.text(),
    st.recursive(scalars, lambda c: st.lists(c, max_size=3) | st.dictionaries(st.text(), c, max_size=3)),
)


class Stop(BaseException):
    """As a user's Ctrl-C."""


@pytest.mark.parametrize("stop", [RuntimeError, Stop, KeyboardInterrupt])
@pytest.mark.parametrize("before", [None, "old"])
def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path, stop, before):
    path = tmp_path / "run.json"
    if before:
        path.write_text(before)

    def write() -> None:
        with whole_file(path) as unfinished:
            unfinished.write_text("half")
            raise stop

    with pytest.raises(stop):
        write()
    assert [p.name for p in tmp_path.iterdir()] == (["run.json"] if before else [])
    assert before is None or path.read_text() == before


@pytest.mark.parametrize("before", [False, True])
def test_a_folder_that_fails_leaves_what_was_there_and_nothing_else(tmp_path, before):
    path = tmp_path / "model"
    if before:
        path.mkdir()
        (path / "card.json").write_text("old")

    def write() -> None:
        with whole_folder(path) as unfinished:
            (unfinished / "card.json").write_text("half")
            raise Stop

    with pytest.raises(Stop):
        write()
    assert [p.name for p in tmp_path.iterdir()] == (["model"] if before else [])
    assert not before or (path / "card.json").read_text() == "old"
    with whole_folder(path) as unfinished:
        (unfinished / "weights").write_text("new")
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == [
        "model",
        "model/weights",
    ]


def test_what_a_killed_process_left_in_a_folder_does_not_come_back(tmp_path):
    left = tmp_path / f".unfinished-{os.getpid()}-model"
    left.mkdir()
    (left / "stale").write_text("stale")
    with whole_folder(tmp_path / "model") as unfinished:
        (unfinished / "weights").write_text("new")
    assert [p.name for p in (tmp_path / "model").iterdir()] == ["weights"]


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "cohort.csv"
    path.write_text("old")
    script = (
        "import sys, time; from pathlib import Path; from gliolens.io.store import whole_file\n"
        "with whole_file(Path(sys.argv[1])) as unfinished:\n"
        "    unfinished.write_text('half'); print('writing', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(signal.SIGKILL)
    assert path.read_text() == "old"


def test_a_reader_never_sees_half_a_file(tmp_path):
    path, texts, seen = tmp_path / "x.txt", ("a" * 100_000, "b" * 100_000), set()
    write_text(path, texts[0])
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.add(path.read_text())

    looking = threading.Thread(target=look)
    looking.start()
    for k in range(60):
        write_text(path, texts[k % 2])
    done.set()
    looking.join()
    assert seen <= set(texts)


def test_folders_on_the_way_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "c.txt", "é\r\n")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == "é\r\n".encode()


@few
@given(content=contents)
def test_json_comes_back_as_it_went(tmp_path, content):
    content = json.loads(json.dumps(content))
    if "\ud800" <= max(json.dumps(content, ensure_ascii=False), default="") <= "\udfff":
        return
    write_json(tmp_path / "x.json", content)
    assert read_json(tmp_path / "x.json") == content


def test_what_is_not_finite_becomes_null_and_numpys_numbers_become_numbers(tmp_path):
    write_json(
        tmp_path / "x.json",
        {
            "floats": [float("nan"), float("inf"), np.float32("nan"), np.float64("-inf"), np.float32(0.5)],
            "array": np.array([[1.5, np.nan], [2, 3]]),
            "numbers": (np.int64(3), np.bool_(True), np.array(7)),
            "path": Path("a") / "b",
            3: {"deep": [{"x": np.float16("nan")}]},
        },
    )
    assert read_json(tmp_path / "x.json") == {
        "floats": [None, None, None, None, 0.5],
        "array": [[1.5, None], [2.0, 3.0]],
        "numbers": [3, True, 7],
        "path": "a/b",
        "3": {"deep": [{"x": None}]},
    }
    assert "NaN" not in (tmp_path / "x.json").read_text()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a readable JSON"),
        (b"{", "not a readable JSON"),
        (b"\xff\xfe{}", "not a readable JSON"),
        (b"[1]", "a JSON list"),
        (b"null", "a JSON NoneType"),
        (None, "not a readable JSON"),
    ],
)
def test_what_is_no_json_object_is_refused_with_its_name(tmp_path, content, says):
    path = tmp_path / "card.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=says) as refused:
        read_json(path)
    assert str(path) in str(refused.value)
    with pytest.raises(ModelError, match="none"):
        read_json(tmp_path / "none.json")


@few
@given(content=contents, data=st.data())
def test_a_content_hash_does_not_depend_on_the_order_of_keys(content, data):
    shuffled = {key: content[key] for key in data.draw(st.permutations(list(content)))}
    if "\ud800" <= max(json.dumps(content, ensure_ascii=False), default="") <= "\udfff":
        return
    assert content_hash(content) == content_hash(shuffled)
    assert content_hash({"x": content, "y": 1}) == content_hash({"y": 1, "x": shuffled})
    assert content_hash({**content, "one more": 1.25}) != content_hash({**content, "one more": 1.26})


def test_a_content_hash_knows_lists_by_their_order_and_values_by_their_kind():
    assert content_hash([1, 2]) != content_hash([2, 1])
    assert content_hash({"a": 1}) != content_hash({"a": "1"})
    assert content_hash({"a": np.float64(0.5), "p": Path("x")}) == content_hash({"p": "x", "a": 0.5})


def test_a_file_hash_is_sha_256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert file_hash(tmp_path / "x") == expected
