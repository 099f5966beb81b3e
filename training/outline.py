"""Train the built-in outline network on simulated patients alone: `make weights`.

Each step sees one patient who is seen never again: drawn here more widely than in the simulated cohort, so that a
real patient lies within. A stopped training goes on from its checkpoint. With a GPU everything runs there.
"""

import argparse
import inspect
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Threads that wait must sleep: they share the cores with the processes that simulate the next patients.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import lightning as L  # noqa: N812
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.optim.swa_utils import AveragedModel, get_swa_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, Sampler

from gliolens.about import software
from gliolens.case import Grid
from gliolens.cohorts.phantom import anatomy
from gliolens.cohorts.phantom.anatomy import head_grid
from gliolens.cohorts.phantom.scans import Scans, make_scans
from gliolens.cohorts.phantom.traits import Findings, PhantomTraits
from gliolens.errors import ConfigError
from gliolens.io.store import content_hash, file_hash, write_json
from gliolens.labels import ENHANCING, NECROTIC, SERIES
from gliolens.loop import CHECKPOINT, forget, train
from gliolens.nn import unet
from gliolens.nn.unet import UNet
from gliolens.outline import OUTPUTS, network_input, read_card, write_outliner
from gliolens.progress import say
from gliolens.protocol import check_settings

SIMULATOR = Path(anatomy.__file__).parent
DRAWN_BY = ("anatomy", "chance", "growth", "scanner", "scans", "signal", "tissues")
"""Modules of the simulator that decide what a scan looks like; the others decide who is in a cohort."""
SPACING_MM = 2.0
AVERAGED_FROM = 0.4
"""Share of the training after which the weights of every step enter their mean, which is what is kept."""
WIDTHS = (16, 32, 64, 128, 128)
STEPS_PER_EPOCH = 50
PEAK = 2e-3
LOBES = ("frontal", "temporal", "parietal", "occipital", "insula", "deep")


STRANGERS = 10**9
"""Added to the seed, so that no patient of `gliolens cohort phantom` has the head of one that was trained on."""


def draw_patient(seed: int, number: int) -> PhantomTraits:
    """A patient for training: any tumour in any brain, with no regard to how common it is."""
    seed += STRANGERS
    rng = np.random.default_rng([seed, number, 77])
    findings = None if rng.random() < 0.1 else _draw_findings(rng)
    return PhantomTraits(
        case=str(number), seed=(seed, number), site=f"{seed}-{number}", age=float(rng.uniform(20.0, 88.0)),
        sex="M", grade="healthy" if findings is None else "HGG", findings=findings,
    )  # fmt: skip


def _draw_findings(rng: np.random.Generator) -> Findings:
    kinds = ("none", "faint", "patchy", "solid", "ring")
    enhancement = str(rng.choice(kinds, p=(0.17, 0.04, 0.09, 0.18, 0.52)))
    dark = enhancement in ("none", "faint")
    share = rng.beta(3.0, 1.3) if dark else rng.beta(1.7, 2.3)
    necrosis = {
        "ring": rng.uniform(0.15, 0.8),
        "solid": rng.uniform(0.0, 0.2),
        "patchy": rng.uniform(0.0, 0.4),
    }
    return Findings(
        volume_ml=float(np.clip(np.exp(rng.normal(np.log(60.0), 0.95)), 2.0, 280.0)),
        core_share=float(np.clip(share, 0.08, 0.97)),
        enhancement=enhancement,
        necrosis=float(necrosis.get(enhancement, 0.0)),
        front_mm=float(np.clip(np.exp(rng.normal(np.log(2.2), 0.55)), 0.8, 6.0)),
        lobe=str(rng.choice(LOBES, p=(0.26, 0.26, 0.2, 0.08, 0.08, 0.12))),
        cortical=bool(rng.random() < 0.35),
        mismatch=bool(dark and rng.random() < 0.2),
        calcified=bool(rng.random() < 0.1),
        cystic=bool(rng.random() < 0.25),
        bleeding=bool(not dark and rng.random() < 0.25),
        foci=int(rng.choice((1, 2, 3, 4), p=(0.75, 0.14, 0.07, 0.04))),
        conspicuity=_draw_conspicuity(rng),
    )


def _draw_conspicuity(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """In every second patient a series or two show less of the tumour; T2 and FLAIR never both nothing."""
    shows = np.ones(4)
    if rng.random() < 0.5:
        faint = rng.choice(4, size=int(rng.choice((1, 2))), replace=False, p=(0.35, 0.25, 0.15, 0.25))
        shows[faint] = rng.uniform(0.0, 0.9, len(faint))
        shows[1] = max(shows[1], 0.4)  # what is called enhancing must be seen to be
        shows[3] = max(shows[3], 0.35)
        shows[2] = max(shows[2], 0.7 - shows[3])
    return (float(shows[0]), float(shows[1]), float(shows[2]), float(shows[3]))


class Patients(Dataset[dict[str, Tensor]]):
    """Simulated patients by number, ready for the network, each with what the network should answer."""

    def __init__(self, seed: int, device: str) -> None:
        self.seed, self.device = seed, device

    def __len__(self) -> int:
        return STEPS_PER_EPOCH

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, number, 78])
        patient, shown = draw_patient(self.seed, number), _present(rng)
        if patient.findings and not {2, 3} & set(shown):  # nobody could see it in what is left
            patient = replace(patient, findings=replace(patient.findings, conspicuity=(1.0, 1.0, 1.0, 1.0)))
        scans = make_scans(
            [patient],
            _draw_grid(rng),
            skull=[bool(rng.random() < 0.25)],
            strange=[float(np.exp(rng.uniform(0.0, 1.1)))],
            device=self.device,
        )
        scans = _moved(scans, rng.integers(-6, 7, size=3).tolist())
        return {"image": _image(scans, shown, rng), "truth": _truth(scans)}


def _draw_grid(rng: np.random.Generator) -> Grid:
    """As many voxels for every head, of 0.84 to 1.2 times their nominal size: heads look larger or smaller."""
    grid, factor = head_grid(SPACING_MM), float(np.exp(rng.uniform(np.log(0.84), np.log(1.2))))
    return Grid(grid.shape, grid.affine @ np.diag([factor, factor, factor, 1.0]))


def _moved(scans: Scans, by: Sequence[int]) -> Scans:
    """The head elsewhere in the image; what leaves it is lost."""

    def moved(voxels: Tensor) -> Tensor:
        padded = F.pad(voxels, [v for n in reversed(by) for v in (max(n, 0), max(-n, 0))])
        d, h, w = (
            slice(max(-n, 0), max(-n, 0) + size) for n, size in zip(by, voxels.shape[-3:], strict=True)
        )
        return padded[..., d, h, w]

    return Scans(moved(scans.series), moved(scans.labels), moved(scans.brain), moved(scans.kept))


def _image(scans: Scans, shown: Sequence[int], rng: np.random.Generator) -> Tensor:
    """What the network sees: the series that are shown, each through a curve that keeps the order of brightness."""
    kept, series = scans.kept[0], {}
    for i in shown:
        top = torch.quantile(scans.series[0, i][kept][::7], 0.995)
        series[SERIES[i]] = (scans.series[0, i] / top).clamp(0.0, 3.0) ** float(np.exp(rng.normal(0.0, 0.25)))
    return network_input(series, kept, SERIES)


def _present(rng: np.random.Generator) -> list[int]:
    """Which series there are: most often all, now and then one missing, seldom a single one."""
    if rng.random() < 0.6:
        return [0, 1, 2, 3]
    if rng.random() < 0.3:
        return [0, 1, 3]
    count = int(rng.choice((1, 2, 3), p=(0.2, 0.35, 0.45)))
    return sorted(rng.choice(4, size=count, replace=False).tolist())


def _truth(scans: Scans) -> Tensor:
    labels = scans.labels[0]
    core = (labels == NECROTIC) | (labels == ENHANCING)
    return torch.stack([labels > 0, core, labels == ENHANCING, scans.brain[0] & scans.kept[0]])


class Fresh(Sampler[int]):
    """New patients in every epoch, the same ones after a restart. Lightning tells it the epoch."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.epoch * STEPS_PER_EPOCH, (self.epoch + 1) * STEPS_PER_EPOCH))

    def __len__(self) -> int:
        return STEPS_PER_EPOCH


class Task(L.LightningModule):
    """The network, the running mean of its weights, and how it learns."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.net = UNet(inputs=2 * len(SERIES), outputs=len(OUTPUTS), widths=WIDTHS)
        with torch.no_grad():  # tumour is rare: start from there
            self.net.head.bias.copy_(torch.tensor([-3.0, -4.0, -4.0, 0.0]))
        self.mean = AveragedModel(self.net, multi_avg_fn=get_swa_multi_avg_fn())
        self.register_buffer(
            "seconds", torch.zeros(())
        )  # in the checkpoint, so that a restart goes on counting
        self.since, self.seen = 0.0, torch.zeros(2)

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        logits = self.net(batch["image"]).float()
        truth = batch["truth"].float()
        cross = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(dim=(0, 2, 3, 4))
        overlap = _dice_loss(torch.sigmoid(logits), truth)
        loss = (6.0 * cross + overlap).mul(torch.tensor([1.0, 1.0, 1.0, 0.3]).to(cross)).sum()
        self.seen += torch.stack([overlap[:3].detach().sum().cpu(), torch.tensor(3.0)])
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.global_step <= AVERAGED_FROM * self.steps:
            self.mean.n_averaged.zero_()  # until then the mean is the network as it stands
        self.mean.update_parameters(self.net)

    def on_train_epoch_start(self) -> None:
        self.since = time.monotonic()

    def on_train_epoch_end(self) -> None:
        took = time.monotonic() - self.since
        self.seconds += took
        left = took / 60 * (self.trainer.max_epochs - self.current_epoch - 1)
        say(
            f"epoch {self.current_epoch + 1}: soft Dice {1 - self.seen[0] / self.seen[1]:.3f} on patients not seen "
            f"before; {float(self.seconds) / 60:.0f} min so far, about {left:.0f} to go"
        )
        self.seen.zero_()

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.AdamW(self.net.parameters(), lr=PEAK, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._rate)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate(self, step: int) -> float:
        """Share of the peak: it rises over the first twentieth and falls to a third.

        Not to nothing: what the network learns at small rates is the simulator, and real scans are not that (docs/log).
        """
        done = step / self.steps
        return min(1.0, 0.02 + 20.0 * done) * (0.65 + 0.35 * math.cos(math.pi * min(1.0, done)))


def _dice_loss(p: Tensor, truth: Tensor) -> Tensor:
    """One minus Dice of each output; near 0 where there is nothing to find and nothing was found."""
    both = (p * truth).sum(dim=(0, 2, 3, 4))
    return 1.0 - (2.0 * both + 20.0) / (p.sum(dim=(0, 2, 3, 4)) + truth.sum(dim=(0, 2, 3, 4)) + 20.0)


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """All that decides the weights; a checkpoint of other settings is not gone on from."""
    code = [Path(__file__), *(SIMULATOR / f"{name}.py" for name in DRAWN_BY)]
    hashes = [*map(file_hash, code), *(content_hash(inspect.getsource(f)) for f in (network_input, unet))]
    return {
        "patients": args.epochs * STEPS_PER_EPOCH, "seed": args.seed, "widths": list(WIDTHS),
        "spacing_mm": SPACING_MM, "code": content_hash(hashes),
    }  # fmt: skip


def card(args: argparse.Namespace, hours: float) -> dict[str, Any]:
    """What the weights are."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} cores"
    return {
        "widths": list(WIDTHS), "series": list(SERIES), "spacing_mm": SPACING_MM,
        "thresholds": {"whole": 0.5, "core": 0.5, "enhancing": 0.5}, "least_ml": 0.3, "flips": [0],
        "trained_on": f"{args.epochs * STEPS_PER_EPOCH:,} simulated patients, each seen once; no real scan",
        "steps": args.epochs * STEPS_PER_EPOCH, "hours": round(hours, 2), "device": device, "seed": args.seed,
        "settings": settings(args), "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": software(), "scores": [],
    }  # fmt: skip


def parse() -> argparse.Namespace:
    """What was asked for. Raises ConfigError where the simulator was to run beside a GPU."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the weights and their card")
    parser.add_argument("--work", type=Path, default=Path("build/outline"), help="where the checkpoint lies")
    parser.add_argument(
        "--epochs", type=int, default=400 if gpu else 60, help=f"of {STEPS_PER_EPOCH} patients each"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--workers", type=int, default=0 if gpu else 2, help="processes that simulate; 0 with a GPU"
    )
    args = parser.parse_args()
    if gpu and args.workers:
        raise ConfigError(
            f"--workers is {args.workers}: with a GPU patients are simulated there; give --workers 0"
        )
    return args


def trained(out: Path, wanted: dict[str, Any]) -> bool:
    """Whether the folder holds weights of these very settings already."""
    return (out / "card.json").is_file() and read_card(out).get("settings") == wanted


def take_up(work: Path, wanted: dict[str, Any]) -> None:
    """Make ready the folder that a training starts or goes on in. Raises ConfigError where it holds another one."""
    noted = work / "settings.json"
    if (work / CHECKPOINT).is_file() and not noted.is_file():
        raise ConfigError(
            f"{work} holds a checkpoint without {noted.name}, so nobody knows of which training; choose another "
            "--work, or delete the folder"
        )
    check_settings(noted, wanted, "--work")
    write_json(noted, {"settings": wanted})


def main() -> None:
    """Train, or go on; then write weights and card."""
    args = parse()
    if trained(args.out, settings(args)):
        say(f"{args.out} holds weights of these settings already; delete the folder to train them anew")
        return
    device, patients = "cuda" if torch.cuda.is_available() else "cpu", args.epochs * STEPS_PER_EPOCH
    say(
        f"{patients} patients; on two quiet cores (1.1 s each) about {patients * 1.1 / 60:.0f} minutes. Each epoch "
        "tells how long is left. Stopped, it goes on from the last epoch: give the same command again."
    )
    take_up(args.work, settings(args))
    torch.manual_seed(args.seed)
    task = Task(patients)
    batches = DataLoader(
        Patients(args.seed, device), batch_size=1, sampler=Fresh(), num_workers=args.workers,
        prefetch_factor=2 if args.workers else None, persistent_workers=bool(args.workers),
    )  # fmt: skip
    train(task, batches, epochs=args.epochs, folder=args.work, label="training", seed=args.seed, keep_every=1)
    write_outliner(args.out, task.mean.module, card(args, float(task.seconds) / 3600))
    forget(args.work)
    (args.work / "settings.json").unlink()


if __name__ == "__main__":
    main()
