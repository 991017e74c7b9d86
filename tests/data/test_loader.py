"""The stream of batches: the same for any number of workers, resumable, and never waiting in vain."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.streams import (
    Counting,
    Crowded,
    Scenes,
    assert_equal,
    joined,
    names,
    stream,
    take,
)

from efficientnet_east.data.augment import Augmentation
from efficientnet_east.data.datasets import ImageDataset, Record, find_records
from efficientnet_east.data.loader import (
    LabelOptions,
    Mixture,
    TextBatch,
    TextOptions,
    most_texts,
)
from efficientnet_east.data.synthetic.scenes import SyntheticScenes
from efficientnet_east.errors import UserError
from efficientnet_east.geometry.label_maps import encode
from efficientnet_east.structures import Sample, Truth

REPOSITORY = Path(__file__).resolve().parents[2]


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
