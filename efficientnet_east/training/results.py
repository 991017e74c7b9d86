"""`results.csv`: the figures of a run against steps and time, and what follows from them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from efficientnet_east.errors import UserError
from efficientnet_east.files.atomic import write_file

FILE = "results.csv"
BEGIN, END = ("step", "seconds", "images", "epochs"), ("precision", "recall", "hmean", "best")
Row = dict[str, float]


class Results:
    """The rows of a run up to a step.

    Rows of later steps, left by a process that was killed after its last checkpoint, are dropped: those steps
    are done again.

    Args:
      folder: of the run.
      done: number of steps done.

    Raises:
      UserError: the file is not as this module writes it.
    """

    def __init__(self, folder: Path, done: int) -> None:
        self._path = folder / FILE
        self.rows = [row for row in read(folder) if row["step"] <= done]

    def append(self, row: Mapping[str, float]) -> Row:
        """Append a row, or complete the last one if it is of the same step. `write` brings it to the disk.

        Args:
          row: column -> value, `step` among them; with `hmean` where it was validated.

        Returns:
          The row, with `best` added: 1 if its hmean is above all those before, 0 if not.
        """
        row = {name: float(_shown(value)) for name, value in row.items()}  # as a resumed run will read it
        best = {"best": float(row["hmean"] > self.best[1])} if "hmean" in row else {}
        same = self.rows.pop() if self.rows and self.rows[-1]["step"] == row["step"] else {}
        self.rows.append({**same, **row, **best})
        return self.rows[-1]

    @property
    def seconds(self) -> float:
        """The run's wall time up to the last row, over all its processes."""
        return self.rows[-1]["seconds"] if self.rows else 0.0

    @property
    def best(self) -> tuple[int, float]:
        """Step and hmean of the first of the best validations; (0, -1) if there was none."""
        validated = [(int(row["step"]), row["hmean"]) for row in self.rows if "hmean" in row]
        return max(validated, key=lambda pair: pair[1], default=(0, -1.0))

    @property
    def without_gain(self) -> int:
        """The number of validations since the best one."""
        best, _ = self.best
        return sum("hmean" in row and row["step"] > best for row in self.rows)

    def has_validation(self, step: int) -> bool:
        """Tell whether a step's validation is among the rows."""
        return any(row["step"] == step and "hmean" in row for row in self.rows)

    def write(self) -> None:
        """Write all rows in place of the file.

        Raises:
          UserError: it cannot be written.
        """
        columns = _ordered({name for row in self.rows for name in row})
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _shown(value) for name, value in row.items()} for row in self.rows)
        write_file(self._path, text.getvalue().encode())


def read(folder: Path) -> list[Row]:
    """Read `results.csv`.

    Args:
      folder: of the run.

    Returns:
      A dictionary for each row, without the cells that are empty; no rows if there is no file.

    Raises:
      UserError: the file is not as this module writes it.
    """
    path = folder / FILE
    if not path.exists():
        return []
    rows = []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        for cells in csv.DictReader(file):
            try:
                row = {name: float(value) for name, value in cells.items() if value}
                rows.append({**row, "step": row["step"], "seconds": row["seconds"]})
            except (TypeError, ValueError, KeyError, AttributeError):
                problem = "is not a row of numbers with step and seconds"
                raise UserError(
                    f"{path}:{len(rows) + 2}", problem, "expected the file as training wrote it"
                ) from None
    return rows


def _ordered(names: Iterable[str]) -> list[str]:
    """Sort the columns: when, losses and the like, then the validation."""
    between = sorted(set(names) - {*BEGIN, *END}, key=lambda name: (not name.startswith("loss/"), name))
    return [name for name in (*BEGIN, *between, *END) if name in names]


def _shown(value: float) -> str:
    """Write whole numbers as such, all others with seven digits."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.7g}"
