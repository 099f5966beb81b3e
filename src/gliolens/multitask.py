"""How a network that outlines and answers at once learns: each part from the cases of which it is known."""

from collections.abc import Sequence
from typing import Any

import lightning as L  # noqa: N812
import torch
from torch import Tensor

from gliolens.loop import one_cycle
from gliolens.nn.multitask import MultiTaskNet, Told
from gliolens.segmenter import loss_of
from gliolens.slices import as_seen
from gliolens.tasks import Task, class_weights, task_loss


class Together(L.LightningModule):
    """Outline and answers at once.

        L = Dice + cross-entropy of tissues + w sum over tasks of their weighted cross-entropy,

    each over the cases of a batch of which it is known; a batch of which nothing is known is passed over.

    Args:
        net: what learns.
        tasks: the questions, in the order of the batches' classes.
        steps: of the whole training.
        rate: highest learning rate of the backbone.
        head_rate: that of CMD and the heads, as a share of it.
        task_weight: w.
        balanced: whether classes are weighted; see `tasks.class_weights`.
    """

    def __init__(
        self, net: MultiTaskNet, tasks: Sequence[Task], steps: int, *, rate: float, head_rate: float = 1.0,
        task_weight: float = 1.0, balanced: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.net = net
        self.tasks, self.steps, self.task_weight = tasks, steps, task_weight
        self.rates = rate, rate * head_rate
        self.outline = loss_of("dice+cross-entropy", torch.ones(1))
        self.weights = [class_weights(task, balanced=balanced) for task in tasks]

    def training_step(self, batch: list[Tensor], _: int) -> Tensor | None:
        """The loss of a batch of `crops.Crops`."""
        image, there, labels, has_mask, truth = batch
        told: Told = self.net(as_seen(image), there)
        parts = [self.outline(told.tissues[has_mask].float(), labels[has_mask])] if has_mask.any() else []
        for i, (task, weights) in enumerate(zip(self.tasks, self.weights, strict=True)):
            loss = task_loss(told.answers[task.target], truth[:, i], weights)
            parts += [] if loss is None else [self.task_weight * loss]
        return torch.stack(parts).sum() if parts else None  # Lightning passes over a step without a loss

    def configure_optimizers(self) -> Any:
        """AdamW, in one cycle."""
        groups = zip((self.net.backbone.parameters(), self.net.asking()), self.rates, strict=True)
        return one_cycle(list(groups), self.steps)
