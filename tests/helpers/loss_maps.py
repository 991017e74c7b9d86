"""Random maps for the tests of losses."""

import numpy as np

SHAPE = (2, 4, 6)


def random_maps(seed: int, text: float = 0.3) -> dict[str, np.ndarray]:
    """Maps of a batch and of what is right: sides up to 60 pixels, a share of cells with text."""
    rng = np.random.default_rng(seed)

    def geometry() -> np.ndarray:
        return np.concatenate([rng.uniform(0, 60, (*SHAPE, 4)), rng.uniform(-0.78, 0.78, (*SHAPE, 1))], 3)

    return {
        "score": rng.uniform(0.01, 0.99, (*SHAPE, 1)),
        "geometry": geometry(),
        "true_score": (rng.uniform(size=(*SHAPE, 1)) < text).astype(float),
        "true_geometry": geometry(),
        "mask": (rng.uniform(size=(*SHAPE, 1)) < 0.8).astype(float),
    }
