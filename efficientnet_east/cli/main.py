"""The command line: find the command, parse, call, print. A wrong input is one line and exit code 2."""

from __future__ import annotations

import dataclasses
import importlib
import io
import os
import sys
import types
from collections.abc import Sequence
from typing import Any

import efficientnet_east.data  # noqa: F401  (a worker process of train.py loads this module before Grain)
from efficientnet_east import __version__
from efficientnet_east.cli import messages
from efficientnet_east.cli.options import Parser
from efficientnet_east.errors import UserError
from efficientnet_east.system import environment, quiet


@dataclasses.dataclass(frozen=True)
class Command:
    """A command: a module of this folder, which is imported when it is needed.

    The module has two functions: `add_options(parser)` declares the options, and `run(given)` gets their
    values by their names, does the work, and returns the exit code.

    Attributes:
      module: its name in this folder.
      help: one line about it.
      results_on_stdout: whether stdout gets the results alone, for other programs to read.
    """

    module: str
    help: str
    results_on_stdout: bool = False

    def load(self) -> types.ModuleType:
        """Import the module."""
        return importlib.import_module(f"{__package__}.{self.module}")


COMMANDS = {
    "train": Command("train", "Train a detector, or resume the run in --workdir."),
    "eval": Command("evaluate", "Score a model, or a submission, by the ICDAR protocols.", True),
    "detect": Command("detect", "Find words in images, videos or the picture of a camera."),
    "demo": Command("demo", "Try models on a web page, or through an HTTP endpoint."),
    "benchmark": Command("benchmark", "Measure how fast models are here, in each runtime, and how accurate."),
    "doctor": Command("doctor", "Report versions, devices and missing packages.", True),
    "export": Command("export", "Write a network, or its train step, for another runtime."),
    "calibrate": Command("calibrate", "Choose thresholds and calibrate scores on images of your own.", True),
    "import-weights": Command("import_weights", "Convert weights of other programs for use in this one."),
    "export-weights": Command("export_weights", "Write a trained detector as one small file."),
    "check-data": Command("check_data", "Check a data set before you train on it.", True),
    "convert": Command("convert", "Convert a data set to ICDAR text files."),
    "folds": Command("folds", "Split a data set into lists for training and validation."),
    "mine": Command("mine", "Find false detections of a model, to train on them."),
    "scaling": Command("scaling", "Count parameters, multiply-adds and memory of backbones.", True),
}
# What a command may miss where only detection was installed: name of the import -> name of the package.
PACKAGES = {
    "tensorflow": "tensorflow", "tf_keras": "tf-keras", "tf_slim": "tf-slim", "grain": "grain",
    "h5py": "h5py", "psutil": "psutil", "matplotlib": "matplotlib", "onnx": "onnx", "jaxlib": "jaxlib",
}  # fmt: skip
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
      argv: the arguments; None takes those of the process.

    Returns:
      The exit code: that of the command, or 2 for an error of the user's, 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file name may hold what the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    environment.keep_memory()  # no command has imported TensorFlow yet
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read the output has seen enough, as `| head` does
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (nothing more can be written at exit, either)
        return 0
    except (UserError, OSError) as error:  # OSError: a full disk, a folder that may not be written
        return _fail(str(error))
    except ModuleNotFoundError as error:
        package = PACKAGES.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        return _fail(f"{package}: is not installed; expected `pip install {package}`")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _fail(line: str) -> int:
    print(f"error: {line}", file=sys.stderr)
    return EXIT_USER_ERROR


def _run(words: Sequence[str]) -> int:
    """Run a command, and give its errors the names of its options."""
    name = words[0] if words and words[0] in COMMANDS else ""
    parsers = parsers_of(name)
    given = vars(parsers[""].parse_args(words))
    command, flags = COMMANDS[given.pop("command")], parsers[name].flags()
    verbose = given["verbose"]
    if not verbose:
        quiet.hush()
    try:
        with messages.log_to_terminal(
            verbose=verbose, results_on_stdout=command.results_on_stdout, flags=flags
        ):
            return int(command.load().run(given))
    except UserError as error:
        return _fail(messages.describe(error, given, flags))


def parser() -> Parser:
    """Build the parser of all commands, which raises UserError for what it cannot parse."""
    return parsers_of(*COMMANDS)[""]


def parsers_of(*names: str) -> dict[str, Parser]:
    """Build the parser of the program, with the options of some commands only, so that it starts fast.

    Args:
      names: of the commands.

    Returns:
      The program's parser, by the name "", and that of each command by its name.
    """
    top = Parser(
        prog="efficientnet-east",
        description="EAST text detection on EfficientNet.",
        epilog="`efficientnet-east COMMAND --help` lists the options of a command. To complete with Tab: "
        'pip install argcomplete, then eval "$(register-python-argcomplete efficientnet-east)"',
    )
    top.add_argument("--version", action="version", version=f"efficientnet-east {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND", title="commands")
    found = {"": top}
    for name, command in COMMANDS.items():
        sub = found[name] = commands.add_parser(name, help=command.help, description=command.help)
        sub.set_defaults(command=name)
        if name in names:
            command.load().add_options(sub)
            help = "show debug messages, and the start-up messages of TensorFlow and other libraries"
            sub.add_argument("--verbose", action="store_true", help=help)
    return found


def complete() -> None:
    """Answer a shell that asks for completions, if argcomplete is installed."""
    if "_ARGCOMPLETE" not in os.environ:
        return
    try:
        import argcomplete
    except ImportError:
        return
    asked = [word for word in os.environ.get("COMP_LINE", "").split() if word in COMMANDS]
    completer: Any = argcomplete.autocomplete
    completer(parsers_of(*asked[:1])[""], exit_method=sys.exit)
