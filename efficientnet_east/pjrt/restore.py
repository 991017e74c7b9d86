"""Turn the state of a PJRT run into a TensorFlow checkpoint. This needs TensorFlow."""

from __future__ import annotations

from pathlib import Path

from efficientnet_east import config as configuration
from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.errors import UserError
from efficientnet_east.files.atomic import write_file
from efficientnet_east.inference.detector import CONFIG_FILE
from efficientnet_east.pjrt import manifest as manifests
from efficientnet_east.pjrt import state
from efficientnet_east.pjrt.manifest import STEP_NAME


def restore(source: Path, workdir: Path) -> str:
    """Make a workdir of train.py out of a state: weights, averages, optimizer, step.

    Args:
      source: a workdir of `python -m efficientnet_east.pjrt` (its newest state), or a state in one.
      workdir: made if it is not there.

    Returns:
      The checkpoint's prefix.

    Raises:
      UserError: there is no undamaged state, the workdir already holds a run, or it cannot be written.
    """
    folder = source if source.is_dir() else source.parent
    described = manifests.read(folder)
    if source.is_dir():
        found = state.newest(folder, described.state)
        if found is None:
            hint = "expected a workdir of `python -m efficientnet_east.pjrt`"
            raise UserError(source, "holds no state", hint)
        arrays = found[1]
    else:
        arrays = state.load(source, described.state)
    if (workdir / CONFIG_FILE).exists() or tf_checkpoints.newest_in(workdir):
        raise UserError(workdir, "already holds a run", "Choose a new folder.")
    config = configuration.load(str(folder / CONFIG_FILE), {"workdir": str(workdir)})
    prefix = f"{workdir / tf_checkpoints.PREFIX}-{int(arrays[STEP_NAME])}"
    tf_checkpoints.write(prefix, arrays)
    write_file(workdir / CONFIG_FILE, configuration.dump(config).encode())
    return prefix
