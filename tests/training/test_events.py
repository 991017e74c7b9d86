"""Event files: TensorFlow and TensorBoard read them, a kill loses nothing, and TensorBoard may be missing."""

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from efficientnet_east.errors import UserError
from efficientnet_east.training import events


def picture() -> np.ndarray:
    red = np.zeros((40, 300, 3), np.uint8)
    red[..., 0] = 250
    return red


def write(folder: Path) -> Path:
    file = events.EventFile(folder, 0)
    file.scalars(300, {"loss/größe": 1.5, "a": -2.25})
    file.scalars(2**40, {"a": float("inf")})
    file.picture(70_000, "crops", picture())
    (path,) = folder.iterdir()
    return path


def test_tensorflow_reads_it(tmp_path: Path) -> None:
    from efficientnet_east.compat import tf

    read: list[Any] = list(tf.train.summary_iterator(str(write(tmp_path))))
    assert read[0].file_version == "brain.Event:2" and read[0].wall_time > 1.7e9
    assert [event.step for event in read[1:]] == [1, 300, 2**40, 70_000]
    scalars = [{value.tag: value.simple_value for value in event.summary.value} for event in read[2:4]]
    assert scalars == [{"loss/größe": 1.5, "a": -2.25}, {"a": float("inf")}]
    (value,) = read[4].summary.value
    assert (value.tag, value.image.height, value.image.width, value.image.colorspace) == ("crops", 40, 300, 3)
    decoded = cv2.imdecode(np.frombuffer(value.image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(decoded.astype(int) - picture()).max() < 5


def test_a_damaged_record_is_found(tmp_path: Path) -> None:
    """So that the test above proves that the checksums are right."""
    from efficientnet_east.compat import tf

    path = write(tmp_path)
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(tf.errors.DataLossError):
        list(tf.train.summary_iterator(str(path)))


def test_tensorboard_forgets_what_is_done_again(tmp_path: Path) -> None:
    """A run that was killed at step 4 and went on from step 2."""
    from tensorboard.backend.event_processing import event_accumulator as accumulator

    first = events.EventFile(tmp_path, 0)
    for step in range(1, 5):
        first.scalars(step, {"loss": float(step)})
    second = events.EventFile(tmp_path, 2)
    for step in range(3, 6):
        second.scalars(step, {"loss": 10.0 * step})
    second.picture(5, "crops", picture())
    read = accumulator.EventAccumulator(str(tmp_path))
    read.Reload()
    seen = [(event.step, event.value) for event in read.Scalars("loss")]
    assert seen == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0), (5, 50.0)]
    assert [(event.step, event.height, event.width) for event in read.Images("crops")] == [(5, 40, 300)]


def test_what_is_written_stays_after_a_kill(tmp_path: Path) -> None:
    from efficientnet_east.compat import tf

    code = "import os, sys; from pathlib import Path; from efficientnet_east.training import events\n"
    code += "file = events.EventFile(Path(sys.argv[1]), 0); file.scalars(1, {'loss': 3.0})\n"
    code += "os.kill(os.getpid(), 9)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2], timeout=100
    )
    assert done.returncode == -9
    (path,) = tmp_path.iterdir()
    assert [event.step for event in tf.train.summary_iterator(str(path))] == [0, 1, 1]


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    file = events.EventFile(tmp_path, 0)
    (path,) = tmp_path.iterdir()
    path.unlink()
    tmp_path.rmdir()
    with pytest.raises(UserError, match=r"events\.out\.tfevents\S+: cannot be written \(No such file"):
        file.scalars(1, {"loss": 1.0})


def test_half_a_record_is_taken_back(tmp_path: Path) -> None:
    """A disk that is full for a while costs the records of that while, not those that follow."""
    from efficientnet_east.compat import tf

    file = events.EventFile(tmp_path, 0)
    file.scalars(1, {"loss": 1.0})
    (path,) = tmp_path.iterdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, before[1]))
    try:
        with pytest.raises(UserError, match="File too large"):
            file.scalars(2, {"loss": 2.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    file.scalars(3, {"loss": 3.0})
    assert [event.step for event in tf.train.summary_iterator(str(path))] == [0, 1, 1, 3]


def test_without_tensorboard_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(events, "RecordWriter", None)
    caplog.set_level("INFO")
    file = events.EventFile(tmp_path, 0)
    file.scalars(1, {"loss": 1.0})
    file.picture(1, "crops", picture())
    assert not list(tmp_path.iterdir())
    assert caplog.messages == ["no events for TensorBoard, which is not installed; `pip install tensorboard`"]
