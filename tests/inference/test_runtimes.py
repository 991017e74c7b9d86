"""Runtimes are chosen by the file; damaged, foreign and hostile files are refused in one line."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers.networks import write_dark_network
from helpers.programs import load_example, make_workdir
from helpers.project import TINY

from efficientnet_east import config as configuration
from efficientnet_east import scaling
from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.compat import tf
from efficientnet_east.errors import UserError
from efficientnet_east.export import formats, network
from efficientnet_east.inference import runtimes
from efficientnet_east.inference.detector import Detector
from efficientnet_east.inference.runtimes import metadata, opencv, protobuf

FILES = {"onnx": "b.onnx", "frozen": "b.pb", "tflite": "b.tflite", "saved_model": "b/saved_model.pb"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The workdir `run` of a tiny network, and a file of each format."""
    folder = tmp_path_factory.mktemp("runtimes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(scaling.VARIANTS, "tiny", TINY)
        make_workdir(folder / "run", backbone="tiny", score_threshold=0.4)
        config = configuration.load(str(folder / "run" / "config.yaml"))
        written = network.load(tf_checkpoints.find(folder / "run"), config)
        for kind, name in FILES.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(formats.encode(written, kind)[1])
        yield folder


def described(name: str = "images") -> bytes:
    """Metadata for a file that was made by hand."""
    return metadata.dump(metadata.Metadata.model_validate({
        "efficientnet_east": "0.1.0", "format": "onnx", "input": {"name": name, "layout": "NHWC"},
        "score": "score", "geometry": "geometry", "boxes": "rbox", "stride": 4, "divisor": 32,
        "normalisation": "imagenet", "detect": {}, "versions": {},
        "source": {"checkpoint": "model.ckpt-1", "sha256": "0" * 64},
    }))  # fmt: skip


@pytest.mark.parametrize(
    ("name", "runtime"),
    [("run", "tensorflow"), ("b", "tensorflow"), ("b.pb", "tensorflow"), ("b.onnx", "onnxruntime"),
     ("b.tflite", "litert")],
)  # fmt: skip
def test_runtime_is_chosen_by_the_file(name: str, runtime: str, folder: Path) -> None:
    opened = runtimes.open_runtime(folder / name, 1)
    assert (opened.name, opened.precision, opened.stride, opened.divisor) == (runtime, "float32", 4, 32)
    assert opened.detect.score_threshold == 0.4 and opened.threads == 1 and opened.size is None
    score, geometry = opened.run(np.zeros((2, 32, 64, 3), np.uint8))
    assert score.shape == (2, 8, 16, 1) and geometry.shape == (2, 8, 16, 5)
    assert score.dtype == geometry.dtype == np.float32
    detector = Detector.load(folder / name, {"nms_iou": "0.3"})
    assert detector.detect.nms_iou == 0.3 and detector.detect.score_threshold == 0.4


@pytest.mark.parametrize(
    ("name", "overrides", "problem"),
    [
        ("b.onnx", {"runtime": "tensorrt"}, "runtime: unknown 'tensorrt'; expected one of auto, tensorflow"),
        (
            "b.onnx",
            {"runtime": "litert"},
            r"b\.onnx: is not for the runtime litert; expected a \.tflite file",
        ),
        ("b.tflite", {"runtime": "opencv"}, r"b\.tflite: is not for the runtime opencv"),
        ("b.onnx", {"score_threshold": 2}, "detect.score_threshold: 2 cannot be used"),
        ("b.onnx", {"threads": -1}, "train.threads: -1 cannot be used"),
        ("b.onnx", {"thresholds": 1}, "thresholds: unknown key"),
        ("none.onnx", {}, r"none\.onnx: no such file"),
        ("none", {}, "no such model"),
        ("x.h5", {}, "no runtime opens .h5 files; expected a workdir"),
    ],
)
def test_what_cannot_be_opened(name: str, overrides: dict[str, object], problem: str, folder: Path) -> None:
    (folder / "x.h5").write_bytes(b"\x89HDF")
    with pytest.raises(UserError, match=problem):
        Detector.load(folder / name, overrides)


@pytest.mark.parametrize("kind", FILES)
def test_damaged_files_are_refused(kind: str, folder: Path, tmp_path: Path) -> None:
    """Any byte changed and any truncation is seen before a runtime gets to see the file."""
    data, rng = (folder / FILES[kind]).read_bytes(), np.random.default_rng(0)
    assert metadata.read("good", data)
    path = tmp_path / Path(FILES[kind]).name
    for position in rng.integers(0, len(data), 200):
        bad = bytearray(data)
        bad[position] ^= 1 << rng.integers(8)
        with pytest.raises(UserError):
            metadata.read("bad", bytes(bad))
    for position in rng.integers(0, len(data), 200):
        with pytest.raises(UserError):
            metadata.read("bad", data[:position])
    path.write_bytes(data[:-1])
    where = tmp_path if kind == "saved_model" else path
    with pytest.raises(UserError, match=r"is damaged|says nothing"):
        runtimes.open_runtime(where)


def test_hostile_metadata(folder: Path) -> None:
    """A digest can be forged; what the description says is checked all the same."""
    data = (folder / "b.onnx").read_bytes()
    for old, new in (
        (b'"stride": 4', b'"stride": "x"'), (b'"divisor": 32', b'"divisor": []'),
        (b'"layout": "NCHW"', b'"layout": "CHW"'),
        (b'"score_threshold": 0.4', b'"score_threshold": NaN'),
        (b'"score_threshold": 0.4', b'"score_threshold": 7'),
        (b'"boxes": "rbox"', b'"boxes": "rbox", "more": 1'),
    ):  # fmt: skip
        assert old in data
        start, end = metadata._find(data)
        text = data[start:end].replace(old, new)
        with pytest.raises(UserError, match="has a description that cannot be used"):
            metadata.read("forged", data[:start] + text + data[end:])
    with pytest.raises(UserError, match="says nothing of how it wants to be fed"):
        metadata.read("deep", b'{"efficientnet_east": "' + b"[" * 100_000)


def external(location: str, nested: bool) -> bytes:
    """An ONNX file whose weights, or those of a graph inside of an attribute, lie elsewhere."""
    from onnx import TensorProto, helper

    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    inner = helper.make_graph([], "inner", [], [], [tensor])
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)] if nested else []
    graph = helper.make_graph(nodes, "g", [], [], [] if nested else [tensor])
    model = helper.make_model(graph)
    model.metadata_props.add(key="efficientnet_east", value=described().decode())
    return metadata.seal(model.SerializeToString())


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/passwd", "link.bin", "hard.bin"])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "opencv"])
def test_onnx_reads_no_other_file(location: str, nested: bool, runtime: str, tmp_path: Path) -> None:
    """Not even one beside it, behind a link or not."""
    path, weights = tmp_path / "x.onnx", tmp_path / "weights.bin"
    path.write_bytes(external(location, nested))
    weights.write_bytes(bytes(8))
    (tmp_path / "link.bin").symlink_to(weights)
    (tmp_path / "hard.bin").hardlink_to(weights)
    with pytest.raises(UserError, match=r"x\.onnx: keeps weights in other files, which are not opened"):
        runtimes.open_runtime(path, 1, runtime)


def test_wire_format_is_read_as_it_is_written() -> None:
    """And what is none is refused, however deep or long it is."""
    from onnx import helper

    model = helper.make_model(helper.make_graph([], "g", [], []), producer_name="p" * 300)
    found = dict(protobuf.fields(memoryview(model.SerializeToString())))
    assert found[1] == model.ir_version and bytes(found[2]) == b"p" * 300  # type: ignore[arg-type]
    for bad in (b"\x3a", b"\x3a\xff", b"\xff" * 20, b"\x3b", b"\x02\x00", b"\x80" * 12, b"\x39\x00"):
        with pytest.raises(ValueError):
            list(protobuf.fields(memoryview(bad)))
        with pytest.raises(UserError, match="is no ONNX file"):
            protobuf.expect_single_file(Path("x"), bad)
    nested = b""
    for _ in range(100):  # graph > node > attribute > graph ...
        attribute = b"\x32" + bytes([len(nested)]) + nested if len(nested) < 120 else nested
        nested = attribute
    deep = b""
    for _ in range(40):
        for tag in (0x32, 0x2A, 0x0A):
            length = len(deep)
            deep = bytes([tag, (length & 0x7F) | 0x80, length >> 7]) + deep
    with pytest.raises(UserError, match="nested deeper"):
        length = len(deep)
        protobuf.expect_single_file(Path("x"), bytes([0x3A, (length & 0x7F) | 0x80, length >> 7]) + deep)


@pytest.mark.parametrize("form", ["graph", "function"])
@pytest.mark.parametrize("saved", [False, True])
def test_foreign_graphs_are_not_run(form: str, saved: bool, tmp_path: Path) -> None:
    """An operation that reads a file, in the graph or in a function of it, with a description forged."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    graph_def = tf.GraphDef()
    nodes = graph_def.node if form == "graph" else graph_def.library.function.add().node_def
    nodes.add(name="score", op="ReadFile")
    graph_def.node.add(name="images", op="Placeholder").attr["_metadata"].s = described()
    if saved:
        path = tmp_path / "model" / "saved_model.pb"
        path.parent.mkdir()
        inner = tf.MetaGraphDef(graph_def=graph_def).SerializeToString()
        length = len(inner)
        path.write_bytes(metadata.seal(bytes([0x12, (length & 0x7F) | 0x80, length >> 7]) + inner))
    else:
        path = tmp_path / "model.pb"
        path.write_bytes(metadata.seal(graph_def.SerializeToString()))
    with pytest.raises(UserError, match=r"no network here has: ReadFile; .*models are programs"):
        runtimes.open_runtime(path.parent if saved else path)


def test_foreign_files_without_description(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    (tmp_path / "x.pb").write_bytes(tf.GraphDef().SerializeToString())
    for path in (tmp_path, tmp_path / "x.pb"):
        with pytest.raises(UserError, match="says nothing of how it wants to be fed"):
            runtimes.open_runtime(path)


def test_opencv_4_is_told_a_size(folder: Path) -> None:
    """In place, so that nothing else in the file moves; the library of the format reads the number."""
    import onnx

    data = (folder / "b.onnx").read_bytes()
    sized = opencv._with_size(data)
    assert len(sized) == len(data)
    model = onnx.load_model_from_string(sized)
    sides = model.graph.input[0].type.tensor_type.shape.dim
    assert [side.dim_value for side in sides] == [0, 3, 384, 384]
    model.graph.input[0].CopyFrom(onnx.load_model_from_string(data).graph.input[0])
    assert model == onnx.load_model_from_string(data)


def test_opencv_computes_nothing_smaller_than_it_can(folder: Path) -> None:
    """Maps of a small image have the size they should have."""
    score, geometry = runtimes.open_runtime(folder / "b.onnx", 1, "opencv").run(
        np.zeros((1, 32, 96, 3), np.uint8)
    )
    assert score.shape == (1, 8, 24, 1) and geometry.shape == (1, 8, 24, 5)


ONE_STORE = """
import sys
import numpy as np
import onnxruntime

if sys.argv[2] == "taken":
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, None)
from efficientnet_east import Detector

image = np.zeros((64, 64, 3), np.uint8)
first, second = (Detector.load(sys.argv[1]) for _ in range(2))
expected = second(image)
del first
np.testing.assert_array_equal(second(image).quads, expected.quads)
"""


@pytest.mark.parametrize("state", ["free", "taken"])
def test_detectors_lend_each_other_memory(state: str, folder: Path) -> None:
    """And one outlives the other, whoever has set up the store."""
    in_own_process(ONE_STORE, str(folder / "b.onnx"), state)


def test_the_soak_measures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (soak,) = load_example("../benchmarks", "soak")
    for name, value in {"WARM_UP": 3, "WINDOW": 2, "LARGEST": (64, 96)}.items():
        monkeypatch.setattr(soak, name, value)
    found = soak.soak(str(folder / "b.onnx"), None, 8, 1)
    assert found["growth_mb"] == pytest.approx(found["at_the_end_mb"] - found["after_warm_up_mb"], abs=0.11)
    assert found["growth_mb"] < 5 and found["files"][0] == found["files"][1]
    assert found["peak_of_warm_up_mb"] > 50 and len(found["every_50th_mb"]) == 4


# --- OpenVINO


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (160, 64)])
def test_openvino_computes_the_same_maps(size: tuple[int, int], folder: Path) -> None:
    """To float32's precision, or bfloat16's eight bits where the processor has instructions for it."""
    ours, theirs = (runtimes.open_runtime(folder / "b.onnx", 2, name) for name in ("openvino", "onnxruntime"))
    assert ours.name == "openvino" and ours.precision in ("float32", "bfloat16") and ours.threads == 2
    batch = np.random.default_rng(1).integers(0, 256, (2, *size, 3), np.uint8)
    far = 1e-4 if ours.precision == "float32" else 0.05
    maps, expected = ours.run(batch), theirs.run(batch)
    for found, right in zip(maps, expected, strict=True):
        assert found.shape == right.shape and found.dtype == np.float32
        np.testing.assert_allclose(found, right, atol=far * np.abs(right).max())
    kept = [found.copy() for found in maps]
    ours.run(255 - batch)
    for found, copy in zip(maps, kept, strict=True):
        np.testing.assert_array_equal(found, copy, "maps do not change with the next image")


def test_openvino_runs_the_bundled_int8_file() -> None:
    opened = runtimes.open_runtime("fast", 2, "openvino")
    assert (opened.precision, opened.detect.scales) == ("int8", (0.5, 1.5))


def test_openvino_is_not_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match="openvino: is not installed; expected `pip install openvino`, or"):
        runtimes.open_runtime(folder / "b.onnx", 1, "openvino")


def test_openvino_does_not_know_the_network(tmp_path: Path) -> None:
    from onnx import helper

    model = helper.make_model(helper.make_graph([], "g", [], []))
    model.metadata_props.add(key="efficientnet_east", value=described().decode())
    (tmp_path / "x.onnx").write_bytes(metadata.seal(model.SerializeToString()))
    with pytest.raises(
        UserError, match=r"x\.onnx: cannot be opened \(.+expected a network that OpenVINO knows"
    ):
        runtimes.open_runtime(tmp_path / "x.onnx", 1, "openvino")


# --- threads


ONE_THREAD = """
import sys, time
import numpy as np
from efficientnet_east.inference import runtimes

for path in sys.argv[1:]:
    run, batch = runtimes.open_runtime(path, 1).run, np.zeros((1, 512, 512, 3), np.uint8)
    run(batch)
    start, used = time.perf_counter(), time.process_time()
    for _ in range(4):
        run(batch)
    assert time.process_time() - used < 1.25 * (time.perf_counter() - start), path
"""


def test_one_thread_uses_one_core(folder: Path) -> None:
    """In a process of its own: TensorFlow keeps the number of threads of a process' first session."""
    in_own_process(ONE_THREAD, *(str(folder / name) for name in ("b.pb", "b.onnx", "b.tflite")))


@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        ("b.onnx", "onnxruntime"),
        ("b.onnx", "openvino"),
        ("b.onnx", "opencv"),
        ("b.pb", "auto"),
        ("b.tflite", "auto"),
    ],
)
def test_threads_may_share_a_detector(name: str, runtime: str, folder: Path) -> None:
    """Images of many sizes at once, and each gets its own maps."""
    detector = Detector.load(folder / name, {"runtime": runtime, "threads": 2})
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 256, (32 * high, 32 * wide, 3), np.uint8)
        for high, wide in [(2, 3), (4, 3), (3, 8), (7, 2), (5, 5)] * 4
    ]
    expected = [detector.maps(image)[0] for image in images]
    with ThreadPoolExecutor(4) as pool:
        for found, score in zip(pool.map(detector.maps, images), expected, strict=True):
            np.testing.assert_allclose(found[0], score, atol=1e-5)
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError)):
        pickle.dumps(detector)


AFTER_FORK = """
import os, sys
import numpy as np
from efficientnet_east import Detector

image = np.zeros((64, 64, 3), np.uint8)
for path in sys.argv[1:]:
    detector = Detector.load(path, {"threads": 2})
    detector(image)
    child = os.fork()
    if not child:
        try:
            detector(image)
        except RuntimeError as error:
            os._exit(7 if "does not work in a forked process" in str(error) else 8)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7, path
"""


def test_a_fork_is_told_rather_than_left_waiting(folder: Path) -> None:
    in_own_process(AFTER_FORK, str(folder / "b.pb"), str(folder / "b"))


def in_own_process(program: str, *words: str) -> None:
    package = Path(scaling.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(package)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# --- without TensorFlow

WITHOUT_TENSORFLOW = """
import sys
from importlib.abc import MetaPathFinder
import numpy as np

class Nothing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "tf_slim", "tf_keras", "keras", "onnx"):
            raise ImportError(name + " is not installed")

sys.meta_path.insert(0, Nothing())
from efficientnet_east import Detector
from efficientnet_east.cli import main as cli
for runtime in ("auto", "openvino", "opencv"):
    maps = Detector.load(sys.argv[1], {"runtime": runtime}).maps(np.zeros((50, 70, 3), np.uint8))
    assert maps[0].shape == (13, 18)
raise SystemExit(cli.main(["detect", sys.argv[2], "--checkpoint", sys.argv[1], "--output", sys.argv[3]]))
"""


def test_detect_without_tensorflow(folder: Path, tmp_path: Path) -> None:
    from efficientnet_east.data.images import write_image

    write_image(tmp_path / "photo.png", np.zeros((50, 70, 3), np.uint8))
    words = [str(folder / "b.onnx"), str(tmp_path / "photo.png"), str(tmp_path / "out")]
    in_own_process(WITHOUT_TENSORFLOW, *words)
    assert (tmp_path / "out" / "photo_words.txt").exists()


def test_onnx_runtime_tells_nobody(tmp_path: Path) -> None:
    """Its newer releases mark the machine with a file and report to their maker, if they are let."""
    model, place = write_dark_network(tmp_path / "dark.onnx"), tmp_path / "place"
    place.mkdir()
    code = "import sys, numpy, efficientnet_east as e\n"
    code += "e.Detector.load(sys.argv[1])(numpy.ones((64, 64, 3), 'u1'))"
    places = dict.fromkeys(("TMPDIR", "HOME", "XDG_CACHE_HOME"), str(place))
    kept = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name and name != "CI"}
    root = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    subprocess.run([sys.executable, "-c", code, model], check=True, env=kept | places | root, cwd=place)
    assert not list(place.iterdir())
