"""The command line: parse, call, print. Errors of the user's making are one line and exit code 2."""

from __future__ import annotations

import argparse
import difflib
import io
import logging
import os
import sys
import types
import typing
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from efficientnet_east import config as configuration
from efficientnet_east.cli import (
    benchmark as cli_benchmark,
)
from efficientnet_east.cli import (
    calibrate as cli_calibrate,
)
from efficientnet_east.cli import (
    check_data,
    doctor,
    messages,
    prepare_data,
    scaling,
    slim_flags,
)
from efficientnet_east.cli import (
    demo as cli_demo,
)
from efficientnet_east.cli import (
    detect as cli_detect,
)
from efficientnet_east.cli import (
    evaluate as cli_eval,
)
from efficientnet_east.cli import (
    export as cli_export,
)
from efficientnet_east.errors import UserError
from efficientnet_east.files.folders import make_folder
from efficientnet_east.system import environment, interruption

WEIGHT_FORMATS = ("tpu", "keras", "torch", "npz")
STATE_FORMAT = "pjrt"  # a whole run's state, which becomes a workdir
# What a command may miss where only detection was installed: name of the import -> name of the package.
PACKAGES = {
    "tensorflow": "tensorflow", "tf_keras": "tf-keras", "tf_slim": "tf-slim", "grain": "grain",
    "h5py": "h5py", "psutil": "psutil", "matplotlib": "matplotlib", "onnx": "onnx", "jaxlib": "jaxlib",
}  # fmt: skip
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
      argv: the arguments; None takes those of the process.

    Returns:
      The exit code: 0, 2 for an error of the user's making, 130 after Ctrl-C, 143 after SIGTERM.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    environment.keep_memory()  # no command has imported TensorFlow yet
    environment.hush()
    given: dict[str, Any] = {}
    flags: dict[str, str] = {}
    try:
        arguments = parser().parse_args(argv)
        given = vars(arguments)
        flags = {name: f"--{name.replace('_', '-')}" for name in given} | {
            name: f"--{name.replace('_', '-')}" for _, name, _ in configuration.fields()
        }
        with messages.log_to_terminal(flags=flags):
            code = arguments.command(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read the output has seen enough, as `| head` does
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (nothing more can be written at exit, either)
        return 0
    except UserError as error:
        print(f"error: {messages.describe(error, given, flags)}", file=sys.stderr)
        return EXIT_USER_ERROR
    except OSError as error:  # a full disk, a folder that may not be written
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except ModuleNotFoundError as error:
        package = PACKAGES.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        print(f"error: {package}: is not installed; expected `pip install {package}`", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


class _Parser(argparse.ArgumentParser):
    """Takes options as whole words only, and says what is wrong in one line, without listing all options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse what is unknown, and name the nearest option of this command."""
        arguments, unknown = super().parse_known_args(args, namespace)
        if not unknown:
            return arguments, unknown
        given = unknown[0].split("=")[0]
        known = [name for name in self._option_string_actions if name.startswith("--") and "_" not in name]
        near = difflib.get_close_matches(given, known, n=1)
        nearest = f"{near[0]} (did you mean that?)" if near else "what --help lists"
        raise UserError(given, "unknown argument", f"expected {slim_flags.hint(given, known) or nearest}")

    def error(self, message: str) -> NoReturn:
        raise UserError(self.prog, message, f"expected what `{self.prog} --help` lists")


def parser() -> argparse.ArgumentParser:
    """Build the parser of all subcommands, which raises UserError for what it cannot parse."""
    top = _Parser(prog="efficientnet_east", description="EAST text detection on EfficientNet")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_eval(commands)
    _add_detect(commands)
    _add_demo(commands)
    _add_doctor(commands)
    _add_benchmark(commands)
    _add_calibrate(commands)
    _add_weights(commands)
    _add_scaling(commands)
    _add_export(commands)
    _add_data(commands)
    return top


def _add_train(commands: Any) -> None:
    sub = _subcommand(commands, "train", train, "train a detector, or go on training in --workdir")
    sub.add_argument("--config", metavar="FILE", help="YAML configuration; the options below win over it")
    _add_fields(sub, configuration.SECTIONS)


def _add_eval(commands: Any) -> None:
    help = "score a checkpoint, or anybody's submission, by the ICDAR protocol"
    sub = _subcommand(commands, "eval", evaluate, help)
    cli_eval.add_options(sub)
    _add_fields(sub, {"detect": configuration.Detect}, threads=True)


def _add_detect(commands: Any) -> None:
    sub = _subcommand(commands, "detect", detect, "find the words in images, films or before a camera")
    cli_detect.add_options(sub)
    _add_fields(sub, {"detect": configuration.Detect}, threads=True)


def _add_demo(commands: Any) -> None:
    help = "show a page to try models on, and an HTTP endpoint, on this machine only"
    sub = _subcommand(commands, "demo", demo, help)
    cli_demo.add_options(sub)
    _add_fields(sub, {"detect": configuration.Detect}, threads=True)


def _add_doctor(commands: Any) -> None:
    help = "say which versions and devices are here, what is missing, and the line that installs it"
    doctor.add_options(_subcommand(commands, "doctor", doctor.run, help))


def _add_benchmark(commands: Any) -> None:
    help = "say how long models take here, part by part, in every runtime that is installed"
    sub = _subcommand(commands, "benchmark", benchmark, help)
    cli_benchmark.add_options(sub)
    _add_fields(sub, {"detect": configuration.Detect}, threads=True)


def _add_calibrate(commands: Any) -> None:
    help = "choose thresholds and calibrate scores on images that were not trained on, and write the model"
    sub = _subcommand(commands, "calibrate", calibrate, help)
    cli_calibrate.add_options(sub)
    _add_fields(sub, {"detect": configuration.Detect}, threads=True, without=cli_calibrate.CHOSEN)


def _add_weights(commands: Any) -> None:
    output = "an .npz file, or the prefix of a TensorFlow checkpoint; with --format pjrt a new workdir"
    sub = _subcommand(
        commands, "import-weights", import_weights, "bring a backbone's weights under this project's names"
    )
    sub.add_argument("--source", metavar="FILE", required=True, help="weight file, checkpoint or SavedModel")
    formats = (*WEIGHT_FORMATS, STATE_FORMAT)
    sub.add_argument("--format", choices=formats, help="of --source; by default its contents tell")
    sub.add_argument("--backbone", metavar="NAME", help=f"{_field_help('backbone')}; not with --format pjrt")
    sub.add_argument("--output", metavar="FILE", required=True, help=output)
    sub.add_argument("--allow-missing", action="store_true", help="go on if arrays are missing")
    sub.add_argument("--allow-unused", action="store_true", help="go on if arrays have no place")
    help = "write the averaged weights of a run and its network's configuration: a detector in one file"
    sub = _subcommand(commands, "export-weights", export_weights, help)
    sub.add_argument(
        "--checkpoint", metavar="WORKDIR", required=True, help="workdir of train.py, or a prefix"
    )
    output = "an .npz file, or the prefix of a TensorFlow checkpoint, with config.yaml beside it"
    sub.add_argument("--output", metavar="FILE", required=True, help=output)
    sub.add_argument("--half", action="store_true", help="of an .npz: kernels in half precision")
    _add_fields(sub, {"detect": configuration.Detect})


def _add_scaling(commands: Any) -> None:
    sub = _subcommand(commands, "scaling", scaling.run, "count what backbones cost, without building them")
    scaling.add_options(sub)


def _add_export(commands: Any) -> None:
    sub = _subcommand(commands, "export", export, "write a network, or its training, for another runtime")
    cli_export.add_options(sub)
    _add_fields(sub, configuration.SECTIONS, without=("precision",))


def _add_data(commands: Any) -> None:
    help = "read a whole data set as training would: problems with file, line and fix, counts, a mosaic"
    check_data.add_options(_subcommand(commands, "check-data", check_data.run, help))
    help = "write a data set of any format as ICDAR text files"
    prepare_data.add_convert_options(_subcommand(commands, "convert", prepare_data.convert, help))
    help = "divide the images of a data set into lists to train and to validate on"
    prepare_data.add_fold_options(_subcommand(commands, "folds", prepare_data.folds, help))
    help = "find the places without text where a checkpoint sees some, to train on them (--mix)"
    sub = _subcommand(commands, "mine", mine, help)
    prepare_data.add_mine_options(sub)
    _add_fields(sub, {"detect": configuration.Detect}, threads=True)


def _field_help(name: str) -> str:
    return next(str(info.description) for _, field, info in configuration.fields() if field == name)


def _subcommand(
    commands: Any, name: str, command: Callable[[argparse.Namespace], int], help: str
) -> argparse.ArgumentParser:
    sub: argparse.ArgumentParser = commands.add_parser(name, help=help, description=help)
    sub.set_defaults(command=command)
    return sub


def _add_fields(
    sub: argparse.ArgumentParser,
    sections: dict[str, Any],
    threads: bool = False,
    without: Collection[str] = (),
) -> None:
    """One option for each field, named after it; absent ones do not override anything."""
    for section, model in sections.items():
        group = sub.add_argument_group(section, model.__doc__)
        for name, info in model.model_fields.items():
            if name not in without:
                _add_field(group, name, info)
    if threads:
        _add_field(sub, "threads", configuration.Train.model_fields["threads"])


def _add_field(group: Any, name: str, info: Any) -> None:
    old = [f"--{before}" for before, now in configuration.RENAMED.items() if now == name]
    flags = list(dict.fromkeys([f"--{name.replace('_', '-')}", f"--{name}", *old]))
    default = "none" if info.default is None else info.default
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    options: dict[str, Any] = {
        "dest": name,
        "default": argparse.SUPPRESS,
        "help": f"{info.description} [{default}]",
    }
    if info.annotation is bool:
        group.add_argument(*flags, action=argparse.BooleanOptionalAction, **options)
        return
    if name == "mix":
        group.add_argument(*flags, action="append", metavar="SOURCE=WEIGHT", **options)
        return
    if typing.get_origin(info.annotation) is typing.Literal:
        options["metavar"] = "|".join(str(choice) for choice in typing.get_args(info.annotation))
        first = typing.get_args(info.annotation)[0]
        options["type"] = int if isinstance(first, int) else str
        options["choices"] = typing.get_args(info.annotation)
    else:
        kinds = (
            typing.get_args(info.annotation)
            if isinstance(info.annotation, types.UnionType)
            else (info.annotation,)
        )
        options["metavar"] = {int: "N", float: "X"}.get(kinds[0], "VALUE")
        if info.default is None:
            options["type"] = _value_or_none
    group.add_argument(*flags, **options)


def _value_or_none(text: str) -> str | None:
    """So that an option can take back what a configuration file says."""
    return None if text == "none" else text


def _overrides(arguments: argparse.Namespace, *sections: str) -> dict[str, Any]:
    """The configuration fields that were given as options."""
    names = {name for section, name, _ in configuration.fields() if section in sections} | {"threads"}
    return {name: value for name, value in vars(arguments).items() if name in names}


def _hush_tensorflow() -> None:
    """Keep TensorFlow's start-up notes and warnings of deprecation from burying our own lines."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*layer.apply")  # tf-slim calls it


def train(arguments: argparse.Namespace) -> int:
    """The subcommand `train`."""
    _hush_tensorflow()
    given = _overrides(arguments, *configuration.SECTIONS)
    config = configuration.load_for_training(arguments.config, given)
    with interruption.watch() as told:
        from efficientnet_east.training import session

        try:
            finished = session.train(config)
        except KeyboardInterrupt:  # before the first step or after the last
            print("interrupted", file=sys.stderr)
            finished = False
    return 0 if finished else told.exit_code


def evaluate(arguments: argparse.Namespace) -> int:
    """The subcommand `eval`."""
    _hush_tensorflow()
    return cli_eval.run(arguments, _overrides(arguments, "data"), _overrides(arguments, "detect"))


def detect(arguments: argparse.Namespace) -> int:
    """The subcommand `detect`."""
    _hush_tensorflow()
    return cli_detect.run(arguments, _overrides(arguments, "detect"))


def demo(arguments: argparse.Namespace) -> int:
    """The subcommand `demo`."""
    _hush_tensorflow()
    return cli_demo.run(arguments, _overrides(arguments, "detect"))


def benchmark(arguments: argparse.Namespace) -> int:
    """The subcommand `benchmark`."""
    _hush_tensorflow()
    return cli_benchmark.run(arguments, _overrides(arguments, "detect"))


def mine(arguments: argparse.Namespace) -> int:
    """The subcommand `mine`."""
    _hush_tensorflow()
    return prepare_data.mine(arguments)


def import_weights(arguments: argparse.Namespace) -> int:
    """The subcommand `import-weights`."""
    _hush_tensorflow()
    if arguments.format == STATE_FORMAT:
        return cli_export.import_state(arguments)
    if arguments.backbone is None:
        raise UserError("--backbone", "is missing", "expected the backbone that --source has the weights of")
    _expect_weight_output(arguments.output)
    from efficientnet_east.checkpoints import weight_files, weights

    source = weight_files.read(arguments.source, arguments.format)
    restored = weights.restore(source, arguments.backbone)
    weights.expect_complete(restored, source, arguments.allow_missing, arguments.allow_unused)
    print(restored.report())
    _write_weights(arguments.output, restored.values | restored.more)
    return 0


def calibrate(arguments: argparse.Namespace) -> int:
    """The subcommand `calibrate`."""
    _hush_tensorflow()
    return cli_calibrate.run(arguments, _overrides(arguments, "detect"))


def export_weights(arguments: argparse.Namespace) -> int:
    """The subcommand `export-weights`."""
    _hush_tensorflow()
    _expect_weight_output(arguments.output)
    return cli_export.weights(arguments, _overrides(arguments, "detect"))


def export(arguments: argparse.Namespace) -> int:
    """The subcommand `export`."""
    _hush_tensorflow()
    return cli_export.run(arguments, _overrides(arguments, *configuration.SECTIONS))


def _expect_weight_output(path: str) -> None:
    """Say before the work is done that its result could not be written."""
    if Path(path).is_dir():
        raise UserError(
            "--output", f"{path} is a folder", "expected a file name such as b0.npz, or a prefix in it"
        )
    make_folder(Path(path).parent, "--output")


def _write_weights(path: str, arrays: Any) -> None:
    from efficientnet_east.checkpoints import weight_files

    weight_files.write(path, arrays)
    print(f"wrote {len(arrays)} arrays to {path}")
