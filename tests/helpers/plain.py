"""What `test_export` asks of an environment with `requirements-detect.txt` only, and of any OpenCV.

    python tests/helpers/plain.py FOLDER WORKDIR

FOLDER holds a network as b.onnx, b_sized.onnx (one size), b.pb and b_mean.pb (OpenCV's mean is off), and the
checkpoint's maps of an image in maps.npz; WORKDIR the checkpoint, which cannot be read without TensorFlow.
"""

import importlib.util
import sys
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np

from efficientnet_east import Detector
from efficientnet_east.cli import main as cli
from efficientnet_east.data.images import write_image
from efficientnet_east.geometry.intersections import intersection_matrix
from efficientnet_east.inference.runtimes import metadata

SCORE, GEOMETRY = "feature_fusion/Conv_7/Sigmoid", "feature_fusion/concat_3"
NMS_IOU = 0.2
LINE = "2,2,30,2,30,12,2,12"


def class_finds_the_same_boxes(folder: Path, name: str) -> int:
    """`TextDetectionModel_EAST` on a file, beside a Detector that suppresses as the class does.

    Returns:
      How many boxes the class has found.
    """
    kept = np.load(folder / "maps.npz")
    image, threshold = kept["image"], float(kept["threshold"])
    read = cv2.dnn.readNetFromONNX if name.endswith(".onnx") else cv2.dnn.readNetFromTensorflow
    words = cv2.dnn.TextDetectionModel_EAST(read(str(folder / name)))
    mean = metadata.OPENCV_MEAN if "mean" in name else (0, 0, 0)
    words.setInputParams(1.0, image.shape[1::-1], mean, True)
    words.setOutputNames([GEOMETRY, SCORE])  # OpenCV 4 would take those of an ONNX file by the alphabet
    words.setConfidenceThreshold(threshold).setNMSThreshold(NMS_IOU)
    quads, scores = words.detect(np.ascontiguousarray(image[..., ::-1]))
    settings = {"nms": "standard", "nms_iou": NMS_IOU, "min_box_side": 0, "score_threshold": threshold}
    ours = Detector.load(folder / "b.onnx", settings)(image)
    # It begins at the bottom left, and cuts corners to whole pixels.
    theirs = np.roll(np.array(quads, np.float32).reshape(-1, 4, 2), -1, axis=1)
    # By corners: a box thinner than a pixel can have no area left, and would overlap with none.
    partners = np.abs(theirs[:, None] - ours.quads).max(axis=(2, 3)).argmin(axis=1)
    assert len(set(partners)) == len(theirs), "each has a counterpart of its own"
    np.testing.assert_allclose(theirs, ours.quads[partners], atol=1.01)
    np.testing.assert_allclose(np.ravel(scores), ours.scores[partners], atol=1e-4)
    # A box inside of another is one text to OpenCV, however small it is, and two to this project.
    more = np.setdiff1d(np.arange(len(ours)), partners)
    shared, areas, others = intersection_matrix(ours.quads[more], ours.quads[partners])
    assert (shared / np.minimum(areas[:, None], others) > 0.99).any(axis=1).all()
    return len(theirs)


def same_maps(folder: Path, runtime: str) -> None:
    """A runtime without TensorFlow computes what the checkpoint does."""
    kept = np.load(folder / "maps.npz")
    score, geometry, _ = Detector.load(folder / "b.onnx", {"runtime": runtime}).maps(kept["image"])
    np.testing.assert_allclose(score, kept["score"], atol=1e-4)
    np.testing.assert_allclose(geometry, kept["geometry"], rtol=1e-3, atol=1e-3)


def commands(network: Path, image: np.ndarray, workdir: Path, folder: Path) -> None:
    """Detecting and both kinds of evaluation work; what needs TensorFlow says so, without a traceback."""
    images, truths = folder / "data" / "images", folder / "data" / "gts"
    images.mkdir(parents=True)
    truths.mkdir()
    write_image(images / "img_1.png", image)
    (truths / "gt_img_1.txt").write_text(f"{LINE},word\n")
    for name, text in (("res.zip", LINE), ("gt.zip", f"{LINE},word")):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr(f"{'gt' if name == 'gt.zip' else 'res'}_img_1.txt", text)
    data, output = str(folder / "data"), str(folder / "out")
    scored = ["eval", "--submission", str(folder / "res.zip"), "--gt", str(folder / "gt.zip")]
    assert cli.main([*scored, "--report", str(folder / "report")]) == 0
    for checkpoint, code in ((network, 0), (workdir, 2), (network.with_suffix(".pb"), 2)):
        given = ["--checkpoint", str(checkpoint)]
        assert cli.main(["detect", str(images / "img_1.png"), *given, "--output", output]) == code
        assert cli.main(["eval", *given, "--data", data]) == code
    assert cli.main(["train", "--steps", "1", "--workdir", str(folder / "run")]) == 2
    words = ["--format", "onnx", "--output", str(folder / "b.onnx"), "--no-verify"]
    assert cli.main(["export", "--checkpoint", str(workdir), *words]) == 2


def main(folder: Path, workdir: Path) -> None:
    """Check all of it."""
    assert not any(importlib.util.find_spec(name) for name in ("tensorflow", "onnx", "grain"))
    for runtime in ("onnxruntime", "opencv"):
        same_maps(folder, runtime)
    sized = "b_sized.onnx" if cv2.__version__ < "5" else "b.onnx"
    for name in (sized, "b.pb", "b_mean.pb"):
        print(cv2.__version__, name, class_finds_the_same_boxes(folder, name), "boxes")
    with tempfile.TemporaryDirectory() as own:
        commands(folder / "b.onnx", np.load(folder / "maps.npz")["image"], workdir, Path(own))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
