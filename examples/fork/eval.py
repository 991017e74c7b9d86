"""Find words with a checkpoint of `train.py`; write `res_img_1.txt` for `img_1.jpg`, as the slim forks do.

python examples/fork/eval.py --checkpoint_path runs/fork --test_data_path DIR --output_dir out
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import model
import numpy as np

from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.compat import tf
from efficientnet_east.config import Detect
from efficientnet_east.data.images import SUFFIXES, read_image
from efficientnet_east.errors import UserError
from efficientnet_east.files.atomic import write_file
from efficientnet_east.inference.detector import Detector


def parser() -> argparse.ArgumentParser:
    """Build the parser."""
    flags = argparse.ArgumentParser(allow_abbrev=False, description="find words with a fork's EAST")
    flags.add_argument("--test_data_path", required=True, help="folder of images")
    flags.add_argument("--checkpoint_path", required=True, help="folder of train.py, or model.ckpt-N in it")
    flags.add_argument("--output_dir", required=True, help="folder for res_IMAGE.txt")
    flags.add_argument("--backbone", default="b0", help="as it was trained")
    flags.add_argument("--activation", default="relu", help="as it was trained")
    flags.add_argument("--text_scale", type=float, default=512.0, help="as it was trained")
    flags.add_argument("--score_threshold", type=float, default=0.8, help="cells below it are background")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
      argv: the flags; None takes those of the process.

    Returns:
      The exit code: 0, or 2 after an error of the user's making.
    """
    try:
        flags = parser().parse_args(argv)
        if not 0 < flags.score_threshold < 1:
            raise UserError(
                "--score_threshold", f"is {flags.score_threshold}", "expected a number between 0 and 1"
            )
        detector = load(flags)
        for path in find_images(flags.test_data_path):
            quads = np.rint(detector(read_image(path)).quads).astype(int).reshape(-1, 8)
            lines = "".join(",".join(map(str, quad)) + "\r\n" for quad in quads)
            write_file(Path(flags.output_dir) / f"res_{path.stem}.txt", lines.encode())
            print(f"{path}: {len(quads)} words")
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def load(flags: argparse.Namespace) -> Detector:
    """Load the fork's network with its averaged weights into this project's detector.

    Args:
      flags: from `parser`.

    Returns:
      The detector.

    Raises:
      UserError: no checkpoint, or one of another network.
    """
    prefix = tf_checkpoints.find(flags.checkpoint_path)
    with tf.Graph().as_default() as graph:
        images = tf.placeholder(tf.float32, [None, None, None, 3], "input_images")
        options = {"text_scale": flags.text_scale, "activation": flags.activation}
        maps = model.model(images, flags.backbone, is_training=False, **options)
        weights = tf_checkpoints.averaged(tf_checkpoints.read(prefix))
        tf_checkpoints.check_fit(prefix, weights, tf.global_variables())
        session = tf.Session(graph=graph)
        tf_checkpoints.assign(session, weights, tf.global_variables())
    detect = Detect(score_threshold=flags.score_threshold)
    return Detector(lambda batch: session.run(maps, {images: batch}), detect)


def find_images(folder: str) -> list[Path]:
    """List the images of a folder.

    Args:
      folder: not searched further down.

    Returns:
      Their paths, sorted.

    Raises:
      UserError: there is none.
    """
    found = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise UserError(folder, "contains no images", f"expected files ending in {', '.join(SUFFIXES)}")
    return found


if __name__ == "__main__":
    raise SystemExit(main())
