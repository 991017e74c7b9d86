"""Write a configuration's train step as StableHLO, with the state that it begins from. Needs TensorFlow."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import efficientnet_east
from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.compat import tf
from efficientnet_east.config import Config
from efficientnet_east.data.loader import most_texts
from efficientnet_east.errors import UserError
from efficientnet_east.inference.graph import session_config
from efficientnet_east.pjrt import graph_labels, stablehlo, state
from efficientnet_east.pjrt import manifest as manifests
from efficientnet_east.pjrt.manifest import Manifest, StateSpec, TensorSpec
from efficientnet_east.training import session as tensorflow
from efficientnet_east.training import sources
from efficientnet_east.training import step as training_step
from efficientnet_east.training.checkpointing import start_from
from efficientnet_east.training.engine import FINITE
from efficientnet_east.training.optimizer import name_of

logger = logging.getLogger(__name__)
TEXTS_STEP = 8  # the number of texts that a program takes is a multiple of this


def export(config: Config, folder: Path, checkpoint: str | None, texts: int | None) -> None:
    """Write everything that `python -m efficientnet_east.pjrt` needs.

    Args:
      config: the whole of it.
      folder: made if it is not there; files of an earlier export are replaced.
      checkpoint: prefix of the checkpoint to go on from; None begins as a new run would.
      texts: the largest number of texts in an image; None looks at the training data.

    Raises:
      UserError: the data, a weight file or the checkpoint cannot be used, or the folder cannot be written.
    """
    _expect_exportable(config)
    source = sources.training_source(config.data, config.train.seed, [])
    most = texts or -(-most_texts(source) // TEXTS_STEP) * TEXTS_STEP
    values, report = _initial_values(config, checkpoint)
    logger.info(report)
    text, arguments, names, results = _lower(config, most)
    program, replaced = stablehlo.tidy(text)
    described = _describe(config, program, arguments, names, results, replaced, values)
    # Without its manifest a folder is no export: what stands there from another one must not seem to fit.
    (folder / manifests.MANIFEST_FILE).unlink(missing_ok=True)
    state.save(folder, {name: values[name] for name in names}, keep=1)
    manifests.write(folder, described, program)
    size = len(program) / 1e6
    line = "%d state tensors, up to %d texts in an image, %.1f MB of program -> %s"
    logger.info(line, len(names), most, size, folder)


def _expect_exportable(config: Config) -> None:
    """Refuse what is no part of an exported step."""
    if config.train.accumulate > 1:
        problem = f"is {config.train.accumulate}, but a step of several passes cannot be exported"
        raise UserError("train.accumulate", problem, "Set it to 1, and train.batch_size higher.")
    if config.train.unfreeze_at:
        problem = f"is {config.train.unfreeze_at}, but an exported step cannot unfreeze anything"
        hint = "Set it to 0. To unfreeze, export again from the checkpoint."
        raise UserError("train.unfreeze_at", problem, hint)
    if config.data.between != 1:
        problem = f"is {config.data.between}, but an exported step does not weigh gaps between words"
        raise UserError("data.between", problem, "Set it to 1.")
    if config.train.teacher:
        problem = f"is {config.train.teacher}, but an exported step has no teacher"
        raise UserError("train.teacher", problem, "Leave it out.")


def _initial_values(config: Config, checkpoint: str | None) -> tuple[dict[str, np.ndarray], str]:
    """Compute all variables as `train.py` would begin with them; return what was done, too."""
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(config.train.seed)
        tensorflow.build(config)
        variables = tf.global_variables()
        with tf.Session(graph=graph, config=session_config(config.train.threads)) as session:
            session.run(tf.global_variables_initializer())
            report = _begin(session, config, checkpoint, variables)
            names = [variable.op.name for variable in variables]
            return dict(zip(names, session.run(variables), strict=True)), report


def _begin(session: Any, config: Config, checkpoint: str | None, variables: Sequence[Any]) -> str:
    if checkpoint:
        tensors = tf_checkpoints.read(checkpoint)
        tf_checkpoints.check_fit(checkpoint, tensors, variables)
        tf_checkpoints.assign(session, tensors, variables)
        return f"starting from the checkpoint {checkpoint}"
    if config.train.init:
        return start_from(session, config.train.init, config)
    return "starting from random weights"


def _lower(config: Config, texts: int) -> tuple[str, list[TensorSpec], list[str], list[TensorSpec]]:
    """Lower the step: its text, arguments, the names of the variables after them in order, its scalars."""
    arguments = _arguments(config, texts)
    signature = [_spec(argument) for argument in arguments]
    names: dict[int, str] = {}
    results: list[TensorSpec] = []

    def step(*tensors: Any) -> list[Any]:
        built = build(dict(zip((argument.name for argument in arguments), tensors, strict=True)), config)
        names.update({id(v.handle): name_of(v) for v in tf.global_variables()})
        with tf.control_dependencies([built.update]):
            scalars = [tf.identity(value) for value in (*built.scalars.values(), built.finite)]
        described = zip((*built.scalars, FINITE), scalars, strict=True)
        results.extend(TensorSpec(name, scalar.dtype.name, ()) for name, scalar in described)
        return scalars

    wrapped = tf.wrap_function(step, signature)
    compiled = tf.function(lambda *tensors: wrapped(*tensors), input_signature=signature, jit_compile=True)
    concrete = compiled.get_concrete_function()
    zeros = [np.zeros(argument.shape, argument.dtype) for argument in arguments]
    text = compiled.experimental_get_compiler_ir(*zeros)(stage="stablehlo", platform_name="CPU")
    return text, arguments, [names[id(handle)] for handle in concrete.captured_inputs], results


def _arguments(config: Config, texts: int) -> list[TensorSpec]:
    size, batch = config.data.crop_size, config.train.batch_size
    return [
        TensorSpec("images", "uint8", (batch, size, size, 3)),
        TensorSpec("quads", "float32", (batch, texts, 4, 2)),
        TensorSpec("ignore", "bool", (batch, texts)),
        TensorSpec("count", "int32", (batch,)),
        TensorSpec("learning_rate", "float32", ()),
    ]


def _spec(tensor: TensorSpec) -> Any:
    return tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name)


def build(inputs: dict[str, Any], config: Config) -> training_step.Step:
    """Build the step, with its labels."""
    size = config.data.crop_size
    options = dataclasses.asdict(sources.labels(config.data, config.model))
    options.pop("between")  # is 1, see `export`
    maps = graph_labels.encode(inputs["quads"], inputs["ignore"], inputs["count"], (size, size), **options)
    return training_step.build(inputs["images"], *maps, inputs["learning_rate"], config)


def _describe(
    config: Config,
    program: str,
    arguments: Sequence[TensorSpec],
    names: Sequence[str],
    results: Sequence[TensorSpec],
    replaced: dict[int, int],
    values: dict[str, np.ndarray],
) -> Manifest:
    updated = [len(arguments) + index in replaced for index in range(len(names))]
    expected = range(len(results), len(results) + sum(updated))
    if [replaced[position] for position in sorted(replaced)] != list(expected) or set(names) != set(values):
        raise ValueError("the program's state is not that of the graph")
    described = tuple(
        StateSpec(name, values[name].dtype.name, values[name].shape, manifests.kind_of(name), changes)
        for name, changes in zip(names, updated, strict=True)
    )
    versions = {"efficientnet_east": efficientnet_east.__version__, "tensorflow": tf.__version__}
    digest = manifests.digest(program.encode())
    return Manifest(tuple(arguments), described, tuple(results), config, versions, digest)
