"""The one error that users see: a single line, exit code 2, no traceback."""


class UserError(Exception):
    """Something the user gave cannot be used.

    Args:
      where: the file, `file:line`, configuration field or option at fault.
      problem: what is wrong with it, with the value found.
      hint: what would be right, or what to do; a phrase or a sentence.

    Attributes:
      costs_image: whether an image of a data set is left out because of it, where reading goes on.
    """

    costs_image = False

    def __init__(self, where: object, problem: str, hint: str) -> None:
        super().__init__(one_line(f"{where}: {problem}; {hint}"))
        self.where, self.problem, self.hint = str(where), problem, hint

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        """Three arguments, so that the error survives the way out of a worker process."""
        return type(self), (self.where, self.problem, self.hint)


class WriteError(UserError):
    """A file cannot be written: the disk is full, or the folder is not the user's to write in."""


def one_line(text: str) -> str:
    """Escapes the line breaks, control codes and broken Unicode that file names may hold.

    Args:
      text: with such names in it.

    Returns:
      The text in printable letters.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
