"""What the code must not contain: ways in which a file that it reads, or a name, becomes a program."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for pattern in ("*.py", "efficientnet_east/**/*.py", "examples/**/*.py", "benchmarks/**/*.py")
    for path in ROOT.glob(pattern)
)
# Where a call stands that is harmless there: file -> what, and why.
ALLOWED = {
    ("efficientnet_east/data/crops.py", "pickle.loads"),  # of bytes that the same expression has just made
}
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__",
    "pickle.load", "pickle.loads", "pickle.Unpickler", "cPickle.load", "dill.load", "dill.loads",
    "joblib.load", "shelve.open", "marshal.load", "marshal.loads", "pandas.read_pickle",
    "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "yaml.UnsafeLoader",
    "tempfile.mktemp", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
    "commands.getoutput", "ssl._create_unverified_context", "xml.etree.ElementTree.parse",
    "keras.models.load_model", "tf.keras.models.load_model", "torch.hub.load",
}  # fmt: skip
FORBIDDEN_METHODS = {"extractall", "extract"}  # of archives: nothing is ever unpacked to disk


def dotted(node: ast.expr) -> str:
    """The name of what is called, as it is written: `np.load`, `archive.extractall`."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def aliases(tree: ast.Module) -> dict[str, str]:
    """Local name -> full name of everything that a file imports."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.split(".")[0]: (alias.asname and alias.name) or
                      alias.name.split(".")[0] for alias in node.names}  # fmt: skip
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def faults(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of every call that must not be there."""
    tree = ast.parse(source)
    known = aliases(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, _, rest = dotted(node.func).partition(".")
        name = known.get(first, first) + (f".{rest}" if rest else "")
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        truths = {key for key, value in keywords.items() if getattr(value, "value", None) is True}
        falses = {key for key, value in keywords.items() if getattr(value, "value", None) is False}
        if name in FORBIDDEN_CALLS or (rest.rpartition(".")[2] or "") in FORBIDDEN_METHODS:
            yield node.lineno, name
        if "shell" in keywords and "shell" not in falses:
            yield node.lineno, "shell=True"
        if "allow_pickle" in keywords and "allow_pickle" not in falses:
            yield node.lineno, "allow_pickle=True"
        if name in ("numpy.load", "np.load") and "allow_pickle" not in falses:
            yield node.lineno, "numpy.load without allow_pickle=False"
        if name == "torch.load" and "weights_only" not in truths:
            yield node.lineno, "torch.load without weights_only=True"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_runs_what_it_reads(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    found = [(line, call) for line, call in faults(path.read_text(encoding="utf-8"))
             if (name, call) not in ALLOWED]  # fmt: skip
    assert not found


def test_exceptions_are_still_needed() -> None:
    for name, call in ALLOWED:
        assert call in {found for _, found in faults((ROOT / name).read_text(encoding="utf-8"))}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.load(file)",
        "import pickle as p\np.loads(data)",
        "from pickle import loads\nloads(data)",
        "import numpy as np\nnp.load(path)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy as np\nnp.load(path, allow_pickle=flag)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "import yaml\nyaml.unsafe_load(text)",
        "eval(text)",
        "exec(text)",
        "import subprocess\nsubprocess.run(line, shell=True)",
        "import os\nos.system(line)",
        "from os import system as s\ns(line)",
        "import tempfile\ntempfile.mktemp()",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "zipfile.ZipFile(path).extractall(folder)",
        "archive.extract(name, folder)",
    ],
)
def test_the_scan_sees(source: str) -> None:
    assert list(faults(source))


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nnp.load(path, allow_pickle=False)",
        "import yaml\nyaml.safe_load(text)",
        "import torch\ntorch.load(path, weights_only=True)",
        "import subprocess\nsubprocess.run([program, name])",
        "import re\nre.compile(pattern)",
        "result.evaluate(text)",
    ],
)
def test_the_scan_leaves_alone(source: str) -> None:
    assert not list(faults(source))
