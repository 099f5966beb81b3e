"""How much memory a training step needs, told without taking it."""

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


def training_bytes(net: nn.Module, *inputs: Tensor) -> int:
    """Bytes of a step with Adam: inputs, weights, their gradients and two moments, and all that the way back needs.

    What a device takes for itself, and room to work in, come on top. With a network and inputs on PyTorch's `meta`
    device nothing is computed and no memory is taken.

    Args:
        net: in training mode.
        inputs: a batch.
    """
    kept: dict[int, int] = {}
    weights = {p.untyped_storage()._cdata: p.untyped_storage().nbytes() for p in net.parameters()}
    alive = []  # a storage that is freed would give its number to another

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        alive.append(storage)
        kept[storage._cdata] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        alive.append(net(*inputs))
    for tensor in inputs:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
    activations = sum(size for number, size in kept.items() if number not in weights)
    return activations + 4 * sum(weights.values())
