"""The command `export`: a network, or its train step, for another runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientnet_east import config as configuration
from efficientnet_east.checkpoints import bundled
from efficientnet_east.cli import options
from efficientnet_east.errors import UserError
from efficientnet_east.export.formats import FORMATS
from efficientnet_east.files.folders import make_folder

TRAIN_FORMAT = "stablehlo-train"
PURPOSES = {name: kind.purpose for name, kind in FORMATS.items()}
PURPOSES[TRAIN_FORMAT] = "the train step, see docs/pjrt.md"
# Fields that a command of a finished network may take; all others are those of its checkpoint.
OF_A_NETWORK = {"data", "list", "limit", "skip_bad", "threads"}
PRECISIONS = ("float32", "float16", "bfloat16", "int8")
# Options of one kind of format only, by the names that the program has for them.
FOR_NETWORKS = ("size", "calibration", "calibration_images", "verify", "opencv_mean", "allow_loss")
FOR_TRAINING = ("config", "texts")


@dataclasses.dataclass(frozen=True)
class Options:
    """What is exported, and how.

    Attributes:
      format: a key of `PURPOSES`.
      output: the file or the folder to write.
      model: a workdir, a prefix, or a file of `export-weights`; None for the model of the package, or for
        training for a new run.
      precision: one of `PRECISIONS`, or None if it was not given.
      size: (height, width) of the images, or None for any.
      opencv_mean: whether the mean is subtracted before the pixels come in.
      calibration: folder of images for int8, or None.
      calibration_images: how many of them, or None for the default.
      verify: whether the file is compared with the checkpoint.
      allow_loss: whether int8 may be less accurate.
      config: a YAML file for training, or None.
      texts: the largest number of texts in an image for training, or None to count them.
    """

    format: str
    output: str
    model: str | None
    precision: str | None
    size: tuple[int, int] | None
    opencv_mean: bool
    calibration: str | None
    calibration_images: int | None
    verify: bool | None
    allow_loss: bool
    config: str | None
    texts: int | None


def add_options(parser: options.Parser) -> None:
    """Declare the options. `precision` is a field of the configuration, too; here it knows int8 as well."""
    formats = "; ".join(f"{name}: {purpose}" for name, purpose in PURPOSES.items())
    parser.add_argument("--format", choices=tuple(PURPOSES), required=True, metavar="FORMAT", help=formats)
    help = "file to write; a folder for saved_model and stablehlo-train"
    parser.add_argument("--output", metavar="FILE", required=True, help=help)
    help = "workdir of train.py, a prefix, or a file of export-weights"
    options.add_model(parser, help)
    help = "float16: smaller; int8: smaller and faster, needs --calibration [float32]"
    parser.add_argument("--precision", choices=PRECISIONS, help=help)
    help = "accept images of this size only: one side, or WIDTHxHEIGHT such as 1280x736 [any size]"
    parser.add_argument("--size", metavar="N|WxH", type=options.width_and_height, help=help)
    _add_network_options(parser.add_argument_group("networks"))
    _add_training_options(parser.add_argument_group(f"training (--format {TRAIN_FORMAT})"))
    options.add_fields(parser, configuration.SECTIONS, ("data",), without=("precision",))


def _add_network_options(group: Any) -> None:
    help = "compare maps and boxes with the checkpoint's, on --data or on generated scenes [yes]"
    group.add_argument("--verify", action=options.OnOff, default=None, help=help)
    help = "expect pixels minus (123.68, 116.78, 103.94), as OpenCV's samples for EAST feed them"
    group.add_argument("--opencv-mean", action="store_true", help=help)
    help = "folder of images to calibrate int8 on"
    group.add_argument("--calibration", metavar="DIR", help=help)
    help = "use N of them, spread over the folder [64]"
    group.add_argument("--calibration-images", metavar="N", type=options.number(int, 1), help=help)
    help = "write int8 even if it loses more than 2 points of hmean"
    group.add_argument("--allow-loss", action="store_true", help=help)


def _add_training_options(group: Any) -> None:
    group.add_argument("--config", metavar="FILE", help="YAML configuration; options win over it")
    help = "largest number of texts in an image [as in the data]"
    group.add_argument("--texts", metavar="N", type=options.number(int, 1), help=help)


def run(given: Mapping[str, Any]) -> int:
    """Export.

    Raises:
      UserError: options that do not go together, or see `export.write.export` and `pjrt.export_step.export`.
    """
    chosen = options.pick(Options, given)
    overrides = options.fields_of(given, *configuration.SECTIONS)
    precision = overrides.pop("precision")
    if chosen.format != TRAIN_FORMAT:
        return _run_network(chosen, overrides)
    return _run_training(chosen, overrides if precision is None else overrides | {"precision": precision})


def _run_network(chosen: Options, overrides: dict[str, Any]) -> int:
    _expect_network_options(chosen, overrides)
    options.expect_with(overrides, ["list", "limit"], "data")
    FORMATS[chosen.format].expect_package()
    from efficientnet_east.checkpoints import tf_checkpoints
    from efficientnet_east.export.write import export
    from efficientnet_east.inference.detector import config_beside
    from efficientnet_east.training import sources

    prefix = tf_checkpoints.find(chosen.model or bundled.DEFAULT)
    config = configuration.load(
        str(config_beside(prefix)), {"list": None, "limit": None, "mix": None, **overrides}
    )
    skipped: list[UserError] = []
    samples = None
    if "data" in overrides:
        samples = sources.evaluation_source(config.data, config.train.seed, skipped, given=True)
    options.warn_skipped(skipped)
    make_folder(Path(chosen.output).parent, "output")
    export(prefix, config, _network_options(chosen), samples)
    return 0


def _network_options(chosen: Options) -> Any:
    """What `export.write.export` takes."""
    from efficientnet_east.export import write

    more: dict[str, Any] = {}
    if chosen.calibration:
        more["calibration"] = Path(chosen.calibration)
    if chosen.calibration_images is not None:
        more["calibration_images"] = chosen.calibration_images
    return write.Options(
        chosen.format, Path(chosen.output), chosen.precision or "float32", chosen.size, chosen.opencv_mean,
        verify=chosen.verify is not False, allow_loss=chosen.allow_loss, **more,
    )  # fmt: skip


def _expect_network_options(chosen: Options, overrides: Mapping[str, Any]) -> None:
    given = {name for name in FOR_TRAINING if getattr(chosen, name) is not None}
    training = {name for section, name, _ in configuration.fields() if section != "detect"}
    useless = sorted(given | (overrides.keys() & training) - OF_A_NETWORK)
    if useless:
        problem = f"has no effect with --format {chosen.format}, which uses the checkpoint's own"
        raise UserError(useless[0], problem, f"Leave it out, or use --format {TRAIN_FORMAT}.")
    options.expect_with(vars(chosen), ["calibration_images"], "calibration")
    if chosen.allow_loss and chosen.precision != "int8":
        raise UserError("allow_loss", "requires --precision int8", "Leave it out, or add --precision int8.")


def _run_training(chosen: Options, overrides: Mapping[str, Any]) -> int:
    useless = [name for name in FOR_NETWORKS if getattr(chosen, name) not in (None, False)]
    if useless or chosen.verify is False:
        problem = f"has no effect with --format {TRAIN_FORMAT}"
        raise UserError((useless or ["verify"])[0], problem, "Leave it out, or choose another format.")
    if chosen.model and chosen.config:
        problem = "cannot be combined with --model: a run has a configuration of its own"
        raise UserError("config", problem, "Use one of them.")
    from efficientnet_east.checkpoints import tf_checkpoints
    from efficientnet_east.inference.detector import config_beside
    from efficientnet_east.pjrt.export_step import export

    prefix = tf_checkpoints.find(chosen.model) if chosen.model else None
    path = str(config_beside(prefix)) if prefix else chosen.config
    config = configuration.load_for_training(path, overrides)
    export(config, make_folder(Path(chosen.output), "output"), prefix, chosen.texts)
    return 0
