"""Several questions at once: what is known, what is learnt, and what can be true together."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gliolens.case import CaseRow
from gliolens.errors import CohortError
from gliolens.tasks import UNKNOWN, Task, class_weights, coherent, posteriors, task_loss, task_of

SHARE = st.floats(0.001, 0.999)


def rows(*targets, scheme=None):
    return [CaseRow(str(i), str(i), targets=t, label_scheme=scheme) for i, t in enumerate(targets)]


def test_a_task_is_what_patients_can_teach():
    cohort = rows({"idh": "mutant"}, {"idh": "wildtype"}, {"idh": "mutant"}, {"grade": "HGG"}, {})
    task = task_of("idh", cohort)
    assert task.classes == ("wildtype", "mutant")
    assert task.shares == pytest.approx((1 / 3, 2 / 3))
    assert [task.truth(row) for row in cohort] == [1, 0, 1, UNKNOWN, UNKNOWN]
    assert task_of("grade", cohort) is None
    assert task_of("grade", rows({"grade": "HGG"}, {"grade": "healthy"})) is None


def test_a_class_nobody_taught_is_not_known():
    task = task_of("who_grade", rows({"who_grade": "2"}, {"who_grade": "4"}))
    assert task.truth(rows({"who_grade": "3"})[0]) == UNKNOWN


def test_grades_of_two_editions_are_not_pooled():
    mixed = [*rows({"who_grade": "2"}, scheme="who2016"), *rows({"who_grade": "4"}, scheme="who2021")]
    with pytest.raises(CohortError, match="never pooled"):
        task_of("who_grade", mixed)


def test_the_loss_is_that_of_the_known_cases_alone():
    logits, weights = torch.randn(5, 3), torch.tensor([1.0, 2.0, 0.5])
    truth = torch.tensor([2, UNKNOWN, 0, UNKNOWN, 1])
    each = [-float(torch.log_softmax(logits[i], 0)[k] * weights[k]) for i, k in ((0, 2), (2, 0), (4, 1))]
    assert task_loss(logits, truth, weights).item() == pytest.approx(sum(each) / 3, rel=1e-5)
    assert task_loss(logits, torch.full((5,), UNKNOWN), weights) is None


def test_a_rare_class_keeps_its_weight_in_a_batch_of_one():
    """PyTorch's own mean divides by the batch's weights: alone, a case of a rare class would count as any other."""
    logits, weights = torch.zeros(1, 2), torch.tensor([0.5, 5.0])
    rare, common = (task_loss(logits, torch.tensor([k]), weights).item() for k in (1, 0))
    assert rare == pytest.approx(10 * common)


def test_rare_classes_weigh_more_and_the_mean_case_weighs_one():
    task = task_of("idh", rows(*[{"idh": "mutant"}] * 4, {"idh": "wildtype"}))
    weights = class_weights(task, balanced=True)
    assert weights[0] / weights[1] == pytest.approx(2)  # a quarter as many
    assert (weights * torch.tensor(task.shares)).sum().item() == pytest.approx(1)
    assert class_weights(task, balanced=False).tolist() == [1, 1]


@given(st.lists(SHARE, min_size=2, max_size=4), st.lists(SHARE, min_size=2, max_size=4), st.booleans())
def test_a_network_trained_with_weights_is_read_back(shares, likelihood, balanced):
    """Of the best answer under the weighted loss, q ~ P(x | k) share_k w_k, both posteriors of Bayes come back."""
    n = min(len(shares), len(likelihood))
    share, seen = (np.array(v[:n]) / np.sum(v[:n]) for v in (shares, likelihood))
    task = Task("who_grade", ("2", "3", "4", "5")[:n], tuple(share.tolist()))
    best = seen * share * class_weights(task, balanced=balanced).numpy()
    with_shares, without = posteriors(task, best / best.sum(), balanced=balanced)
    assert with_shares == pytest.approx(seen * share / (seen * share).sum(), rel=1e-4)
    assert without == pytest.approx(seen / seen.sum(), rel=1e-4)


@given(SHARE, SHARE)
def test_answers_can_be_true_together(m, c):
    """The joint answer: what is left of two independent ones when wildtype with codeletion is struck out."""
    joint = np.array([[(1 - m) * (1 - c), 0.0], [m * (1 - c), m * c]])
    joint /= joint.sum()
    told = coherent({
        "idh": {"wildtype": 1 - m, "mutant": m}, "codel_1p19q": {"intact": 1 - c, "codeleted": c},
        "grade": {"LGG": 0.2, "HGG": 0.8},
    })  # fmt: skip
    assert list(told["idh"].values()) == pytest.approx(joint.sum(axis=1))
    assert list(told["codel_1p19q"].values()) == pytest.approx(joint.sum(axis=0))
    assert told["codel_1p19q"]["codeleted"] <= told["idh"]["mutant"] + 1e-12
    assert told["grade"] == {"LGG": 0.2, "HGG": 0.8}


def test_one_answer_alone_owes_nothing_and_certain_nonsense_is_settled_by_idh():
    alone = {"codel_1p19q": {"intact": 0.1, "codeleted": 0.9}}
    assert coherent(alone) == alone
    told = coherent(
        {"idh": {"wildtype": 1.0, "mutant": 0.0}, "codel_1p19q": {"intact": 0.0, "codeleted": 1.0}}
    )
    assert told["idh"]["mutant"] == told["codel_1p19q"]["codeleted"] == 0
