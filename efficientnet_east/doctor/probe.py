"""Import one library, in a process of its own, which may crash.

`python -m efficientnet_east.doctor.probe NAME` starts it. The last line that it prints is JSON: `version`,
and `more` for people.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys

from efficientnet_east.system import installed


def main(name: str) -> int:
    """Import a library, use it once, and print its version and more.

    Args:
      name: of the module.

    Returns:
      The exit code.
    """
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "GRADIO_ANALYTICS_ENABLED": "False", "MPLBACKEND": "Agg"}
    os.environ |= {"ORT_DISABLE_TELEMETRY": "1", "ORT_TELEMETRY_DISABLED": "1"}
    installed.ignore_working_folder()
    module = importlib.import_module(name)
    more = _MORE[name]() if name in _MORE else ""
    version = getattr(module, "__version__", None) or _installed(name)
    print("\n" + json.dumps({"version": str(version), "more": more}), flush=True)
    return 0


def _installed(name: str) -> str:
    """Read the version from pip's records."""
    for distribution in importlib.metadata.packages_distributions().get(name.partition(".")[0], ()):
        return importlib.metadata.version(distribution)
    return "unknown"


def _tensorflow() -> str:
    """Run a small graph, and list the devices."""
    from efficientnet_east.compat import slim, tf

    with tf.Graph().as_default(), tf.Session() as session:
        net = slim.conv2d(tf.ones([1, 8, 8, 3]), 2, 3, normalizer_fn=slim.batch_norm)
        session.run(tf.global_variables_initializer())
        session.run(net)
        devices = [device.name.rpartition("device:")[2] for device in session.list_devices()]
    return f"devices {', '.join(devices)}"


def _opencv() -> str:
    import cv2
    import numpy as np

    cv2.resize(np.zeros((8, 8, 3), np.uint8), (4, 4))
    lines = [line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")]
    gui = lines[0].partition(":")[2].strip() if lines else "unknown"
    return "without windows" if gui == "NONE" else f"with windows ({gui or 'yes'})"


def _onnxruntime() -> str:
    import onnxruntime

    names = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    return f"providers {', '.join(names)}; this project uses CPU"


def _pillow() -> str:
    from PIL import features

    lacking = [name for name in ("jpg", "zlib", "webp", "libtiff") if not features.check(name)]
    return f"without {', '.join(lacking)}" if lacking else ""


def _jaxlib() -> str:
    return "runs on the processor; other devices need a plug-in"


_MORE = {
    "tensorflow": _tensorflow, "cv2": _opencv, "onnxruntime": _onnxruntime, "PIL.Image": _pillow,
    "jaxlib": _jaxlib,
}  # fmt: skip

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
