"""Detect in many images with Ray Data: each worker process loads the detector once and takes batches of them.

    python examples/cluster/detect_ray.py photos --output words.jsonl --workers 2

The file has a line of JSON for each image, in the order of the images, as `detect --shard` writes it.
Needs `pip install ray pyarrow pandas`.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east import Detector
from efficientnet_east.data import inputs
from efficientnet_east.errors import UserError
from efficientnet_east.files.atomic import write_file
from efficientnet_east.inference import shards
from efficientnet_east.inference.overlap import overlapped


class FindWords:
    """What a worker process runs: a class that can be called, so that Ray loads the model only once.

    Args:
      model: see `Detector.load`.
      threads: of the processor.
    """

    def __init__(self, model: str, threads: int) -> None:
        self._detect = functools.partial(shards.detect, Detector.load(model, {"threads": threads}), False)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Detect in a batch of image files.

        Args:
          batch: `number`, of each image in the whole list, and `path`.

        Returns:
          `number`, and `line`: a line of JSON for each image.
        """
        pictures = [
            picture
            for path in map(Path, batch["path"])
            for picture in inputs.images_of(inputs.InputFile(path, Path(path.name)))
        ]
        lines = list(overlapped(pictures, shards.read, self._detect, lambda row: row.line.decode()))
        return {"number": batch["number"], "line": np.array(lines, object)}


def detect(paths: Sequence[str], model: str, workers: int, threads: int, batch: int) -> list[str]:
    """Detect in image files on Ray's workers.

    Args:
      paths: of the files, which every worker can read.
      model: see `Detector.load`.
      workers: processes.
      threads: of the processor, for each of them.
      batch: images that a worker takes at a time.

    Returns:
      A line of JSON for each image, in the order of the paths.
    """
    import ray

    rows = [{"number": number, "path": path} for number, path in enumerate(paths)]
    found = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // batch)).map_batches(
        FindWords,
        fn_constructor_kwargs={"model": model, "threads": threads},
        batch_size=batch,
        concurrency=workers,
        num_cpus=threads,
    )
    return [row["line"] for row in sorted(found.take_all(), key=lambda row: int(row["number"]))]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("images", nargs="+", help="image files, folders or patterns")
    parser.add_argument("--output", required=True, help="file to write, .jsonl")
    parser.add_argument("--model", default="default", help="as for detect [default]")
    parser.add_argument("--workers", type=int, default=2, help="processes [2]")
    parser.add_argument("--threads", type=int, default=1, help="of the processor, for each process [1]")
    parser.add_argument("--batch", type=int, default=16, help="images that a worker takes at a time [16]")
    return parser


def main(words: list[str] | None = None) -> int:
    """Detect, and write the file; the exit code is 2 where the user has to mend something."""
    options = parser().parse_args(words)
    try:
        paths = [str(entry.path) for entry in inputs.find_files(options.images)]
        lines = detect(paths, options.model, options.workers, options.threads, options.batch)
        write_file(options.output, "".join(lines).encode())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.output}: {len(lines)} images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
