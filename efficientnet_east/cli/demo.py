"""The subcommand `demo`: a page to try models on, and an HTTP endpoint beside it."""

from __future__ import annotations

import argparse
import functools
import ipaddress
import os
import stat
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from efficientnet_east.checkpoints import model_file
from efficientnet_east.data.images import PILLOW_MAX_PIXELS
from efficientnet_east.demo import page, request_guard
from efficientnet_east.demo.worker import Worker
from efficientnet_east.errors import UserError
from efficientnet_east.files import text_files
from efficientnet_east.files.atomic import partial_folder, remove_leftovers
from efficientnet_east.inference.detector import Detector

HOST, PORT = "127.0.0.1", 7860


def add_options(sub: argparse.ArgumentParser) -> None:
    """Declare what `demo` takes, but for the section `detect` of the configuration."""
    model = "workdir of train.py, a prefix, or an exported file; several can be given, the first is preset"
    model += " [the model that comes with the package]"
    sub.add_argument("--model", "--checkpoint", metavar="PATH", action="append", help=model)
    sub.add_argument("--host", metavar="ADDRESS", default=HOST, help=f"interface to listen at [{HOST}]")
    sub.add_argument("--port", metavar="N", type=int, help=f"0 takes any [{PORT}, or the next free one]")
    sub.add_argument("--no-page", action="store_true", help="only the HTTP endpoint; needs no Gradio")
    password = "file whose first line is asked for as a password, by HTTP's basic authentication"
    sub.add_argument("--password-file", metavar="FILE", help=password)
    known = "name by which the server may be called, besides localhost and numbers; several can be given"
    sub.add_argument("--allow-host", metavar="NAME", action="append", default=[], help=known)
    anybody = "let anybody who reaches --host use it without a password"
    sub.add_argument("--open-to-the-network", action="store_true", help=anybody)
    numbers = {"max-upload": (20.0, float, "megabytes of an image file"),
               "max-pixels": (50_000_000, int, "of an image"),
               "max-waiting": (8, int, "images that wait at a time; others are told to come back"),
               "upload-seconds": (30.0, float, "until all of an image must be there"),
               "image-seconds": (60.0, float, "that an image may take; then its work is ended")}  # fmt: skip
    for name, (default, kind, help) in numbers.items():
        unit = "N" if kind is int else "X"
        sub.add_argument(f"--{name}", metavar=unit, type=kind, default=default, help=f"{help} [{default:g}]")


def run(arguments: argparse.Namespace, overrides: Mapping[str, Any]) -> int:
    """Serve until Ctrl-C.

    Args:
      arguments: of `add_options`.
      overrides: fields of the configuration's section `detect`, and `threads`.

    Returns:
      The exit code: 130 after Ctrl-C, 143 after SIGTERM.

    Raises:
      UserError: options that cannot be used, no detector, a port that is taken, or missing libraries.
    """
    _expect_usable(arguments)
    try:
        from efficientnet_east.demo import app, server
    except ImportError as error:
        raise UserError(error.name or "the server", "is not installed", page.INSTALL) from None
    limits, with_page = _limits(arguments), not arguments.no_page
    load = functools.partial(
        load_models, model_file.short_names(arguments.model or [model_file.DEFAULT]), dict(overrides)
    )
    worker = Worker(load, arguments.image_seconds, arguments.max_waiting)
    with partial_folder(_own_folder()) as folder, server.listen(*_place(arguments)) as listening:
        folder.chmod(0o700)
        if with_page:
            page.load_gradio(folder)  # before the models: it may be missing
        try:
            worker.start()
            built = app.build(worker, limits, arguments.max_pixels, folder if with_page else None)
            address = _address(arguments.host, listening.getsockname()[1])
            welcome = functools.partial(_welcome, address, arguments, worker.names)
            return server.serve(server.make(built), listening, welcome)
        finally:
            worker.close()


def load_models(named: Mapping[str, str], overrides: dict[str, Any]) -> dict[str, Detector]:
    """Load the models, in the process that runs them.

    Args:
      named: name -> path.
      overrides: see `Detector.load`.

    Returns:
      The detectors by name.

    Raises:
      UserError: see `Detector.load`.
    """
    return {name: Detector.load(path, overrides) for name, path in named.items()}


def _expect_usable(arguments: argparse.Namespace) -> None:
    for name in ("max_upload", "max_pixels", "max_waiting", "upload_seconds", "image_seconds"):
        value = getattr(arguments, name)
        if not 0 < value < 1e9:
            raise UserError(f"--{name.replace('_', '-')}", f"is {value}", "expected a number above 0")
    if arguments.max_pixels > PILLOW_MAX_PIXELS:
        raise UserError("--max-pixels", f"is {arguments.max_pixels}", f"expected at most {PILLOW_MAX_PIXELS}")
    if arguments.port is not None and not 0 <= arguments.port < 65536:
        raise UserError("--port", f"is {arguments.port}", "expected 0 to 65535")
    closed = is_loopback(arguments.host) or arguments.password_file or arguments.open_to_the_network
    if not closed:
        problem = f"{arguments.host} lets anybody on the network use this machine"
        raise UserError(
            "--host", problem, "expected --password-file FILE, or --open-to-the-network if that is meant"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address.

    Args:
      host: name or address.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _limits(arguments: argparse.Namespace) -> request_guard.Limits:
    upload = round(arguments.max_upload * request_guard.MEGABYTE)
    names, password = tuple(arguments.allow_host), _password(arguments)
    return request_guard.Limits(upload, arguments.upload_seconds, hosts=names, password=password)


def _password(arguments: argparse.Namespace) -> str:
    if arguments.password_file is None:
        return ""
    try:
        lines = text_files.split_lines(text_files.read_text(arguments.password_file))
    except UserError as error:
        raise UserError("--password-file", f"{error.where} {error.problem}", error.hint) from None
    if not lines or not lines[0].strip():
        raise UserError(
            "--password-file", f"{arguments.password_file} is empty", "expected a password in its first line"
        )
    return lines[0].strip()


def _place(arguments: argparse.Namespace) -> tuple[str, int, int]:
    """Where to listen; the next port is as good only where none was asked for."""
    return (arguments.host, PORT, 20) if arguments.port is None else (arguments.host, arguments.port, 0)


def _own_folder() -> Path:
    """The folder for what is uploaded, which nobody else can look into; leftovers of a crash are removed."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"efficientnet_east-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise UserError(
            folder, f"cannot be made ({error.strerror})", "expected a temporary folder (TMPDIR)"
        ) from None
    mine = stat.S_ISDIR(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid == user)
    if not mine or (hasattr(os, "getuid") and found.st_mode & 0o077):
        problem = "is somebody else's, or others may look into it"
        raise UserError(folder, problem, "expected that it be removed, or another temporary folder (TMPDIR)")
    remove_leftovers(folder)
    return folder


def _address(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


def _welcome(address: str, arguments: argparse.Namespace, names: Sequence[str]) -> None:
    """Say where it is, and what it may be asked."""
    if not is_loopback(arguments.host):
        whom = "everybody who knows the password" if arguments.password_file else "everybody"
        print(f"warning: {arguments.host} can be reached by {whom} on the network", file=sys.stderr)
    print(f"models: {', '.join(names)}")
    if not arguments.no_page:
        print(f"page:   {address}/")
    print(f"HTTP:   curl -F image=@photo.jpg {address}/detect", flush=True)
