"""Shape aliases: how every array in GlioLens is laid out.

Arrays are `(D, H, W)`: the first, second and third voxel axis. Inside GlioLens these point to the patient's
right, anterior and superior (RAS+), so an axial slice is `voxels[:, :, k]`. Networks see `(C, D, H, W)` or
`(B, C, D, H, W)`. The aliases are checked under pytest by jaxtyping and cost nothing otherwise.
"""

from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Shaped, UInt8

Voxels: TypeAlias = Shaped[np.ndarray, "D H W"]
"""Voxels of any dtype."""
Image: TypeAlias = Float32[np.ndarray, "D H W"]
"""One series, in the scanner's arbitrary unit or normalised."""
Labels: TypeAlias = UInt8[np.ndarray, "D H W"]
"""Tumour labels: 0 background, 1 necrotic or non-enhancing core, 2 oedema, 3 enhancing."""
Mask: TypeAlias = Bool[np.ndarray, "D H W"]
"""A region."""
Affine: TypeAlias = Float64[np.ndarray, "4 4"]
"""Voxel index to RAS+ millimetres."""
Vector: TypeAlias = Float[np.ndarray, " n"]
"""One number a case, patient or feature."""
Probabilities: TypeAlias = Float[np.ndarray, "n k"]
"""n cases by k classes; each row sums to 1."""
