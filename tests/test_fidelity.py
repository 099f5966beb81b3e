"""Every method says how it differs from its source, in words that fit what the presets do."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gliolens.errors import ConfigError
from gliolens.fidelity import SAME, fidelity_of, nearest, write_fidelity
from gliolens.method import find_method
from gliolens.registry import METHODS

PUBLISHED = [name for name in METHODS if name != "controls"]


@pytest.mark.parametrize("method", PUBLISHED)
def test_every_published_method_lists_each_item_once(method: str) -> None:
    told = fidelity_of(method)
    assert told is not None
    assert told.source
    names = [d.item for d in told.items]
    assert len(set(names)) == len(names)
    for item in told.items:
        assert all([item.source_says, item.paper, item.sound, item.why])
        if item.paper != SAME:
            assert item.done("sound", "paper") != SAME


def test_controls_have_no_source(tmp_path: Path) -> None:
    assert fidelity_of("controls") is None
    write_fidelity(tmp_path, "controls", find_method("controls").Config.preset("sound"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", PUBLISHED)
@pytest.mark.parametrize("preset", ["sound", "paper"])
def test_a_preset_is_known_again(method: str, preset: str) -> None:
    kind = find_method(method).Config
    assert nearest(kind, kind.preset(preset)) == (preset, "paper", {})


def test_what_the_user_changed_is_told(tmp_path: Path) -> None:
    kind = find_method("shape-resnet").Config
    write_fidelity(
        tmp_path, "shape-resnet", replace(kind.preset("paper"), epochs=5, series=("t1ce", "flair"))
    )
    told = json.loads((tmp_path / "fidelity.json").read_text())
    assert (told["preset"], told["scale"]) == ("paper", "paper")
    assert told["changed"] == {
        "series": {"preset": ["t1", "t1ce", "t2", "flair"], "run": ["t1ce", "flair"]},
        "epochs": {"preset": 20, "run": 5},
    }
    by_name = {d["item"]: d for d in told["items"]}
    assert "magnified" in by_name["size of training LGG"]["we_do"]
    assert set(by_name["head"]) == {"item", "source_says", "we_do", "why"}


def test_demo_says_what_it_does_instead(tmp_path: Path) -> None:
    kind = find_method("shape-resnet").Config
    write_fidelity(tmp_path, "shape-resnet", kind.preset("sound").scaled("demo"))
    told = json.loads((tmp_path / "fidelity.json").read_text())
    assert told["scale"] == "demo"
    assert "ResNet-18" in next(d["we_do"] for d in told["items"] if d["item"] == "head")


def test_the_same_is_what_the_paper_preset_does() -> None:
    told = fidelity_of("volume-embedding")
    assert told is not None
    slices = next(d for d in told.items if d.item == "slices")
    assert slices.sound == SAME
    assert slices.done("sound", "paper") == slices.paper


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(ConfigError, match="no method is called 'resnet'"):
        fidelity_of("resnet")
