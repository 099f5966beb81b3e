"""The law that carries the ceiling: scans follow from findings, age, site and seed, and from nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gliolens.cohorts.phantom.anatomy import head_grid
from gliolens.cohorts.phantom.scans import make_scans
from gliolens.cohorts.phantom.traits import Findings, PhantomTraits

GRID = head_grid(4.0)
SOLID = Findings(
    volume_ml=60.0, core_share=0.6, enhancement="patchy", necrosis=0.2, front_mm=2.0, lobe="parietal",
    cortical=False, mismatch=False, calcified=False, cystic=False, bleeding=False, foci=1,
)  # fmt: skip
PATIENT = PhantomTraits(
    case="SIM-0001", seed=(4, 2), site="site-A", age=50.0, sex="F", grade="HGG", idh="wildtype",
    codel_1p19q="intact", os_days=300.0, os_event=True, findings=SOLID,
)  # fmt: skip


@pytest.fixture(scope="module")
def plain():
    return make_scans([PATIENT], GRID)


def differing(a, b):
    """Share of the voxels that both kept whose intensity differs by more than rounding."""
    both = a.kept & b.kept
    differ = (a.series - b.series).abs() > 1.0
    return float(differ[:, :, both[0]].float().mean())


@pytest.mark.parametrize(
    "label",
    [
        {"case": "SIM-0777"},
        {"sex": "M"},
        {"grade": "LGG"},
        {"idh": "mutant"},
        {"codel_1p19q": "codeleted"},
        {"os_days": 4000.0, "os_event": False},
        {"unwritten": ("idh", "codel_1p19q")},
        {"grade": "LGG", "idh": None, "codel_1p19q": None, "os_days": None, "os_event": None, "sex": "M"},
    ],
    ids=lambda label: "-".join(label),
)
def test_scans_do_not_depend_on_what_is_to_be_told(plain, label):
    other = make_scans([replace(PATIENT, **label)], GRID)
    for name in ("series", "labels", "brain", "kept"):
        assert torch.equal(getattr(plain, name), getattr(other, name)), name


@pytest.mark.parametrize(
    "finding",
    [
        {"volume_ml": 90.0},
        {"core_share": 0.3},
        {"enhancement": "solid"},
        {"necrosis": 0.5},
        {"front_mm": 4.0},
        {"lobe": "temporal"},
        {"cortical": True},
        {"mismatch": True},
        {"calcified": True},
        {"cystic": True},
        {"bleeding": True},
        {"foci": 3},
    ],
    ids=lambda finding: next(iter(finding)),
)
def test_every_finding_shows(plain, finding):
    other = make_scans([replace(PATIENT, findings=replace(SOLID, **finding))], GRID)
    assert differing(plain, other) > 0.001
    assert differing(plain, plain) == 0.0


def test_age_changes_the_brain(plain):
    old = make_scans([replace(PATIENT, age=80.0)], GRID)
    assert differing(plain, old) > 0.3
    assert not torch.equal(plain.labels, old.labels)  # the tumour grows in another brain


def test_the_site_changes_the_scans_but_not_the_patient(plain):
    elsewhere = make_scans([replace(PATIENT, site="site-B")], GRID)
    assert differing(plain, elsewhere) > 0.9
    for name in ("labels", "brain", "kept"):
        assert torch.equal(getattr(plain, name), getattr(elsewhere, name)), name


def test_the_seed_makes_another_patient(plain):
    other = make_scans([replace(PATIENT, seed=(4, 3))], GRID)
    assert not torch.equal(plain.brain, other.brain)
    assert not torch.equal(plain.labels, other.labels)


def test_patients_of_one_site_share_its_scanner():
    """The ratio of T1 to T2 brightness is the scanner's: it varies more between sites than within one."""

    def ratios(sites):
        patients = [replace(PATIENT, seed=(8, i), site=site) for i, site in enumerate(sites)]
        made = make_scans(patients, GRID)
        inside = made.kept[:, None]
        level = (made.series * inside).sum(dim=(2, 3, 4)) / inside.sum(dim=(2, 3, 4))
        return np.log((level[:, 0] / level[:, 2]).numpy())

    one, many = ratios(["site-A"] * 8), ratios([f"site-{c}" for c in "ABCDEFGH"])
    assert many.std() > 1.4 * one.std()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_makes_the_same_patients():
    patients = [
        PATIENT,
        replace(PATIENT, seed=(4, 5), findings=replace(SOLID, enhancement="ring", necrosis=0.5)),
    ]
    here, there = (make_scans(patients, GRID, device=device) for device in ("cpu", "cuda"))
    for i in range(len(patients)):
        for label in (1, 2, 3):
            a, b = (made.labels[i].cpu() == label for made in (here, there))
            assert 2.0 * float((a & b).sum()) / float(a.sum() + b.sum()) > 0.98, label
        off = (here.series[i] - there.series[i].cpu()).abs() / here.series[i].clamp(min=50.0)
        assert float((off < 0.02).float().mean()) > 0.99
    assert float((here.kept == there.kept.cpu()).float().mean()) > 0.999
