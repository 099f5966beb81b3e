"""The whole network: parts that can be left out, and heads that learn only where a label is known."""

import pytest
import torch

from gliolens.labels import SERIES
from gliolens.nn.multitask import MultiTaskNet, TaskHead, perceptron
from gliolens.tasks import UNKNOWN, task_loss

TASKS = {"idh": 2, "codel_1p19q": 2, "grade": 2}


def net(**settings):
    torch.manual_seed(0)
    return MultiTaskNet(SERIES, 4, TASKS, feature_size=12, window=4, **settings)


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_parameters_of_the_heads_as_published():
    assert count(perceptron(768, 2)) == 768 * 256 + 256 + 256 * 64 + 64 + 64 * 2 + 2 == 213_442
    assert count(perceptron(128, 2)) == 49_602
    joined = TaskHead({"focus": 768, "mismatch": 128}, 2)
    assert count(joined) == 213_442 + 49_602 + (4 * 32 + 32) + (32 * 2 + 2) == 263_270
    three = TaskHead({"focus": 1488, "mismatch": 128, "composition": 18}, 2)
    assert count(three.join) == (6 * 32 + 32) + (32 * 2 + 2)


def test_what_it_tells_of_96_voxels_at_the_published_size():
    whole = MultiTaskNet(SERIES, 4, TASKS, focus="deepest", mismatch=False).eval()
    assert count(whole) == 62_191_990 + 44_087 + 3 * 263_270
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        told = whole(torch.randn(1, 4, 96, 96, 96), torch.ones(1, 4, dtype=torch.bool))
    assert told.tissues.shape == (1, 4, 96, 96, 96)
    assert told.weights.shape == (1, 1, 3, 3, 3)
    assert told.attention.shape == (1, 1, 48, 48, 48)
    assert {task: tuple(z.shape) for task, z in told.answers.items()} == dict.fromkeys(TASKS, (1, 2))


@pytest.mark.parametrize(
    ("focus", "mismatch", "parts"),
    [("tumour", True, {"focus", "mismatch"}), ("tumour", None, {"focus"}), (None, True, {"mismatch"}),
     (None, None, {"focus"})],
)  # fmt: skip
def test_each_part_can_be_left_out(focus, mismatch, parts):
    told = net(focus=focus, mismatch=mismatch).eval()(
        torch.randn(1, 4, 64, 64, 64), torch.ones(1, 4, dtype=torch.bool)
    )
    assert set(told.parts["idh"]) == parts
    assert (told.weights is None) == (focus is None)
    assert (told.attention is None) == (mismatch is None)
    if len(parts) == 1:
        assert torch.equal(told.answers["idh"], told.parts["idh"][parts.pop()])


def test_with_neither_part_one_layer_weighs_the_deepest_stage():
    plain = net(focus=None, mismatch=None)
    assert count(plain.heads["idh"]) == 192 * 2 + 2


def test_cmd_without_its_series_is_refused():
    with pytest.raises(ValueError, match="t2 and flair"):
        MultiTaskNet(("t1", "t1ce"), 4, TASKS, feature_size=12)


def test_a_head_learns_nothing_where_its_label_is_missing():
    """Exactly nothing: of the cases without the label no gradient comes, and a head no case teaches has none."""
    whole, image = net().train(), torch.randn(2, 4, 64, 64, 64, requires_grad=True)
    told = whole(image, torch.ones(2, 4, dtype=torch.bool))
    for logits in told.answers.values():
        logits.retain_grad()
    truth = {"idh": [1, UNKNOWN], "codel_1p19q": [UNKNOWN, UNKNOWN], "grade": [0, 1]}
    losses = {t: task_loss(told.answers[t], torch.tensor(truth[t]), torch.ones(2)) for t in TASKS}
    assert losses["codel_1p19q"] is None
    sum(loss for loss in losses.values() if loss is not None).backward()
    assert told.answers["idh"].grad[0].any()
    assert not told.answers["idh"].grad[1].any()
    assert told.answers["codel_1p19q"].grad is None
    assert all(p.grad is None for p in whole.heads["codel_1p19q"].parameters())
    assert all(p.grad.any() for p in whole.heads["grade"].join.parameters())


def test_only_the_one_head_is_taught_by_its_label():
    whole = net().eval()
    told = whole(torch.randn(1, 4, 64, 64, 64), torch.ones(1, 4, dtype=torch.bool))
    task_loss(told.answers["grade"], torch.tensor([1]), torch.ones(2)).backward()
    taught = {
        name.split(".")[1]
        for name, p in whole.named_parameters()
        if name.startswith("heads.") and p.grad is not None
    }
    assert taught == {"grade"}
    assert whole.backbone.net.swinViT.patch_embed.proj.weight.grad.any()
