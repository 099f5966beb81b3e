"""The encoder of the package and the controls beside it."""

import json

import numpy as np
import pytest
import torch

from gliolens.encoders import built_in
from gliolens.encoders.catalogue import ENCODERS, find_encoder
from gliolens.errors import ConfigError, ModelError


def test_the_histogram_is_that_of_numpy_over_what_is_not_black():
    encoder = find_encoder("histogram")
    pictures = torch.rand(3, built_in.PIXELS, built_in.PIXELS)
    pictures[:, :40] = 0.0
    told = encoder.encode(pictures)
    for picture, vector in zip(pictures.numpy(), told.numpy(), strict=True):
        counts, _ = np.histogram(picture[picture > 0], bins=built_in.BINS, range=(0, 1))
        assert np.allclose(vector, counts / counts.sum(), atol=1e-4)
        assert vector.sum() == pytest.approx(1.0, abs=1e-5)


def test_random_weights_are_the_same_every_time_and_leave_the_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = find_encoder("random"), find_encoder("random")
    assert torch.equal(torch.rand(1), expected)
    assert first.identity == second.identity
    assert first.identity != find_encoder("histogram").identity


def test_vectors_are_as_long_as_the_card_says():
    for name in ("random", "histogram"):
        encoder = find_encoder(name)
        assert encoder.encode(torch.rand(2, 50, 60)).shape == (2, encoder.card.dim)


def test_controls_take_no_weights(tmp_path):
    for name in ("random", "histogram"):
        with pytest.raises(ConfigError, match="no weights"):
            find_encoder(name, tmp_path)


def test_an_unknown_encoder_names_what_there_is():
    with pytest.raises(ConfigError, match="medimageinsight") as error:
        find_encoder("resnet")
    assert all(name in str(error.value) for name in ENCODERS)


@pytest.mark.parametrize("name", ["random:histogram", "built-in:typo", "medimageinsight:small", "vit-3d:"])
def test_no_family_of_one_takes_a_models_name(name):
    with pytest.raises(ConfigError, match="no encoder is called"):
        find_encoder(name)


def test_weights_that_are_not_there_are_said(tmp_path):
    with pytest.raises(ConfigError, match="nothing there"):
        find_encoder("built-in", tmp_path / "none")
    with pytest.raises(ModelError, match="make weights"):
        find_encoder("built-in", tmp_path)


def test_changed_weights_are_refused(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"no weights")
    (tmp_path / "card.json").write_text(json.dumps({"sha256": "ab" * 32}), encoding="utf-8")
    with pytest.raises(ModelError, match="not the file its card describes"):
        find_encoder("built-in", tmp_path)
