"""A trained detector whose maps another one learns from, beside the labels (Hinton et al. 2015).

Its graph is frozen and imported into that of the step: it adds no variables, so checkpoints stay as they are.
"""

from __future__ import annotations

from efficientnet_east import config as configuration
from efficientnet_east import losses, model
from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.compat import Tensor, tf
from efficientnet_east.config import Config
from efficientnet_east.errors import UserError
from efficientnet_east.inference.detector import config_beside
from efficientnet_east.inference.graph import INPUT_NAME, freeze, load_session

ALIKE = ("output_stride", "geometry")  # what teacher and student must share: the meaning of a cell


def build_losses(images: Tensor, outputs: model.Outputs, config: Config) -> dict[str, Tensor]:
    """Build the losses against the teacher's maps.

    Args:
      images: uint8 (batch, size, size, 3), RGB.
      outputs: the student's maps.
      config: its sections `model` and `train` are read; it names a teacher.

    Returns:
      Scalars, see `losses.teacher_losses`.

    Raises:
      UserError: the teacher cannot be read, or its maps have another form.
    """
    train = config.train
    maps = build_maps(images, str(train.teacher), config)
    return losses.teacher_losses(
        *outputs, *maps,
        score_weight=train.score_weight,
        iou_weight=train.iou_weight,
        angle_weight=train.angle_weight,
        quad_weight=train.quad_weight,
    )  # fmt: skip


def build_maps(images: Tensor, teacher: str, config: Config) -> model.Outputs:
    """Build the teacher's maps, which no gradient passes.

    Args:
      images: uint8 (batch, size, size, 3), RGB.
      teacher: a workdir, a checkpoint, a file of `export-weights`, or `default`.
      config: of the student; its section `model` is read.

    Returns:
      The maps, the score calibrated as the teacher's configuration says.

    Raises:
      UserError: it cannot be read, or its maps have another form.
    """
    prefix = tf_checkpoints.find(teacher)
    described = configuration.load(str(config_beside(prefix)))
    for name in ALIKE:
        theirs, ours = getattr(described.model, name), getattr(config.model, name)
        if theirs != ours:
            problem = f"{teacher} has model.{name} {theirs}, and you train with {ours}"
            raise UserError("train.teacher", problem, "Both must be the same.")
    session, _, outputs = load_session(prefix, described)
    with session:
        names = [tensor.op.name for tensor in outputs]
        graph = freeze(session, names)
    inputs = {INPUT_NAME: tf.cast(images, tf.float32)}
    score, geometry = tf.import_graph_def(graph, inputs, [f"{name}:0" for name in names], name="teacher")
    return model.Outputs(score, geometry)
