"""Weights of others: where they are looked for, what is read, and that nothing is left out or left over."""

import re
import socket
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RemoteEntryNotFoundError
from safetensors.torch import save_file
from torch import nn

from gliolens.encoders.state import (
    Source,
    fill,
    find_weights,
    library,
    nothing,
    read_state,
    weights_in,
    without,
)
from gliolens.errors import ConfigError, ModelError

FREE = Source("someone/network", ("model.safetensors", "model.bin"), "MIT", "3 kB")
BOUND = Source("someone/bound", ("model.safetensors",), "a licence of their own", terms="first sign it")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(4, 5))


@pytest.fixture
def shut(monkeypatch) -> None:
    """No connection may be opened."""

    def refuse(*_args, **_more):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Path:
    """An empty cache of huggingface_hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def keep(cache: Path, repository: str, name: str) -> Path:
    """Put a file where huggingface_hub keeps it."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    file = folder / "snapshots" / "abc" / name
    file.parent.mkdir(parents=True)
    save_file({"a": torch.ones(2)}, file)
    return file


def fails(error: Exception):
    def download(*_args, **_more):
        raise error

    return download


def answer(kind: type[Exception], code: int) -> Exception:
    response = SimpleNamespace(headers={}, request=None, status_code=code)
    return kind("refused", response=response)


# --- reading ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.safetensors", "hash without an ending"])
def test_safetensors_are_read_by_content(tmp_path, name):
    wanted = net().state_dict()
    save_file(wanted, tmp_path / name)
    found = read_state(tmp_path / name)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_torch_files_are_read_in_either_format(tmp_path, wrapper, legacy):
    wanted = net().state_dict()
    kept = wanted if wrapper is None else {wrapper: wanted, "epoch": 3, "best_acc": np.float64(0.9)}
    torch.save(kept, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    found = read_state(tmp_path / "a.pt")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("/tmp/gliolens-harmful"),)


@pytest.mark.parametrize(
    "content", [{"a": Harmful()}, [torch.ones(2)], {"a": 3}, {}, {"a": {"b": torch.ones(1)}}]
)
def test_what_is_not_a_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=re.escape(str(tmp_path / "a.pt"))):
        read_state(tmp_path / "a.pt")
    assert not Path("/tmp/gliolens-harmful").exists()


@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"\x10" + b"\0" * 7 + b"{oops"]
)
def test_what_is_not_a_file_of_weights_is_refused(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read"):
        read_state(tmp_path / "a")
    with pytest.raises(ModelError, match="cannot be read"):
        read_state(tmp_path / "missing")


# --- filling ---------------------------------------------------------------------------------------------------


def test_every_tensor_finds_its_place():
    wanted, target = net().state_dict(), net()
    for parameter in target.parameters():
        nn.init.zeros_(parameter)
    fill(
        target,
        {k: v.half() for k, v in wanted.items()} | {"head.x": torch.ones(1)},
        Path("f"),
        lambda n: n == "head.x",
    )
    for name, tensor in target.state_dict().items():
        assert tensor.dtype == wanted[name].dtype
        assert torch.allclose(tensor.float(), wanted[name].float(), atol=1e-3)


def test_what_does_not_fit_is_named_and_the_network_stays():
    state = net().state_dict()
    state["0.weight"] = torch.zeros(3, 2, 5, 5)
    state["head.x"] = state.pop("2.bias")
    target = net()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with pytest.raises(ModelError) as told:
        fill(target, state, Path("folder/f.pt"), nothing)
    for part in (
        "folder/f.pt",
        "1 missing: 2.bias",
        "1 unknown: head.x",
        "0.weight (3, 2, 5, 5) instead of (3, 2, 3, 3)",
    ):
        assert part in str(told.value)
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())


def test_a_long_list_is_cut_and_counted():
    with pytest.raises(ModelError, match=r"10 missing: (\S+, ){4}\S+ and 5 more"):
        fill(nn.Sequential(*[nn.Linear(2, 2) for _ in range(5)]), {}, Path("f"), nothing)


def test_a_prefix_is_taken_off():
    assert without({"a.b": torch.ones(1), "c": torch.ones(1)}, "a.").keys() == {"b"}


# --- finding ---------------------------------------------------------------------------------------------------


def test_a_file_is_itself_and_a_folder_is_searched_in_order(tmp_path):
    with pytest.raises(ConfigError, match=r"none of x\.bin, y\.bin"):
        weights_in(tmp_path, ("x.bin", "y.bin"))
    (tmp_path / "y.bin").touch()
    assert weights_in(tmp_path, ("x.bin", "y.bin")) == tmp_path / "y.bin"
    (tmp_path / "snapshots" / "abc").mkdir(parents=True)
    inner = tmp_path / "snapshots" / "abc" / "x.bin"
    inner.touch()
    assert weights_in(tmp_path, ("x.bin", "y.bin")) == inner
    (tmp_path / "snapshots" / "def").mkdir()
    (tmp_path / "snapshots" / "def" / "x.bin").touch()
    with pytest.raises(ConfigError, match="found 2 files"):
        weights_in(tmp_path, ("x.bin", "y.bin"))
    assert weights_in(inner, ("y.bin",)) == inner
    with pytest.raises(ConfigError, match="no such file"):
        weights_in(tmp_path / "nowhere", ("x.bin",))


@pytest.mark.usefixtures("shut")
@pytest.mark.parametrize("offline", [False, True])
def test_weights_at_hand_are_used_without_a_connection(hub, offline, capsys):
    file = keep(hub, BOUND.repository, "model.safetensors")
    assert find_weights("it", BOUND, None, offline=offline) == file
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("shut", "hub")
@pytest.mark.parametrize(("source", "offline"), [(FREE, True), (BOUND, True), (BOUND, False)])
def test_offline_and_bound_weights_are_never_fetched(source, offline):
    with pytest.raises(ConfigError) as told:
        find_weights("it", source, None, offline=offline)
    for part in (source.page, source.licence, source.size, source.terms, "--weights", source.files[0]):
        assert part in str(told.value)


@pytest.mark.usefixtures("hub")
def test_fetching_is_said_and_the_next_name_is_tried(monkeypatch, tmp_path, capsys):
    def download(repository, name):
        if name == "model.safetensors":
            raise answer(RemoteEntryNotFoundError, 404)
        return str(tmp_path / repository / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert find_weights("it", FREE, None, offline=False) == tmp_path / FREE.repository / "model.bin"
    said = capsys.readouterr().err
    assert "fetching" in said
    assert FREE.page in said
    assert "MIT" in said
    with pytest.raises(ConfigError, match=r"none of model\.safetensors is on"):
        find_weights("it", Source("a/b", ("model.safetensors",), "MIT"), None, offline=False)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    "error", [LocalEntryNotFoundError("away"), ConnectionError("away"), answer(GatedRepoError, 403)], ids=repr
)
def test_a_failed_fetch_says_where_to_get_them(monkeypatch, error):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fails(error))
    with pytest.raises(ConfigError, match=r"could not be fetched.*model\.safetensors of https.*--weights"):
        find_weights("it", FREE, None, offline=False)


@pytest.mark.usefixtures("hub")
def test_a_real_fetch_without_a_network_ends_in_the_same_words(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", fails(socket.gaierror(-2, "no network in this test")))
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    with pytest.raises(ConfigError, match="could not be fetched"):
        find_weights("it", FREE, None, offline=False)


def test_a_missing_library_says_how_to_install_it():
    assert library("math").pi > 3
    with pytest.raises(ConfigError, match=r"gliolens\[encoders\]"):
        library("no_such_library_anywhere")
