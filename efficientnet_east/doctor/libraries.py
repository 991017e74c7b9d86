"""The libraries: what each is for, and whether it can be imported."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import importlib.metadata
import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence

from efficientnet_east.errors import one_line

PATIENCE = 180.0  # seconds for one library; TensorFlow takes ten on a good day
_AT_A_TIME = 2
_PROBE = "efficientnet_east.doctor.probe"
ALL, TRAIN = "everything", "train"
OK, NOTE, MISSING, BAD = "ok", "note", "missing", "bad"


@dataclasses.dataclass(frozen=True)
class Library:
    """One library.

    Attributes:
      module: as Python imports it.
      package: as pip installs it.
      use: what needs it: `everything`, `train`, or words for people.
      runtime: the runtime of `detect` that it is, if any.
      install: what pip is given.
    """

    module: str
    package: str
    use: str
    runtime: str = ""
    install: str = ""


LIBRARIES = (
    Library("numpy", "numpy", ALL),
    Library("cv2", "opencv-python-headless", ALL, "opencv"),
    Library("PIL.Image", "pillow", ALL),
    Library("pydantic", "pydantic", ALL),
    Library("yaml", "pyyaml", ALL),
    Library("tqdm", "tqdm", ALL),
    Library("tensorflow", "tensorflow", TRAIN, "tensorflow"),
    Library("grain", "grain", TRAIN),
    Library("psutil", "psutil", TRAIN),
    Library("matplotlib", "matplotlib", TRAIN),
    Library("pillow_heif", "pillow-heif", "images in HEIC", install="efficientnet_east[heic]"),
    Library("h5py", "h5py", "weights in Keras's files"),
    Library("onnxruntime", "onnxruntime", "detect with the bundled model and .onnx files", "onnxruntime"),
    Library("onnx", "onnx", "export --format onnx", install="efficientnet_east[onnx]"),
    Library("openvino", "openvino", "detect with .onnx files, fast on newer Intel processors", "openvino",
            "efficientnet_east[openvino]"),
    Library("ai_edge_litert.interpreter", "ai-edge-litert", "detect with .tflite files", "litert",
            "efficientnet_east[tflite]"),
    Library("gradio", "gradio", "the page of demo", install="efficientnet_east[demo]"),
    Library("fastapi", "fastapi", "the endpoint of demo", install="efficientnet_east[demo]"),
    Library("jaxlib", "jaxlib", "training without TensorFlow", install="efficientnet_east[pjrt]"),
    Library("torch", "torch", "weights in PyTorch's files", install="efficientnet_east[torch]"),
    Library("lanms", "lanms-neo", "comparing the merging with it", install="efficientnet_east[lanms]"),
)  # fmt: skip


OPENCVS = (
    "opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
      name: of what was checked.
      state: `ok`; `note`, where it works but deserves attention; `missing`; or `bad`.
      detail: version and more, or what is wrong; one line.
      fix: the line that repairs it.
      use: what needs it.
    """

    name: str
    state: str
    detail: str
    fix: str = ""
    use: str = ""


def check_libraries(libraries: Sequence[Library] = LIBRARIES) -> dict[str, CheckResult]:
    """Import each library in a process of its own.

    Returns:
      The results by module, in the order of the libraries.
    """
    with concurrent.futures.ThreadPoolExecutor(_AT_A_TIME) as pool:
        slow_first = sorted(libraries, key=lambda library: library.module != "tensorflow")
        found = dict(zip((one.module for one in slow_first), pool.map(probe, slow_first), strict=True))
    return {library.module: found[library.module] for library in libraries}


def probe(library: Library) -> CheckResult:
    """Import one library in a process of its own."""
    install = f"pip install '{library.install or library.package}'"
    try:
        done = subprocess.run(
            [sys.executable, "-m", _PROBE, library.module],
            capture_output=True, text=True, errors="replace", timeout=PATIENCE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        problem = f"the import takes longer than {PATIENCE:g} seconds"
        return CheckResult(library.package, BAD, problem, f"{install} --force-reinstall", library.use)
    except OSError as error:
        return CheckResult(
            library.package, BAD, f"cannot start a process ({error.strerror})", "", library.use
        )
    if done.returncode == 0:
        return _expect_version(library, json.loads(done.stdout.splitlines()[-1]), install)
    problem = what_happened(done.returncode, done.stderr)
    if problem == f"ModuleNotFoundError: No module named {library.module.partition('.')[0]!r}":
        return CheckResult(library.package, MISSING, "not installed", install, library.use)
    return CheckResult(library.package, BAD, problem, advice(library, problem, install), library.use)


def what_happened(code: int, errors: str) -> str:
    """Say in one line how a process failed.

    Args:
      code: its exit code.
      errors: what it wrote.
    """
    if code < 0:
        name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
        illegal = " (this processor does not know an instruction)" if name == "SIGILL" else ""
        return f"crashes when it is imported: {name}{illegal}"
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    errors_only = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Exit|Interrupt)\b", line)]
    return one_line((errors_only or lines or [f"exit code {code}"])[-1])[:300]


def advice(library: Library, problem: str, install: str) -> str:
    """Give the line that repairs a library that cannot be imported.

    Args:
      library: the library.
      problem: of `what_happened`.
      install: the line that installs it.
    """
    if library.module == "cv2" and re.search(r"lib(GL|gthread|SM|Xext)", problem):
        return f"pip uninstall -y {' '.join(OPENCVS)}; pip install opencv-python-headless"
    other = re.fullmatch(r"ModuleNotFoundError: No module named '([\w.]+)'", problem)
    if other:
        package = {"tf_keras": "tf-keras", "tf_slim": "tf-slim"}.get(other[1].partition(".")[0])
        return f"pip install {package}" if package else f"{install} --force-reinstall"
    asked = re.search(r"pip install '[^']+'", problem)
    if "SIGILL" in problem:
        return "use another runtime, or a build for this processor"
    return asked[0] if asked else f"{install} --force-reinstall"


def _expect_version(library: Library, found: dict[str, str], install: str) -> CheckResult:
    detail = "; ".join(filter(None, (found["version"], found["more"])))
    wanted = _wanted(library.package, found["version"])
    if wanted:
        fix = f"pip install '{library.package}{wanted}'"
        return CheckResult(library.package, NOTE, f"{detail}; tested with {wanted}", fix, library.use)
    return CheckResult(library.package, OK, detail, "", library.use)


def _wanted(package: str, version: str) -> str:
    """Give the versions that this project asks for, if this is none of them; else nothing."""
    try:
        from packaging.requirements import Requirement

        for line in importlib.metadata.requires("efficientnet-east") or ():
            asked = Requirement(line)
            if asked.name == package and not asked.specifier.contains(version, prereleases=True):
                return str(asked.specifier)
    except (ImportError, importlib.metadata.PackageNotFoundError, ValueError):
        return ""
    return ""


def several_opencvs() -> CheckResult | None:
    """Warn if OpenCV is installed from several packages, which overwrite each other's files."""
    found = []
    for name in OPENCVS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    if len(found) < 2:
        return None
    fix = f"pip uninstall -y {' '.join(OPENCVS)}; pip install opencv-python-headless"
    return CheckResult("OpenCV twice", NOTE, f"{', '.join(found)} overwrite each other", fix, ALL)


def hidden_gpu(gpus: Sequence[str], tensorflow: CheckResult) -> CheckResult | None:
    """Warn about an NVIDIA GPU that TensorFlow does not see.

    Args:
      gpus: names of the machine's NVIDIA GPUs, see `machine.nvidia_gpus`.
      tensorflow: the check of TensorFlow; its detail lists the devices that TensorFlow sees.

    Returns:
      None where there is no such GPU, or no TensorFlow.
    """
    if not gpus or tensorflow.state not in (OK, NOTE) or "GPU:" in tensorflow.detail:
        return None
    problem = f"TensorFlow does not see {', '.join(gpus)}, so training runs on the processor"
    return CheckResult("GPU", NOTE, problem, "pip install 'efficientnet_east[gpu]'", TRAIN)
