"""Train the built-in slice encoder on simulated patients alone, to tell what tissue and tumour a patient's slices hold.

The network sees one slice of one series at a time and is not told which. From its maps follows what lies in each of
8 x 8 fields; from the vector of a slice, which series it is and how much of each tissue it holds; and from the pooled
vectors of a patient, mean and maximum, of one series and of four, what the tumour is like. Everything but the maps is
asked by linear layers, so that a small linear classifier finds it later. It is never told a grade or a genotype. No
patient is seen twice. A stopped training goes on from its checkpoint.
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
HEIGHTS = 10
"""Slices of each series of a patient, spread over the head."""
PATIENTS_AT_ONCE = 5
PEAK = 1e-3
FIELDS = 8
TISSUES = 5
"""Air, head without tumour, and the three parts of a tumour."""
MEANS = (0.75, 0.24, 0.003, 0.01, 0.003)
SPREADS = (0.1, 0.1, 0.01, 0.03, 0.01)
"""Of the share of a slice that each of these takes; brings them to one scale."""
SIGNS = ("cortical", "mismatch", "calcified", "cystic", "bleeding")
SIZES = ("volume_ml", "core_share", "necrosis", "front_mm")
"""Told as logarithms of volume and front, and as shares; each brought to a spread of about 1."""
ASKED = {
    "enhancement": len(ENHANCEMENTS),
    "lobe": len(LOBES),
    "signs": len(SIGNS),
    "sizes": len(SIZES),
    "ill": 1,
}


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
        return {**_slices(scans, rng), **_signs(patient.findings)}


def _slices(scans: Scans, rng: np.random.Generator) -> dict[str, Tensor]:
    """Slices (4, n, p, p) of the four series at the same heights, and what lies in them (n, tissues, f, f)."""
    kept, labels = scans.kept[0], scans.labels[0]
    heights = _heights(kept, rng)
    grey = torch.stack([_grey(scans.series[0, i], kept, rng) for i in range(len(SERIES))])
    content = torch.stack([~kept, kept & (labels == 0), *(labels == k for k in (1, 2, 3))]).float()
    image, fields = (_framed(x[..., heights].permute(3, 0, 1, 2)) for x in (grey, content))
    fields[:, 0] = 1.0 - fields[:, 1:].sum(dim=1)  # around the head is air too
    image = F.interpolate(image, (PIXELS, PIXELS), mode="bicubic", antialias=True).clamp(0.0, 1.0)
    return {"image": image.transpose(0, 1), "fields": F.interpolate(fields, (FIELDS, FIELDS), mode="area")}


def _heights(kept: Tensor, rng: np.random.Generator) -> Tensor:
    """One height from each of `HEIGHTS` equal parts of the head."""
    covered = torch.nonzero(kept.sum(dim=(0, 1)) * SPACING_MM**2 >= LEAST_SHARE * FRAME_MM**2)[:, 0]
    parts = (np.arange(HEIGHTS) + rng.random(HEIGHTS)) / HEIGHTS
    return covered[torch.from_numpy((parts * len(covered)).astype(int)).to(kept.device)]


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


def _signs(findings: Findings | None) -> dict[str, Tensor]:
    """What the tumour is like."""
    f = findings or Findings(4.0, 0.5, "none", 0.0, 2.0, "frontal", *[False] * 5, 1)
    sizes = [
        np.log(f.volume_ml / 60.0),
        4.0 * (f.core_share - 0.5),
        4.0 * f.necrosis - 1.0,
        2.0 * np.log(f.front_mm / 2.2),
    ]
    return {
        "ill": torch.tensor(findings is not None),
        "enhancement": torch.tensor(ENHANCEMENTS.index(f.enhancement)),
        "lobe": torch.tensor(LOBES.index(f.lobe)),
        "signs": torch.tensor([float(getattr(f, s)) for s in SIGNS]),
        "sizes": torch.tensor(sizes, dtype=torch.float32),
    }


class Asks(nn.ModuleDict):
    """What is asked of a vector, each by a linear layer."""

    def __init__(self, dim: int, asked: dict[str, int]) -> None:
        super().__init__({name: nn.Linear(dim, n) for name, n in asked.items()})

    def forward(self, vectors: Tensor) -> dict[str, Tensor]:
        return {name: ask(vectors).float() for name, ask in self.items()}


class Task(L.LightningModule):
    """The encoder, what asks it, and how it learns."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps, self.net = steps, SliceEncoder()
        self.content = nn.Conv2d(256, TISSUES, 1)
        self.of_slice = Asks(self.net.dim, {"series": len(SERIES), "areas": TISSUES})
        self.of_patient = nn.ModuleDict(
            {f"{p}-{n}": Asks(n * self.net.dim, ASKED) for p in ("mean", "max") for n in (1, len(SERIES))}
        )
        self.register_buffer("seconds", torch.zeros(()))
        self.since, self.seen = 0.0, torch.zeros(3)
        """When the epoch began; patients with a tumour, of whom the enhancement was told, the sum of losses."""

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        image = batch["image"].flatten(0, 2)[:, None]
        fields = batch["fields"][:, None].expand(-1, len(SERIES), *[-1] * 4)
        maps = self.net.maps(image.contiguous(memory_format=torch.channels_last))
        content = torch.log_softmax(self.content(maps).float(), dim=1)
        vectors = self.net.joined(maps)
        loss = -3.0 * (fields.flatten(0, 2) * content).sum(dim=1).mean()
        loss = loss + self._about_slices(vectors, fields.flatten(0, 2).mean(dim=(2, 3)))
        told, right = self._about_patients(vectors.unflatten(0, batch["image"].shape[:3]), batch)
        loss = loss + told
        ill = float(batch["ill"].sum())
        self.seen += torch.tensor([ill, float(right), ill * float(loss.detach())])
        return loss

    def _about_slices(self, vectors: Tensor, areas: Tensor) -> Tensor:
        answers = self.of_slice(vectors)
        series = torch.arange(len(SERIES), device=vectors.device)[:, None].expand(-1, HEIGHTS)
        series = series.flatten().repeat(len(vectors) // (len(SERIES) * HEIGHTS))
        mean, spread = torch.tensor([MEANS, SPREADS], device=areas.device)
        apart = F.mse_loss(answers["areas"], (areas - mean) / spread)
        return 0.3 * (F.cross_entropy(answers["series"], series) + apart)

    def _about_patients(self, vectors: Tensor, told: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Loss of what pooled vectors (patients, series, heights, dim) say; how often enhancement was told right."""
        loss, right = vectors.new_zeros(()), vectors.new_zeros(())
        for pooling, pooled in (("mean", vectors.mean(dim=2)), ("max", vectors.amax(dim=2))):
            alone = self.of_patient[f"{pooling}-1"](pooled.flatten(0, 1))
            each = {name: value.repeat_interleave(len(SERIES), dim=0) for name, value in told.items()}
            together = self.of_patient[f"{pooling}-{len(SERIES)}"](pooled.flatten(1))
            loss = loss + 0.5 * _about_tumour(alone, each) + _about_tumour(together, told)
            right = right + _told_right(together, told) / 2
        return loss, right

    def on_train_epoch_start(self) -> None:
        self.since = time.monotonic()

    def on_train_epoch_end(self) -> None:
        took = time.monotonic() - self.since
        self.seconds += took
        left = took / 60 * (self.trainer.max_epochs - self.current_epoch - 1)
        n, right, loss = self.seen.tolist()
        say(
            f"epoch {self.current_epoch + 1}: enhancement told right {right / n:.2f}, loss {loss / n:.3f}; "
            f"{float(self.seconds) / 60:.0f} min so far, about {left:.0f} to go"
        )
        self.seen.zero_()

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.AdamW(self.parameters(), lr=PEAK, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK, total_steps=self.steps, pct_start=0.1)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _about_tumour(answers: dict[str, Tensor], told: dict[str, Tensor]) -> Tensor:
    ill = told["ill"]
    loss = 0.3 * F.binary_cross_entropy_with_logits(answers["ill"][:, 0], ill.float())
    if not ill.any():
        return loss
    for name in ("enhancement", "lobe"):
        loss = loss + 0.3 * F.cross_entropy(answers[name][ill], told[name][ill])
    loss = loss + 0.5 * F.binary_cross_entropy_with_logits(answers["signs"][ill], told["signs"][ill])
    return loss + 0.3 * F.mse_loss(answers["sizes"][ill], told["sizes"][ill])


def _told_right(answers: dict[str, Tensor], told: dict[str, Tensor]) -> Tensor:
    return ((answers["enhancement"].argmax(dim=1) == told["enhancement"]) & told["ill"]).sum()


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
        "--epochs", type=int, default=240 if gpu else 80, help=f"of {len(Fresh())} patients each"
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
