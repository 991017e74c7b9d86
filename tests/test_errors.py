"""The one line that users see."""

import pickle

from efficientnet_east.errors import UserError


def test_message_names_place_problem_and_expectation() -> None:
    assert (
        str(UserError("a.txt:3", "has 7 numbers", "expected 8 numbers"))
        == "a.txt:3: has 7 numbers; expected 8 numbers"
    )


def test_message_is_one_printable_line_whatever_the_file_is_called() -> None:
    message = str(UserError("a\nb\x1b[31m\udc80.jpg", "is broken", "expected an image"))
    assert message == "a\\nb\\x1b[31m\\udc80.jpg: is broken; expected an image"


def test_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(UserError("a", "b", "expected c")))
    assert (error.where, error.problem, error.hint) == ("a", "b", "expected c")
    assert str(error) == str(UserError("a", "b", "expected c"))


def test_a_hint_that_is_a_sentence_stands_by_itself() -> None:
    assert str(UserError("a", "is in use", "Wait for it.")) == "a: is in use. Wait for it."
