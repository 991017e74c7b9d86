"""Run an exported StableHLO network with jaxlib's PJRT client, to check it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from efficientnet_east.inference.runtimes import feed, metadata
from efficientnet_east.inference.runtimes.runtime import Runtime
from efficientnet_east.pjrt.device import Device, fetch


def open_stablehlo(path: Path) -> Runtime:
    """Compile a StableHLO file for the CPU.

    Args:
      path: of the file.

    Returns:
      The runtime.

    Raises:
      UserError: the file is damaged, or jaxlib is not installed.
    """
    data, described = metadata.read_file(path)
    device = Device("cpu")
    program = device.compile(data.decode())

    def run(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        feed.expect_size(path, batch, described.input)
        score, geometry = program([device.put(feed.to_input(batch, described.input))])
        return fetch(score), fetch(geometry)

    return described.as_runtime(run, "pjrt", 0)
