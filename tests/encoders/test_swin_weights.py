"""A file of MONAI's own network, with a prefix and another order of series, gives the same features."""

import pytest
import torch
from monai.networks.nets import SwinUNETR
from safetensors.torch import save_file

from gliolens.encoders.swin_weights import take_swin
from gliolens.errors import ModelError
from gliolens.labels import SERIES
from gliolens.nn.swin import SwinBackbone

BRATS = ("flair", "t1ce", "t1", "t2")
"""The order of MONAI's BraTS tutorials."""


def monai(channels=4, feature_size=12, tissues=3):
    torch.manual_seed(1)
    return SwinUNETR(channels, tissues, feature_size=feature_size, window_size=4).eval()


def backbone(**settings):
    torch.manual_seed(2)
    return SwinBackbone(4, 4, feature_size=12, window=4, **settings).eval()


def kept(net, path, prefix="", only=""):
    state = {prefix + k: v for k, v in net.state_dict().items() if k.startswith(only)}
    torch.save({"state_dict": state, "epoch": 3}, path)
    return path


@pytest.mark.parametrize("prefix", ["", "module.", "model.net."])
def test_the_whole_of_monais_network_loads_and_gives_the_same_features(prefix, tmp_path):
    theirs, mine = monai(), backbone()
    taken = take_swin(mine, kept(theirs, tmp_path / "w.pt", prefix), BRATS, SERIES)
    image = torch.randn(1, 4, 64, 64, 64)
    ordered = image[:, [SERIES.index(s) for s in BRATS]]
    with torch.no_grad():
        for a, b in zip(mine(image)[1], theirs.swinViT(ordered, True), strict=True):
            torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(mine.net.encoder1(image), theirs.encoder1(ordered), atol=1e-3, rtol=1e-4)
    assert taken.prefix == prefix
    assert taken.remapped == {s: s for s in SERIES}
    assert taken.file_series == BRATS
    assert taken.left == ("out",)
    assert taken.skipped == ("out.conv.conv.weight", "out.conv.conv.bias")
    assert taken.taken == len(theirs.state_dict()) - 2


def test_an_encoder_of_two_series_behind_module_swinvit_starts_the_others_from_their_mean(tmp_path):
    """As BrainSegFounder's pretraining on T1 and FLAIR: `module.swinViT.`, and heads of other tasks beside it."""
    theirs, mine = monai(channels=2), backbone(merging="before-1.5")
    state = {f"module.{k}": v for k, v in theirs.state_dict().items() if k.startswith("swinViT.")}
    state["module.rotation_head.weight"] = torch.zeros(4, 192)
    save_file(state, tmp_path / "ssl.safetensors")
    taken = take_swin(mine, tmp_path / "ssl.safetensors", ("t1", "flair"), SERIES)
    first = mine.net.swinViT.patch_embed.proj.weight
    source = theirs.swinViT.patch_embed.proj.weight
    torch.testing.assert_close(first[:, 0], source[:, 0])
    torch.testing.assert_close(first[:, 3], source[:, 1])
    torch.testing.assert_close(first[:, 1], source.mean(dim=1))
    assert taken.remapped == {"t1": "t1", "t1ce": "mean of all", "t2": "mean of all", "flair": "flair"}
    assert taken.skipped == ("rotation_head.weight",)
    assert "encoder1" in taken.left
    assert "swinViT" not in taken.left


def test_another_size_is_refused_with_the_difference_and_changes_nothing(tmp_path):
    mine = backbone()
    before = {k: v.clone() for k, v in mine.state_dict().items()}
    with pytest.raises(
        ModelError, match=r"the file's feature size is 24, the network's 12: set --feature-size 24"
    ):
        take_swin(mine, kept(monai(feature_size=24), tmp_path / "w.pt"), BRATS, SERIES)
    assert all(torch.equal(v, before[k]) for k, v in mine.state_dict().items())


@pytest.mark.parametrize(
    ("order", "words"),
    [((), "the order not told"), (("t1", "t2"), "its first layer sees 4 series"),
     (("t1", "t1", "t2", "flair"), "4 different ones"), (("t1", "t1ce", "t2", "pd"), "4 different ones")],
)  # fmt: skip
def test_an_order_that_cannot_be_the_files_is_refused(order, words, tmp_path):
    with pytest.raises(ModelError, match=words):
        take_swin(backbone(), kept(monai(), tmp_path / "w.pt"), order, SERIES)


def test_a_file_that_lacks_part_of_the_encoder_is_refused(tmp_path):
    net = monai()
    state = {k: v for k, v in net.state_dict().items() if "layers3" not in k}
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"missing: swinViT\.layers3"):
        take_swin(backbone(), tmp_path / "w.pt", BRATS, SERIES)


def test_a_file_of_another_network_is_refused(tmp_path):
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match="found 0 tensors called swinViT"):
        take_swin(backbone(), tmp_path / "w.pt", BRATS, SERIES)
