"""What a reader of annotations takes and gives: the protocol that each format implements.

A format is a file with one function `read` and one `Format`, which says by what its files are recognized.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from efficientnet_east.data.formats import coordinates
from efficientnet_east.errors import UserError

ILLEGIBLE = ("###", "*")
MASKED = "###"  # the transcription of a region that is masked


@dataclasses.dataclass(frozen=True)
class Location:
    """A place in an annotation file, for messages.

    Attributes:
      file: its name.
      line: of the file, from 1; None where lines mean nothing, as in JSON.
      part: of the line or file, such as `shapes[2]`; empty for the whole line.
    """

    file: str
    line: int | None = None
    part: str = ""

    @property
    def where(self) -> str:
        """Return the file, with the line if there is one."""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def describe(self, problem: str) -> str:
        """Put the part of the file before a problem."""
        return f"{self.part}: {problem}" if self.part else problem

    def error(self, problem: str, hint: str) -> UserError:
        """Make the error for a problem at this place."""
        return UserError(self.where, self.describe(problem), hint)


@dataclasses.dataclass(frozen=True, eq=False)
class TextAnnotation:
    """One text of an image.

    Attributes:
      location: where it stands.
      quad: float32 (4, 2), pixels. Four corners are as they are written. Of more, or of three, this is the
        rectangle of least area around them.
      text: the transcription; empty where there is none.
      ignore: whether the text is left out of training and scores.
      script: as ICDAR 2017 MLT names it; empty where the file does not say.
      corners: how many were annotated.
    """

    location: Location
    quad: np.ndarray
    text: str
    ignore: bool
    script: str = ""
    corners: int = 4


@dataclasses.dataclass(frozen=True, eq=False)
class ImageAnnotation:
    """What a file says about one image.

    Attributes:
      texts: in file order.
      name: of the image, as the file has it; empty where the file is about one image only.
      size: width and height of the image in pixels, as the file has them; None where it does not say.
      split: the part of the data set that the image belongs to (`train`, `val`), where the file says so.
      location: where the image stands in the file; None for a file about one image.
    """

    texts: Sequence[TextAnnotation]
    name: str = ""
    size: tuple[int, int] | None = None
    split: str = ""
    location: Location | None = None


Errors = list[UserError] | None
"""Where errors go: into a list, and reading goes on; or None, and the first one is raised."""


@dataclasses.dataclass(frozen=True)
class Format:
    """One format of annotations: a row of the table `formats.FORMATS`, and of the one in docs/data.md.

    Attributes:
      name: for people.
      files: which files are looked at, in words.
      sign: by what a file is recognized, in words.
      ignored: which texts are ignored, in words.
      suffix: of its files.
      whole_set: whether one file holds many images.
      recognizes: tells by the beginning of a file's text whether it is of this format.
      read: reads a file's content: raw bytes, name of the file for errors, and `Errors`. It gives the images,
        one of them unless `whole_set`, and raises UserError where a file is damaged as a whole.
    """

    name: str
    files: str
    sign: str
    ignored: str
    suffix: str
    whole_set: bool
    recognizes: Callable[[str], object]
    read: Callable[[bytes, str, Errors], list[ImageAnnotation]]


def report(error: UserError, errors: Errors) -> None:
    """Raise an error, or append it to the list of what was left out, where there is one."""
    if errors is None:
        raise error
    errors.append(error)


def report_image(error: UserError, errors: Errors) -> None:
    """Report an error for which an image of a data set is left out."""
    error.costs_image = True
    report(error, errors)


def annotate(
    location: Location,
    errors: Errors,
    read_corners: Callable[[], np.ndarray],
    readable: Callable[[], np.ndarray],
    *,
    text: str,
    ignore: bool,
    script: str = "",
) -> list[TextAnnotation]:
    """Make a text of its corners.

    If the corners cannot be read, or enclose no text, and reading goes on, their region is masked. To leave
    it out would teach that there is no text.

    Args:
      location: where the corners stand.
      errors: see `Errors`.
      read_corners: gives (k, 2), pixels, k of 3 or more in order around the text, in either direction; or
        raises UserError.
      readable: gives those corners that can be read, (k, 2), k of 0 or more, to be masked if the first fails.
      text: the transcription.
      ignore: whether the text is ignored.
      script: as ICDAR 2017 MLT names it.

    Returns:
      One text; none where the corners have no region either.

    Raises:
      UserError: the corners cannot be used while `errors` is None.
    """
    found: np.ndarray | None = None
    try:
        found = read_corners()
        quad = coordinates.quad_around(found, location.error)
    except UserError as error:
        report(error, errors)
        return mask(readable() if found is None else found, location)
    return [TextAnnotation(location, quad, text, ignore, script, len(found))]


def mask(corners: np.ndarray, location: Location) -> list[TextAnnotation]:
    """Mask the region of corners that make no text.

    Args:
      corners: (k, 2), pixels, any number of any form.
      location: where they stand.

    Returns:
      One ignored text: the rectangle of least area around the corners, or the upright one where those lie on
      a line; none where that has no area either.
    """
    quad = coordinates.region_of(corners)
    return [] if quad is None else [TextAnnotation(location, quad, MASKED, True)]
