"""From the compiler's text of a step to a program that stands for itself: plain text surgery.

TensorFlow's text carries source locations and copies of another dialect (`mhlo.copy`, which do nothing here).
Its functions have names that differ from export to export. Which results replace which arguments it says in
an attribute of the module; the program says it at each argument, as PJRT's clients read it:
`tf.aliasing_output`. Boolean constants are spelled out: of their short form there are two, with eight values
in a byte and with one.
"""

from __future__ import annotations

import re

import numpy as np

_ONE_LOCATION = r'(?:unknown|#loc\d*|"(?:[^"\\]|\\.)*")'
_LOCATION = re.compile(rf" loc\((?:{_ONE_LOCATION}|fused\[{_ONE_LOCATION}(?:, {_ONE_LOCATION})*\])\)")
_COPY = re.compile(r"^ *(%\w+) = mhlo\.copy (%\w+) : .*\n", re.MULTILINE)
_MODULE = re.compile(r"^module @\S+ attributes .*\{$", re.MULTILINE)
_ALIAS = re.compile(r"parameter_number = (\d+) : i64\}, output_index = array<i64: (\d+)>")
_BITS = re.compile(r'dense<"0x([0-9A-F]+)"> : tensor<((?:\d+x)+)i1>')
_MAIN = re.compile(r"^  func\.func @main\(.*\n", re.MULTILINE)


def tidy(text: str) -> tuple[str, dict[int, int]]:
    """Make a portable program of TensorFlow's text.

    Args:
      text: from `experimental_get_compiler_ir`, stage `stablehlo`.

    Returns:
      The program, and for each argument that is replaced, by position, the position of the result.

    Raises:
      ValueError: the text holds what no other runtime would understand.
    """
    text = _LOCATION.sub("", re.sub(r"^#loc.*\n", "", text, flags=re.MULTILINE))
    header = _MODULE.search(text)
    if header is None:
        raise ValueError("the text holds no module")
    replaced = {int(argument): int(result) for argument, result in _ALIAS.findall(header.group())}
    text = _without_copies(text[: header.start()] + "module @step {" + text[header.end() :])
    text = _numbered(_BITS.sub(_spelled_out, text))
    main = _MAIN.search(text)
    if main is None:
        raise ValueError("the text holds no function `main`")
    text = text[: main.start()] + _with_aliases(main.group(), replaced) + text[main.end() :]
    foreign = re.search(r"\b(?:mhlo\.\w+|stablehlo\.custom_call|chlo\.\w+)", text)
    if foreign:
        raise ValueError(f"the program holds {foreign.group()}")
    return text, replaced


def _without_copies(text: str) -> str:
    """Use what is copied instead of its copy."""
    sources = dict(_COPY.findall(text))
    return re.sub(r"%\w+", lambda name: sources.get(name.group(), name.group()), _COPY.sub("", text))


def _numbered(text: str) -> str:
    """Number the functions beside `main`, whose names count what else TensorFlow built in this process."""
    names = re.findall(r"func\.func private @([\w.$-]+)", text)
    numbers = {name: f"f{number}" for number, name in enumerate(names)}
    return re.sub(r"@([\w.$-]+)", lambda name: "@" + numbers.get(name[1], name[1]), text)


def _spelled_out(constant: re.Match[str]) -> str:
    shape = [int(side) for side in constant[2].split("x")[:-1]]
    packed = np.frombuffer(bytes.fromhex(constant[1]), np.uint8)
    values = np.unpackbits(packed, bitorder="little")[: int(np.prod(shape))].astype(bool)
    listed = str(values.reshape(shape).tolist()).lower()
    return f"dense<{listed}> : tensor<{constant[2]}i1>"


def _with_aliases(main: str, replaced: dict[int, int]) -> str:
    def marked(argument: re.Match[str]) -> str:
        result = replaced.get(int(argument[1]))
        alias = "" if result is None else f" {{tf.aliasing_output = {result} : i32}}"
        return argument.group() + alias

    return re.sub(r"%arg(\d+): tensor<[^>]*>", marked, main)
