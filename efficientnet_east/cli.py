"""The command line: parse, call, print. Errors of the user's making are one line and exit code 2."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from efficientnet_east import config as configuration
from efficientnet_east.errors import UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
      argv: the arguments; None takes those of the process.

    Returns:
      The exit code: 0, 2 for an error of the user's making, 130 after an interruption.
    """
    arguments = parser().parse_args(argv)
    try:
        return arguments.command(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """Build the parser of all subcommands."""
    top = argparse.ArgumentParser(prog="efficientnet_east", description="EAST text detection on EfficientNet")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_eval(commands)
    _add_detect(commands)
    return top


def _add_train(commands: Any) -> None:
    sub = _subcommand(commands, "train", train, "train a detector, or go on training in --workdir")
    sub.add_argument("--config", metavar="FILE", help="YAML configuration; the options below win over it")
    _add_fields(sub, configuration.SECTIONS)


def _add_eval(commands: Any) -> None:
    sub = _subcommand(commands, "eval", evaluate, "score a checkpoint, or anybody's submission, by the ICDAR protocol")
    sub.add_argument("--checkpoint", metavar="WORKDIR", help="workdir of train.py, its folder best, or a prefix")
    sub.add_argument("--data", metavar="DIR", help="images and ground truth")
    sub.add_argument("--list", metavar="FILE", help="text file of the image names to use")
    sub.add_argument("--limit", metavar="N", type=int, help="use the first N images only")
    sub.add_argument("--skip-bad", action="store_true", help="leave out what cannot be used, and list it")
    sub.add_argument("--submission", metavar="ZIP", help="score these detections instead of a checkpoint's")
    sub.add_argument("--gt", metavar="ZIP", help="ground truth for --submission")
    sub.add_argument("--json", metavar="FILE", help="write the figures here, and the submission beside it as .zip")
    _add_fields(sub, {"detect": configuration.Detect}, threads=True)


def _add_detect(commands: Any) -> None:
    sub = _subcommand(commands, "detect", detect, "find the words in images")
    sub.add_argument("images", metavar="IMAGE", nargs="+", help="image files")
    sub.add_argument("--checkpoint", metavar="WORKDIR", required=True, help="workdir of train.py, or a prefix")
    sub.add_argument("--output", metavar="DIR", required=True, help="a text file and a picture for each image")
    sub.add_argument("--skip-bad", action="store_true", help="go on after an image that cannot be read")
    _add_fields(sub, {"detect": configuration.Detect}, threads=True)


def _subcommand(
    commands: Any, name: str, command: Callable[[argparse.Namespace], int], help: str
) -> argparse.ArgumentParser:
    sub = commands.add_parser(name, help=help, description=help)
    sub.set_defaults(command=command)
    return sub


def _add_fields(sub: argparse.ArgumentParser, sections: dict[str, Any], threads: bool = False) -> None:
    """One option for each field, named after it; absent ones do not override anything."""
    for section, model in sections.items():
        group = sub.add_argument_group(section, model.__doc__)
        for name, info in model.model_fields.items():
            _add_field(group, name, info)
    if threads:
        _add_field(sub, "threads", configuration.Train.model_fields["threads"])


def _add_field(group: Any, name: str, info: Any) -> None:
    flags = list(dict.fromkeys([f"--{name.replace('_', '-')}", f"--{name}"]))
    default = "none" if info.default is None else info.default
    options: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": f"{info.description} [{default}]"}
    if info.annotation is bool:
        group.add_argument(flags[0], action=argparse.BooleanOptionalAction, **options)
        return
    if typing.get_origin(info.annotation) is typing.Literal:
        options["metavar"] = "|".join(str(choice) for choice in typing.get_args(info.annotation))
        first = typing.get_args(info.annotation)[0]
        options["type"] = int if isinstance(first, int) else str
        options["choices"] = typing.get_args(info.annotation)
    else:
        kinds = typing.get_args(info.annotation) if isinstance(info.annotation, types.UnionType) else (info.annotation,)
        options["metavar"] = {int: "N", float: "X"}.get(kinds[0], "VALUE")
    group.add_argument(*flags, **options)


def _overrides(arguments: argparse.Namespace, *sections: str) -> dict[str, Any]:
    """The configuration fields that were given as options."""
    names = {name for section, name, _ in configuration.fields() if section in sections} | {"threads"}
    return {name: value for name, value in vars(arguments).items() if name in names}


def train(arguments: argparse.Namespace) -> int:
    """The subcommand `train`."""
    config = configuration.load(arguments.config, _overrides(arguments, *configuration.SECTIONS))
    from efficientnet_east.training import loop

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: save, then end
    return 0 if loop.train(config) else EXIT_INTERRUPTED


def evaluate(arguments: argparse.Namespace) -> int:
    """The subcommand `eval`."""
    from efficientnet_east.data import submissions
    from efficientnet_east.evaluation import icdar

    if (arguments.submission is None) == (arguments.checkpoint is None):
        raise UserError("eval", "what to score is not clear", "either --checkpoint and --data, or --submission and --gt")
    if arguments.submission:
        if arguments.gt is None:
            raise UserError("--gt", "is missing", "the zip of the ground truth, beside --submission")
        found = submissions.read_submission(arguments.submission)
        truths = submissions.read_truth_zip(arguments.gt)
    else:
        found, truths = _detect_data(arguments)
    figures = icdar.score(found, truths).as_dict()
    print(json.dumps(figures, indent=2))
    if arguments.json:
        path = Path(arguments.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
        if arguments.checkpoint:
            submissions.write_submission(path.with_suffix(".zip"), found)
    return 0


def _detect_data(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    if arguments.data is None:
        raise UserError("--data", "is missing", "a folder of images and ground truth, beside --checkpoint")
    from efficientnet_east.evaluation.evaluate import detect_all, quads_of
    from efficientnet_east.inference.detector import Detector
    from efficientnet_east.training.sources import open_images

    skipped: list[UserError] | None = [] if arguments.skip_bad else None
    samples = open_images(arguments.data, arguments.list, arguments.limit, skipped)
    for error in skipped or ():
        print(f"skipped: {error}", file=sys.stderr)
    detector = Detector.load(arguments.checkpoint, _overrides(arguments, "detect"))
    found, truths = detect_all(detector, samples)
    return quads_of(found), truths


def detect(arguments: argparse.Namespace) -> int:
    """The subcommand `detect`."""
    from efficientnet_east.data.images import read_image, write_image
    from efficientnet_east.data.submissions import write_boxes
    from efficientnet_east.draw import draw_quads
    from efficientnet_east.inference.detector import Detector

    detector = Detector.load(arguments.checkpoint, _overrides(arguments, "detect"))
    folder = Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    failed = 0
    for path in map(Path, arguments.images):
        try:
            image = read_image(path)
        except UserError as error:
            if not arguments.skip_bad:
                raise
            print(f"skipped: {error}", file=sys.stderr)
            failed += 1
            continue
        found = detector(image)
        write_boxes(folder / f"{path.stem}.txt", found)
        write_image(folder / f"{path.stem}.png", draw_quads(image, found.quads, scores=found.scores))
        print(f"{path}: {len(found)} words -> {folder / path.stem}.png, .txt")
    return EXIT_USER_ERROR if failed == len(arguments.images) else 0
