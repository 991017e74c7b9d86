"""Errors and log records on the command line: fields get dashes, INFO goes to stdout, the rest to stderr."""

import logging
import sys

import pytest

from efficientnet_east.cli import messages
from efficientnet_east.errors import UserError

FLAGS = {"patience": "--patience", "val_data": "--val-data", "host": "--host", "port": "--port",
         "data": "--data"}  # fmt: skip
LOGGER = logging.getLogger("efficientnet_east.training.loop")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (("train.patience", "needs validations", "set data.val_data"),
         "--patience: needs validations; set --val-data"),
        (("train.patience", "needs validations", "Set data.val_data."),
         "--patience: needs validations. Set --val-data."),
        (("run.yaml: train.patience", "is -1", "0 or more"), "run.yaml: train.patience: is -1; 0 or more"),
        (("train.patience", "is 3", "see docs/train.patience.md"),
         "--patience: is 3; see docs/train.patience.md"),
        (("detect.nms", "is 1", "no option of this command"),
         "detect.nms: is 1; no option of this command"),
        (("host, port", "is taken", "choose another"), "--host, --port: is taken; choose another"),
        (("host, other", "is taken", "choose another"), "host, other: is taken; choose another"),
        (("port", "is -1", "0 or more"), "--port: is -1; 0 or more"),
        (("data", "holds no image", "choose another"), "data: holds no image; choose another"),
        (("a\nb", "is odd", "rename it"), "a\\nb: is odd; rename it"),
    ],
)  # fmt: skip
def test_names_of_options(error: tuple[str, str, str], line: str) -> None:
    """A folder that was given as `data` is not the option of that name."""
    assert messages.describe(UserError(*error), {"data": "data", "port": -1}, FLAGS) == line


def log_all() -> None:
    LOGGER.debug("read 3 files")
    LOGGER.info("training on 3 images")
    LOGGER.warning("skipped: a.png")


def test_streams(capsys: pytest.CaptureFixture[str]) -> None:
    with messages.log_to_terminal(flags=FLAGS):
        log_all()
        LOGGER.info("raise train.patience to go on")
    log_all()  # nobody listens any more
    out, err = capsys.readouterr()
    assert out.splitlines() == ["training on 3 images", "raise --patience to go on"]
    assert err.splitlines()[:1] == ["warning: skipped: a.png"]
    assert logging.getLogger(messages.PACKAGE).propagate and not logging.getLogger(messages.PACKAGE).handlers


def test_verbose_and_results_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with messages.log_to_terminal(verbose=True, results_on_stdout=True):
        log_all()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["read 3 files", "training on 3 images", "warning: skipped: a.png"]


def test_a_full_disk_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for results that are printed; a stderr that nobody reads is no reason to stop."""

    class Full:
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

        def flush(self) -> None:
            pass

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(sys, "stderr", Full())
    with messages.log_to_terminal():
        LOGGER.warning("skipped: a.png")
        with pytest.raises(OSError, match="No space left"):
            LOGGER.info("training on 3 images")
