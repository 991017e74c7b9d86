"""Errors for users: one line, exit code 2, no traceback."""


class UserError(Exception):
    """An input cannot be used.

    Args:
      where: the file, `file:line`, configuration field (`train.patience`) or argument (`output`). The command
        line shows fields and arguments as its options.
      problem: what is wrong with it, with the value found.
      hint: what is right, or what to do: a phrase or a sentence.

    Attributes:
      costs_image: whether an image of a data set is skipped because of it.
    """

    costs_image = False

    def __init__(self, where: object, problem: str, hint: str) -> None:
        super().__init__(one_line(f"{where}: {joined(problem, hint)}"))
        self.where, self.problem, self.hint = str(where), problem, hint

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        """Pickle the three arguments, so that the error can leave a worker process."""
        return type(self), (self.where, self.problem, self.hint)


class WriteError(UserError):
    """A file cannot be written: the disk is full, or permission is missing."""


def one_line(text: str) -> str:
    """Escape the line breaks, control codes and broken Unicode that file names may hold.

    Args:
      text: with file names in it.

    Returns:
      The text in printable characters.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def hint_of(error: BaseException, expected: str) -> str:
    """Choose the hint for a file that cannot be read.

    Args:
      error: of reading it.
      expected: what it should be, which helps nobody whose file is not there.
    """
    return "Check the path." if isinstance(error, FileNotFoundError) else f"expected {expected}"


def joined(problem: str, hint: str) -> str:
    """Join a problem and its hint: a phrase follows a semicolon, a sentence is a sentence of its own.

    Args:
      problem: what is wrong, without a full stop.
      hint: such as "expected 4 numbers", or "Use either images or data.".
    """
    return f"{problem}. {hint}" if hint[:1].isupper() else f"{problem}; {hint}"
