"""What precision a machine computes in."""

import torch


def has_bfloat16() -> bool:
    """Whether this machine computes in bfloat16 natively: a GPU that does, or a CPU with AVX-512 BF16 or AMX."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch._C._has_mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
