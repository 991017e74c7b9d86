"""Train the EAST of `model.py`, with the flags of the tf-slim forks.

python examples/fork/train.py --checkpoint_path runs/fork --backbone b4

trains on synthetic images. With --training_data_path it trains on images that have `gt_img_1.txt` or
`img_1.txt` beside them.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import model

from efficientnet_east import backbones
from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.compat import slim, tf
from efficientnet_east.data.augment import Augmentation
from efficientnet_east.data.color import Color
from efficientnet_east.data.datasets import ImageDataset, check_images, find_records, require_text
from efficientnet_east.data.loader import Batch, Batches, LabelOptions, batches
from efficientnet_east.data.synthetic.scenes import SyntheticScenes
from efficientnet_east.errors import UserError
from efficientnet_east.structures import Source

SEED = 1
AVERAGE_DECAY = 0.997
SCENES, SCENE_SIZE = 100_000, (640, 640)
FIELDS = ("images", "score", "geometry", "mask")


def parser() -> argparse.ArgumentParser:
    """Build the parser. Nothing is read before the program runs."""
    flags = argparse.ArgumentParser(allow_abbrev=False, description="train a fork's EAST on an EfficientNet")
    flags.add_argument("--checkpoint_path", required=True, help="folder for model.ckpt-N")
    flags.add_argument("--restore", action="store_true", help="resume from the newest checkpoint there")
    flags.add_argument("--pretrained_model_path", help="checkpoint with the backbone's ImageNet weights")
    flags.add_argument("--training_data_path", help="images and ground truth; default: synthetic images")
    flags.add_argument("--gpu_list", default="0", help="number of the one device to train on")
    flags.add_argument("--backbone", default="b0", help="a name from docs/backbones.md")
    flags.add_argument("--activation", default="relu", help="the ImageNet weights need swish")
    flags.add_argument("--text_scale", type=float, default=512.0, help="largest distance, in pixels")
    flags.add_argument("--input_size", type=int, default=512, help="side of a crop, a multiple of 32")
    flags.add_argument("--batch_size_per_gpu", type=int, default=14, help="crops in a step")
    flags.add_argument("--learning_rate", type=float, default=1e-4)
    flags.add_argument("--max_steps", type=int, default=100_000)
    flags.add_argument("--save_checkpoint_steps", type=int, default=1000)
    flags.add_argument("--num_readers", type=int, default=1, help="processes that prepare batches")
    return flags


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
      argv: the flags; None takes those of the process.

    Returns:
      The exit code: 0, or 2 after an error of the user's making.
    """
    try:
        train(parser().parse_args(argv))
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def train(flags: argparse.Namespace) -> None:
    """Train until `--max_steps`, counted over all runs of the folder.

    Args:
      flags: from `parser`.

    Raises:
      UserError: a flag cannot be used, or the loss is not finite.
    """
    expect_positive(flags)
    config = session_config(flags.gpu_list)
    newest = find_beginning(flags.checkpoint_path, flags.restore)
    source = open_source(flags.training_data_path)
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(SEED)
        feeds, update, loss = build(flags)
        saver = tf.train.Saver(tf.global_variables(), save_relative_paths=True)
        with tf.Session(graph=graph, config=config) as session:
            session.run(tf.global_variables_initializer())
            if newest:
                tf_checkpoints.check_fit(newest, tf_checkpoints.read(newest), tf.global_variables())
                saver.restore(session, newest)
            elif flags.pretrained_model_path:
                scope = backbones.scope_of(flags.backbone)
                print(restore_backbone(session, flags.pretrained_model_path, scope))
            done = int(session.run(tf.train.get_global_step()))
            print(f"starting at step {done}")
            with open_batches(source, flags, done) as stream:
                for step in range(done + 1, flags.max_steps + 1):
                    advance(session, feeds, update, loss, next(stream), step)
                    if step % flags.save_checkpoint_steps == 0 or step == flags.max_steps:
                        prefix = str(Path(flags.checkpoint_path) / tf_checkpoints.PREFIX)
                        saver.save(session, prefix, global_step=step, write_meta_graph=False)


def expect_positive(flags: argparse.Namespace) -> None:
    """Refuse numbers that are not above 0.

    Args:
      flags: from `parser`.

    Raises:
      UserError: the first that is not above 0.
    """
    numbers = ("text_scale", "batch_size_per_gpu", "learning_rate", "max_steps", "save_checkpoint_steps")
    for name in numbers:
        if not getattr(flags, name) > 0:
            raise UserError(f"--{name}", f"is {getattr(flags, name)}", "expected a number above 0")


def session_config(gpu_list: str) -> Any:
    """Choose the device.

    Args:
      gpu_list: the number of one; without a GPU, TensorFlow takes the processor.

    Returns:
      The session's configuration.

    Raises:
      UserError: there are several. Towers would need averaged gradients and shared batch-norm statistics.
    """
    if not gpu_list.isdecimal():
        raise UserError("--gpu_list", f"is {gpu_list!r}", "this example trains on one device, such as 0")
    config = tf.ConfigProto()
    config.gpu_options.visible_device_list = gpu_list
    config.gpu_options.allow_growth = True
    return config


def find_beginning(folder: str, restore: bool) -> str | None:
    """Find the checkpoint to start from. No folder is ever emptied.

    Args:
      folder: of the checkpoints; it need not be there.
      restore: whether to go on from them.

    Returns:
      The newest checkpoint's prefix, or None to begin at step 0.

    Raises:
      UserError: there is nothing to restore, or something that the run would write over.
    """
    if restore:
        return tf_checkpoints.find(folder)
    if tf_checkpoints.newest_in(Path(folder)):
        raise UserError(folder, "contains checkpoints", "use --restore to resume, or choose another folder")
    return None


def build(flags: argparse.Namespace) -> tuple[dict[str, Any], Any, Any]:
    """Build one training step.

    Args:
      flags: from `parser`.

    Returns:
      Placeholders by the names of `FIELDS`, the operation that makes the step, and its loss.

    Raises:
      UserError: the input size does not fit.
    """
    size, batch = flags.input_size, flags.batch_size_per_gpu
    if size < 64 or size % 32:
        raise UserError("--input_size", f"is {size}", "expected a multiple of 32, at least 64")
    channels = {"score": 1, "geometry": 5, "mask": 1}
    feeds = {
        name: tf.placeholder(tf.float32, [batch, size // 4, size // 4, depth], name)
        for name, depth in channels.items()
    }
    feeds["images"] = tf.placeholder(tf.float32, [batch, size, size, 3], "input_images")
    global_step = tf.train.get_or_create_global_step()
    # Drawn from the step, blocks are dropped as they would be without an interruption.
    seed = tf.stack([SEED, tf.cast(global_step, tf.int32)])
    score, geometry = model.model(
        feeds["images"], flags.backbone, text_scale=flags.text_scale, activation=flags.activation, seed=seed
    )
    loss = model.loss(feeds["score"], score, feeds["geometry"], geometry, feeds["mask"])
    total = tf.add_n([loss, *tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)])
    # One after the other: statistics, weights, averages.
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        stepped = tf.train.AdamOptimizer(flags.learning_rate).minimize(total, global_step)
    with tf.control_dependencies([stepped]):
        average = tf.train.ExponentialMovingAverage(AVERAGE_DECAY, global_step)
        return feeds, average.apply(slim.get_model_variables()), total


def restore_backbone(session: Any, path: str, scope: str) -> str:
    """Load ImageNet weights, batch-norm statistics included, into the backbone.

    Args:
      session: whose variables have been initialised.
      path: a checkpoint with names such as `efficientnet-b0/stem/weights`.
      scope: of the backbone.

    Returns:
      What was restored.

    Raises:
      UserError: the checkpoint holds nothing of this backbone.
    """
    prefix = tf_checkpoints.find(path)
    there = {name for name, _ in tf.train.list_variables(prefix)}
    # Not the trainable ones alone: the moving statistics belong to the weights.
    variables = slim.get_model_variables(scope)
    known = [variable for variable in variables if variable.op.name in there]
    if not known:
        raise UserError(path, f"contains no variable of {scope}", "give a checkpoint of this backbone")
    tf.train.Saver(known).restore(session, prefix)
    return f"restored {len(known)} of {len(variables)} variables of {scope}"


def open_source(folder: str | None) -> Source:
    """Open what is trained on.

    Args:
      folder: of images and ground truth, in any layout of `docs/data.md`; None for generated scenes.

    Returns:
      The samples.

    Raises:
      UserError: an image or a line cannot be used, or no text can be learned.
    """
    if folder is None:
        return SyntheticScenes(SCENES, SEED, SCENE_SIZE)
    records = check_images(find_records(folder))
    require_text(records, folder)
    return ImageDataset(records)


def open_batches(source: Source, flags: argparse.Namespace, start: int) -> Batches:
    """Begin to prepare batches.

    Args:
      source: from `open_source`.
      flags: from `parser`.
      start: the number of batches that have been seen.

    Returns:
      An endless stream.

    Raises:
      UserError: a flag is out of range.
    """
    return batches(
        source,
        batch_size=flags.batch_size_per_gpu,
        seed=SEED,
        augmentation=Augmentation(size=flags.input_size, color=Color()),
        labels=LabelOptions(min_side=6.0),
        workers=flags.num_readers,
        start=start,
    )


def advance(session: Any, feeds: dict[str, Any], update: Any, loss: Any, batch: Batch, step: int) -> None:
    """Make one step and print its loss.

    Args:
      session: to run.
      feeds: from `build`.
      update: from `build`.
      loss: from `build`.
      batch: the next one.
      step: its number, from 1.

    Raises:
      UserError: the loss is not finite. Nothing has been saved since it was.
    """
    fed = {feeds[name]: getattr(batch, name) for name in FIELDS}
    _, value = session.run([update, loss], fed)
    if not math.isfinite(value):
        raise UserError(
            f"step {step}", f"the loss is {value} on {', '.join(batch.names)}", "try a lower --learning_rate"
        )
    print(f"step {step}: loss {value:.4f}")


if __name__ == "__main__":
    raise SystemExit(main())
