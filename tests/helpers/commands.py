"""What tests of the command line share."""

import pytest

from efficientnet_east.cli.main import main


def error_of(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    """Runs a command that must fail, and gives its one line on stderr."""
    assert main(words) == 2
    captured = capsys.readouterr().err
    (line,) = captured.splitlines()
    assert line.startswith("error: ") and "; expected " in line
    return line.removeprefix("error: ")
