"""The one typed configuration: defaults, then a YAML file, then the command line.

Recipes (training, inference, evaluation, cli) may read it; the parts below them take plain arguments.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pydantic
import yaml

from efficientnet_east.backbones import catalog
from efficientnet_east.checkpoints import bundled, model_file
from efficientnet_east.config.sections import (
    RENAMED,
    SECTIONS,
    Config,
    Data,
    Detect,
    Model,
    Section,
    Train,
    fields,
    renamed,
)
from efficientnet_east.errors import UserError
from efficientnet_east.files import text_files

__all__ = ["RENAMED", "SECTIONS", "Config", "Data", "Detect", "Model", "Section", "Train", "dump", "fields",
           "folded", "load", "load_for_training"]  # fmt: skip


def folded(detect: Detect) -> Detect:
    """Return the section of a network whose weights contain the calibration already."""
    return detect.model_copy(update={"score_scale": 1.0, "score_offset": 0.0})


def load(path: str | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a configuration.

    Args:
      path: of a YAML file with the sections `model`, `data`, `train`, `detect`, or of a file of
        `export-weights`, which holds one; None for the defaults.
      overrides: field name -> value (text is converted), as from a command line; they win.

    Returns:
      The configuration.

    Raises:
      UserError: no such file, not YAML, an unknown section or field (with the nearest known one), or a value
        out of range.
    """
    tree = _read(Path(path)) if path else {}
    where = {name: section for section, name, _ in fields()}
    origin = path or "configuration"
    for section, values in list(tree.items()):
        _expect_known(f"{origin}: {section}", section, SECTIONS)
        if not isinstance(values, dict):
            raise UserError(
                f"{origin}: {section}", f"{values!r} is not a section", "expected 'field: value' lines"
            )
        tree[section] = values = renamed(values)
        for name in values:
            _expect_known(f"{origin}: {section}.{name}", name, SECTIONS[section].model_fields)
    overrides = renamed(overrides or {})
    for name, value in overrides.items():
        _expect_known(name, name, where)
        tree.setdefault(where[name], {})[name] = value
    config = _validate(tree, origin, overrides)
    catalog.get_backbone(config.model.backbone, pre_stride=config.model.pre_stride)
    catalog.check_activation(config.model.backbone, config.model.activation)
    if config.train.frozen is not None:
        catalog.frozen_parts(config.model.backbone, config.train.frozen)
    return config


def load_for_training(path: str | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a configuration. Where it does not describe the network, take that of the model it starts from.

    Args:
      path: see `load`.
      overrides: see `load`.

    Returns:
      The configuration. If `train.init` is a file of `export-weights`, or a bundled model, the fields of the
      section `model` that are not given are those of the file.

    Raises:
      UserError: see `load`, or the file is damaged.
    """
    config = load(path, overrides)
    if config.train.init is None:
        return config
    init = bundled.resolve(config.train.init)
    is_file = model_file.is_model_file(init) and init.is_file()  # its reader says what is missing
    if not is_file or model_file.config_in(init) is None:
        return config
    given = config.model.model_fields_set
    carried = load(str(init)).model.model_dump()
    return load(path, {name: carried[name] for name in carried if name not in given} | dict(overrides or {}))


def dump(config: Config, sections: Collection[str] = tuple(SECTIONS)) -> str:
    """Write a configuration as YAML that `load` reads back.

    Args:
      config: to be written.
      sections: those to write.
    """
    return yaml.safe_dump(config.model_dump(include=set(sections)), sort_keys=False)


def _read(path: Path) -> dict[str, Any]:
    try:
        held = model_file.is_model_file(path)
        tree = yaml.safe_load(model_file.read_config(path) if held else _text(path))
    except FileNotFoundError:
        raise UserError(
            path, "no such file", "expected a YAML configuration such as those in configs/"
        ) from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(
            f"{path}:{line}", f"is no YAML ({error.problem})", "expected a YAML configuration"
        ) from None
    except (OSError, yaml.YAMLError) as error:
        raise UserError(path, f"cannot be read ({error})", "expected a YAML configuration") from None
    if tree is not None and not isinstance(tree, dict):
        raise UserError(path, "is not a mapping", f"expected the sections {', '.join(SECTIONS)}")
    return tree or {}


def _text(path: Path) -> str:
    if not path.exists():
        raise FileNotFoundError
    return text_files.read_text(path, expected="a YAML configuration")


def _expect_known(where: str, name: str, known: Mapping[str, Any]) -> None:
    if name in known:
        return
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"{near[0]!r} (did you mean that?)" if near else f"one of {', '.join(known)}"
    raise UserError(where, "unknown key", f"expected {hint}")


def _validate(tree: dict[str, Any], origin: str, overrides: Mapping[str, Any]) -> Config:
    try:
        return Config.model_validate(tree)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        path = [str(part) for part in first["loc"]]
        given = len(path) > 1 and path[1] in overrides
        where = ".".join(path[:2]) if given else f"{origin}: {'.'.join(path) or 'values'}"
        received = "" if not path else f"{first['input']!r} cannot be used"
        expected = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        raise UserError(where, received or "values do not fit together", f"expected {expected}") from None
