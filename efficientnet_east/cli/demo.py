"""The command `demo`: a page to try models on, and an HTTP endpoint beside it."""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import logging
import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from efficientnet_east.checkpoints import bundled, model_file
from efficientnet_east.cli import options
from efficientnet_east.data.images import PILLOW_MAX_PIXELS
from efficientnet_east.demo import page
from efficientnet_east.demo.limits import MEGABYTE, Limits
from efficientnet_east.demo.worker import Worker
from efficientnet_east.errors import UserError
from efficientnet_east.files import text_files
from efficientnet_east.files.atomic import partial_folder, remove_leftovers
from efficientnet_east.inference.detector import Detector
from efficientnet_east.system import quiet

logger = logging.getLogger(__name__)

HOST, PORT = "127.0.0.1", 7860


@dataclasses.dataclass(frozen=True)
class Options:
    """What is served, where, and to whom.

    Attributes:
      model: paths or names of models, or None for those of the package.
      host: name or address to listen at.
      port: to listen at; 0 for any, None for `PORT` or the next free one.
      no_page: whether there is an HTTP endpoint only.
      password_file: whose first line is the password, or None.
      allow_host: names by which the server may be called.
      open_to_the_network: whether anybody may use it without a password.
      max_upload: megabytes of an image file.
      max_pixels: of an image.
      max_waiting: requests that may wait at a time.
      upload_seconds: that an upload may take.
      image_seconds: that an image may take.
    """

    model: list[str] | None
    host: str
    port: int | None
    no_page: bool
    password_file: str | None
    allow_host: list[str]
    open_to_the_network: bool
    max_upload: float
    max_pixels: int
    max_waiting: int
    upload_seconds: float
    image_seconds: float


def add_options(parser: options.Parser) -> None:
    """Declare the options."""
    help = "workdir of train.py, a prefix, or an exported file; can be repeated, the first is preset"
    options.add_model(parser, help, several=True, otherwise="all models of the package")
    parser.add_argument("--host", metavar="ADDRESS", default=HOST, help=f"address to listen at [{HOST}]")
    help = f"port to listen at; 0 takes any free one [{PORT}, or the next free one]"
    parser.add_argument("--port", metavar="N", type=options.number(int, 0, 65535), help=help)
    help = "serve the HTTP endpoint only; needs no Gradio"
    parser.add_argument("--no-page", action="store_true", help=help)
    help = "ask for a password (HTTP basic authentication): the first line of this file"
    parser.add_argument("--password-file", metavar="FILE", help=help)
    help = "let everybody who can reach --host use it without a password"
    parser.add_argument("--open-to-the-network", action="store_true", help=help)
    options.add_threads(parser)
    _add_limits(parser)
    options.add_fields(parser, ("detect",))


def _add_limits(parser: options.Parser) -> None:
    limits = parser.add_argument_group("limits of requests")
    help = "accept requests for this host name, besides localhost and IP addresses; can be repeated"
    limits.add_argument("--allow-host", metavar="NAME", action="append", default=[], help=help)
    wait = "requests that may wait; further ones get 503"
    for name, default, most, help in (
        ("max-upload", 20.0, 1e9, "largest upload, in megabytes"),
        ("max-pixels", 50_000_000, PILLOW_MAX_PIXELS, "largest image, in pixels"),
        ("max-waiting", 8, 1e9, wait),
        ("upload-seconds", 30.0, 1e9, "upload timeout in seconds"),
        ("image-seconds", 60.0, 1e9, "timeout in seconds for the detection in one image"),
    ):
        kind = options.number(type(default), 0, most, above=True)
        metavar = "N" if isinstance(default, int) else "X"
        limits.add_argument(
            f"--{name}", metavar=metavar, type=kind, default=default, help=f"{help} [{default:g}]"
        )


def run(given: Mapping[str, Any]) -> int:
    """Serve until Ctrl-C.

    Returns:
      The exit code: 130 after Ctrl-C, 143 after SIGTERM.

    Raises:
      UserError: options that cannot be used, no detector, a port that is taken, or missing libraries.
    """
    chosen = options.pick(Options, given)
    _expect_closed(chosen)
    return _serve(chosen, options.fields_of(given, "detect", threads=True), quietly=not given["verbose"])


def _serve(chosen: Options, overrides: dict[str, Any], quietly: bool) -> int:
    try:
        from efficientnet_east.demo import app, server
    except ImportError as error:
        raise UserError(error.name or "the server", "is not installed", page.INSTALL) from None
    limits, with_page = _limits(chosen), not chosen.no_page
    named = model_file.short_names(chosen.model or list(bundled.MODELS))
    load = functools.partial(load_models, named, overrides, quietly)
    worker = Worker(load, chosen.image_seconds, chosen.max_waiting)
    with partial_folder(_own_folder()) as folder, server.listen(*_where(chosen)) as listening:
        folder.chmod(0o700)
        if with_page:
            page.load_gradio(folder)  # before the models: it may be missing
        try:
            worker.start()
            built = app.build(worker, limits, chosen.max_pixels, folder if with_page else None)
            address = _address(chosen.host, listening.getsockname()[1])
            welcome = functools.partial(_welcome, address, chosen, worker.names)
            return server.serve(server.make(built), listening, welcome)
        finally:
            worker.close()


def load_models(
    named: Mapping[str, str], overrides: dict[str, Any], quietly: bool = False
) -> dict[str, Detector]:
    """Load the models, in the process that runs them.

    Args:
      named: name -> path.
      overrides: see `Detector.load`.
      quietly: whether start-up messages of libraries are hidden.

    Returns:
      The detectors by name.

    Raises:
      UserError: see `Detector.load`.
    """
    if quietly:
        quiet.hush()
    return {name: Detector.load(path, overrides) for name, path in named.items()}


def _expect_closed(chosen: Options) -> None:
    """Refuse an address that others can reach, unless they are meant to."""
    if not (is_loopback(chosen.host) or chosen.password_file or chosen.open_to_the_network):
        problem = f"{chosen.host} lets anybody on the network use this machine"
        hint = "Add --password-file FILE, or --open-to-the-network if you want that."
        raise UserError("--host", problem, hint)


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


def _limits(chosen: Options) -> Limits:
    upload = round(chosen.max_upload * MEGABYTE)
    names, password = tuple(chosen.allow_host), _password(chosen)
    return Limits(upload, chosen.upload_seconds, hosts=names, password=password)


def _password(chosen: Options) -> str:
    if chosen.password_file is None:
        return ""
    try:
        lines = text_files.split_lines(text_files.read_text(chosen.password_file))
    except UserError as error:
        raise UserError("password_file", f"{error.where} {error.problem}", error.hint) from None
    if not lines or not lines[0].strip():
        raise UserError(
            "password_file", f"{chosen.password_file} is empty", "expected a password in its first line"
        )
    return lines[0].strip()


def _where(chosen: Options) -> tuple[str, int, int]:
    """Where to listen. Other ports are tried only if you asked for none."""
    return (chosen.host, PORT, 20) if chosen.port is None else (chosen.host, chosen.port, 0)


def _own_folder() -> Path:
    """Make the folder for uploads, which nobody else can read; remove leftovers of a crash."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"efficientnet_east-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise UserError(
            folder, f"cannot be made ({error.strerror})", "Set TMPDIR to a folder that can be written."
        ) from None
    mine = stat.S_ISDIR(found.st_mode) and (not hasattr(os, "getuid") or found.st_uid == user)
    if not mine or (hasattr(os, "getuid") and found.st_mode & 0o077):
        problem = "belongs to another user, or others can read it"
        raise UserError(folder, problem, "Remove it, or set TMPDIR to another folder.")
    remove_leftovers(folder)
    return folder


def _address(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


def _welcome(address: str, chosen: Options, names: Sequence[str]) -> None:
    """Print the addresses."""
    if not is_loopback(chosen.host):
        whom = "everybody who knows the password" if chosen.password_file else "everybody"
        logger.warning("%s can be reached by %s on the network", chosen.host, whom)
    print(f"models: {', '.join(names)}")
    if not chosen.no_page:
        print(f"page:   {address}/")
    print(f"HTTP:   curl -F image=@photo.jpg {address}/detect", flush=True)
