"""Training a network: what is left of it in memory."""

import weakref

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader

from gliolens.loop import one_cycle, train


class Line(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 1)

    def training_step(self, batch, _):
        return self.net(batch).pow(2).mean()

    def configure_optimizers(self):
        made = one_cycle([(self.net.parameters(), 1e-3)], 4)
        self.optimiser = weakref.ref(made["optimizer"])
        return made


def test_of_a_finished_training_the_network_alone_is_left(tmp_path):
    """Thirty-six trainings of 33 million parameters would else keep 10 GB of gradients and moments."""
    task = Line()
    train(task, DataLoader(torch.ones(8, 3), batch_size=4), epochs=2, folder=tmp_path, label="line")
    assert task.optimiser() is None
    assert not task.training
