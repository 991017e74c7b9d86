"""The command `export-weights`: a trained detector as one small file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientnet_east import config as configuration
from efficientnet_east.checkpoints import model_file
from efficientnet_east.cli import options
from efficientnet_east.cli.import_weights import expect_output
from efficientnet_east.errors import UserError
from efficientnet_east.files import atomic
from efficientnet_east.inference import calibration


@dataclasses.dataclass(frozen=True)
class Options:
    """What is written.

    Attributes:
      model: a workdir, or the prefix of a checkpoint.
      output: an .npz file, or a prefix.
      half: whether kernels are stored as float16.
    """

    model: str
    output: str
    half: bool


def add_options(parser: options.Parser) -> None:
    """Declare the options."""
    options.add_model(parser, "workdir of train.py, or the prefix of a checkpoint", required=True)
    help = "file to write: .npz, or the prefix of a TensorFlow checkpoint, which gets a config.yaml"
    parser.add_argument("--output", metavar="FILE", required=True, help=help)
    parser.add_argument("--half", action="store_true", help="store kernels as float16 (.npz only)")
    options.add_fields(parser, ("detect",), ("score_threshold",))


def run(given: Mapping[str, Any]) -> int:
    """Write the averaged weights of a run, and the parts of its configuration that describe a detector.

    Raises:
      UserError: the checkpoint cannot be used, or the file cannot be written.
    """
    chosen = options.pick(Options, given)
    expect_output(chosen.output)
    if chosen.half and not model_file.is_model_file(Path(chosen.output)):
        problem = "is for a file, not for a checkpoint"
        raise UserError("half", problem, f"expected an --output that ends in {model_file.SUFFIX}")
    return _write(chosen, options.fields_of(given, "detect"))


def _write(chosen: Options, detect: dict[str, Any]) -> int:
    from efficientnet_east.checkpoints import tf_checkpoints
    from efficientnet_east.inference.detector import CONFIG_FILE, config_beside

    output = Path(chosen.output)
    prefix = tf_checkpoints.find(chosen.model)
    config = configuration.load(str(config_beside(prefix)), detect)
    described = config.model_copy(update={"detect": configuration.folded(config.detect)})
    text = configuration.dump(described, ("model", "detect"))
    tensors = tf_checkpoints.read(prefix)
    averages = any(name.endswith(tf_checkpoints.AVERAGE_SUFFIX) for name in tensors)
    print(f"{'averaged weights' if averages else 'weights (no averages found)'} of {prefix}")
    arrays = tf_checkpoints.weights_of(tensors)
    arrays = calibration.fold(arrays, config.detect.score_scale, config.detect.score_offset)
    if model_file.is_model_file(output):
        model_file.write(output, arrays, text, chosen.half)
    else:
        tf_checkpoints.write(output, arrays)
        atomic.write_file(output.parent / CONFIG_FILE, text.encode())
    print(f"wrote {len(arrays)} arrays to {output}")
    return 0
