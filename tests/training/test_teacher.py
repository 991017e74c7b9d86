"""A detector that learns from another one, beside its labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.steps import Toy, crops

from efficientnet_east import model
from efficientnet_east.compat import tf
from efficientnet_east.config import Config, load
from efficientnet_east.errors import UserError
from efficientnet_east.inference.runtimes import open_runtime
from efficientnet_east.pjrt import export_step
from efficientnet_east.training import teacher


def test_its_maps_are_those_of_the_detector() -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    expected = open_runtime("default", runtime="tensorflow").run(images.astype(np.float32))
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        place = tf.placeholder(tf.uint8, images.shape)
        maps = teacher.build_maps(place, "default", load())
        assert not graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES), "checkpoints stay as they are"
        found = session.run(maps, {place: images})
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A teacher of the same maps for every image, beside the toy, which cannot read a real one."""

    def maps(images: Any, teacher: str, config: Config) -> model.Outputs:
        assert teacher == "steady" and images.dtype == tf.uint8
        geometry = tf.constant([[[[4.0, 9.0, 6.0, 11.0, 0.2]]]])
        return model.Outputs(tf.fill([2, 16, 16, 1], 0.7), tf.tile(geometry, [2, 16, 16, 1]))

    monkeypatch.setattr(teacher, "build_maps", maps)
    return monkeypatch


def test_a_step_adds_its_losses(steady: pytest.MonkeyPatch) -> None:
    """The teacher's terms are logged, and the total holds them with their weight; no weight, no change."""
    plain, _ = Toy(steady, weight_decay=0.0).run()
    taught = [
        Toy(steady, weight_decay=0.0, teacher="steady", teacher_weight=weight).run()[0]
        for weight in (0.0, 2.0)
    ]
    for scalars, weight in zip(taught, (0.0, 2.0), strict=True):
        terms = {name: scalars[f"loss/teacher_{name}"] for name in ("score", "iou", "angle")}
        assert all(np.isfinite(value) for value in terms.values()) and terms["score"] > 0
        added = weight * (terms["score"] + terms["iou"] + 10 * terms["angle"])
        assert scalars["loss/total"] == pytest.approx(plain["loss/total"] + added, rel=1e-4)
        assert scalars["loss/model"] == pytest.approx(plain["loss/model"], rel=1e-5)


def test_a_pupil_comes_nearer_to_its_teacher(steady: pytest.MonkeyPatch) -> None:
    """Without labels, which the mask hides, the teacher alone moves the weights."""
    run = Toy(steady, teacher="steady", weight_decay=0.0, ema_decay=0.0)
    batch = crops(np.random.default_rng(2), 2)
    batch["mask"][:] = 0
    totals = [run.pass_of(batch, rate=0.03)[0]["loss/total"] for _ in range(20)]
    assert totals[-1] < 0.7 * totals[0]


@pytest.mark.parametrize(
    ("fields", "said"),
    [({"geometry": "quad"}, "model.geometry rbox, and you train with quad"),
     ({"output_stride": 2}, "model.output_stride 4, and you train with 2")],
)  # fmt: skip
def test_maps_of_another_form_are_refused(fields: dict[str, object], said: str) -> None:
    with tf.Graph().as_default(), pytest.raises(UserError, match=said):
        teacher.build_maps(tf.placeholder(tf.uint8, (1, 64, 64, 3)), "default", load(None, fields))


def test_a_missing_teacher_is_refused(tmp_path: Path) -> None:
    with tf.Graph().as_default(), pytest.raises(UserError, match="no such"):
        teacher.build_maps(tf.placeholder(tf.uint8, (1, 64, 64, 3)), str(tmp_path / "no.npz"), load())


def test_an_exported_step_has_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="an exported step has no teacher"):
        export_step.export(load(None, {"teacher": "default"}), tmp_path / "step", None, None)
