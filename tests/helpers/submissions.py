"""Submissions as the tests read them."""

from pathlib import Path

import numpy as np

from efficientnet_east.data.submissions import read_scored


def read_quads(path: str | Path) -> dict[str, np.ndarray]:
    """Image name -> quads, without the scores."""
    return {name: quads for name, (quads, _) in read_scored(path).items()}
