"""How bright each tissue is in each series: relaxation times, contrast medium, and the signal equations of MRI.

Relaxation at 3 T, of healthy tissue after Stanisz et al. 2005 (doi 10.1002/mrm.20605) and Wansapura et al. 1999
(doi 10.1002/(SICI)1522-2586(199904)9:4<531::AID-JMRI4>3.0.CO;2-L); of tumours within the wide ranges published;
values for dura, plexus, vessels and blood are chosen by eye. The order of the tissues in each series is not drawn:
it follows.
"""

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from gliolens.cohorts.phantom.chance import Chance
from gliolens.cohorts.phantom.tissues import TISSUES
from gliolens.cohorts.phantom.traits import Findings
from gliolens.labels import SERIES

RELAXIVITY: Final = 4.5
"""Of a gadolinium agent, per mM and second (Rohrer et al. 2005, doi 10.1097/01.rli.0000184756.66360.d3)."""
_PROPERTIES: Final = {
    # protons, T1 in ms, T2 in ms, contrast medium taken up in mM, spread of the times between patients
    "fluid": (1.00, 4200.0, 1500.0, 0.00, 0.05),
    "grey": (0.84, 1350.0, 98.0, 0.05, 0.03),
    "white": (0.70, 850.0, 72.0, 0.02, 0.03),
    "deep grey": (0.80, 1150.0, 74.0, 0.04, 0.06),
    "pallidum": (0.74, 1000.0, 54.0, 0.03, 0.08),
    "white matter change": (0.84, 1350.0, 150.0, 0.03, 0.15),
    "choroid plexus": (0.88, 1700.0, 125.0, 0.90, 0.20),
    "vessel": (0.90, 1600.0, 60.0, 3.50, 0.15),
    "dura": (0.60, 900.0, 45.0, 0.80, 0.15),
    "fat": (0.90, 380.0, 90.0, 0.03, 0.10),
    "muscle": (0.75, 1100.0, 40.0, 0.12, 0.10),
    "bone": (0.08, 1000.0, 20.0, 0.00, 0.10),
    "oedema": (0.86, 1500.0, 180.0, 0.03, 0.24),
    "solid": (0.87, 1700.0, 195.0, 0.06, 0.22),
    "enhancing": (0.86, 1650.0, 155.0, 0.75, 0.20),
    "necrosis": (0.94, 2450.0, 310.0, 0.08, 0.28),
    "fresh blood": (0.80, 600.0, 80.0, 0.02, 0.25),
    "old blood": (0.70, 1200.0, 26.0, 0.02, 0.25),
    "calcium": (0.40, 1200.0, 32.0, 0.02, 0.25),
    "air": (0.00, 1000.0, 50.0, 0.00, 0.00),
}

_ILL: Final = (
    "oedema",
    "solid",
    "enhancing",
    "necrosis",
    "white matter change",
    "fresh blood",
    "old blood",
    "calcium",
)


def draw_signals(
    findings: Sequence[Findings | None], chance: Chance, site: Chance, strange: Float[Tensor, "b 1 1"]
) -> Float[Tensor, "b s k"]:
    """Signal of each tissue in each series of `labels.SERIES`, in one arbitrary unit.

    Field strength, sequences and their times come from `site`; what differs between patients, the tissues themselves,
    the contrast medium and how long it had to act, from `chance`. What no equation here holds (magnetisation transfer,
    diffusion, flow) makes every signal differ by a few per cent; `strange` multiplies that.
    """
    b = len(findings)
    table = torch.tensor([_PROPERTIES[name] for name in TISSUES]).to(chance.device)
    protons, t1, t2, uptake, spread = (column.expand(b, -1).clone() for column in table.T)
    water = chance.normal(len(TISSUES))  # more of it makes both times longer
    t1 = t1 * torch.exp(spread * water)
    t2 = t2 * torch.exp(spread * (0.7 * water + 0.7 * chance.normal(len(TISSUES))))
    _apply_findings(findings, t1, t2, uptake, chance)
    weak_field = site.happens(0.4, 1)  # 1.5 T
    t1, t2 = t1 * (1.0 - 0.22 * weak_field), t2 * (1.0 + 0.08 * weak_field)
    t1[:, 0], dose = 4200.0, torch.exp(0.25 * chance.normal(1))
    uptake = uptake * dose * torch.exp(0.25 * chance.normal(len(TISSUES)))
    late = 1.0 / (1.0 / t1 + RELAXIVITY * uptake / 1000.0)
    gradient = site.happens(0.6, 1)  # an inversion-prepared gradient echo, else a spin echo
    same = site.happens(0.6, 1)
    gradient_late = same * gradient + (1.0 - same) * site.happens(0.6, 1)
    signals = torch.stack(
        [
            _t1_weighted(protons, t1, t2, gradient, site),
            _t1_weighted(protons, late, t2, gradient_late, site),
            _t2_weighted(protons, t1, t2, site),
            _flair(protons, t1, t2, site),
        ],
        dim=1,
    )
    _let_flow(signals, gradient, chance)
    unlike = strange * torch.tensor([0.07 if name in _ILL else 0.03 for name in TISSUES]).to(signals)
    signals = signals * torch.exp(unlike * chance.normal(len(SERIES), len(TISSUES)))
    _hide(findings, signals)
    return signals


def _hide(findings: Sequence[Findings | None], signals: Tensor) -> None:
    """Where a tumour does not show in a series, its tissues are as bright there as grey matter."""
    ill = [TISSUES.index(name) for name in ("oedema", "solid", "enhancing", "necrosis")]
    for i, finding in enumerate(findings):
        if finding is not None:
            shows = torch.tensor(finding.conspicuity).to(signals)[:, None]
            grey = signals[i, :, TISSUES.index("grey")][:, None]
            signals[i, :, ill] = shows * signals[i, :, ill] + (1.0 - shows) * grey


def _apply_findings(
    findings: Sequence[Findings | None], t1: Tensor, t2: Tensor, uptake: Tensor, chance: Chance
) -> None:
    """Fluid-like solid tumour under a T2-FLAIR mismatch, fluid in cysts, little contrast medium where it is faint."""
    solid, necrosis, enhancing = (TISSUES.index(name) for name in ("solid", "necrosis", "enhancing"))
    stretch = chance.uniform(1.0, 1.3, 2)
    for i, finding in enumerate(findings):
        if finding is not None and finding.enhancement == "faint":
            uptake[i, enhancing] *= 0.4
        if finding is not None and finding.mismatch:
            t1[i, solid], t2[i, solid] = 2500.0 * stretch[i, 0], 400.0 * stretch[i, 1]
        if finding is not None and finding.cystic:
            t1[i, necrosis], t2[i, necrosis] = 3100.0 * stretch[i, 0], 700.0 * stretch[i, 1]


def _t1_weighted(protons: Tensor, t1: Tensor, t2: Tensor, gradient: Tensor, site: Chance) -> Tensor:
    repeat, echo = site.uniform(420.0, 750.0, 1), site.uniform(8.0, 18.0, 1)
    spin = protons * (1.0 - torch.exp(-repeat / t1)) * torch.exp(-echo / t2)
    wait, cycle = site.uniform(800.0, 1050.0, 1), site.uniform(1800.0, 2500.0, 1)
    turned = site.uniform(1.4, 1.75, 1)  # the train of small pulses leaves less than a full inversion
    inverted = (
        protons * (1.0 - turned * torch.exp(-wait / t1) + (turned - 1.0) * torch.exp(-cycle / t1)).abs()
    )
    return gradient * inverted + (1.0 - gradient) * spin


def _t2_weighted(protons: Tensor, t1: Tensor, t2: Tensor, site: Chance) -> Tensor:
    repeat, echo = site.uniform(4000.0, 7500.0, 1), site.uniform(75.0, 125.0, 1)
    return protons * (1.0 - torch.exp(-repeat / t1)) * torch.exp(-echo / t2)


def _flair(protons: Tensor, t1: Tensor, t2: Tensor, site: Chance) -> Tensor:
    repeat, echo = site.uniform(7000.0, 11000.0, 1), site.uniform(105.0, 150.0, 1)
    null = t1[:, 0:1] * torch.log(2.0 / (1.0 + torch.exp(-repeat / t1[:, 0:1])))
    wait = null * site.uniform(0.94, 1.04, 1)
    recovered = (1.0 - 2.0 * torch.exp(-wait / t1) + torch.exp(-repeat / t1)).abs()
    return protons * recovered * torch.exp(-echo / t2)


def _let_flow(signals: Tensor, gradient: Tensor, chance: Chance) -> None:
    """Blood that flows leaves no spin echo, and is bright in a gradient echo."""
    vessel = TISSUES.index("vessel")
    before = gradient * chance.uniform(0.7, 1.6, 1) + (1.0 - gradient) * chance.uniform(0.1, 0.6, 1)
    flow = torch.cat([before, torch.ones_like(before), chance.uniform(0.1, 0.5, 2)], dim=1)
    signals[:, :, vessel] *= flow
