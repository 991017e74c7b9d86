"""What tests of the command line share."""

import re

import pytest

from efficientnet_east.cli.main import main


def error_of(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    """Run a command that must fail, and return its one line on stderr."""
    assert main(words) == 2
    captured = capsys.readouterr().err
    (line,) = captured.splitlines()
    assert line.startswith("error: ") and re.search(r"; [a-z`'-]|\. [A-Z]", line), "a problem and a hint"
    return line.removeprefix("error: ")
