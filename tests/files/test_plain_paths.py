"""Any name works wherever a path is given, whatever the library below takes it for."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.project import Runner, Trained, make_data, tensors

from efficientnet_east.checkpoints import tf_checkpoints
from efficientnet_east.cli import main
from efficientnet_east.compat import tf
from efficientnet_east.errors import UserError
from efficientnet_east.files import plain_paths
from efficientnet_east.inference.detector import Detector

NAMES = [
    os.fsdecode(name)
    for name in (b"b0 lr=[1e-3]", b"a*b?", b"[ab", b"{a,b}", b"100%d %03d", b"back\\slash", b"caf\xe9",
                 b"\xed\xa0\x80", b"new\nline", b"#1 'q\" <&>")
]  # fmt: skip
two_names = pytest.mark.parametrize("name", [NAMES[0], NAMES[6]], ids=ascii)
any_name = pytest.mark.parametrize("name", NAMES, ids=ascii)


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    with tf.Graph().as_default() as graph:
        yield graph


@any_name
def test_checkpoints_of_any_name(name: str, tmp_path: Path) -> None:
    """A folder, and a checkpoint in it; the brackets match neighbors that are other checkpoints."""
    values = {"layer/weights": np.arange(6, dtype=np.float32).reshape(2, 3), "step": np.int64(7)}
    prefix = tmp_path / name / f"{name}-7"
    tf_checkpoints.write(prefix, values)
    tf_checkpoints.write(tmp_path / "b0 lr=1" / f"{name}-7", {"layer/weights": np.zeros(1, np.float32)})
    assert sorted(path.name for path in prefix.parent.iterdir()) == sorted(
        f"{name}-7{part}" for part in tf_checkpoints.PARTS
    )
    read = tf_checkpoints.read(tf_checkpoints.find(prefix))
    assert sorted(read) == sorted(values)
    for key, value in values.items():
        np.testing.assert_array_equal(read[key], value)


@any_name
def test_the_state_file_counts_in_a_folder_of_any_name(name: str, tmp_path: Path, trained: Trained) -> None:
    moved = shutil.copytree(trained.workdir, tmp_path / name)
    (moved / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-2"\n')
    assert tf_checkpoints.listed_in(moved) == [str(moved / "model.ckpt-2")]
    assert Path(tf_checkpoints.find(moved)).name == "model.ckpt-2", "what it says is newest"


def test_a_damaged_checkpoint_is_named_as_the_user_named_it(tmp_path: Path) -> None:
    prefix = tmp_path / "[x]" / "model.ckpt-1"
    tf_checkpoints.write(prefix, {"a": np.zeros(3, np.float32)})
    (prefix.parent / "model.ckpt-1.index").write_bytes(b"damaged")
    with pytest.raises(UserError) as raised:
        tf_checkpoints.read(str(prefix))
    assert str(raised.value).startswith(f"{prefix}: cannot be read")
    assert f"{tempfile.gettempdir()}/tmp" not in str(raised.value), "not as the link is called"


def test_plain_paths_are_left_alone(tmp_path: Path) -> None:
    for path in (tmp_path / "a.bin", tmp_path / "größe 1,2"):
        assert plain_paths.is_plain(path)
        with plain_paths.readable(path, "x") as given:
            assert given is path
    with plain_paths.writable(tmp_path / "[a]") as folder:
        assert folder == tmp_path / "[a]", "patterns matter to readers only"


@pytest.mark.parametrize("without_links", [False, True])
def test_links_go_when_the_block_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_links: bool
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    if without_links:  # as on Windows without the right to make them
        monkeypatch.setattr(Path, "symlink_to", lambda *_, **__: (_ for _ in ()).throw(OSError("no right")))
    for name in ("[a].x", "[a].x.index", "[a].xy"):
        (tmp_path / name).write_text(name)
    with plain_paths.readable(tmp_path / "[a].x", "plain") as path:
        assert plain_paths.is_plain(path)
        assert path.read_text() == "[a].x" and Path(f"{path}.index").read_text() == "[a].x.index"
        assert len(list(path.parent.iterdir())) == 2
    assert list((tmp_path / "tmp").iterdir()) == [] and (tmp_path / "[a].x").read_text() == "[a].x"


def test_a_temporary_folder_with_brackets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "[tmp]").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "[tmp]"))
    tf_checkpoints.write(tmp_path / "[x]" / "model.ckpt-1", {"a": np.ones(2, np.float32)})
    assert tf_checkpoints.read(str(tmp_path / "[x]" / "model.ckpt-1"))["a"].tolist() == [1, 1]


@two_names
def test_a_run_goes_on_in_a_workdir_of_any_name(quick_run: Runner, name: str, tmp_path: Path) -> None:
    run = quick_run
    assert run(name, "--steps=2", "--save-every=1", "--keep-checkpoints=2")[0] == 0
    code, said, _ = run(name, "--steps=4", "--save-every=1", "--keep-checkpoints=2")
    assert code == 0 and "resuming from step 2" in said
    assert tensors(tmp_path / name)["global_step"] == 4
    assert {path.stem for path in (tmp_path / name).glob("*.index")} == {"model.ckpt-3", "model.ckpt-4"}
    code, said, _ = run("other", "--steps=1", "--init", str(tmp_path / name))
    assert code == 0 and "starting from" in said


def outputs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@two_names
def test_every_command_takes_any_name(name: str, tmp_path: Path, quick_run: Runner) -> None:
    """Images, workdirs and results; before, some ended after all the work was done."""
    assert quick_run(f"runs/{name}", "--steps=1")[0] == 0
    workdir = tmp_path / "runs" / name
    data = shutil.copytree(make_data(tmp_path / "plain", range(1, 2)), tmp_path / "named" / name)
    for path in [*(data / "images").iterdir(), *(data / "gts").iterdir()]:
        path.rename(path.with_name(path.name.replace("img_1", name)))
    out, given = tmp_path / "out" / name, ["--checkpoint", str(workdir)]
    low = ["--score-threshold=0.02"]
    kinds = "icdar,json,picture,score,angle,crops"
    words = [
        "detect",
        str(data / "images"),
        *given,
        *low,
        "--output",
        str(out),
        "--formats",
        kinds,
        "--lines",
    ]
    assert main.main(words) == 0
    assert f"{name}_words.txt" in outputs(out)
    assert name in json.loads((out / f"{name}_words.json").read_text(encoding="utf-8"))["image"]
    report = tmp_path / "report" / name
    assert main.main(["eval", *given, *low, "--data", str(data), "--report", str(report)]) == 0
    assert main.main(["check-data", "--data", str(data), "--report", str(tmp_path / "check" / name)]) == 0
    assert main.main(["mine", *given, *low, "--data", str(data), "--output", str(out / f"{name}.json")]) == 0
    weights = tmp_path / "w" / f"{name}.npz"
    assert main.main(["export-weights", *given, "--output", str(weights)]) == 0
    onnx = tmp_path / "w" / f"{name}.onnx"
    assert main.main(["export", *given, "--format", "onnx", "--no-verify", "--output", str(onnx)]) == 0
    for path in (weights, onnx):
        assert Detector.load(path, {"score_threshold": 0.02})(next((data / "images").iterdir())) is not None


def test_a_name_that_no_archive_holds_is_refused_before_the_work(
    tmp_path: Path, trained: Trained, tiny: None, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(trained.data, tmp_path / "data")
    for path in [*(data / "images").iterdir(), *(data / "gts").iterdir()]:
        path.rename(path.with_name(path.name.replace("img_1", NAMES[6])))
    words = ["eval", "--checkpoint", str(trained.workdir), "--data", str(data)]
    assert main.main([*words, "--json", str(tmp_path / "out.json")]) == 2
    assert "cannot be the name of an image in a submission" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
