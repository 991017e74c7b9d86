"""A checkpoint in other formats: the same maps and boxes, a report beside it, and nothing half-written."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from helpers import plain
from helpers.layers import SMALL_RESNET
from helpers.programs import make_workdir, scale_variables
from helpers.project import TINY, make_data

from efficientnet_east import scaling
from efficientnet_east.backbones.families import resnet50
from efficientnet_east.cli import main
from efficientnet_east.compat import tf
from efficientnet_east.errors import UserError
from efficientnet_east.evaluation import icdar2015
from efficientnet_east.export import formats, verify
from efficientnet_east.export import write as export
from efficientnet_east.inference import runtimes
from efficientnet_east.inference.detector import Detector
from efficientnet_east.inference.runtimes import metadata, tensorflow_graph

SHAPES = [(96, 128), (70, 200)]
# Clear scores, and angles away from 45 degrees, where the least rounding turns a box.
SPREAD = {"Conv_7/weights": 3.0, "Conv_7/biases": 0.0, "Conv_9/weights": 0.2}
SMALL_FPN = {"fpn_width": 8, "fpn_repeats": 2}
NAMES_OF_MAPS = ["feature_fusion/Conv_7/Sigmoid", "feature_fusion/concat_3"]
NAMES = {"onnx": "b.onnx", "frozen": "b.pb", "saved_model": "b", "tflite": "b.tflite", "stablehlo": "b.mlir"}


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def once_a_checkpoint(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, which reads a checkpoint once for the same mean."""
    found: dict[Any, Any] = {}

    def call(prefix: str, config: Any, *mean: Any) -> Any:
        if (prefix, *mean) not in found:
            found[prefix, *mean] = function(prefix, config, *mean)
        return found[prefix, *mean]

    return call


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tiny network with swish, whose score map is not flat."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(scaling.VARIANTS, "tiny", TINY)
        patch.setattr("efficientnet_east.export.sample_images.SCENE_SIZE", (128, 160))
        patch.setattr(export, "_SCENES", {"float32": 1, "float16": 1, "int8": 1})
        for name in ("load", "load_graph"):  # an export reads the checkpoint twice
            patch.setattr(export, name, once_a_checkpoint(getattr(export, name)))
        folder = make_workdir(
            tmp_path_factory.mktemp("export") / "run", backbone="tiny", activation="swish", threads=1
        )
        scale_variables(folder, SPREAD)
        yield folder


@pytest.fixture(scope="module")
def exported(workdir: Path) -> Path:
    """A folder with one file of each format; every one of them was verified as it was written."""
    folder = workdir.parent / "files"
    for kind in ("onnx", "frozen", "saved_model", "tflite"):
        assert write(workdir, folder / NAMES[kind], kind) == 0
    return folder


def write(workdir: Path, output: Path, kind: str, *words: str) -> int:
    given = ["--checkpoint", str(workdir), "--format", kind, "--output", str(output), *words]
    return main.main(["export", *given])


@pytest.mark.parametrize(
    ("kind", "runtime"),
    [("onnx", "auto"), ("onnx", "opencv"), pytest.param("frozen", "auto", marks=pytest.mark.rewritten),
     ("frozen", "opencv"), pytest.param("saved_model", "auto", marks=pytest.mark.rewritten),
     ("tflite", "auto")],
)  # fmt: skip
def test_same_maps_and_boxes(kind: str, runtime: str, workdir: Path, exported: Path) -> None:
    ours = Detector.load(workdir, {"score_threshold": 0.3})
    theirs = Detector.load(exported / NAMES[kind], {"score_threshold": 0.3, "runtime": runtime})
    for seed, shape in enumerate(SHAPES):
        image = noise(*shape, seed)
        score, geometry, _ = ours.maps(image)
        assert score.std() > 0.02 and geometry.std() > 5, "maps that can differ"
        other_score, other_geometry, _ = theirs.maps(image)
        np.testing.assert_allclose(other_score, score, atol=1e-4)
        np.testing.assert_allclose(other_geometry, geometry, rtol=1e-4, atol=1e-4)
    images = [noise(96, 128), noise(96, 128, 1)]  # of one size: a batch
    for found, others in zip(ours(images), theirs(images), strict=True):
        assert len(found) >= 1 and verify.least_overlap(found.quads, others.quads) >= 0.99


def opencv_maps(path: Path, images: list[np.ndarray]) -> list[np.ndarray]:
    """Score and geometry, channels first, as a program for OpenCV's EAST computes them."""
    net = cv2.dnn.readNet(str(path))
    net.setInput(cv2.dnn.blobFromImages(images, 1.0))
    return [found.copy() for found in net.forward(NAMES_OF_MAPS)]


@pytest.mark.parametrize("kind", ["frozen", "onnx"])
def test_opencv_runs_batches(kind: str, exported: Path) -> None:
    """In either file, two images at once give what each gives alone."""
    if kind == "onnx" and cv2.__version__ < "5":
        pytest.skip("OpenCV 4 reads an ONNX file of one size only")
    images = [noise(96, 128, seed) for seed in (0, 1, 2)]
    both = opencv_maps(exported / NAMES[kind], images)
    for index, image in enumerate(images):
        for maps, alone in zip(both, opencv_maps(exported / NAMES[kind], [image]), strict=True):
            assert maps.shape[0] == 3 and maps[index].std() > 0.02
            np.testing.assert_allclose(maps[index], alone[0], rtol=1e-4, atol=1e-4)


VARIETY = [
    {"merge": "bifpn", "geometry": "quad", **SMALL_FPN},
    {"pre_stride": "expand", "output_stride": 2},
    {"activation": "hard-swish", "normalization": "lite"},
    {"backbone": "resnet50"},
]


@pytest.mark.parametrize("options", VARIETY, ids=lambda options: next(iter(options.values())))
def test_every_network_runs_in_batches_in_opencv(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(scaling.VARIANTS, "tiny", TINY)
    monkeypatch.setattr(resnet50, "ROWS", SMALL_RESNET)
    folder = make_workdir(tmp_path / "run", **{"backbone": "tiny", "threads": 1} | options)
    scale_variables(folder, SPREAD)
    assert write(folder, tmp_path / "b.pb", "frozen", "--no-verify") == 0
    images = [noise(64, 96, seed) for seed in (0, 1)]
    both = opencv_maps(tmp_path / "b.pb", images)
    for index, image in enumerate(images):
        for maps, alone in zip(both, opencv_maps(tmp_path / "b.pb", [image]), strict=True):
            np.testing.assert_allclose(maps[index], alone[0], rtol=1e-4, atol=1e-4)


# The attributes that TensorFlow 1.0 knows of each operation that a frozen graph may have.
ATTRIBUTES = {
    "Add": "T", "BiasAdd": "T", "Cast": "SrcT DstT", "ConcatV2": "N T", "Const": "value dtype",
    "Conv2D": "T strides padding", "DepthwiseConv2dNative": "T strides padding", "Identity": "T",
    "MaxPool": "ksize strides padding", "Mean": "T keep_dims", "Mul": "T", "Pack": "N T",
    "Pad": "T", "Placeholder": "dtype shape", "RealDiv": "T", "Relu": "T", "Relu6": "T",
    "ResizeBilinear": "T", "ResizeNearestNeighbor": "T", "Shape": "T", "Sigmoid": "T",
    "StridedSlice": "T Index shrink_axis_mask", "Sub": "T",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["frozen", "saved_model"])
def test_older_readers_know_every_attribute(kind: str, exported: Path) -> None:
    """Nothing that only repeats a default, such as `explicit_paddings`, which TensorFlow 1.13 refuses."""
    data = (exported / NAMES[kind]).joinpath(*["saved_model.pb"] * (kind == "saved_model")).read_bytes()
    graph = tensorflow_graph._meta_graph(data) if kind == "saved_model" else tf.GraphDef.FromString(data)
    assert len(graph.node) > 100 and not graph.library.function
    for node in graph.node:
        named = {name for name in node.attr if not name.startswith("_")}
        assert named <= set(ATTRIBUTES[node.op].split()), (node.op, named)


def test_report_and_metadata(workdir: Path, exported: Path) -> None:
    """The report has the figures; the file says how it is to be fed, and names its checkpoint."""
    report = json.loads((exported / "b.onnx.report.json").read_text())
    data = (exported / "b.onnx").read_bytes()
    assert report["sha256"] == hashlib.sha256(data).hexdigest() and report["bytes"] == len(data)
    assert report["verified"] and [part["runtime"] for part in report["runtimes"]] == [
        "onnxruntime",
        "opencv",
    ]
    for part in report["runtimes"]:
        small = {(32, 32)} if part["runtime"] == "opencv" else set()
        assert part["tolerance"] == 1e-3 and part["worst"]["score"] < 1e-4 and part["boxes"] > 0
        assert {tuple(image["size"]) for image in part["images"]} >= {
            (32, 32),
            (64, 96),
            (64, 160),
            (128, 128),
        } - small
    described = metadata.read("b.onnx", data)
    assert report["metadata"] == described.model_dump(mode="json", exclude={"digest"})
    assert described.input.layout == "NCHW" and described.input.mean == (0, 0, 0)
    assert (described.stride, described.divisor, described.boxes) == (4, 32, "rbox")
    assert described.source.checkpoint == "model.ckpt-8"
    parts = [(workdir / f"model.ckpt-8{part}").read_bytes() for part in (".data-00000-of-00001", ".index")]
    assert described.source.sha256 == hashlib.sha256(b"".join(parts)).hexdigest()
    assert Detector.load(exported / "b.onnx").detect == Detector.load(workdir).detect


def test_saved_model_serves(exported: Path) -> None:
    """TensorFlow's own loader takes it, with named inputs and outputs, any batch and size."""
    assert [path.name for path in (exported / "b").iterdir()] == ["saved_model.pb"]
    images = np.stack([noise(64, 96), noise(64, 96, 1)]).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as session:
        loaded = tf.saved_model.load(session, ["serve"], str(exported / "b"))
        signature = loaded.signature_def["serving_default"]
        score = session.run(signature.outputs["score"].name, {signature.inputs["images"].name: images})
    np.testing.assert_allclose(score, runtimes.open_runtime(exported / "b").run(images.astype(np.uint8))[0])


def test_one_size_and_opencv_mean(workdir: Path) -> None:
    """Programs for OpenCV's own EAST take the mean off, and the file expects it. One size is one size."""
    path = workdir.parent / "mean.onnx"
    assert write(workdir, path, "onnx", "--opencv-mean", "--size", "96x64") == 0
    image = noise(64, 96)
    score, geometry, _ = Detector.load(workdir).maps(image)
    net = cv2.dnn.readNetFromONNX(str(path))
    net.setInput(cv2.dnn.blobFromImage(image[..., ::-1], 1.0, None, metadata.OPENCV_MEAN, swapRB=True))
    names = ["feature_fusion/Conv_7/Sigmoid", "feature_fusion/concat_3"]
    found = net.forward(names)
    np.testing.assert_allclose(found[0][0, 0], score, atol=1e-4)
    np.testing.assert_allclose(found[1][0].transpose(1, 2, 0), geometry, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(Detector.load(path).maps(image)[0], score, atol=1e-4)
    with pytest.raises(UserError, match=r"written for images of 64 x 96 pixels, not 96 x 96"):
        runtimes.open_runtime(path).run(noise(96, 96)[None])


@pytest.fixture(scope="module")
def for_opencv(workdir: Path, exported: Path) -> Path:
    """The files that `plain` reads."""
    folder = workdir.parent / "opencv"
    assert write(workdir, folder / "b_sized.onnx", "onnx", "--size", "128x96", "--no-verify") == 0
    assert write(workdir, folder / "b_mean.pb", "frozen", "--opencv-mean", "--no-verify") == 0
    for name in ("b.onnx", "b.pb"):
        shutil.copy(exported / name, folder)
    image = noise(96, 128)
    score, geometry, _ = Detector.load(workdir).maps(image)
    threshold = np.sort(score, axis=None)[-61:-59].mean()
    np.savez(folder / "maps.npz", image=image, score=score, geometry=geometry, threshold=threshold)
    return folder


@pytest.mark.parametrize("name", ["b.onnx", "b_sized.onnx", "b.pb", "b_mean.pb"])
def test_opencv_class_finds_the_same_boxes(name: str, for_opencv: Path) -> None:
    """`TextDetectionModel_EAST` on ONNX and on the frozen graph, with its samples' mean and without."""
    if name == "b.onnx" and cv2.__version__ < "5":
        pytest.skip("OpenCV 4 reads an ONNX file of one size only")
    found = plain.class_finds_the_same_boxes(for_opencv, name)
    assert found > 20


def test_plain_environment(for_opencv: Path, workdir: Path) -> None:
    """With `requirements-detect.txt` only, and the oldest OpenCV: detection, evaluation, or one line."""
    python = os.environ.get("EAST_PLAIN_PYTHON")
    if not python:
        pytest.skip("EAST_PLAIN_PYTHON names no Python of an environment without TensorFlow")
    done = subprocess.run(
        [python, plain.__file__, for_opencv, workdir], capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(Path(scaling.__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("kind", "limit"), [("onnx", 0.65), ("tflite", 0.65)])
def test_half_precision(kind: str, limit: float, workdir: Path, exported: Path) -> None:
    path = workdir.parent / f"half_{NAMES[kind]}"
    assert write(workdir, path, kind, "--precision", "float16") == 0
    assert path.stat().st_size < limit * (exported / NAMES[kind]).stat().st_size
    ours, theirs = (runtimes.open_runtime(where).run(noise(64, 96)[None]) for where in (workdir, path))
    np.testing.assert_allclose(theirs[0], ours[0], atol=1e-2)
    assert runtimes.open_runtime(path).precision == "float16"


def largest_kernel(path: Path) -> int:
    """The largest magnitude in the int8 kernels of an ONNX file."""
    tensors = map(onnx.numpy_helper.to_array, onnx.load(path).graph.initializer)
    return max(int(np.abs(k.astype(int)).max()) for k in tensors if k.dtype == np.int8 and k.ndim == 4)


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_int8(kind: str, workdir: Path, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It really is int8, its calibration is on record, its loss measured, and too much of it refused."""
    data, path = make_data(workdir.parent / "data"), workdir.parent / f"int8_{NAMES[kind]}"
    words = ["--precision", "int8", "--calibration", str(data / "images"), "--data", str(data)]
    assert write(workdir, path, kind, *words, "--size", "128x96") == 0
    report = json.loads(path.with_name(f"{path.name}.report.json").read_text())
    images = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (data / "images").iterdir()
    }
    assert report["metadata"]["calibration"]["images"] == images
    assert report["int8"]["share_of_weights"] > 0.8 and report["int8"]["images"] == 2
    assert path.stat().st_size < 0.7 * (exported / NAMES[kind]).stat().st_size
    assert runtimes.open_runtime(path).precision == "int8"
    if kind == "onnx":
        assert 32 < largest_kernel(path) <= 64, "7 bits, which no processor saturates"

    before = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        scores = iter([0.5, 0.47] * 6)
        patch.setattr(icdar2015.Result, "as_dict", lambda result: {"hmean": next(scores)})
        capsys.readouterr()
        assert write(workdir, path, kind, *words, "--size", "128x96", "--calibration-images", "1") == 2
        out, error = capsys.readouterr()
        assert out.count("Trying again with more layers in float32") == 2
        assert "hmean 0.4700 in int8, 0.5000 before, 3.00 points less; expected at most 2" in error
        assert path.read_bytes() == before
        scores = iter([0.5, 0.49] * 2)
        assert write(workdir, path, kind, *words, "--size", "128x96") == 0
        assert capsys.readouterr().out.count("Trying again with more layers in float32") == 1
        report = json.loads(path.with_name(f"{path.name}.report.json").read_text())
        assert report["metadata"]["calibration"]["float_below"] == 8
        scores = iter([0.5, 0.47] * 3)
        words += ["--allow-loss", "--calibration-images", "1"]
        assert write(workdir, path, kind, *words, "--size", "128x96") == 0
    assert path.read_bytes() != before


@pytest.mark.parametrize("stop", ["verify", "kill", "write"])
def test_failure_keeps_what_was_there(
    stop: str, workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workdir.parent / stop
    folder.mkdir()
    (folder / "b.onnx").write_text("the old one")

    def fail(*_: Any) -> bytes:
        raise KeyboardInterrupt if stop == "kill" else OSError(28, "No space left on device")

    if stop == "verify":
        monkeypatch.setitem(formats.FORMATS["onnx"].tolerances, "float32", 1e-12)
    elif stop == "kill":
        monkeypatch.setattr(formats, "open_runtime", fail)
    else:
        monkeypatch.setattr("efficientnet_east.export.writers.onnx.write", fail)
    code = write(workdir, folder / "b.onnx", "onnx")
    assert code == (130 if stop == "kill" else 2)
    said = {
        "verify": "is not written: onnxruntime disagrees",
        "kill": "interrupted",
        "write": "No space left",
    }
    assert said[stop] in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["b.onnx"]
    assert (folder / "b.onnx").read_text() == "the old one"


KILLED = """
import os, signal, sys
from helpers.project import TINY
from efficientnet_east import scaling
from efficientnet_east.cli import main as cli
from efficientnet_east.export import formats

scaling.VARIANTS["tiny"] = TINY
formats.open_runtime = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
cli.main(["export", "--format", "frozen", "--checkpoint", sys.argv[1], "--output", sys.argv[2]])
"""


def test_a_killed_export_leaves_the_old_one(workdir: Path) -> None:
    """Killed with its file written and not yet checked; the next export clears up."""
    folder = workdir.parent / "killed"
    folder.mkdir()
    (folder / "b.pb").write_text("the old one")
    search = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(scaling.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, workdir, folder / "b.pb"], capture_output=True, timeout=300,
        env=os.environ | {"PYTHONPATH": search},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    (partial,) = [path for path in folder.iterdir() if path.name != "b.pb"]
    assert partial.name.startswith(".") and (partial / "b.pb").stat().st_size > 1000
    assert (folder / "b.pb").read_text() == "the old one"
    assert write(workdir, folder / "b.pb", "frozen", "--no-verify") == 0
    assert {path.name for path in folder.iterdir()} == {"b.pb", "b.pb.report.json"}
    assert Detector.load(folder / "b.pb").stride == 4


def test_a_file_needs_no_other(exported: Path, tmp_path: Path) -> None:
    """Each format is one file, that opens alone; by its own library, ONNX has all weights inside."""
    import onnx
    from onnx import external_data_helper

    model = onnx.load(exported / "b.onnx", load_external_data=False)
    tensors = [*external_data_helper._get_all_tensors(model)]
    assert len(tensors) > 20 and not any(map(external_data_helper.uses_external_data, tensors))
    for kind in ("onnx", "frozen", "tflite"):
        shutil.copy(exported / NAMES[kind], tmp_path)
        assert Detector.load(tmp_path / NAMES[kind]).stride == 4


def test_unverified_says_so(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "open_runtime", None)
    path = workdir.parent / "unverified.pb"
    assert write(workdir, path, "frozen", "--no-verify") == 0
    report = json.loads(path.with_name("unverified.pb.report.json").read_text())
    assert report["verified"] is False and "runtimes" not in report


@pytest.mark.parametrize(
    ("kind", "words", "problem"),
    [
        ("onnx", ["--output", "b.pb"], r"--output: is .*b\.pb; expected a name that ends in \.onnx"),
        ("frozen", ["--precision", "int8"], r"--precision: is int8; expected float32 for frozen"),
        ("onnx", ["--precision", "int8"], r"--calibration: is missing"),
        ("onnx", ["--calibration", "x"], r"--calibration: has no effect with float32"),
        ("onnx", ["--size", "100x64"], r"--size: is 100x64; expected multiples of 32"),
        ("onnx", ["--size", "100"], r"--size: is 100x100; expected multiples of 32"),
        ("stablehlo", [], r"--size: is missing"),
        ("onnx", ["--steps", "4"], r"--steps: has no effect with --format onnx"),
        ("onnx", ["--texts", "4"], r"--texts: has no effect"),
        ("onnx", ["--list", "x"], r"--list: needs --data"),
        ("onnx", ["--allow-loss"], r"--allow-loss: requires --precision int8"),
        ("onnx", ["--calibration-images", "3"], r"--calibration-images: needs --calibration"),
        ("stablehlo-train", ["--size", "64x64"], r"--size: has no effect with --format stablehlo-train"),
        ("stablehlo-train", ["--opencv-mean"], r"--opencv-mean: has no effect"),
    ],
)
def test_options_that_do_not_go_together(
    kind: str, words: list[str], problem: str, workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = workdir.parent / "refused" / NAMES.get(kind, "b")
    if words[:1] == ["--output"]:
        output, words = output.with_name(words[1]), words[2:]
    assert write(workdir, output, kind, *words) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(problem, error)
    assert not output.exists()


def test_a_missing_package_is_found_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the model is looked for, let alone read."""
    monkeypatch.setitem(sys.modules, "onnx", None)
    words = ["--model", str(tmp_path / "none"), "--format", "onnx", "--output", str(tmp_path / "b.onnx")]
    assert main.main(["export", *words]) == 2
    assert capsys.readouterr().err == "error: onnx: is not installed; expected `pip install onnx`\n"
