"""Write the ONNX file of a bundled model from its weights, in the precision that its row of the table names.

    python benchmarks/bundle.py default
    python benchmarks/bundle.py NAME --calibration DIR/images --data DIR --list FILE

Options behind the name go to `export`, which compares the file with the weights. An int8 file needs a folder
of images to calibrate on, and should be judged by its hmean on `--data`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from efficientnet_east.checkpoints import bundled
from efficientnet_east.cli.main import main as run
from efficientnet_east.files.atomic import write_file


def main(words: list[str]) -> int:
    """Export into a temporary folder, and put the ONNX file beside the weights; return the exit code."""
    if not words or words[0] not in bundled.MODELS:
        print(f"{__doc__}\nNAME is one of {', '.join(bundled.MODELS)}", file=sys.stderr)
        return 2
    name, *more = words
    model = bundled.MODELS[name]
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / model.onnx.name
        given = [
            "--model",
            name,
            "--format",
            "onnx",
            "--precision",
            model.precision,
            "--output",
            str(written),
        ]
        code = run(["export", *given, *more])
        if code == 0:
            write_file(model.onnx, written.read_bytes())
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
