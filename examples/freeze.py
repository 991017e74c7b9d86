"""Freezes a checkpoint of train.py into one file that OpenCV 4.10 and 5.0 read as a TensorFlow graph.

python examples/freeze.py runs/b0 frozen_b0.pb
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from efficientnet_east import checkpoints
from efficientnet_east import config as configuration
from efficientnet_east.errors import UserError
from efficientnet_east.inference.detector import config_beside
from efficientnet_east.inference.graph import freeze, load_session
from efficientnet_east.safe_files import write_file


def frozen(checkpoint: str) -> bytes:
    """Turn the averaged weights of a checkpoint into constants of the inference graph.

    The input is `input_images`: float32 (batch, height, width, 3), RGB in [0, 255].

    Args:
      checkpoint: a workdir of train.py, its folder `best`, or a checkpoint's prefix.

    Returns:
      The graph as a serialised GraphDef.

    Raises:
      UserError: no checkpoint, a damaged one, or one that its configuration does not fit.
    """
    prefix = checkpoints.find(checkpoint)
    session, _, outputs = load_session(prefix, configuration.load(str(config_beside(prefix))))
    with session:
        return freeze(session, [tensor.op.name for tensor in outputs]).SerializeToString()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
      argv: checkpoint and output; None takes those of the process.

    Returns:
      The exit code: 0, or 2 after an error of the user's making.
    """
    arguments = parser().parse_args(argv)
    try:
        write_file(arguments.output, frozen(arguments.checkpoint))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """Build the parser."""
    words = argparse.ArgumentParser(allow_abbrev=False, description="freeze a checkpoint for OpenCV")
    words.add_argument("checkpoint", help="workdir of train.py, its folder best, or a checkpoint's prefix")
    words.add_argument("output", help="the .pb to write")
    return words


if __name__ == "__main__":
    raise SystemExit(main())
