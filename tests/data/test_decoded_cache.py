"""Decoded images kept in memory: the same samples, one copy for all processes, and nothing left behind."""

import gc
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from efficientnet_east.data import decoded_cache
from efficientnet_east.data.augment import Augmentation
from efficientnet_east.data.datasets import ImageDataset, check_images, find_records
from efficientnet_east.data.decoded_cache import CachedImages, SharedMemory, keep_decoded
from efficientnet_east.data.images import read_image
from efficientnet_east.data.loader import LabelOptions, Mixture, batches, most_texts
from efficientnet_east.data.synthetic.scenes import SyntheticScenes
from efficientnet_east.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]
COUNT, SIDES = 6, (96, 128)
BYTES = COUNT * SIDES[0] * SIDES[1] * 3


def make_images(folder: Path, prefix: str = "img") -> ImageDataset:
    """Photographs of every kind of file that needs more than decoding; one is turned by its EXIF data."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    modes = {1: "RGB", 2: "L", 3: "RGBA", 4: "P", 5: "RGB", 6: "RGB"}
    for number, mode in modes.items():
        pixels = rng.integers(0, 256, (*SIDES, 3), dtype=np.uint8)
        image, exif = Image.fromarray(pixels).convert(mode), Image.Exif()
        exif[0x0112] = 6 if number == 6 else 1
        suffix = "png" if mode in ("RGBA", "P") else "jpg"
        image.save(folder / f"{prefix}_{number}.{suffix}", exif=exif)
        (folder / f"gt_{prefix}_{number}.txt").write_text("20,20,80,20,80,40,20,40,word\n")
    return ImageDataset(check_images(find_records(folder)))


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "efficientnet_east")


@pytest.fixture
def images(tmp_path: Path) -> ImageDataset:
    return make_images(tmp_path / "images")


def keep(source: Any, megabytes: int | None = None) -> CachedImages:
    kept = keep_decoded(source, megabytes)
    assert isinstance(kept, CachedImages)
    return kept


def take(count: int, source: Any, **options: Any) -> list[Any]:
    defaults = {"batch_size": 4, "seed": 1, "augmentation": Augmentation(size=64), "labels": LabelOptions()}
    with batches(source, **{**defaults, **options}) as opened:
        return [next(opened) for _ in range(count)]


def assert_equal(first: list[Any], second: list[Any]) -> None:
    for one, other in zip(first, second, strict=True):
        assert one.names == other.names
        for field in ("images", "score", "geometry", "mask"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))


def filled(kept: CachedImages) -> list[bool]:
    return [kept.block.get(index) is not None for index in range(len(kept))]


def descriptors() -> list[str]:
    """The caches' files that this process has open, apart from garbage."""
    gc.collect()
    links = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.islink(entry.path)]
    return [link for link in links if "efficientnet-east-images" in link]


def test_kept_pixels_are_the_decoded_ones(images: ImageDataset) -> None:
    kept = keep(images)
    assert filled(kept) == [False] * COUNT
    first, second = ([kept[i] for i in range(COUNT)] for _ in range(2))
    assert filled(kept) == [True] * COUNT
    assert first[5].image.shape == (128, 96, 3)
    for i, (decoded, seen) in enumerate(zip(first, second, strict=True)):
        np.testing.assert_array_equal(decoded.image, read_image(images.records[i].image))
        np.testing.assert_array_equal(seen.image, decoded.image)
        assert seen.name == images[i].name and seen.truth is images.records[i].truth
        assert not seen.image.flags.writeable and seen.image.dtype == np.uint8
    assert len(kept) == COUNT and repr(kept) == repr(images) and most_texts(kept) == most_texts(images)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_the_same_with_and_without(images: ImageDataset, workers: int) -> None:
    kept = keep(images)
    assert_equal(take(8, kept, workers=workers), take(8, images))
    assert filled(kept) == [True] * COUNT  # here, whichever process decoded them


def test_workers_look_at_what_others_decoded(images: ImageDataset) -> None:
    expected, kept = take(5, images), keep(images)
    for index in range(COUNT):
        assert kept[index].image.size
    for record in images.records:
        record.image.unlink()
    assert_equal(take(5, kept, workers=2), expected)


def test_images_go_through_a_mixture_and_scenes_are_not_kept(
    images: ImageDataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    others = make_images(tmp_path / "others", "other")
    mixture = Mixture((images, SyntheticScenes(2, 1, (128, 128)), others), (2, 1, 1))
    kept = keep_decoded(mixture)
    assert caplog.messages == ["decoded images are kept in memory: 12 images, 0.4 MB"]
    assert [type(part) for part in kept.sources] == [CachedImages, SyntheticScenes, CachedImages]
    for _ in range(2):
        assert_equal(take(4, kept), take(4, mixture))
    scenes = SyntheticScenes(2, 1)
    caplog.clear()
    assert keep_decoded(scenes) is scenes and not caplog.messages


def test_all_or_none_by_the_memory_that_is_free(
    images: ImageDataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(decoded_cache, "available_memory", lambda: 2 * BYTES)
    assert isinstance(keep_decoded(images), CachedImages)
    caplog.clear()
    monkeypatch.setattr(decoded_cache, "available_memory", lambda: 2 * BYTES - 2)
    assert keep_decoded(images) is images
    assert caplog.messages == [
        "decoded images are not kept in memory: 6 images need 0.2 MB, and 0.4 MB are free. "
        "Set data.cache_megabytes to keep some"
    ]


def test_as_many_as_a_limit_has_room_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ImageDataset, "image_bytes", lambda self: [400_000, 0, 500_000, 300_000, 100_000])
    source = ImageDataset(make_images(tmp_path / "images").records[:5])
    kept = keep_decoded(source, 1)
    line = "decoded images are kept in memory: 3 images, 1.0 MB of 5 images, 1.3 MB"
    assert keep_decoded(source, 0) is source and caplog.messages == [line]
    assert take(3, kept)[2].names == take(3, source)[2].names


def test_nothing_is_kept_once_memory_is_short(images: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, expected = keep(images), take(6, images)
    monkeypatch.setattr(decoded_cache, "available_memory", lambda: (1 << 29) + BYTES // COUNT - 1)
    assert_equal(take(6, kept), expected)
    assert filled(kept) == [False] * COUNT
    monkeypatch.setattr(decoded_cache, "available_memory", lambda: (1 << 29) + BYTES // COUNT)
    assert_equal(take(6, kept), expected)
    assert filled(kept) == [True] * COUNT


def test_a_full_disk_under_the_memory_only_keeps_less(
    images: ImageDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: Any, offset: int) -> int:
        raise OSError(28, "No space left on device")

    kept = keep(images)
    monkeypatch.setattr(os, "pwrite", full)
    assert_equal(take(3, kept), take(3, images))
    assert filled(kept) == [False] * COUNT


def test_half_a_write_is_no_image(images: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(descriptor: int, data: Any, offset: int) -> int:
        return pwrite(descriptor, data[:40] if len(data) > 8 else data, offset)

    pwrite, kept = os.pwrite, keep(images)
    monkeypatch.setattr(os, "pwrite", half)
    assert_equal(take(3, kept), take(3, images))
    assert filled(kept) == [False] * COUNT


def test_an_image_that_changed_its_size_is_not_kept(images: ImageDataset) -> None:
    kept, larger = keep(images), np.zeros((200, 300, 3), np.uint8)
    neighbor = kept[1].image
    Image.fromarray(larger).save(images.records[0].image)
    for _ in range(2):
        np.testing.assert_array_equal(kept[0].image, larger)
    np.testing.assert_array_equal(kept[1].image, neighbor)
    assert filled(kept) == [False, True] + [False] * (COUNT - 2)


@pytest.mark.parametrize("harm", ["deleted", "cut off"])
@pytest.mark.parametrize(("with_cache", "workers"), [(False, 0), (True, 0), (True, 1)])
def test_an_image_that_breaks_during_the_run(
    images: ImageDataset, harm: str, with_cache: bool, workers: int
) -> None:
    source = keep(images) if with_cache else images
    path = images.records[2].image
    if harm == "deleted":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError) as raised:
        take(6, source, workers=workers)
    assert str(raised.value).startswith(f"{path}: ") and "\n" not in str(raised.value)
    assert ("does not exist" if harm == "deleted" else "cannot be read (") in str(raised.value)
    errors: list[UserError] = []
    names = [name for batch in take(6, source, workers=workers, on_bad=errors.append) for name in batch.names]
    assert len(names) == 24 and path.name not in names
    assert [str(error) for error in errors] == [str(raised.value)]


def test_an_image_that_breaks_after_it_was_kept_does_no_harm(images: ImageDataset) -> None:
    kept, expected = keep(images), take(6, images)
    assert_equal(take(6, kept), expected)
    images.records[2].image.unlink()
    assert_equal(take(6, kept), expected)


def test_a_killed_worker_leaves_the_memory_usable(images: ImageDataset) -> None:
    kept, expected = keep(images), take(8, images)
    defaults = {"batch_size": 4, "seed": 1, "augmentation": Augmentation(size=64), "labels": LabelOptions()}
    with batches(kept, workers=1, **defaults) as opened:
        next(opened)
        for process in multiprocessing.active_children():
            os.kill(process.pid or 0, signal.SIGKILL)
        with pytest.raises(UserError, match="exit code -9"):
            for _ in range(20):
                next(opened)
    assert_equal(take(8, kept, workers=1), expected)


def test_memory_goes_with_its_owner(images: ImageDataset) -> None:
    assert descriptors() == []
    kept = keep(images)
    image = [kept[0].image, kept[0].image][1]
    expected = image.copy()
    assert descriptors() != []
    del kept
    gc.collect()
    np.testing.assert_array_equal(image, expected)  # whoever looks at an image keeps it
    del image
    assert descriptors() == []


def test_without_anonymous_files_a_temporary_one_serves(
    images: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kept = keep(images)
    assert_equal(take(6, kept, workers=1), take(6, images))
    assert filled(kept) == [True] * COUNT and len(list(tmp_path.glob("efficientnet-east-*"))) == 1
    del kept
    gc.collect()
    assert list(tmp_path.glob("efficientnet-east-*")) == []


def test_a_temporary_file_goes_with_the_process(images: ImageDataset, tmp_path: Path) -> None:
    code = """
import os, sys, tempfile
del os.memfd_create
from efficientnet_east.data.decoded_cache import SharedMemory
block = SharedMemory([300])
print(*os.listdir(tempfile.gettempdir()))
"""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path / "temporary")}
    (tmp_path / "temporary").mkdir()
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert ended.stdout.startswith("efficientnet-east-images-") and ended.returncode == 0
    assert list((tmp_path / "temporary").iterdir()) == []


def test_memory_that_cannot_be_shared_is_a_user_error(images: ImageDataset) -> None:
    kept = keep(images)
    sent = pickle.dumps(kept)
    del kept
    gc.collect()
    with pytest.raises(UserError, match=r"cannot be shared .*Set it to 0 on"):
        pickle.loads(sent)


def test_no_other_file_is_taken_for_the_memory(images: ImageDataset, tmp_path: Path) -> None:
    """A file that the owner opens later may get the number of the memory's."""
    kept = keep(images)
    sent, number = pickle.dumps(kept), kept.block._descriptor
    del kept
    gc.collect()
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    descriptor = os.open(other, os.O_RDWR)
    if descriptor != number:
        os.dup2(descriptor, number)
        os.close(descriptor)
    with pytest.raises(UserError, match="is gone"):
        pickle.loads(sent)
    os.close(number)
    assert other.read_bytes() == b"precious"


def test_memory_that_the_system_refuses_is_said(
    images: ImageDataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(decoded_cache.mmap, "mmap", refuse)
    assert keep_decoded(images) is images
    assert caplog.messages == ["decoded images are not kept in memory: Cannot allocate memory"]
    assert descriptors() == []


def test_an_entry_half_written_is_no_image() -> None:
    block, image = SharedMemory([60, 300]), np.full((10, 10, 3), 7, np.uint8)
    assert block.put(1, image) and not block.put(0, image)
    np.testing.assert_array_equal(block.get(1), image)
    os.pwrite(block._descriptor, np.int64(10 << 32 | 1).tobytes(), 8)
    assert block.get(1) is None
