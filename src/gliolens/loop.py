"""The one training loop: Lightning with a checkpoint, a way to go on, and progress on stderr."""

import gc
import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader

from gliolens.errors import ConfigError
from gliolens.io.store import whole_file
from gliolens.nn.precision import has_bfloat16
from gliolens.progress import Counter

CHECKPOINT = "last.ckpt"
STAGE = "weights.safetensors"
"""What a finished stage of a training of several leaves."""


def train(
    task: L.LightningModule,
    batches: DataLoader[Any],
    *,
    epochs: int,
    folder: Path,
    label: str,
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
    keep_every: int | None = None,
    clip: float | None = 5.0,
) -> None:
    """Train a network, going on from `folder`'s checkpoint where a stopped run left one.

    The checkpoint is written every few epochs and removed by `forget` once the caller has saved what it needs.

    Args:
        task: network, loss and optimiser.
        batches: training data.
        epochs: how often to pass over them, counted from the very first start.
        folder: where the checkpoint lies.
        label: what the progress says.
        seed: each epoch starts from a random state of its own, so that a restarted training goes the same way.
        callbacks: of the method's own, such as a score on inner folds.
        keep_every: after how many epochs the checkpoint is written; a quarter of all where not given.
        clip: largest norm of the gradient; none for an optimiser that works in one pass (`fused`).
    """
    checkpoint = folder / CHECKPOINT
    often = keep_every or max(1, epochs // 4)
    keep = ModelCheckpoint(
        dirpath=folder, filename="last", every_n_epochs=often, enable_version_counter=False
    )
    with _quiet():
        trainer = L.Trainer(
            max_epochs=epochs,
            accelerator="auto",
            devices=1,
            precision="bf16-mixed" if has_bfloat16() else "32-true",
            callbacks=[keep, _Epochs(label, epochs, seed), *callbacks],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            gradient_clip_val=clip,
        )
        _fit(trainer, task, batches, checkpoint if checkpoint.is_file() else None)
        del trainer
    task.eval()
    task.trainer = None
    gc.collect()  # the trainer's parts refer to each other, and would keep gradients and moments for long


def _fit(
    trainer: L.Trainer, task: L.LightningModule, batches: DataLoader[Any], checkpoint: Path | None
) -> None:
    """Fit; an interrupt stays an interrupt, where Lightning would exit with 1 and leave Ctrl-C without effect."""
    before = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(task, batches, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as end:
        raise KeyboardInterrupt from end
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
    if trainer.interrupted:
        raise KeyboardInterrupt


def forget(folder: Path) -> None:
    """Remove the checkpoint of a finished training."""
    (folder / CHECKPOINT).unlink(missing_ok=True)


def finished(folder: Path, net: nn.Module) -> bool:
    """Whether a stage of a training is done; its weights are then read into the network."""
    file = folder / STAGE
    if file.is_file():
        net.load_state_dict(load_file(file))
        net.eval()
    return file.is_file()


def finish(folder: Path, net: nn.Module) -> None:
    """Keep what a stage has learnt, in place of its checkpoint."""
    with whole_file(folder / STAGE) as unfinished:
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, unfinished)
    forget(folder)
    net.eval()


def one_cycle(groups: Sequence[tuple[Iterable[nn.Parameter], float]], steps: int, decay: float = 1e-4) -> Any:
    """AdamW for Lightning, its rates rising for a tenth of the steps and then falling.

    Args:
        groups: parameters, each group with its highest rate.
        steps: of the whole training.
        decay: of weights.
    """
    optimiser = torch.optim.AdamW([{"params": list(p), "lr": rate} for p, rate in groups], weight_decay=decay)
    return in_one_cycle(optimiser, [rate for _, rate in groups], steps)


def in_one_cycle(optimiser: torch.optim.Optimizer, rates: list[float], steps: int) -> Any:
    """An optimiser for Lightning whose rates rise for a tenth of the steps and then fall.

    Args:
        optimiser: any with momentum or betas.
        rates: the highest of each of its groups.
        steps: of the whole training.
    """
    rising = max(0.1, min(2 / steps, 0.99))  # PyTorch divides by the steps of the rise less one
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rates, total_steps=steps, pct_start=rising)
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class EachEpoch(Callback):
    """Scores something after each epoch, and remembers the scores across a restart.

    Args:
        score: called after each epoch; the network is left in training mode.
        scores: where the scores go.
    """

    def __init__(self, score: Callable[[], float], scores: list[float]) -> None:
        self.score, self.scores = score, scores

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Score the network as it stands."""
        self.scores.append(self.score())
        pl_module.train()

    def state_dict(self) -> dict[str, Any]:
        """The scores so far."""
        return {"scores": list(self.scores)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the scores of the checkpoint."""
        self.scores[:] = state_dict["scores"]


class _Epochs(Callback):
    def __init__(self, label: str, epochs: int, seed: int) -> None:
        self.counter, self.epochs, self.seed = Counter(label), epochs, seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            torch.manual_seed(self.seed * 100_003 + trainer.current_epoch)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.counter(trainer.current_epoch + 1, self.epochs)
        if wrong := [name for name, p in pl_module.named_parameters() if not torch.isfinite(p).all()]:
            raise ConfigError(
                f"the training ran away: after epoch {trainer.current_epoch + 1} {len(wrong)} weights are not finite "
                f"({wrong[0]}, ...); lower the rate, or take larger images"
            )

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self.counter.stop()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's advice on workers, loggers and hardware, which the user cannot act on."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", module="torch.utils._pytree")
        yield
