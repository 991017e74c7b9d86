"""What a run leaves on disk, and how it goes on from there.

A run begins from, in this order:
1. the newest undamaged checkpoint of its own workdir: weights, averages, optimizer, step; the position in
   the data and the draws of stochastic depth follow from the step;
2. `train.init` with the weights of a whole model of this project: those, or their averages, at step 0;
3. `train.init` with the weights of a backbone, in any format: the backbone, at step 0;
4. random weights.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east import backbones
from efficientnet_east import config as configuration
from efficientnet_east.backbones import replicas
from efficientnet_east.checkpoints import tf_checkpoints, weight_files, weights
from efficientnet_east.compat import tf
from efficientnet_east.config import Config
from efficientnet_east.errors import UserError
from efficientnet_east.files import atomic
from efficientnet_east.inference.detector import CONFIG_FILE, config_beside
from efficientnet_east.training import loss_scale
from efficientnet_east.training.workdir import BEST

logger = logging.getLogger(__name__)
BEST_FIGURES = "hmean.json"


class Retention:
    """The checkpoints of one folder, of which the newest few are kept.

    At any moment the state file names only whole checkpoints, and everything that is still to be removed.

    Args:
      folder: made with the first checkpoint.
      keep: how many are kept.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self._folder, self._keep = folder, keep
        self._names: list[str] = []  # oldest first

    def adopt(self, but: Container[str] = ()) -> None:
        """Take over what an earlier process kept.

        Args:
          but: prefixes of the checkpoints that are left alone from now on.
        """
        listed = [prefix for prefix in tf_checkpoints.listed_in(self._folder)[::-1] if prefix not in but]
        parts = [(prefix, Path(prefix + part)) for prefix in listed for part in tf_checkpoints.PARTS]
        self._names = list(dict.fromkeys(Path(prefix).name for prefix, path in parts if path.exists()))

    def add(self, step: int, save: Callable[[str], object]) -> str:
        """Save a checkpoint, then remove those that are too many.

        Args:
          step: number of steps done.
          save: as for `tf_checkpoints.write_by`.

        Returns:
          The checkpoint's prefix.

        Raises:
          WriteError: it could not be saved; nothing was removed.
        """
        name = f"{tf_checkpoints.PREFIX}-{step}"
        tf_checkpoints.write_by(self._folder / name, save)
        self._names = [*(other for other in self._names if other != name), name]
        self._list()
        stuck = [old for old in self._names[: -self._keep] if not self._remove(old)]
        if len(self._names) > self._keep + len(stuck):
            self._names = stuck + self._names[-self._keep :]
            self._list()
        return str(self._folder / name)

    def _remove(self, name: str) -> bool:
        try:
            for part in reversed(tf_checkpoints.PARTS):
                (self._folder / f"{name}{part}").unlink(missing_ok=True)
        except OSError as error:
            stays = self._folder / name
            logger.warning("the old checkpoint %s cannot be removed (%s)", stays, error.strerror)
            return False
        return True

    def _list(self) -> None:
        lines = [f'model_checkpoint_path: "{self._names[-1]}"']
        lines += [f'all_model_checkpoint_paths: "{name}"' for name in self._names]
        text = "".join(f"{line}\n" for line in lines)
        atomic.write_file(self._folder / tf_checkpoints.STATE_FILE, text.encode())


class Checkpoints:
    """The checkpoints of a workdir. Nothing that this class did not write is ever removed.

    Args:
      workdir: made if it is not there.
      config: written beside the checkpoints.

    Attributes:
      current: prefix of the checkpoint that was loaded or saved last; empty before.
    """

    def __init__(self, workdir: Path, config: Config) -> None:
        self.workdir, self.config, self.current = workdir, config, ""
        self._variables = replicas.firsts(tf.global_variables())
        self._saver = tf.train.Saver(self._variables).as_saver_def()
        self._newest = Retention(workdir, config.train.keep_checkpoints)
        self._best = Retention(workdir / BEST, 1)

    def begin(self, session: Any) -> str:
        """Bring the variables to where the run begins; see the module's list.

        Args:
          session: of the graph.

        Returns:
          What was done, for the user.

        Raises:
          UserError: a file is missing, damaged or of another architecture, or all checkpoints are.
        """
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        damaged: list[UserError] = []
        for prefix in tf_checkpoints.all_in(self.workdir):
            try:
                tensors = tf_checkpoints.read(prefix)
            except UserError as error:
                damaged.append(error)
            else:
                for passed_over in damaged:
                    logger.warning("passed over: %s", passed_over)
                return self._resume(session, prefix, tensors, [error.where for error in damaged])
        if damaged:
            raise _all_damaged(damaged)
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

        Raises:
          UserError: the weights are not finite.
          WriteError: it could not be saved. What was saved before is untouched.
        """
        self.current = self._save(self._newest, self.workdir, session, step)
        return self.current

    def save_if_best(self, session: Any, step: int, hmean: float) -> bool:
        """Save into the folder `best` if no earlier validation was better.

        Args:
          session: of the graph.
          step: number of steps done.
          hmean: of the validation at this step.

        Returns:
          Whether it was saved.

        Raises:
          UserError: the weights are not finite.
          WriteError: it could not be saved.
        """
        figures = self.workdir / BEST / BEST_FIGURES
        if figures.exists() and json.loads(figures.read_text())["hmean"] >= hmean:
            return False
        self._save(self._best, self.workdir / BEST, session, step)
        atomic.write_file(figures, (json.dumps({"step": step, "hmean": hmean}) + "\n").encode())
        return True

    def _save(self, retention: Retention, folder: Path, session: Any, step: int) -> str:
        values = session.run({variable.op.name: variable for variable in self._variables})
        tf_checkpoints.expect_finite(f"step {step}", values)
        self._write_config(folder)
        filename, save = self._saver.filename_tensor_name, self._saver.save_tensor_name
        return retention.add(step, lambda prefix: session.run(save, {filename: prefix}))

    def _resume(
        self, session: Any, prefix: str, tensors: Mapping[str, np.ndarray], damaged: list[str]
    ) -> str:
        # What was frozen so far has no moments yet; they begin at zero, as they would in a run's first step.
        known = [v for v in self._variables if v.op.name in tensors or not _may_lack(v.op.name)]
        tf_checkpoints.check_fit(prefix, tensors, known)
        self._newest.adopt(but=damaged)
        self._best.adopt()
        self.current = prefix
        tf_checkpoints.assign(session, tensors, known)
        step = session.run(tf.train.get_global_step())
        unused = "; train.init is not used" if self.config.train.init else ""
        return f"resuming from step {step} ({prefix}){unused}"

    def _write_config(self, folder: Path) -> None:
        atomic.write_file(folder / CONFIG_FILE, configuration.dump(self.config).encode())


def _all_damaged(errors: list[UserError]) -> UserError:
    newest, others = errors[0], len(errors) - 1
    also = f", and neither can the {others} before it be used" if others else ""
    return UserError(newest.where, newest.problem + also, newest.hint)


def _may_lack(name: str) -> bool:
    """Tell whether a checkpoint may lack this variable: a moment of Adam, or the loss's scale."""
    return name.endswith(("/Adam", "/Adam_1")) or name in (loss_scale.SCALE, loss_scale.GOOD_STEPS)


def start_from(session: Any, path: str, config: Config) -> str:
    """Load the weights of another run, or of a backbone that was trained elsewhere, at step 0.

    Args:
      session: of the graph.
      path: a workdir or a checkpoint of this project, or a weight file, see `checkpoints.weight_files`.
      config: its section `model` is read.

    Returns:
      What was done.

    Raises:
      UserError: the file is missing, damaged or of another architecture.
    """
    source = weight_files.read(path)
    scope = backbones.scope_of(config.model.backbone)
    model_variables = {variable.op.name: variable for variable in replicas.firsts(tf.model_variables())}
    of_backbone = [name for name in model_variables if name.startswith(f"{scope}/")]
    if (model_variables.keys() - set(of_backbone)) & source.arrays.keys():  # a head, too: a whole model
        tf_checkpoints.check_fit(source.path, source.arrays, list(model_variables.values()))
        values = {name: source.arrays[name] for name in model_variables}
        report = "; ".join((f"starting from the weights of {source.path}", *source.notes))
        report += _note_on_network(source.path, config)
    else:
        restored = weights.restore(source, config.model.backbone, of_backbone)
        values, report = restored.values, restored.report() + _note_on_activation(config)
    variables = {variable.op.name: variable for variable in replicas.firsts(tf.global_variables())}
    tf_checkpoints.assign(session, with_averages(values, variables), list(variables.values()))
    return report


def _note_on_activation(config: Config) -> str:
    trained = backbones.get_backbone(config.model.backbone).activation
    if config.model.activation == trained or config.train.recalibrate:
        return ""
    return (
        f"\nnote: published weights were trained with {trained}, and your activation is "
        f"{config.model.activation}. With train.recalibrate=50 their batch-norm statistics are estimated "
        "again; train.batch_norm=frozen needs that"
    )


def _note_on_network(path: str, config: Config) -> str:
    """Name what differs in the network although the weights' shapes are the same, such as the activation."""
    try:
        before = configuration.load(str(config_beside(path))).model.model_dump()
    except UserError:  # weights alone are weights, too
        return ""
    now = config.model.model_dump()
    changed = [f"{name} {old!r}, not {now[name]!r}" for name, old in before.items() if old != now[name]]
    return f"\nnote: they were trained with {', '.join(changed)}" if changed else ""


def with_averages(values: Mapping[str, Any], known: Container[str]) -> dict[str, Any]:
    """Add the same values for the moving averages, which were initialized before.

    Args:
      values: variable name -> array.
      known: the names of the graph's variables.

    Returns:
      The values, and those of the averages that the graph has.
    """
    averages = {name + tf_checkpoints.AVERAGE_SUFFIX: value for name, value in values.items()}
    return {**values, **{name: value for name, value in averages.items() if name in known}}


def changed_fields(workdir: Path, config: Config) -> list[str]:
    """List what changed since the workdir's last run.

    Args:
      workdir: of the run.
      config: of this run.

    Returns:
      A line for each field that changed; empty if there was no run.

    Raises:
      UserError: the network changed, or weight averages were switched on or off.
    """
    path = workdir / CONFIG_FILE
    if not path.exists() or tf_checkpoints.newest_in(workdir) is None:
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
            raise UserError(workdir, problem, "Use the same value, or another train.workdir.")
        changes.append(f"{section}.{name}: {old!r} -> {new!r}")
    return changes
