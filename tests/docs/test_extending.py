"""The worked examples of `docs/extending.md` are built and trained for a step; what the page names exists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.project import TINY

from efficientnet_east import config, east_head, losses, options, scaling
from efficientnet_east.backbones import catalog
from efficientnet_east.checkpoints import weight_names
from efficientnet_east.compat import tf

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def graph(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What an example enters in a table is gone after the test; `b0` is a tiny network."""
    monkeypatch.setattr(catalog, "FAMILIES", [*catalog.FAMILIES])
    monkeypatch.setattr(east_head, "MERGES", {**east_head.MERGES})
    monkeypatch.setattr(options, "MERGES", {**options.MERGES})
    monkeypatch.setitem(scaling.VARIANTS, "b0", TINY)
    with tf.Graph().as_default() as graph:
        yield graph


def run(heading: str) -> dict[str, Any]:
    """Run the snippets below a heading, and give the names that they leave."""
    section = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    (text,) = (part for part in section if part.startswith(f"{heading}\n"))
    names: dict[str, Any] = {}
    for snippet in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(snippet, heading, "exec"), names)
    return names


def gradients_of_a_step(score: Any, geometry: Any) -> dict[str, np.ndarray]:
    """Name of each variable -> gradient of the whole loss, for labels that are text all over."""
    shape = score.shape.as_list()
    boxes = tf.constant(np.full([*shape[:3], 5], [8, 8, 8, 8, 0], np.float32))
    terms = losses.east_losses(score, geometry, tf.ones(shape), boxes, tf.ones(shape))
    variables = tf.trainable_variables()
    gradients = tf.gradients(terms["model"], variables)
    assert None not in gradients
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        values = session.run([*gradients, tf.get_collection(tf.GraphKeys.UPDATE_OPS)])
    return {variable.op.name: value for variable, value in zip(variables, values, strict=False)}


def test_a_family_of_backbones(capsys: pytest.CaptureFixture[str]) -> None:
    left = run("A family of backbones")
    assert (left["score"].shape.as_list(), left["geometry"].shape.as_list()) == (
        [2, 16, 16, 1],
        [2, 16, 16, 5],
    )
    gradients = gradients_of_a_step(left["score"], left["geometry"])
    of_backbone = {name: value for name, value in gradients.items() if name.startswith("five-layers/")}
    assert sum(value.size for value in of_backbone.values()) == catalog.get_backbone("five-layers").parameters
    assert all(np.isfinite(value).all() for value in gradients.values())
    assert np.abs(of_backbone["five-layers/conv1/weights"]).max() > 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert table[5][:7] == ["conv3", "Conv,", "k3x3", "2", "32", "1", "128x128"]


def test_a_family_works_where_a_backbone_is_named() -> None:
    """In the configuration, for freezing and for weights; a second one of the name is refused."""
    left = run("A family of backbones")
    loaded = config.load(None, {"backbone": "five-layers", "frozen": "conv2"})
    assert catalog.frozen_parts(loaded.model.backbone, "conv2") == ("conv1", "conv2")
    assert "five-layers" in catalog.names() and catalog.scope_of("five-layers") == "five-layers"
    names = {f"five-layers/{v.name}" for v in weight_names.variables("five-layers", weight_names.OWN)}
    assert names == {v.op.name for v in tf.global_variables() if v.op.name.startswith("five-layers/")}
    tf.get_default_graph().clear_collection(tf.GraphKeys.TRAINABLE_VARIABLES)
    left["model"].build(tf.zeros([2, 64, 64, 3]), backbone="five-layers", frozen="conv2", reuse=tf.AUTO_REUSE)
    with pytest.raises(ValueError, match="exist already: five-layers"):
        catalog.register(left["FiveLayers"]())


def test_a_merge() -> None:
    left = run("A merge")
    assert (left["score"].shape.as_list(), left["geometry"].shape.as_list()) == (
        [2, 16, 16, 1],
        [2, 16, 16, 5],
    )
    gradients = gradients_of_a_step(left["score"], left["geometry"])
    lateral = gradients["feature_fusion/f2_lateral/weights"]
    assert lateral.shape[:2] == (1, 1) and lateral.shape[3] == 32 and np.abs(lateral).max() > 0
    assert all(np.isfinite(value).all() for value in gradients.values())


def test_what_the_table_names_exists() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "you want" not in line]
    assert len(rows) >= 10
    for row in rows:
        for path in re.findall(r"`([\w/]+\.py)`", row):
            assert (ROOT / path).exists() or (ROOT / "efficientnet_east" / path).exists(), path
        for table, path in re.findall(r"`([A-Z_]+)` in `([\w/]+\.py)`", row):
            text = (ROOT / "efficientnet_east" / path).read_text(encoding="utf-8")
            assert re.search(rf"^{table}\b", text, re.MULTILINE), row


def test_names_and_functions_agree() -> None:
    """What the configuration offers without TensorFlow is what there is a function for, and nothing else."""
    assert list(options.MERGES) == list(east_head.MERGES)
    assert list(options.SCORE_LOSSES) == list(losses.SCORE_LOSSES)
