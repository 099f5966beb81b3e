"""How long the 14 shape features take, beside PyRadiomics where it is installed.

    python benchmarks/shape_features.py [MASK.nii.gz ...]

Without masks it measures a ball and a ragged region, each of about 200,000 voxels of 1 mm (PyRadiomics takes
over a minute for the second). One JSON line a mask: voxels, seconds (best of three), PyRadiomics' seconds (once)
and the largest relative difference of a feature.
"""

import importlib.util
import json
import logging
import math
import sys
import time
from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from gliolens.io.nifti import read_mask
from gliolens.radiomics.shape import FEATURES, shape_features

Spacing = tuple[float, float, float]


def generated() -> Iterator[tuple[str, np.ndarray, Spacing]]:
    grid = np.indices((80, 80, 80)) - 39.5
    yield "ball", (grid**2).sum(axis=0) < 36.3**2, (1.0, 1.0, 1.0)
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((100, 100, 100)), 2)
    yield "ragged", noise > np.quantile(noise, 0.8), (1.0, 1.0, 1.0)


def read(paths: list[str]) -> Iterator[tuple[str, np.ndarray, Spacing]]:
    for path in paths:
        volume = read_mask(path, path).volume
        yield path, volume.voxels > 0, volume.grid.spacing


def seconds(call, *args) -> tuple[float, dict[str, float]]:
    start = time.perf_counter()
    found = call(*args)
    return time.perf_counter() - start, found


def pyradiomics(mask: np.ndarray, spacing: Spacing) -> dict[str, float]:
    import SimpleITK
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    extractor = RadiomicsFeatureExtractor()
    extractor.disableAllFeatures()
    extractor.enableFeatureClassByName("shape")
    image = SimpleITK.GetImageFromArray(mask.transpose(2, 1, 0).astype(np.uint8))
    image.SetSpacing(spacing)
    found = extractor.execute(image, image)
    return {name: float(found[f"original_shape_{name}"]) for name in FEATURES}


def main(paths: list[str]) -> None:
    logging.disable(logging.WARNING)
    with_oracle = importlib.util.find_spec("radiomics") is not None
    for name, mask, spacing in read(paths) if paths else generated():
        runs = [seconds(shape_features, mask, spacing) for _ in range(3)]
        row = {"mask": name, "voxels": int(mask.sum()), "seconds": round(min(s for s, _ in runs), 3)}
        if with_oracle:
            took, expected = seconds(pyradiomics, mask, spacing)
            here = runs[0][1]
            gap = max(abs(here[f] - expected[f]) / abs(expected[f] or math.inf) for f in FEATURES)
            row |= {"pyradiomics_seconds": round(took, 3), "largest_relative_difference": gap}
        print(json.dumps(row))


if __name__ == "__main__":
    main(sys.argv[1:])
