"""Progress: plain lines now and then in a log file, a bar on a terminal, nothing for short work."""

import sys
import time

import pytest

from efficientnet_east.system import progress


def slowly(seconds: list[float]) -> list[float]:
    """Items that take their time."""
    done = []
    for pause in progress.track(seconds, len(seconds), "detect"):
        time.sleep(pause)
        done.append(pause)
    return done


def test_plain_lines_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the first item takes longer than the interval."""
    monkeypatch.setattr(progress, "INTERVAL", 0.05)
    assert slowly([0.15, 0, 0, 0.1]) == [0.15, 0, 0, 0.1]
    out, err = capsys.readouterr()
    first, *rest = err.splitlines()
    assert out == "" and "\r" not in err
    assert first.startswith("detect: 1 of 4 images, ") and first.endswith(" left") and " image/s, " in first
    assert rest and all(line.startswith("detect: ") for line in rest)


def test_items_of_unknown_number(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "INTERVAL", 0.05)
    for _ in progress.track(iter("ab"), None, "detect", "frame"):
        time.sleep(0.1)
    assert capsys.readouterr().err.startswith("detect: 1 frames, ")


def test_short_work_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert slowly([0, 0]) == [0, 0]
    assert list(progress.track("abc", 3, "detect", show=False)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for _ in progress.track(range(3), 3, "detect"):
        progress.write("found", sys.stdout)
    out, err = capsys.readouterr()
    assert out.count("found\n") == 3 and "detect: " in err and "\r" in err
