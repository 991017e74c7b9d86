"""Any picture that a viewer opens becomes RGB; anything else gives one UserError."""

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from efficientnet_east.data import images
from efficientnet_east.data.images import check_image, image_size, is_turned, read_image, write_image
from efficientnet_east.errors import UserError

RED, BLUE = (255, 0, 0), (0, 0, 255)


def encoded(image: Image.Image, suffix: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, suffix, **options)
    return buffer.getvalue()


def scene(width: int = 64, height: int = 48) -> Image.Image:
    """Smooth, so that JPEG keeps it, and different in every corner and channel."""
    y, x = np.mgrid[:height, :width]
    channels = (x / width, y / height, (x + y) / (width + height))
    return Image.fromarray((np.stack(channels, -1) * 255).astype(np.uint8))


@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "BMP", "WEBP", "TIFF"])
def test_formats_agree_with_opencv(suffix: str) -> None:
    data = encoded(scene(), suffix)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    image = read_image(data)
    assert image.shape == (48, 64, 3) and image.dtype == np.uint8 and image.flags.writeable
    assert np.abs(image.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (7, 3)])
@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "GIF"])
def test_any_size(size: tuple[int, int], suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(encoded(scene(*size), suffix))
    check_image(path)
    assert read_image(path).shape == (size[1], size[0], 3)


@pytest.mark.parametrize(
    ("mode", "color", "suffix", "expected"),
    [
        ("L", 70, "PNG", (70, 70, 70)),
        ("1", 1, "PNG", (255, 255, 255)),
        ("LA", (70, 0), "PNG", (255, 255, 255)),
        ("LA", (70, 255), "PNG", (70, 70, 70)),
        ("RGBA", (255, 0, 0, 255), "PNG", RED),
        ("RGBA", (255, 0, 0, 0), "PNG", (255, 255, 255)),
        ("RGBA", (0, 0, 255, 51), "PNG", (204, 204, 255)),
        ("RGBA", (255, 0, 0, 0), "WEBP", (255, 255, 255)),
        ("CMYK", (0, 255, 255, 0), "JPEG", (254, 0, 0)),
        ("CMYK", (0, 255, 255, 0), "TIFF", RED),
        ("YCbCr", (76, 85, 255), "JPEG", (254, 0, 0)),
        ("I;16", 65535, "PNG", (255, 255, 255)),
        ("I;16", 257 * 200, "TIFF", (200, 200, 200)),
        ("I", 257 * 9, "TIFF", (9, 9, 9)),
        ("I", -5, "TIFF", (0, 0, 0)),
        ("I", 200, "TIFF", (200, 200, 200)),
        ("I", 255, "TIFF", (255, 255, 255)),
        ("I", 65535, "TIFF", (255, 255, 255)),
        ("I", 2**30, "TIFF", (255, 255, 255)),
        ("I;16", 200, "TIFF", (1, 1, 1)),
        ("I;16", 200, "PNG", (1, 1, 1)),
        ("F", 257 * 9.0, "TIFF", (9, 9, 9)),
        ("F", 0.5, "TIFF", (128, 128, 128)),
        ("F", 200.0, "TIFF", (200, 200, 200)),
        ("F", float("nan"), "TIFF", (0, 0, 0)),
    ],
)
def test_modes(mode: str, color: object, suffix: str, expected: tuple[int, int, int]) -> None:
    image = read_image(encoded(Image.new(mode, (20, 10), color), suffix))
    assert image.shape == (10, 20, 3)
    assert np.abs(image.astype(int) - expected).max() <= (suffix == "JPEG")


def test_palette_and_its_transparency() -> None:
    palette = Image.new("P", (4, 2), 1)
    palette.putpalette([0, 0, 0, *RED])
    palette.putpixel((0, 0), 0)
    assert read_image(encoded(palette, "PNG"))[:, :, 0].tolist() == [[0, 255, 255, 255], [255] * 4]
    assert read_image(encoded(palette, "PNG", transparency=0))[0, 0].tolist() == [255, 255, 255]
    assert read_image(encoded(palette, "GIF"))[1, 3].tolist() == list(RED)


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 6), color) for color in (RED, BLUE)]
    for suffix in ("GIF", "WEBP", "TIFF"):
        data = encoded(frames[0], suffix, save_all=True, append_images=frames[1:], lossless=True)
        assert (read_image(data) == RED).all(), suffix


def test_sixteen_bit_color_png() -> None:
    pixels = np.full((3, 5, 3), 257, np.uint16) * np.array([10, 20, 30], np.uint16)
    data = cv2.imencode(".png", pixels)[1].tobytes()  # BGR
    assert (read_image(data) == (30, 20, 10)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(suffix: str, orientation: int) -> None:
    """OpenCV, which turns a JPEG by its EXIF data too, is the second implementation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(suffix, {})
    data = encoded(scene(), "JPEG", exif=exif, quality=95)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    turned = read_image(encoded(scene(), suffix, exif=exif, **options))
    assert turned.shape == ((48, 64, 3) if orientation < 5 else (64, 48, 3)) == expected.shape
    assert np.abs(turned.astype(int) - expected).max() < 16


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_images_are_known(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for suffix in ("JPEG", "PNG", "WEBP", "TIFF"):
        assert is_turned(encoded(scene(), suffix, exif=exif)) is (orientation > 1)
    assert not is_turned(encoded(scene(), "JPEG"))


def test_values_of_32_bits_keep_their_differences() -> None:
    """A label image or a depth map, as scientific tools write them, is not black."""
    for top in (100, 255, 40_000, 2**24):
        ramp = np.linspace(0, top, 64).astype(np.int32).reshape(8, 8)
        image = read_image(encoded(Image.fromarray(ramp), "TIFF"))[..., 0]
        assert image[-1, -1] == (round(top / 257) if 255 < top < 65536 else min(top, 255))
        assert (np.diff(image.ravel().astype(int)) >= 0).all() and len(np.unique(image)) > 50


# --- AVIF and HEIC


def damaged(data: bytes) -> list[bytes]:
    return [data[:40], data[: len(data) // 2], data[:-30]]


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = read_image(encoded(scene(), "PNG", exif=exif))
    path = tmp_path / "photo.jpg"  # known by its contents
    path.write_bytes(encoded(scene(), "AVIF", quality=95, exif=exif))
    for source in (path, path.read_bytes()):
        assert np.abs(read_image(source).astype(int) - expected).max() < 16
        assert image_size(source) == (expected.shape[1], expected.shape[0])
        assert is_turned(source) is (orientation > 1)
    for data in damaged(path.read_bytes()):
        assert not outcome(read_image, data) and not outcome(check_image, data)


def test_heic(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    path = tmp_path / "photo.HEIC"
    path.write_bytes(encoded(scene(), "HEIF", quality=95))
    assert np.abs(read_image(path).astype(int) - np.array(scene())).max() < 24
    check_image(path)
    assert image_size(path) == (64, 48) and not is_turned(path)
    with pytest.raises(UserError, match="64 x 48 pixels; expected at most 10 in all"):
        read_image(path, max_pixels=10)
    for data in damaged(path.read_bytes()):
        assert not outcome(read_image, data) and not outcome(check_image, data)


HEADS = {
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "general": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic",
    "avif": b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf",
    "general avif": b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf",
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_decoder_that_is_not_installed_is_named(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(images.features, "check", lambda _: False)
    images._can_decode.cache_clear()
    (tmp_path / "photo.jpg").write_bytes(HEADS[kind] + bytes(500))
    name, install = ("AVIF", "pillow>=11.3") if "avif" in kind else ("HEIC", "pillow-heif")
    said = rf"photo\.jpg: is in {name}, and its decoder is not installed. Run `pip install '?{install}"
    for read in (read_image, check_image, image_size):
        with pytest.raises(UserError, match=said):
            read(tmp_path / "photo.jpg")
    images._can_decode.cache_clear()


@pytest.mark.parametrize("head", [b"\0\0\0\x18ftypisom\0\0\0\0", b"\0\0\0\x18ftypqt  ", b"\0\0\0\x08ftyp"])
def test_a_film_is_no_image(head: bytes) -> None:
    with pytest.raises(UserError, match="is empty or not an image"):
        read_image(head + bytes(200))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_unknown_orientation_is_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert read_image(encoded(scene(), "JPEG", exif=exif)).shape == (48, 64, 3)


@pytest.mark.filterwarnings("error")
def test_damaged_exif_does_not_hide_the_image() -> None:
    data = encoded(scene(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xffrubbish")
    assert read_image(data).shape == (48, 64, 3)


@pytest.mark.parametrize("name", ["Straße 東京.png", "a b%20c.png", "two\nlines.png", "-x.png", "wrong.txt"])
def test_file_names(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(encoded(scene(), "PNG"))
    assert read_image(path).shape == read_image(str(path)).shape == (48, 64, 3)


def test_name_that_is_no_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.png"
    try:
        Path(os.fsdecode(path)).write_bytes(encoded(scene(), "PNG"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert read_image(os.fsdecode(path)).shape == (48, 64, 3)


BROKEN = {
    "empty": b"",
    "text": b"no image at all",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "pdf": b"%PDF-1.4\n%%EOF",
    "ppm": b"P6 1 1 255\n\0\0\0",
    "jpeg cut in half": encoded(scene(), "JPEG")[:700],
    "jpeg header": encoded(scene(), "JPEG")[:20],
    "png cut short": encoded(scene(), "PNG")[:-30],
    "bmp cut short": encoded(scene(), "BMP")[:-30],
    "webp cut short": encoded(scene(), "WEBP")[:-30],
    "tiff cut short": encoded(scene(), "TIFF")[:-300],
    "jpeg behind one byte": b"x" + encoded(scene(), "JPEG"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_file_is_one_line_with_its_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.jpg"
    path.write_bytes(BROKEN[kind])
    for read in (read_image, check_image):
        with pytest.raises(UserError, match=r"bad\.jpg: .*; expected a whole JPEG, PNG") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == BROKEN[kind]


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.png: does not exist\. Check the path\.$"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(UserError, match="Is a directory"):
        read_image(tmp_path)


def test_what_would_never_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "endless.png"):
        with pytest.raises(UserError, match=rf"{name}: is a pipe, a socket or a device; expected a whole"):
            read_image(tmp_path / name)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(999))), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def bombs() -> dict[str, bytes]:
    bmp = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 60, 0, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0)
    gif = b"GIF89a" + struct.pack("<HHBBB", 60000, 60000, 0x80, 0, 0) + bytes(6)
    gif += b"," + struct.pack("<HHHHB", 0, 0, 60000, 60000, 0) + b"\x02\x02\x4c\x01\x00;"
    tags = [(256, 60000), (257, 60000), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 60000)]
    tags.append((279, 9))
    tiff = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    tiff += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags) + bytes(4)
    jpeg = bytearray(encoded(scene(), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 60000, 60000)
    return {"png": png(60000, 60000), "bmp": bmp, "gif": gif, "tiff": tiff, "jpg": bytes(jpeg)}


@pytest.mark.filterwarnings("error")
def test_limit_on_pixels() -> None:
    assert read_image(encoded(scene(10, 10), "PNG"), max_pixels=100).shape == (10, 10, 3)
    with pytest.raises(UserError, match="image: 10 x 11 pixels; expected at most 100"):
        read_image(encoded(scene(10, 11), "PNG"), max_pixels=100)
    with pytest.raises(UserError, match="12000 x 10000 pixels; expected at most 100000000"):
        read_image(png(12000, 10000))


@pytest.mark.parametrize("kind", ["png", "bmp", "gif", "tiff", "jpg"])
def test_bomb_is_refused(kind: str) -> None:
    with pytest.raises(UserError, match="far too many pixels"):
        read_image(bombs()[kind])


def test_bombs_take_no_memory(tmp_path: Path) -> None:
    for kind, data in bombs().items():
        (tmp_path / f"bomb.{kind}").write_bytes(data)
    program = f"""
import pathlib, resource
from efficientnet_east.data.images import read_image
from efficientnet_east.errors import UserError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in pathlib.Path({str(tmp_path)!r}).iterdir():
    try:
        read_image(path)
    except UserError:
        pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 50_000 and not done.stderr  # kilobytes


WHOLE = [encoded(scene(), suffix) for suffix in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")]
if features.check("avif"):
    WHOLE.append(encoded(scene(), "AVIF", quality=90))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=4)), max_size=5),
    st.just(1.0) | st.floats(0, 1),
)
def test_mutated_files(data: bytes, changes: list[tuple[float, bytes]], length: float) -> None:
    """An image or a UserError, nothing else; and the quick check and the loader never disagree."""
    mutated = bytearray(data)
    for place, bytes_ in changes:
        start = int(place * (len(mutated) - 1))
        mutated[start : start + len(bytes_)] = bytes_
    mutated = bytes(mutated[: int(length * len(mutated))])
    outcomes = [outcome(read, mutated) for read in (read_image, check_image)]
    assert outcomes[0] == outcomes[1]


def outcome(read: Callable, data: bytes) -> bool:
    try:
        image = read(data)
    except UserError:
        return False
    assert image is None or (image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8)
    return True


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPG", ".webp", ".bmp", ".tiff"])
def test_write_then_read(suffix: str, tmp_path: Path) -> None:
    rgb = np.array(scene())
    write_image(tmp_path / "new folder" / f"picture{suffix}", rgb)
    again = read_image(tmp_path / "new folder" / f"picture{suffix}")
    assert np.abs(again.astype(int) - rgb).mean() < 4
    assert len(list((tmp_path / "new folder").iterdir())) == 1


def test_write_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(
        UserError, match=r"'.xyz' is no suffix of an image format that can be written; expected one"
    ):
        write_image(tmp_path / "a.xyz", rgb)
    with pytest.raises(UserError, match=r"'.heic' is no suffix of an image format that can be written"):
        write_image(tmp_path / "a.heic", rgb)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be written"):
        write_image(tmp_path / "file" / "a.png", rgb)
    write_image(tmp_path / "a.png", rgb)
    before = (tmp_path / "a.png").read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("efficientnet_east.files.atomic.os.fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_image(tmp_path / "a.png", rgb + 255)
    assert (tmp_path / "a.png").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "file"]
