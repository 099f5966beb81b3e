"""Train the built-in slice encoder on simulated patients alone, to tell what tissue and tumour a slice holds.

One series at a time, and not told which: from a slice the network answers which series it is, what lies in each of its
8 x 8 fields, and what the tumour is like. No patient is seen twice. A stopped training goes on from its checkpoint.
"""

import argparse
import inspect
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).parent))

import lightning as L  # noqa: N812
import numpy as np
import torch
from outline import DRAWN_BY, SIMULATOR, Fresh, draw_patient, take_up
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset

from gliolens.about import software
from gliolens.cohorts.phantom.anatomy import head_grid
from gliolens.cohorts.phantom.literature import ENHANCEMENTS, LOBES
from gliolens.cohorts.phantom.scans import Scans, make_scans
from gliolens.cohorts.phantom.traits import Findings
from gliolens.embedding import FRAME_MM, LEAST_SHARE, PERCENTILES
from gliolens.encoders.built_in import PIXELS
from gliolens.io.store import content_hash, file_hash, read_json, whole_file, write_json
from gliolens.labels import SERIES
from gliolens.loop import forget, train
from gliolens.nn.slice_encoder import SliceEncoder
from gliolens.progress import say

SPACING_MM = 2.0
SLICES = 96
"""Of a patient, drawn from all slices of all series."""
PATIENTS_AT_ONCE = 2
PEAK = 1e-3
FIELDS = 8
SIGNS = ("cortical", "mismatch", "calcified", "cystic", "bleeding")
SIZES = ("volume_ml", "core_share", "necrosis", "front_mm")
"""Told as logarithms of volume and front, and as shares; each brought to a spread of about 1."""


class Slices(Dataset[dict[str, Tensor]]):
    """Slices of simulated patients by number, with what is true of each."""

    def __init__(self, seed: int, device: str) -> None:
        self.seed, self.device, self.grid = seed, device, head_grid(SPACING_MM)

    def __len__(self) -> int:
        return len(Fresh())

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.seed, number, 79])
        patient = draw_patient(self.seed, number)
        scans = make_scans(
            [patient],
            self.grid,
            skull=[bool(rng.random() < 0.3)],
            strange=[float(np.exp(rng.uniform(0.0, 1.1)))],
            device=self.device,
        )
        return {**_slices(scans, rng), **_signs(patient.findings, SLICES)}


def _slices(scans: Scans, rng: np.random.Generator) -> dict[str, Tensor]:
    """Slices (n, 1, p, p) of all series in any order, which series each is, and what lies in it (n, fields, f, f)."""
    kept, labels = scans.kept[0], scans.labels[0]
    covered = kept.sum(dim=(0, 1)) * SPACING_MM**2 >= LEAST_SHARE * FRAME_MM**2
    heights = torch.from_numpy(rng.choice(torch.nonzero(covered)[:, 0].cpu().numpy(), SLICES)).to(kept.device)
    which = torch.from_numpy(rng.integers(0, len(SERIES), SLICES)).to(kept.device)
    grey = torch.stack([_grey(scans.series[0, i], kept, rng) for i in range(len(SERIES))])
    image = grey[which, :, :, heights]
    content = torch.stack([~kept, kept & (labels == 0), *(labels == k for k in (1, 2, 3))]).float()
    fields = content[:, :, :, heights].permute(3, 0, 1, 2)
    image, fields = _framed(image[:, None]), _framed(fields)
    fields[:, 0] = 1.0 - fields[:, 1:].sum(dim=1)  # around the head is air too
    return {
        "image": F.interpolate(image, (PIXELS, PIXELS), mode="bicubic", antialias=True).clamp(0.0, 1.0),
        "series": which,
        "fields": F.interpolate(fields, (FIELDS, FIELDS), mode="area"),
    }


def _grey(series: Tensor, kept: Tensor, rng: np.random.Generator) -> Tensor:
    """As `embedding` shows it: percentiles of the head become black and white; through a curve that keeps the order."""
    low, high = torch.quantile(series[kept][::7], torch.tensor(PERCENTILES).to(series) / 100)
    grey = ((series - low) / (high - low).clamp_min(1e-6)).clamp(0.0, 1.0) * kept
    return grey ** float(np.exp(rng.normal(0.0, 0.2)))


def _framed(image: Tensor) -> Tensor:
    """Slices (n, c, d, h) in a square frame of `FRAME_MM`, front up, the patient's left on the right."""
    edge = round(FRAME_MM / SPACING_MM)
    d, h = image.shape[2:]
    left, low = (edge - d) // 2, (edge - h) // 2
    return F.pad(image, (low, edge - h - low, left, edge - d - left)).mT.flip(2, 3)


def _signs(findings: Findings | None, n: int) -> dict[str, Tensor]:
    """What the tumour is like, the same for every slice of a patient."""
    known = findings is not None
    f = findings or Findings(4.0, 0.5, "none", 0.0, 2.0, "frontal", *[False] * 5, 1)
    sizes = [
        np.log(f.volume_ml / 60.0),
        4.0 * (f.core_share - 0.5),
        4.0 * f.necrosis - 1.0,
        2.0 * np.log(f.front_mm / 2.2),
    ]
    one = {
        "known": torch.tensor(known),
        "enhancement": torch.tensor(ENHANCEMENTS.index(f.enhancement)),
        "lobe": torch.tensor(LOBES.index(f.lobe)),
        "signs": torch.tensor([float(getattr(f, s)) for s in SIGNS]),
        "sizes": torch.tensor(sizes, dtype=torch.float32),
    }
    return {name: value.expand(n, *value.shape) for name, value in one.items()}


class Task(L.LightningModule):
    """The encoder, what asks it, and how it learns."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps, self.net = steps, SliceEncoder()
        self.content = nn.Conv2d(256, 5, 1)
        asked = {
            "series": len(SERIES),
            "enhancement": len(ENHANCEMENTS),
            "lobe": len(LOBES),
            "signs": len(SIGNS),
            "sizes": len(SIZES),
        }
        self.asks = nn.ModuleDict({name: nn.Linear(self.net.dim, n) for name, n in asked.items()})
        self.register_buffer("seconds", torch.zeros(()))
        self.since, self.seen = (
            0.0,
            torch.zeros(3),
        )  # slices, of which the series was told, and the sum of losses

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        told = {name: value.flatten(0, 1) for name, value in batch.items()}
        maps = self.net.maps(told["image"].contiguous(memory_format=torch.channels_last))
        vectors = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)
        content = torch.log_softmax(self.content(maps).float(), dim=1)
        answers = {name: ask(vectors).float() for name, ask in self.asks.items()}
        ill = told["known"] & (told["fields"][:, 2:].sum(dim=(1, 2, 3)) > 0.05)
        loss = -(told["fields"] * content).sum(dim=1).mean() * 3.0
        loss = loss + 0.3 * F.cross_entropy(answers["series"], told["series"])
        if ill.any():
            loss = loss + self._about_tumour(answers, told, ill)
        right = (answers["series"].argmax(dim=1) == told["series"]).sum()
        n = len(vectors)
        self.seen += torch.tensor([n, float(right), n * float(loss.detach())])
        return loss

    def _about_tumour(self, answers: dict[str, Tensor], told: dict[str, Tensor], ill: Tensor) -> Tensor:
        loss = sum(
            0.3 * F.cross_entropy(answers[name][ill], told[name][ill]) for name in ("enhancement", "lobe")
        )
        loss = loss + F.binary_cross_entropy_with_logits(answers["signs"][ill], told["signs"][ill])
        return loss + 0.3 * F.mse_loss(answers["sizes"][ill], told["sizes"][ill])

    def on_train_epoch_start(self) -> None:
        self.since = time.monotonic()

    def on_train_epoch_end(self) -> None:
        took = time.monotonic() - self.since
        self.seconds += took
        left = took / 60 * (self.trainer.max_epochs - self.current_epoch - 1)
        n, right, loss = self.seen.tolist()
        say(
            f"epoch {self.current_epoch + 1}: series told right {right / n:.2f}, loss {loss / n:.3f}; "
            f"{float(self.seconds) / 60:.0f} min so far, about {left:.0f} to go"
        )
        self.seen.zero_()

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.AdamW(self.parameters(), lr=PEAK, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK, total_steps=self.steps, pct_start=0.1)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """All that decides the weights."""
    code = [
        Path(__file__),
        Path(__file__).with_name("outline.py"),
        *(SIMULATOR / f"{n}.py" for n in DRAWN_BY),
    ]
    hashes = [*map(file_hash, code), content_hash(inspect.getsource(SliceEncoder))]
    patients = args.epochs * len(Fresh())
    return {"patients": patients, "seed": args.seed, "spacing_mm": SPACING_MM, "code": content_hash(hashes)}


def write(folder: Path, net: SliceEncoder, args: argparse.Namespace, hours: float) -> None:
    """Weights in 16 bits, and what they are."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "weights.safetensors"
    with whole_file(file) as unfinished:
        save_file(
            {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}, unfinished
        )
    told = settings(args)
    write_json(folder / "card.json", {
        "trained_on": f"slices of {told['patients']:,} simulated patients, each seen once; no real scan",
        "hours": round(hours, 2), "seed": args.seed, "settings": told, "sha256": file_hash(file),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"), "software": software(),
    })  # fmt: skip


def main() -> None:
    """Train, or go on; then write weights and card."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of the weights and their card")
    parser.add_argument("--work", type=Path, default=Path("build/encoder"), help="where the checkpoint lies")
    parser.add_argument(
        "--epochs", type=int, default=120 if gpu else 24, help=f"of {len(Fresh())} patients each"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--workers", type=int, default=0 if gpu else 2, help="processes that simulate; 0 with a GPU"
    )
    args = parser.parse_args()
    done = args.out / "card.json"
    if done.is_file() and read_json(done).get("settings") == settings(args):
        say(f"{args.out} holds weights of these settings already; delete the folder to train them anew")
        return
    take_up(args.work, settings(args))
    torch.manual_seed(args.seed)
    task = Task(args.epochs * len(Fresh()) // PATIENTS_AT_ONCE)
    batches = DataLoader(
        Slices(args.seed, "cuda" if gpu else "cpu"), batch_size=PATIENTS_AT_ONCE, sampler=Fresh(),
        num_workers=args.workers, prefetch_factor=2 if args.workers else None, persistent_workers=bool(args.workers),
    )  # fmt: skip
    train(task, batches, epochs=args.epochs, folder=args.work, label="training", seed=args.seed, keep_every=1)
    write(args.out, task.net, args, float(task.seconds) / 3600)
    forget(args.work)
    (args.work / "settings.json").unlink()


if __name__ == "__main__":
    main()
