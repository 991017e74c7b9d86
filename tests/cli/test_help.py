"""What --help says of defaults."""

import pytest

from efficientnet_east.cli.main import main


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "command", ["detect", "eval", "calibrate", "demo", "mine", "export-weights", "benchmark"]
)
def test_the_model_decides_what_is_left_out(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The defaults of the configuration are those of a new run; a model file has thresholds of its own."""
    said = help_of(command, capsys)
    assert "The model brings a value for each option that you leave out." in said
    assert "drop boxes thinner than this, in pixels of the network's input --" in said
    assert "ignore cells with a lower score [0.9]" not in said


def test_a_new_run_has_the_defaults_of_the_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    said = help_of("train", capsys)
    assert "ignore cells with a lower score [0.9]" in said and "The model brings" not in said
