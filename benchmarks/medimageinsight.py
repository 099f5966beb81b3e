"""How long MedImageInsight takes at its full size, and how much memory, with random weights in the published layout.

python benchmarks/medimageinsight.py

Needs 2.5 GB of disk in the temporary folder and 5 GB of memory, for half a minute.
"""

import resource
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import torch
from safetensors.torch import save_file

from gliolens.encoders.encoder import Encoder
from gliolens.encoders.medimageinsight import BYTES, FILE, ImageTower, load
from gliolens.nn.precision import has_bfloat16


def write(file: Path) -> None:
    """A file of random weights, as large as the published one but for its header."""
    torch.manual_seed(0)
    net = ImageTower()
    state = dict(net.state_dict())
    used = sum(4 * tensor.numel() for tensor in state.values())
    state["lang_encoder.rest"] = torch.zeros((BYTES - used) // 4)
    save_file(state, file)


def peak_gb() -> float:
    """Most memory this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def timed(label: str, work):
    start = time.perf_counter()
    result = work()
    print(f"{label}: {time.perf_counter() - start:.1f} s, peak so far {peak_gb():.2f} GB", flush=True)
    return result


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FILE
        child = get_context("spawn").Process(target=write, args=(file,))
        child.start()
        child.join()
        if child.exitcode:
            sys.exit("could not write the weights")
        kind = "bfloat16" if has_bfloat16() else "float32"
        print(f"{file.stat().st_size / 1e9:.2f} GB of weights; {torch.get_num_threads()} threads, {kind}")
        encoder: Encoder = timed("load, with its hash", lambda: load("medimageinsight", file, offline=True))
        encoder.net.eval().requires_grad_(False)
        pictures = torch.rand((1, 240, 240), generator=torch.Generator().manual_seed(0))
        vectors = timed("one slice", lambda: encoder.encode(pictures))
        print(f"vectors {tuple(vectors.shape)} of length {vectors.norm(dim=1).tolist()}")


if __name__ == "__main__":
    main()
