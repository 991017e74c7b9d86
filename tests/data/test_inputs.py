"""Which files names stand for, what their results are called, and the pictures of films."""

import io
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.videos import write_film

from efficientnet_east.data import image_lists, inputs, video
from efficientnet_east.errors import UserError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def names(found: list[inputs.InputFile]) -> list[str]:
    return [str(entry.name) for entry in found]


def test_a_folder_stands_for_its_images(tmp_path: Path) -> None:
    touch(tmp_path, "img_10.jpg", "img_2.PNG", "notes.txt", "film.mp4", "deep/er/img_1.jpg", "deep/img_3.gif")
    assert names(inputs.find_files([str(tmp_path)])) == ["img_2", "img_10"]
    found = inputs.find_files([str(tmp_path)], recursive=True)
    assert sorted(names(found)) == ["deep/er/img_1", "deep/img_3", "img_10", "img_2"]
    assert all(entry.path.is_file() for entry in found)


def test_results_within_the_folder_of_images_are_not_images(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "out/a_words.png")
    assert names(inputs.find_files([str(tmp_path)], recursive=True, avoid=tmp_path / "out")) == ["a"]
    with pytest.raises(UserError, match=r"output: .* is the folder of the images. Choose another"):
        inputs.find_files([str(tmp_path)], avoid=tmp_path / "." / "out" / "..")


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "in/b.jpg")
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    assert sorted(names(inputs.find_files([str(tmp_path)], recursive=True))) == ["a", "in/b"]


def test_patterns_keep_the_folders_below_them(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.jpg", "y/a.jpg", "y/b.png", "y/z/a.jpg", "folder.jpg/in.txt")
    assert names(inputs.find_files([f"{tmp_path}/*/a.jpg"])) == ["x/a", "y/a"]
    assert sorted(names(inputs.find_files([f"{tmp_path}/**/*.jpg"]))) == ["x/a", "y/a", "y/z/a"]
    (found,) = inputs.find_files([f"{tmp_path}/*/../x/a.jpg", f"{tmp_path}/x/a.jpg"])
    assert str(found.name) == "a", "a result never leaves its folder, and a file is taken once"


def test_a_file_may_be_named_like_a_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(touch(tmp_path, "[1]*.jpg", "1.jpg", "http:/x.jpg"))
    assert [str(entry.path) for entry in inputs.find_files(["[1]*.jpg"])] == ["[1]*.jpg"]
    assert names(inputs.find_files(["http://x.jpg"])) == ["x"]


def test_names_that_collide(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.png", "b.jpg", "E\u0301.jpg", "\u00e9.png", "c.PNG", "c.png")
    found = names(inputs.find_files([str(tmp_path)]))
    assert {"a.jpg", "a.png", "b"} < set(found)
    assert {"E\u0301.jpg", "\u00e9.png"} < set(found), "the same letters on some systems"
    assert len({name.casefold() for name in found}) == len(found) == 7
    with pytest.raises(UserError, match=r"d/a\.jpg: would write the same files as .*/a\.jpg; expected"):
        inputs.find_files([f"{tmp_path}/a.jpg", f"{tmp_path}/d/a.jpg"])
    assert len(inputs.find_files([f"{tmp_path}/a.jpg", f"{tmp_path}/./a.jpg", str(tmp_path)])) == 7


def test_long_names_leave_room_for_an_ending(tmp_path: Path) -> None:
    long = ["ü" * 120 + end for end in "ab"]
    found = names(inputs.find_files([str(tmp_path / f"{name}.jpg") for name in long]))
    assert len(set(found)) == 2 and all(len(os.fsencode(name)) <= inputs.LONGEST_NAME for name in found)
    assert all(re.fullmatch("ü+_[0-9a-f]{8}", name) for name in found)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a.jpg\nb c.jpg\n\n", ["a.jpg", "b c.jpg"]),
        (b"\xef\xbb\xbfa.jpg\r\nb.jpg", ["a.jpg", "b.jpg"]),
        (b"two\nlines.jpg\0b.jpg\0", ["two\nlines.jpg", "b.jpg"]),
        (b"caf\xe9.jpg", [os.fsdecode(b"caf\xe9.jpg")]),
        ("a.jpg\r\nüb er.jpg\r\n".encode("utf-16"), ["a.jpg", "üb er.jpg"]),
    ],
)
def test_lists(data: bytes, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(data)
    assert inputs.read_names(tmp_path / "list") == expected


def test_a_list_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (b"a.jpg\nb c.jpg\n", b"a.jpg\0b c.jpg\0"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert inputs.read_names("-") == ["a.jpg", "b c.jpg"]


@pytest.mark.parametrize("folder", ["lr=[1e-3]", "a*b?", "[1]", "100%d"])
def test_a_folder_on_the_way_to_a_pattern_is_itself(folder: str, tmp_path: Path) -> None:
    touch(tmp_path, f"{folder}/x/a.jpg", f"{folder}/y/b.jpg", "1/x/a.jpg", "lr=1/x/a.jpg", "aab1/x/a.jpg")
    assert names(inputs.find_files([f"{tmp_path}/{folder}/*/*.jpg"])) == ["x/a", "y/b"]
    assert [str(entry.path) for entry in inputs.find_files([f"{tmp_path}/{folder}/x/?.jpg"])] == [
        str(tmp_path / folder / "x" / "a.jpg")
    ]


def test_a_list_in_other_bytes_than_its_names_still_matches(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    (tmp_path / name).write_bytes(os.fsencode(name) + b"\n")
    assert inputs.read_names(tmp_path / name) == image_lists.read_image_list(tmp_path / name) == [name]


def test_what_systems_leave_in_folders_is_not_found(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "._a.jpg", "__MACOSX/a.jpg", "sub/._b.jpg", "sub/b.jpg", ".hidden/c.jpg")
    assert names(inputs.find_files([str(tmp_path)])) == ["a"]
    assert names(inputs.find_files([str(tmp_path)], recursive=True)) == ["a", "sub/b"]


def test_lists_that_name_nothing(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"\n \n")
    with pytest.raises(UserError, match="names no file"):
        inputs.read_names(tmp_path / "list")
    with pytest.raises(UserError, match="cannot be read"):
        inputs.read_names(tmp_path)


# --- films


@pytest.mark.parametrize("name", [b"caf\xe9.mp4", b"a[1]*?.mp4", b"img_%03d.mp4", b"back\\slash.mp4"])
def test_a_film_of_any_name(name: bytes, tmp_path: Path) -> None:
    """OpenCV ends the process on a name that is not UTF-8, and takes %03d for numbered images."""
    folder = tmp_path / os.fsdecode(name).removesuffix(".mp4")
    path = write_film(folder / os.fsdecode(name), 3)
    assert os.listdir(folder) == [os.fsdecode(name)]
    (entry,) = inputs.find_files([str(path)])
    shown = [picture.read().mean() for picture in inputs.images_of(entry)]
    assert len(shown) == 3 and shown == sorted(shown)


@pytest.mark.parametrize(("every", "numbers"), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (9, [0])])
def test_frames_of_a_film(every: int, numbers: list[int], tmp_path: Path) -> None:
    path = write_film(tmp_path / "a 100%d film.mp4")
    (entry,) = inputs.find_files([str(path)])
    seen = [(picture, picture.read()) for picture in inputs.images_of(entry, every=every)]
    assert [str(picture.name) for picture, _ in seen] == [f"a 100%d film/{number:06d}" for number in numbers]
    assert seen[0][0].where == f"{path}, frame 0" and seen[0][0].rate == pytest.approx(10 / every)
    for number, (_, image) in zip(numbers, seen, strict=True):
        assert image.shape == (48, 64, 3) and abs(image[:, 40:].mean() - 40 * number) < 8
        assert image[:, :24, 0].mean() > 150 > 60 > image[:, :24, 2].mean(), "RGB"
    assert [path.name for path in tmp_path.iterdir()] == ["a 100%d film.mp4"], "nothing half written is left"


@pytest.mark.parametrize("kind", ["missing", "empty", "playlist", "cut", "pipe", "large"])
def test_films_that_cannot_be_read(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "film.mp4"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind in ("cut", "large"):
        whole = write_film(path).read_bytes()
        path.write_bytes(whole[:40] if kind == "cut" else whole)
    elif kind != "missing":
        path.write_bytes(b"" if kind == "empty" else b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n")
    most = 100 if kind == "large" else 10**6
    (picture,) = inputs.images_of(inputs.InputFile(path, Path("film")), max_pixels=most)
    said = r"does not exist\. Check the path\.$" if kind == "missing" else ".*; expected"
    with pytest.raises(UserError, match=rf"film\.mp4: {said}"):
        picture.read()
    assert capfd.readouterr() == ("", "")


def test_a_film_is_whole_however_writing_ends(tmp_path: Path) -> None:
    frame = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(KeyboardInterrupt), video.written(tmp_path / "cut.mp4", 25) as append:
        append(frame)
        append(frame)
        raise KeyboardInterrupt
    (entry,) = inputs.find_files([str(tmp_path / "cut.mp4")])
    assert len(list(inputs.images_of(entry))) == 2
    with video.written(tmp_path / "none.mp4", 25):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["cut.mp4"]


def test_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened = write_film(tmp_path / "film.mp4", 3), cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: opened(str(path) if number == 1 else "none"))
    assert [str(picture.name) for picture in inputs.camera_images(1)] == [
        f"camera1/00000{n}" for n in range(3)
    ]
    with pytest.raises(UserError, match="camera: 0 cannot be opened; expected the number"):
        next(inputs.camera_images(0))
