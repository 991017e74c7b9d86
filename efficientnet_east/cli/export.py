"""The subcommand `export`, and the way back of what was exported."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientnet_east import config as configuration
from efficientnet_east.checkpoints import model_file
from efficientnet_east.errors import UserError
from efficientnet_east.export.formats import FORMATS
from efficientnet_east.files import atomic
from efficientnet_east.files.folders import make_folder
from efficientnet_east.inference import calibration

TRAIN_FORMAT = "stablehlo-train"
PURPOSES = {name: kind.purpose for name, kind in FORMATS.items()}
PURPOSES[TRAIN_FORMAT] = "the train step, see docs/pjrt.md"
# What a checkpoint's network does not depend on, of the sections that training's export reads.
OF_A_NETWORK = {"data", "list", "limit", "skip_bad", "threads"}
PRECISIONS = ("float32", "float16", "bfloat16", "int8")


def add_options(sub: argparse.ArgumentParser) -> None:
    """Add the options that are no fields of the configuration, and `precision`, which knows int8, too."""
    formats = "; ".join(f"{name}: {purpose}" for name, purpose in PURPOSES.items())
    sub.add_argument("--format", choices=tuple(PURPOSES), required=True, metavar="FORMAT", help=formats)
    sub.add_argument(
        "--output", metavar="FILE", required=True, help="what to write; a folder for saved_model and training"
    )
    help = "a run: its averaged weights, or for training its whole state; or a file of export-weights"
    sub.add_argument("--checkpoint", metavar="WORKDIR", help=f"{help} [the shipped model]")
    precision = "float16: smaller; int8: smaller and faster, needs --calibration; for training see there"
    sub.add_argument(
        "--precision", choices=PRECISIONS, default=argparse.SUPPRESS, help=f"{precision} [float32]"
    )
    sub.add_argument("--size", metavar="HxW", help="images of this height and width only, such as 736x1280")
    sub.add_argument(
        "--opencv-mean",
        action="store_true",
        help="expect pixels without (123.68, 116.78, 103.94), as programs for OpenCV's own EAST feed them",
    )
    sub.add_argument("--calibration", metavar="DIR", help="images to take int8's ranges from")
    sub.add_argument(
        "--calibration-images", metavar="N", type=int, help="how many of them, spread over the folder [64]"
    )
    sub.add_argument(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="compare maps and boxes with the checkpoint's, on --data or on generated scenes [yes]",
    )
    sub.add_argument(
        "--allow-loss", action="store_true", help="write int8 even if it costs more than 2 points of hmean"
    )
    sub.add_argument(
        "--config", metavar="FILE", help="for training: YAML configuration; the options below win over it"
    )
    sub.add_argument(
        "--texts", metavar="N", type=int, help="for training: most texts in an image [as in the data]"
    )


def run(arguments: argparse.Namespace, overrides: Mapping[str, Any]) -> int:
    """Export, and say what was written.

    Args:
      arguments: parsed.
      overrides: fields of the configuration.

    Returns:
      The exit code.

    Raises:
      UserError: options that do not go together, or see `export.export.export` and `pjrt.export.export`.
    """
    if arguments.format == TRAIN_FORMAT:
        return _run_training(arguments, overrides)
    return _run_network(arguments, dict(overrides))


def _run_network(arguments: argparse.Namespace, overrides: dict[str, Any]) -> int:
    given = {name for name in ("config", "texts") if getattr(arguments, name) is not None}
    training = {name for section, name, _ in configuration.fields() if section != "detect"}
    precision = overrides.pop("precision", "float32")
    useless = sorted(given | (overrides.keys() & training) - OF_A_NETWORK)
    if useless:
        option = f"--{useless[0].replace('_', '-')}"
        problem = f"has no effect with --format {arguments.format}: the checkpoint's own counts"
        raise UserError(option, problem, f"expected it with --format {TRAIN_FORMAT} only")
    from efficientnet_east.checkpoints import tf_checkpoints
    from efficientnet_east.export.write import Options, export
    from efficientnet_east.inference.detector import config_beside
    from efficientnet_east.training import sources

    for name in ("list", "limit"):
        if name in overrides and "data" not in overrides:
            raise UserError(
                f"--{name}", "is given without --data", "expected the folder to choose from, beside it"
            )
    prefix = tf_checkpoints.find(arguments.checkpoint or model_file.DEFAULT)
    chosen = {"list": None, "limit": None, "mix": None, **overrides}
    config = configuration.load(str(config_beside(prefix)), chosen)
    skipped: list[UserError] = []
    samples = None
    if "data" in overrides:
        samples = sources.evaluation_source(config.data, config.train.seed, skipped, given=True)
    for error in skipped:
        print(f"skipped: {error}", file=sys.stderr)
    options = Options(arguments.format, Path(arguments.output), precision, **_choices(arguments))
    make_folder(options.output.parent, "--output")
    export(prefix, config, options, samples)
    return 0


def _choices(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of `export.Options` that were given."""
    count = arguments.calibration_images
    if count is not None and (count < 1 or arguments.calibration is None):
        problem = f"is {count}" if count < 1 else "is given without --calibration"
        raise UserError("--calibration-images", problem, "expected 1 or more, beside --calibration")
    if arguments.allow_loss and arguments.calibration is None:
        raise UserError("--allow-loss", "is given without --precision int8", "expected it for int8 only")
    found: dict[str, Any] = {"opencv_mean": arguments.opencv_mean, "allow_loss": arguments.allow_loss}
    found["verify"] = arguments.verify is not False
    if arguments.size:
        found["size"] = _parse_size(arguments.size)
    if arguments.calibration:
        found["calibration"] = Path(arguments.calibration)
    if count is not None:
        found["calibration_images"] = count
    return found


def _parse_size(text: str) -> tuple[int, int]:
    height, by, width = text.partition("x")
    if not by or not (height.isdecimal() and width.isdecimal()):
        raise UserError("--size", f"is {text}", "expected height and width, such as 736x1280")
    return int(height), int(width)


def _run_training(arguments: argparse.Namespace, overrides: Mapping[str, Any]) -> int:
    useless = [name for name in ("size", "calibration", "calibration_images", "verify") if
               getattr(arguments, name) is not None]  # fmt: skip
    useless += [name for name in ("opencv_mean", "allow_loss") if getattr(arguments, name)]
    if useless:
        option = f"--{useless[0].replace('_', '-')}"
        raise UserError(
            option, f"has no effect with --format {TRAIN_FORMAT}", "expected it with the other formats"
        )
    if arguments.checkpoint and arguments.config:
        raise UserError("--config", "is given beside --checkpoint", "expected one of them: a run has its own")
    if arguments.texts is not None and arguments.texts < 1:
        raise UserError("--texts", f"is {arguments.texts}", "expected 1 or more")
    from efficientnet_east.checkpoints import tf_checkpoints
    from efficientnet_east.inference.detector import config_beside
    from efficientnet_east.pjrt.export_step import export

    prefix = tf_checkpoints.find(arguments.checkpoint) if arguments.checkpoint else None
    path = str(config_beside(prefix)) if prefix else arguments.config
    config = configuration.load_for_training(path, overrides)
    export(config, make_folder(Path(arguments.output), "--output"), prefix, arguments.texts)
    return 0


def weights(arguments: argparse.Namespace, detect: Mapping[str, Any]) -> int:
    """Write a run's averaged weights, and the sections of its configuration that describe a detector.

    Args:
      arguments: parsed; `checkpoint`, `output` and `half` are read.
      detect: fields of the section `detect`, which the file has instead of the run's own.

    Returns:
      The exit code.

    Raises:
      UserError: the checkpoint cannot be used, or the file cannot be written.
    """
    from efficientnet_east.checkpoints import tf_checkpoints
    from efficientnet_east.inference.detector import CONFIG_FILE, config_beside

    output = Path(arguments.output)
    if arguments.half and not model_file.is_model_file(output):
        raise UserError(
            "--half", "is given for a checkpoint", f"expected --output with a name in {model_file.SUFFIX}"
        )
    prefix = tf_checkpoints.find(arguments.checkpoint)
    config = configuration.load(str(config_beside(prefix)), detect)
    detect_as_written = config.model_copy(update={"detect": configuration.folded(config.detect)})
    described = configuration.dump(detect_as_written, ("model", "detect"))
    tensors = tf_checkpoints.read(prefix)
    averages = any(name.endswith(tf_checkpoints.AVERAGE_SUFFIX) for name in tensors)
    print(f"{'averaged weights' if averages else 'weights, of which it has no averages,'} of {prefix}")
    arrays = tf_checkpoints.weights_of(tensors)
    arrays = calibration.fold(arrays, config.detect.score_scale, config.detect.score_offset)
    if model_file.is_model_file(output):
        model_file.write(output, arrays, described, arguments.half)
    else:
        tf_checkpoints.write(output, arrays)
        atomic.write_file(output.parent / CONFIG_FILE, described.encode())
    print(f"wrote {len(arrays)} arrays to {output}")
    return 0


def import_state(arguments: argparse.Namespace) -> int:
    """Bring the state of a PJRT run back; `import-weights --format pjrt`.

    Args:
      arguments: parsed; `source` and `output` are read.

    Returns:
      The exit code.

    Raises:
      UserError: see `pjrt.restore.restore`.
    """
    from efficientnet_east.pjrt.restore import restore

    prefix = restore(Path(arguments.source), Path(arguments.output))
    print(f"wrote {prefix}; train.py --workdir {arguments.output} goes on from it")
    return 0
