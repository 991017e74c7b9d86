"""From an image to `Detections`: fit, run the network, decode, merge, map back."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeGuard, TypeVar, cast, overload

import numpy as np
import PIL.Image

from efficientnet_east import config as configuration
from efficientnet_east.checkpoints import bundled, model_file
from efficientnet_east.config import Detect
from efficientnet_east.data.images import Encoded, from_pillow, read_image
from efficientnet_east.errors import UserError
from efficientnet_east.inference import calibration
from efficientnet_east.inference.postprocess import Maps, find_in_scales
from efficientnet_east.inference.preprocess import Fitted, Tile, prepare, stitch
from efficientnet_east.inference.runtimes.runtime import Run
from efficientnet_east.options import ModelOptions
from efficientnet_east.structures import Detections

CONFIG_FILE = "config.yaml"
_DEFAULTS = ModelOptions()

Image: TypeAlias = np.ndarray | Encoded | IO[bytes] | PIL.Image.Image
_Item = TypeVar("_Item")


class Detector:
    """Finds words in images.

    Args:
      run: the network: uint8 (n, height, width, 3), RGB, sides multiples of `divisor`, to the score maps
        (n, h, w, 1) and the geometry maps (n, h, w, 5 or 8), see `geometry.maps`.
      detect: thresholds and limits.
      stride: pixels per cell of the maps.
      divisor: what the sides of the network's input must be multiples of.
      size: height and width of a network that takes one size only: images are scaled down to fit, never up,
        and padded.
    """

    def __init__(
        self,
        run: Run,
        detect: Detect,
        stride: int = _DEFAULTS.output_stride,
        divisor: int = _DEFAULTS.size_divisor,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.run, self.detect, self.stride, self.divisor, self.size = run, detect, stride, divisor, size

    @classmethod
    def load(cls, path: str | Path = bundled.DEFAULT, overrides: dict[str, Any] | None = None) -> Detector:
        """Load a trained detector; the runtime is chosen by the file.

        Args:
          path: a workdir of train.py (its newest checkpoint), its folder `best`, or a checkpoint's prefix,
            with the configuration read from the same folder; a file of `export-weights`; or what `export`
            wrote: .onnx, .pb, .tflite, the folder of a SavedModel. Or the name of a model that comes with
            the package, see `checkpoints.bundled`.
          overrides: fields of the configuration's section `detect`; `threads`, by default as many as this
            process may use; and `runtime`, to take OpenCV (`opencv`) for an .onnx or .pb file.

        Returns:
          A detector with the averaged weights.

        Raises:
          UserError: see `runtimes.open_runtime`, or a threshold is out of range.
        """
        from efficientnet_east.inference import runtimes

        given = dict(overrides or {})
        threads = configuration.load(None, {"threads": given.pop("threads", 0)}).train.threads
        opened = runtimes.open_runtime(path, threads, given.pop("runtime", runtimes.AUTO))
        detect = runtimes.with_overrides(opened.detect, given)
        return cls(opened.run, detect, opened.stride, opened.divisor, opened.size)

    @overload
    def __call__(self, image: Image, *, bgr: bool = ...) -> Detections: ...  # type: ignore[overload-overlap]

    @overload
    def __call__(self, image: Iterable[Image], *, bgr: bool = ...) -> list[Detections]: ...

    def __call__(self, image: Image | Iterable[Image], *, bgr: bool = False) -> Detections | list[Detections]:
        """Find the words of one image, or of several.

        Args:
          image: uint8 (height, width, 3), RGB, of any size; or the path of a file, its bytes, an open file
            or an image of Pillow, read as a viewer shows it; or any iterable of these.
          bgr: arrays are BGR, as OpenCV reads files.

        Returns:
          The detections, in pixels of `image`; of a sequence, a list of them in its order.

        Raises:
          UserError: a file cannot be read.
          ValueError: an array is no image, or something else was given.
        """
        if _are_several(image):
            return [found for images in self._gathered(image, bgr) for found in self._find(images)]
        return self._find([as_rgb(cast(Image, image), bgr)])[0]

    def maps(self, image: Image, factor: float = 1.0, *, bgr: bool = False) -> Maps:
        """Run the network on one image, in tiles if it is larger than `detect.tile_size`.

        Args:
          image: one, see `__call__`.
          factor: by which it is scaled, as one of `detect.scales`.
          bgr: an array is BGR.

        Returns:
          score float32 (h, w), geometry float32 (h, w, 5 or 8), both without the padding, and the
          factors (2,) by which x and y of the network's input differ from those of the image.

        Raises:
          UserError: a file cannot be read.
          ValueError: an array is no image.
        """
        return self._maps([as_rgb(image, bgr)], factor)[0]

    def maps_per_scale(self, image: Image, *, bgr: bool = False) -> list[Maps]:
        """Run the network on one image at each of `detect.scales`, see `maps`."""
        pixels = as_rgb(image, bgr)
        return [self.maps(pixels, factor) for factor in self.detect.scales]

    def boxes(self, maps: Sequence[Maps]) -> Detections:
        """Turn maps into detections; `boxes(maps_per_scale(image))` is what a call of the detector does.

        The maps can be kept, and decoded again by `with_detect` with other thresholds.

        Args:
          maps: of one image, at each scale.

        Returns:
          The detections, in pixels of the image.
        """
        return find_in_scales(maps, self.detect, self.stride)

    def with_detect(self, detect: Detect) -> Detector:
        """Return a detector with other thresholds, and the same network."""
        return Detector(self.run, detect, self.stride, self.divisor, self.size)

    def with_run(self, run: Run) -> Detector:
        """Return a detector with the same thresholds and another function to run the network."""
        return Detector(run, self.detect, self.stride, self.divisor, self.size)

    def _gathered(self, images: Iterable[Image], bgr: bool) -> Iterator[list[np.ndarray]]:
        """So many images in a row that they may share a run; at least one."""
        gathered: list[np.ndarray] = []
        room = self.detect.batch_pixels
        for image in (as_rgb(image, bgr) for image in images):
            pixels = image.shape[0] * image.shape[1]
            if gathered and pixels > room:
                yield gathered
                gathered, room = [], self.detect.batch_pixels
            gathered.append(image)
            room -= pixels
        if gathered:
            yield gathered

    def _find(self, images: list[np.ndarray]) -> list[Detections]:
        per_scale = [self._maps(images, factor) for factor in self.detect.scales]
        return [self.boxes(of_one) for of_one in zip(*per_scale, strict=True)]

    def _maps(self, images: list[np.ndarray], factor: float) -> list[Maps]:
        """The maps of several images at one scale, without their padding, and how they were scaled."""
        detect = self.detect
        fitted = [
            prepare(
                image, detect.max_side, factor, detect.tile_size, detect.tile_overlap, self.divisor, self.size
            )
            for image in images
        ]
        found = self._run([(one, tile) for one in fitted for tile in one.tiles])
        return [
            Maps(
                *stitch(itertools.islice(found, len(one.tiles)), one.tiles, one.shape, self.stride), one.scale
            )
            for one in fitted
        ]

    def _run(self, inputs: list[tuple[Fitted, Tile]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Score (h, w) and geometry (h, w, channels) of each tile; equally large neighbours share a run."""
        for (height, width), alike in itertools.groupby(inputs, lambda pair: (pair[1].height, pair[1].width)):
            for batch in _batches(alike, max(1, self.detect.batch_pixels // (height * width))):
                score, geometry = self.run(np.stack([tile.cut(fitted.pixels) for fitted, tile in batch]))
                line = self.detect.score_scale, self.detect.score_offset
                score = score if line == (1.0, 0.0) else calibration.apply(score, *line)
                yield from zip(score[..., 0], geometry, strict=True)


def as_rgb(image: Image, bgr: bool = False) -> np.ndarray:
    """The pixels of what a detector is given.

    Args:
      image: uint8 (height, width, 3); the path of a file, its bytes, or a file that is open, which is read
        from its beginning; or an image of Pillow.
      bgr: an array is BGR; everything else has its own order.

    Returns:
      uint8 (height, width, 3), RGB; a view of the array where there is one.

    Raises:
      UserError: the file cannot be read.
      ValueError: the array is no image, or something else was given.
    """
    if isinstance(image, memoryview) and image.ndim > 1:
        image = np.asarray(image)
    if isinstance(image, str | os.PathLike | bytes | bytearray | memoryview):
        return read_image(image)
    if isinstance(image, PIL.Image.Image):
        return from_pillow(image)
    if not isinstance(image, np.ndarray):
        return read_image(_content(image))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"an image must be uint8 (height, width, 3), received {image.dtype} {image.shape}")
    return image[..., ::-1] if bgr else image


def _are_several(image: Image | Iterable[Image]) -> TypeGuard[Iterable[Image]]:
    """Whether what is given is a collection of images, and not an image of a kind that can be iterated."""
    one = isinstance(image, np.ndarray | str | os.PathLike | bytes | bytearray | memoryview | Mapping)
    alike = hasattr(image, "read") or hasattr(image, "__array__")  # an open file; an array of another library
    return isinstance(image, Iterable) and not one and not alike and not isinstance(image, PIL.Image.Image)


def _content(file: Any) -> bytes:
    """Everything in an open file, wherever it stands: what was just written to it, too."""
    known = callable(getattr(file, "read", None)) and not isinstance(file, io.TextIOBase)
    if known and callable(getattr(file, "seekable", None)) and file.seekable():
        file.seek(0)
    data = file.read() if known else None
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    kind = type(file)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    wanted = "an array of NumPy, a path, the bytes of a file, a file open in binary mode, or a Pillow image"
    raise ValueError(f"an image must be {wanted}; received {name}")


def _batches(items: Iterable[_Item], most: int) -> Iterator[list[_Item]]:
    items = iter(items)
    while batch := list(itertools.islice(items, most)):
        yield batch


def config_beside(prefix: str) -> Path:
    """The configuration that a checkpoint was trained with.

    Args:
      prefix: of the checkpoint.

    Returns:
      The path of `config.yaml` in the checkpoint's folder; a file of `export-weights` holds its own.

    Raises:
      UserError: there is none.
    """
    if model_file.is_model_file(prefix):
        return Path(prefix)
    path = Path(prefix).parent / CONFIG_FILE
    if not path.exists():
        raise UserError(
            path, "no such file", "expected the configuration that train.py leaves beside its checkpoints"
        )
    return path
