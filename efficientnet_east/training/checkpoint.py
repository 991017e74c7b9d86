"""What a run leaves on disk, and how it goes on from there.

A run begins from, in this order:
1. the newest checkpoint of its own workdir: weights, averages, optimiser, step; the position in the data and
   the draws of stochastic depth follow from the step;
2. `--init` with the weights of a whole model of this project: those, or their averages, at step 0;
3. `--init` with the weights of a backbone, in any format: the backbone, at step 0;
4. random weights.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from efficientnet_east import backbones, checkpoints
from efficientnet_east import config as configuration
from efficientnet_east.backbones import weight_files, weights
from efficientnet_east.compat import tf
from efficientnet_east.config import Config
from efficientnet_east.errors import UserError
from efficientnet_east.inference.detector import CONFIG_FILE
from efficientnet_east.training import loss_scale

BEST = "best"
BEST_FIGURES = "hmean.json"


class Checkpoints:
    """The checkpoints of a workdir. Nothing that this class did not write is ever removed.

    Args:
      workdir: made if it is not there.
      config: written beside the checkpoints.
    """

    def __init__(self, workdir: Path, config: Config) -> None:
        self.workdir, self.config = workdir, config
        variables = tf.global_variables()
        self._newest = tf.train.Saver(
            variables, max_to_keep=config.train.keep_checkpoints, save_relative_paths=True
        )
        self._best = tf.train.Saver(variables, max_to_keep=1, save_relative_paths=True)
        self._variables = variables

    def begin(self, session: Any) -> str:
        """Bring the variables to where the run begins; see the module's list.

        Args:
          session: of the graph.

        Returns:
          What was done, for the user.

        Raises:
          UserError: a file is missing, damaged or of another architecture.
        """
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        newest = checkpoints.newest_in(self.workdir)
        if newest:
            return self._resume(session, newest)
        init = self.config.train.init
        if init is None:
            return "starting from random weights"
        return start_from(session, init, self.config)

    def save(self, session: Any, step: int) -> str:
        """Save everything that the run needs to go on.

        Args:
          session: of the graph.
          step: number of steps done.

        Returns:
          The checkpoint's prefix.
        """
        self._write_config(self.workdir)
        return self._newest.save(
            session, str(self.workdir / checkpoints.PREFIX), global_step=step, write_meta_graph=False
        )

    def save_if_best(self, session: Any, step: int, hmean: float) -> bool:
        """Save into the folder `best` if no earlier validation was better.

        Args:
          session: of the graph.
          step: number of steps done.
          hmean: of the validation at this step.

        Returns:
          Whether it was saved.
        """
        folder = self.workdir / BEST
        figures = folder / BEST_FIGURES
        if figures.exists() and json.loads(figures.read_text())["hmean"] >= hmean:
            return False
        folder.mkdir(exist_ok=True)
        self._write_config(folder)
        self._best.save(session, str(folder / checkpoints.PREFIX), global_step=step, write_meta_graph=False)
        figures.write_text(json.dumps({"step": step, "hmean": hmean}) + "\n")
        return True

    def _resume(self, session: Any, newest: str) -> str:
        tensors = checkpoints.read(newest)
        # What was frozen so far has no moments yet; they begin at zero, as they would in a run's first step.
        known = [v for v in self._variables if v.op.name in tensors or not _may_lack(v.op.name)]
        checkpoints.check_fit(newest, tensors, known)
        for saver, folder in ((self._newest, self.workdir), (self._best, self.workdir / BEST)):
            saver.recover_last_checkpoints(checkpoints.listed_in(folder)[::-1])
        checkpoints.assign(session, tensors, known)
        step = session.run(tf.train.get_global_step())
        unused = "; --init is not used" if self.config.train.init else ""
        return f"resuming from step {step} ({newest}){unused}"

    def _write_config(self, folder: Path) -> None:
        (folder / CONFIG_FILE).write_text(configuration.dump(self.config), encoding="utf-8")


def _may_lack(name: str) -> bool:
    """Whether not every checkpoint has a variable of this name: a moment of Adam, or the loss's scale."""
    return name.endswith(("/Adam", "/Adam_1")) or name in (loss_scale.SCALE, loss_scale.GOOD_STEPS)


def start_from(session: Any, path: str, config: Config) -> str:
    """Load the weights of another run, or of a backbone that was trained elsewhere, at step 0.

    Args:
      session: of the graph.
      path: a workdir or a checkpoint of this project, or a weight file, see `backbones.weight_files`.
      config: its section `model` is read.

    Returns:
      What was done.

    Raises:
      UserError: the file is missing, damaged or of another architecture.
    """
    source = weight_files.read(path)
    scope = backbones.scope_of(config.model.backbone)
    model_variables = {variable.op.name: variable for variable in tf.model_variables()}
    wanted = [name for name in model_variables if name.startswith(f"{scope}/")]
    if (model_variables.keys() - set(wanted)) & source.arrays.keys():  # a head, too: a whole model
        checkpoints.check_fit(source.path, source.arrays, list(model_variables.values()))
        values = {name: source.arrays[name] for name in model_variables}
        report = "; ".join((f"starting from the weights of {source.path}", *source.notes))
    else:
        restored = weights.restore(source, config.model.backbone, wanted)
        values, report = restored.values, restored.report() + _note_on_activation(config)
    variables = {variable.op.name: variable for variable in tf.global_variables()}
    checkpoints.assign(session, with_averages(values, variables), list(variables.values()))
    return report


def _note_on_activation(config: Config) -> str:
    trained = backbones.get_backbone(config.model.backbone).activation
    if config.model.activation == trained or config.train.recalibrate:
        return ""
    return (
        f"\nnote: published weights were trained with {trained} and are loaded under "
        f"{config.model.activation}; --recalibrate 50 would estimate their batch-norm statistics anew, "
        "as --batch-norm frozen needs"
    )


def with_averages(values: Mapping[str, Any], known: Container[str]) -> dict[str, Any]:
    """Add the same values for the moving averages, which were initialised before.

    Args:
      values: variable name -> array.
      known: the names of the graph's variables.

    Returns:
      The values, and those of the averages that the graph has.
    """
    averages = {name + checkpoints.AVERAGE_SUFFIX: value for name, value in values.items()}
    return {**values, **{name: value for name, value in averages.items() if name in known}}


def compare(workdir: Path, config: Config) -> list[str]:
    """Say what changed since the workdir's last run.

    Args:
      workdir: of the run.
      config: of this run.

    Returns:
      A line for each field that changed; empty if there was no run.

    Raises:
      UserError: the network changed, or weight averages were switched on or off.
    """
    path = workdir / CONFIG_FILE
    if not path.exists() or checkpoints.newest_in(workdir) is None:
        return []
    before, now = configuration.load(str(path)).model_dump(), config.model_dump()
    changes = []
    for section, name, _ in configuration.fields():
        old, new = before[section][name], now[section][name]
        if old == new or name == "workdir":
            continue
        switched = name == "ema_decay" and bool(old) != bool(new)  # not half-way
        if section == "model" or switched:
            problem = f"was trained with {name} {old!r}, not {new!r}"
            raise UserError(workdir, problem, "the same, or another --workdir")
        changes.append(f"{section}.{name}: {old!r} -> {new!r}")
    return changes
