"""The stream of batches: the same for any number of workers, resumable, and never waiting in vain."""

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from efficientnet_east.data.augment import Augmentation
from efficientnet_east.data.datasets import ImageDataset, Record, find_records
from efficientnet_east.data.loader import (
    Batch,
    Batches,
    LabelOptions,
    Mixture,
    TextBatch,
    TextOptions,
    batches,
    most_texts,
)
from efficientnet_east.data.synthetic.scenes import SyntheticScenes
from efficientnet_east.errors import UserError
from efficientnet_east.geometry.label_maps import encode
from efficientnet_east.structures import Sample, Truth

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = Augmentation(size=64)


@dataclasses.dataclass(frozen=True)
class Scenes:
    """`length` small noisy images with one text; those in `bad` cannot be read."""

    length: int
    bad: tuple[int, ...] = ()
    prefix: str = "img"

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int, /) -> Sample:
        name = f"{self.prefix}_{index}"
        if index in self.bad:
            raise UserError(f"{name}.jpg", "is cut off", "expected a whole image")
        rng = np.random.default_rng(index)
        quads = np.array([[[20, 20], [70, 22], [69, 40], [19, 38]]], np.float32)
        image = rng.integers(0, 256, (80, 100, 3), dtype=np.uint8)
        return Sample(name, image, Truth(quads, np.array([False]), ("text",)))


@dataclasses.dataclass(frozen=True)
class Failing:
    """Raises what it is given."""

    kind: str

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int, /) -> Sample:
        if self.kind == "unpicklable":
            raise Unpicklable("first", "second")
        if self.kind == "exit":
            sys.exit(0)
        if self.kind == "threads":
            raise ValueError(f"cv2 runs {cv2.getNumThreads()} threads")
        raise ZeroDivisionError("a bug in the source")


class Counting(Scenes):
    """Knows what it was asked for."""

    asked: list[int]

    def __init__(self, length: int) -> None:
        super().__init__(length)
        object.__setattr__(self, "asked", [])

    def __getitem__(self, index: int, /) -> Sample:
        self.asked.append(index)
        return super().__getitem__(index)


class Unpicklable(Exception):
    """Pickles, and cannot be unpickled: its arguments do not fit its signature."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


class Unsendable(Scenes):
    """Holds what no other process can be given."""

    def __reduce__(self) -> Any:
        raise TypeError("holds an open file")


@dataclasses.dataclass(frozen=True)
class Crowded(Scenes):
    """Scene i has i texts, the odd ones illegible."""

    def __getitem__(self, index: int, /) -> Sample:
        scene = super().__getitem__(index)
        shift = np.arange(index, dtype=np.float32)[:, None, None] * np.array([1, 2], np.float32)
        texts = Truth(scene.truth.quads + shift, np.arange(index) % 2 > 0, ("text",) * index)
        return Sample(scene.name, scene.image, texts)


def stream(source: Any = Scenes(7), **options: Any) -> Batches[Any]:
    defaults = {"batch_size": 4, "seed": 1, "augmentation": SMALL, "labels": LabelOptions()}
    return batches(source, **{**defaults, **options})


def take(count: int, source: Any = Scenes(7), **options: Any) -> list[Any]:
    with stream(source, **options) as opened:
        return [next(opened) for _ in range(count)]


def fields(batch: Batch | TextBatch) -> list[str]:
    return [field.name for field in dataclasses.fields(batch)]


def assert_equal(first: list[Any], second: list[Any]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert type(one) is type(other) and one.names == other.names
        for field in fields(one):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def joined(parts: list[Any]) -> Any:
    """The batch whose shares these are."""
    arrays = {}
    for field in fields(parts[0])[:-1]:
        arrays[field] = np.concatenate([getattr(part, field) for part in parts])
    return type(parts[0])(**arrays, names=tuple(names(parts)))


def names(taken: list[Any]) -> list[str]:
    return [name for batch in taken for name in batch.names]


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Grain keeps one pool of threads for freeing shared memory; apart from it nothing may stay."""
    yield
    assert multiprocessing.active_children() == []
    left = [thread for thread in threading.enumerate() if thread.name.startswith("grain")]
    for thread in left:
        thread.join(5)
    assert not any(thread.is_alive() for thread in left)


def test_batches_have_the_promised_form() -> None:
    batch = take(1)[0]
    forms = {
        "images": ((4, 64, 64, 3), np.uint8),
        "score": ((4, 16, 16, 1), np.float32),
        "geometry": ((4, 16, 16, 5), np.float32),
        "mask": ((4, 16, 16, 1), np.float32),
    }
    for field, (shape, dtype) in forms.items():
        array = getattr(batch, field)
        assert type(array) is np.ndarray and array.shape == shape and array.dtype == dtype
    assert len(batch.names) == 4 and all(isinstance(name, str) for name in batch.names)
    assert sum(batch.score.sum() for batch in take(4)) > 0


def test_maps_are_those_of_the_crop() -> None:
    """With a source as large as the crop and nothing left to chance, the labels are known."""
    quads = np.array([[[8, 8], [56, 8], [56, 24], [8, 24]]], np.float32)
    truth = Truth(quads, np.array([False]), ("a",))
    source = [Sample("a", np.zeros((64, 64, 3), np.uint8), truth)]
    still = Augmentation(size=64, scale=(1, 1), aspect=1, rotation=0, color=None)
    labels = LabelOptions(ring=True, shrink=0.2)
    batch = take(1, source, batch_size=1, augmentation=still, labels=labels)[0]
    maps = encode(truth.quads, truth.ignore, (64, 64), ring=True, shrink=0.2)
    np.testing.assert_array_equal(batch.score[0, ..., 0], maps.score)
    np.testing.assert_allclose(batch.geometry[0], maps.geometry, atol=1e-4)
    np.testing.assert_array_equal(batch.mask[0, ..., 0], maps.mask)


def test_batches_of_quad() -> None:
    """Eight channels, of the same crops and with the same scores and masks as rbox."""
    rbox, quad = (take(3, labels=LabelOptions(geometry=form)) for form in ("rbox", "quad"))
    for one, other in zip(rbox, quad, strict=True):
        assert one.names == other.names and other.geometry.shape == (4, 16, 16, 8)
        for field in ("images", "score", "mask"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    assert sum(np.abs(batch.geometry).sum() for batch in quad) > 0


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_of_texts(workers: int) -> None:
    """The same crops, with texts from which the very maps of the other kind of batch can be made."""
    options = LabelOptions(min_side=3.0)
    seen = set()
    taken = take(6, Crowded(7), labels=TextOptions(9), workers=workers)
    for maps, texts in zip(take(6, Crowded(7), labels=options), taken, strict=True):
        assert isinstance(texts, TextBatch) and texts.names == maps.names
        np.testing.assert_array_equal(texts.images, maps.images)
        forms = {"quads": ((4, 9, 4, 2), np.float32), "ignore": ((4, 9), np.bool_), "count": ((4,), np.int32)}
        for field, (shape, dtype) in forms.items():
            array = getattr(texts, field)
            assert type(array) is np.ndarray and array.shape == shape and array.dtype == dtype
        for i, count in enumerate(texts.count):
            seen.add(int(count))
            assert not texts.quads[i, count:].any() and not texts.ignore[i, count:].any()
            quads, ignore = texts.quads[i, :count], texts.ignore[i, :count]
            made = encode(quads, ignore, (64, 64), min_side=3.0)
            np.testing.assert_array_equal(maps.score[i, ..., 0], made.score)
            np.testing.assert_array_equal(maps.geometry[i], made.geometry)
            np.testing.assert_array_equal(maps.mask[i, ..., 0], made.mask)
    assert {0, 6} <= seen


@pytest.mark.parametrize("workers", [0, 1])
def test_a_crop_with_too_many_texts_is_an_error(workers: int) -> None:
    whole = Augmentation(size=128, scale=(1, 1), aspect=1, rotation=0)
    options = {"augmentation": whole, "labels": TextOptions(5), "workers": workers, "on_bad": print}
    with stream(Crowded(7), **options) as opened, pytest.raises(UserError) as raised:
        for _ in range(7):
            next(opened)
    assert str(raised.value).startswith("img_6: has 6 texts in one crop; expected at most 5")


def test_the_most_texts_of_a_source() -> None:
    truths = [Truth(np.zeros((n, 4, 2), np.float32), np.zeros(n, np.bool_), ("a",) * n) for n in (1, 3, 2)]
    files = ImageDataset([Record(Path("no_such_file.jpg"), truth) for truth in truths])
    assert most_texts(files) == 3
    assert most_texts(Crowded(5)) == 4
    assert most_texts(Mixture((files, Crowded(6), Scenes(1)), (1, 1, 1))) == 5
    assert most_texts(Crowded(1)) == 1
    with pytest.raises(UserError, match="most: is 0"):
        TextOptions(0)


def test_no_scene_has_more_texts_than_promised() -> None:
    source = SyntheticScenes(60, 3, (640, 640))
    counts = [len(source[i].truth.texts) for i in range(20)]
    assert max(counts) > 8 and max(counts) <= most_texts(source)


@pytest.mark.parametrize(
    ("labels", "start", "workers"),
    [
        (LabelOptions(), 0, 0),
        (LabelOptions(), 2, 0),
        (TextOptions(1), 2, 0),
        (LabelOptions(), 1, 2),
    ],
)
def test_shards_are_shares_of_the_whole_batch(labels: Any, start: int, workers: int) -> None:
    mixture = Mixture((Scenes(5), Scenes(4, prefix="other")), (2, 1))
    whole = take(4, mixture, batch_size=6, labels=labels)[start:]
    share = {"batch_size": 2, "labels": labels, "start": start, "workers": workers}
    shares = [take(4 - start, mixture, shard=(i, 3), **share) for i in range(3)]
    assert_equal(whole, [joined(list(parts)) for parts in zip(*shares, strict=True)])


def test_a_shard_computes_its_own_share_only() -> None:
    source = Counting(30)
    first = names(take(3, Scenes(30), batch_size=6))
    with stream(source, batch_size=2, shard=(1, 3)) as opened:
        taken = [next(opened) for _ in range(3)]
        assert opened.position == 3
    assert names(taken) == [name for k in range(3) for name in first[6 * k + 2 : 6 * k + 4]]
    ready = 3 + 1 + 2  # taken, being made, in the buffer
    assert {f"img_{i}" for i in source.asked[:6]} == set(names(taken)) and len(source.asked) <= 2 * ready


@pytest.mark.parametrize("shard", [(1, 1), (-1, 2), (0, 0)])
def test_a_shard_that_is_none_is_refused(shard: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="shard: is"):
        stream(shard=shard)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_the_stream(workers: int) -> None:
    assert_equal(take(8), take(8, workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_start_is_where_an_unbroken_run_would_be(workers: int) -> None:
    assert_equal(take(9)[5:], take(4, start=5, workers=workers))


def test_start_far_ahead_replays_nothing() -> None:
    begin = time.monotonic()
    assert len(take(1, start=10**9)) == 1
    assert time.monotonic() - begin < 2


def test_position_counts_batches() -> None:
    with stream(start=3) as opened:
        next(opened)
        next(opened)
        assert opened.position == 5
        expected = next(opened)
    assert_equal([expected], take(1, start=5))


def test_every_epoch_is_another_permutation() -> None:
    taken = names(take(12, Scenes(16)))
    epochs = [taken[i : i + 16] for i in range(0, 48, 16)]
    assert all(sorted(epoch) == sorted(epochs[0]) and len(set(epoch)) == 16 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_seed_changes_order_and_crops() -> None:
    assert names(take(4, Scenes(16), seed=1)) != names(take(4, Scenes(16), seed=2))
    first, second = (take(1, Scenes(1), batch_size=1, seed=seed)[0] for seed in (1, 2))
    assert not np.array_equal(first.images, second.images)


def test_neighboring_seeds_do_not_share_epochs() -> None:
    """Grain shuffles epoch e of seed s like epoch e - 1 of seed s + 1."""
    assert names(take(4, Scenes(16), seed=1, start=4)) != names(take(4, Scenes(16), seed=2))


def test_the_same_image_is_cropped_anew_each_time() -> None:
    batch = take(1, Scenes(1), batch_size=3)[0]
    assert not np.array_equal(batch.images[0], batch.images[1])
    assert not np.array_equal(batch.images[1], batch.images[2])


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_source_smaller_than_a_batch(length: int) -> None:
    taken = names(take(6, Scenes(length), batch_size=5))
    counts = [taken.count(f"img_{i}") for i in range(length)]
    assert max(counts) - min(counts) <= 1


def test_mixture_keeps_the_shares_and_each_source_whole() -> None:
    mixture = Mixture((Scenes(4, prefix="a"), Scenes(50, prefix="b")), (1, 3))
    taken = names(take(10, mixture, batch_size=8))
    assert sum(name.startswith("a") for name in taken) == 20
    assert len({name for name in taken if name.startswith("b")}) == 50
    assert_equal(take(4, mixture)[2:], take(2, mixture, start=2))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_a_user_error(workers: int) -> None:
    with stream(Scenes(3, bad=(1,)), workers=workers) as opened, pytest.raises(UserError) as raised:
        next(opened)
    assert str(raised.value) == "img_1.jpg: is cut off; expected a whole image"


def test_the_batches_before_a_bad_image_still_come() -> None:
    source = Scenes(40, bad=(11,))
    first = names(take(10, Scenes(40))).index("img_11") // 4
    with stream(source) as opened:
        assert_equal([next(opened) for _ in range(first)], take(first, Scenes(40)))
        with pytest.raises(UserError, match="img_11"):
            next(opened)


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_images_are_replaced_and_the_others_stay(workers: int) -> None:
    whole = names(take(10, Scenes(10)))
    errors: list[UserError] = []
    taken = names(take(10, Scenes(10, bad=(3, 4)), on_bad=errors.append, workers=workers))
    replaced = [{"img_3": "img_5", "img_4": "img_5"}.get(name, name) for name in whole]
    assert taken == replaced
    assert sorted(error.where for error in errors) == ["img_3.jpg", "img_4.jpg"]


def test_skipping_does_not_change_the_crops_of_the_good() -> None:
    for one, other in zip(take(5, Scenes(10)), take(5, Scenes(10, bad=(3,)), on_bad=print), strict=True):
        for i, name in enumerate(one.names):
            assert name == "img_3" or np.array_equal(one.images[i], other.images[i])


def test_nothing_but_bad_images_is_an_error_even_when_skipping() -> None:
    source = Scenes(5, bad=(0, 1, 2, 3, 4))
    with stream(source, on_bad=print) as opened, pytest.raises(UserError, match="4 more images"):
        next(opened)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("kind", "error", "text"),
    [
        ("bug", ZeroDivisionError, "a bug in the source"),
        ("unpicklable", RuntimeError, "firstsecond"),
        ("exit", RuntimeError, "SystemExit"),
    ],
)
def test_any_failure_reaches_the_caller(kind: str, error: type[Exception], text: str, workers: int) -> None:
    failing = stream(Failing(kind), workers=workers, on_bad=print)
    with failing as opened, pytest.raises(error, match=text) as raised:
        next(opened)
    if kind == "bug":  # it shows its place, through the boundary of processes too
        assert "test_loader.py" in raised.value.__notes__[0]


def test_workers_run_one_thread_of_opencv() -> None:
    with stream(Failing("threads"), workers=1) as opened, pytest.raises(ValueError, match="runs 1 threads"):
        next(opened)


def test_a_source_that_cannot_be_sent_is_an_error() -> None:
    with stream(Unsendable(3), workers=1) as opened, pytest.raises(TypeError, match="open file"):
        next(opened)


@pytest.mark.parametrize(("workers", "before"), [(2, 1), (1, 0)])
def test_a_killed_worker_is_an_error(workers: int, before: int) -> None:
    with stream(workers=workers) as opened:
        for _ in range(before):
            next(opened)
        while len(multiprocessing.active_children()) < workers:
            time.sleep(0.01)
        for process in multiprocessing.active_children():
            os.kill(process.pid or 0, signal.SIGKILL)
        with pytest.raises(UserError, match=r"data workers: Worker process .* exit code -9"):
            for _ in range(20):  # some batches are ready
                next(opened)


def test_closing_early_and_twice() -> None:
    opened = stream(workers=2)
    opened.close()
    opened.close()
    with pytest.raises(ValueError, match="closed"):
        next(opened)


@pytest.mark.parametrize("workers", [0, 1])
def test_nobody_works_while_batches_are_not_taken(workers: int) -> None:
    """Once the buffers are full, neither this process nor the workers use processor time or make batches."""
    with stream(workers=workers) as opened:
        next(opened)
        time.sleep(1)
        pids = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
        before = [psutil.Process(pid).cpu_times() for pid in pids]
        time.sleep(1)
        after = [psutil.Process(pid).cpu_times() for pid in pids]
    used = [new.user + new.system - old.user - old.system for old, new in zip(before, after, strict=True)]
    assert len(used) == 1 + workers and max(used) < 0.1


def test_closing_while_a_full_buffer_waits() -> None:
    for workers in (0, 1):
        opened = stream(workers=workers)
        next(opened)
        time.sleep(0.3)
        begin = time.monotonic()
        opened.close()
        assert time.monotonic() - begin < 5


def test_two_streams_at_once() -> None:
    with stream(workers=1) as first, stream(workers=1, seed=2) as second:
        taken = [(next(first), next(second)) for _ in range(3)]
    assert_equal([pair[0] for pair in taken], take(3))
    assert_equal([pair[1] for pair in taken], take(3, seed=2))


@pytest.mark.parametrize(
    ("name", "value"), [("batch_size", 0), ("seed", -1), ("workers", -1), ("start", -1), ("buffer", 0)]
)
def test_numbers_out_of_range_are_named(name: str, value: int) -> None:
    with pytest.raises(UserError, match=f"{name}: is {value}"):
        stream(**{name: value})


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(UserError, match="no images"):
        stream(Scenes(0))


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 0.0), (1.0, float("nan"))])
def test_weights_must_fit_the_sources(weights: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="weights"):
        Mixture((Scenes(1), Scenes(1)), weights)


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            [str(REPOSITORY), str(REPOSITORY / "tests"), str(REPOSITORY / "tests" / "data")]
        ),
    }


def test_no_tensorflow_and_a_quiet_end() -> None:
    """Batches kept and streams left open to the end of the interpreter, and nothing to be read on stderr."""
    code = """
import sys
from test_loader import stream
streams = stream(), stream(workers=1)
batches = [next(opened) for opened in streams]
print("tensorflow" in sys.modules, "jax" in sys.modules)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment()
    )
    assert ended.stdout == "False False\n" and ended.returncode == 0
    assert [line for line in ended.stderr.splitlines() if "jax profiler" not in line] == []


def test_workers_end_when_their_parent_is_killed() -> None:
    code = """
import multiprocessing, time
from test_loader import stream
opened = stream(workers=1)
next(opened)
print(*[process.pid for process in multiprocessing.active_children()], flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        worker = int(process.stdout.readline()) if process.stdout is not None else 0
        process.kill()
    deadline = time.monotonic() + 10
    while is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    if is_running(worker):
        os.kill(worker, signal.SIGKILL)
        pytest.fail("a worker outlives its parent")


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_real_images_give_text_to_learn_from() -> None:
    folder = REPOSITORY.parent / "shared" / "data" / "icdar2015"
    if not folder.is_dir():
        pytest.skip("the ICDAR 2015 training images are not here")
    source = ImageDataset(find_records(folder, limit=24))
    options = Augmentation(size=256)
    taken = take(3, source, batch_size=8, augmentation=options, labels=LabelOptions(min_side=8))
    learnable = [(batch.score * batch.mask)[i].any() for batch in taken for i in range(8)]
    assert np.mean(learnable) > 0.5
    assert sorted(names(taken)) == sorted(record.image.name for record in source.records)
