"""The configuration: strict keys, clear errors, the order of who wins, and the files in configs/."""

import math
import re
import shlex
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_east import config, east_head, scaling
from efficientnet_east.cli import main
from efficientnet_east.config import Config, dump, fields, load
from efficientnet_east.errors import UserError
from efficientnet_east.geometry import label_maps

REPOSITORY = Path(__file__).resolve().parents[1]
FILES = sorted((REPOSITORY / "configs").glob("*.yaml"))
PARSER = main.parser()
NAMES = [name for _, name, _ in fields()]


# What a field needs beside it to be something else than its default.
BESIDE = {name: {"merge": "bifpn"} for name in ("levels", "fpn_width", "fpn_repeats")}
BESIDE["unfreeze_at"] = {"frozen": "stage2"}


def write(folder: Path, text: str) -> str:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def section_of(name: str) -> str:
    return next(section for section, leaf, _ in fields() if leaf == name)


def value_of(configuration: Config, name: str) -> Any:
    return getattr(getattr(configuration, section_of(name)), name)


def other_value(name: str) -> Any:
    """A value that the field takes and that is not its default."""
    info = next(info for _, leaf, info in fields() if leaf == name)
    if name == "backbone":
        return "phi=0.5"
    if name == "frozen":
        return "stage2"
    if name == "devices":
        return "cpu:2"
    if name == "milestones":
        return (0.5, 100.0)
    if name == "scales":
        return (0.5, 1.0, 2.0)
    if name == "mix":
        return {"some/path": 2.0, "synthetic": 0.5}
    if choices := get_args(info.annotation):
        if type(None) not in choices:
            return next(choice for choice in choices if choice != info.default)
        return 7 if int in choices else 0.5 if float in choices else "some/path"
    if info.annotation is bool:
        return not info.default
    if info.annotation is str:
        return "some/path"
    candidates = [info.default + 1, info.default + 32, info.default / 2 + 0.01, info.default + 0.125]
    for candidate in candidates:
        if info.annotation is int and candidate != int(candidate):
            continue
        try:
            load(None, {name: candidate} | BESIDE.get(name, {}))
        except UserError:
            continue
        return info.annotation(candidate)
    raise AssertionError(f"no other value found for {name}")


def test_leaf_names_are_unique() -> None:
    """A command line says `--seed`, not `--train.seed`; `threads` is asked for everywhere."""
    assert len(NAMES) == len(set(NAMES))
    assert not {
        "config",
        "model",
        "checkpoint",
        "verbose",
        "json",
        "gt",
        "submission",
        "output",
        "images",
    } & set(NAMES)


def test_every_field_says_what_it_is() -> None:
    for section, name, info in fields():
        assert info.description, f"{section}.{name}"


def test_geometries_are_those_that_labels_and_outputs_know() -> None:
    known = get_args(config.Model.model_fields["geometry"].annotation)
    assert list(known) == list(label_maps.CHANNELS) == list(east_head.OUTPUTS)


# --- files and overrides


def test_defaults_then_file_then_overrides(tmp_path: Path) -> None:
    path = write(tmp_path, "train:\n  steps: 5\n  seed: 6\n")
    assert (load().train.steps, load().train.seed) == (100_000, 1)
    assert (load(path).train.steps, load(path).train.seed) == (5, 6)
    both = load(path, {"steps": "7"})
    assert (both.train.steps, both.train.seed, both.train.batch_size) == (7, 6, 8)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load(write(tmp_path, "# nothing yet\n")) == load() == Config()


@pytest.mark.parametrize("name", NAMES)
def test_every_field_from_file_override_and_command_line(name: str, tmp_path: Path) -> None:
    value, beside = other_value(name), BESIDE.get(name, {})
    path = write(tmp_path, yaml.safe_dump({section_of(name): {name: value} | beside}))
    assert value_of(load(path), name) == value != value_of(load(), name)
    for flag in {f"--{name}", f"--{name.replace('_', '-')}"}:
        words = [flag, ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
        if isinstance(value, dict):
            words = [f"{flag}={source}={weight}" for source, weight in value.items()]
        if isinstance(value, bool):
            words = [flag if value else flag.replace("--", "--no-", 1)]
        given = vars(PARSER.parse_args(["train", *words]))
        assert given.keys() == {"command", "config", "verbose", name}
        assert value_of(load(None, {name: given[name]} | beside), name) == value


def test_a_mix_in_a_file(tmp_path: Path) -> None:
    """As a mapping or as a list; the order does not matter, and the command line wins as a whole."""
    mapping = write(tmp_path, "data:\n  mix:\n    synthetic: 1\n    ../own@train.txt: 2.5\n")
    mix = load(mapping).data.mix
    assert mix == {"../own@train.txt": 2.5, "synthetic": 1} and list(mix) == sorted(mix)
    assert list(load(None, {"mix": ["a=1", "b=1"]}).data.mix or ()) == ["a", "b"]
    assert list(load(None, {"mix": ["b=1", "a=1"]}).data.mix or ()) == ["a", "b"]
    assert load(mapping, {"mix": ["x=y=3"]}).data.mix == {"x=y": 3}
    listed = write(tmp_path, "data:\n  mix: [synthetic=1, ../own@train.txt=2.5]\n")
    assert load(listed).data.mix == mix
    assert load(write(tmp_path, "data:\n  mix: {}\n")).data.mix is None


@pytest.mark.parametrize("beside", [{"data": "DIR"}, {"list": "a.txt"}, {"limit": 3}])
def test_a_mix_names_all_that_is_trained_on(beside: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"without data\.data, list or limit"):
        load(None, {"mix": ["synthetic=1"]} | beside)


def test_names_of_earlier_versions_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("model:\n  normalisation: vgg\ndata:\n  colour: false\n")
    for found in (load(str(path)), load(None, {"normalisation": "vgg", "colour": False})):
        assert (found.model.normalization, found.data.color) == ("vgg", False)
        assert "normalisation" not in config.dump(found) and "colour" not in config.dump(found)
    assert not Config.model_validate({"data": {"colour": False}}).data.color
    given = main.parser().parse_args(["train", "--normalisation=vgg", "--no-colour"])
    assert (given.normalization, given.color) == ("vgg", False)


def test_help_lists_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main.main(["train", "--help"])
    assert stopped.value.code == 0
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    for _, name, info in fields():
        assert f"--{name.replace('_', '-')}" in shown
        assert re.sub(r"\s+", " ", info.description or "") in shown


def test_round_trip() -> None:
    """What a run writes beside its checkpoints says the same when it is read again."""
    alone = {"scale_min", "scale_max", "crop_size", "mix"}  # which have to fit others
    changed = load(None, {name: other_value(name) for name in NAMES if name not in alone})
    for configuration in (load(), changed, load(None, {"mix": other_value("mix")})):
        assert Config.model_validate(yaml.safe_load(dump(configuration))) == configuration


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_round_trip_of_any_path(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    configuration = load(None, {"data": text, "workdir": text})
    path = write(tmp_path_factory.mktemp("dump"), dump(configuration))
    assert load(path) == configuration


@pytest.mark.parametrize("name", [name for _, name, info in fields() if info.default is None])
def test_an_option_takes_back_what_a_file_says(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, yaml.safe_dump({section_of(name): {name: other_value(name)}}))
    arguments = PARSER.parse_args(["train", "--config", path, f"--{name.replace('_', '-')}", "none"])
    assert value_of(load(path, {name: getattr(arguments, name)}), name) is None


@pytest.mark.parametrize(
    ("given", "milestones"),
    [("0.6,0.85", (0.6, 0.85)), ("300, 5e3,", (300, 5000)), ([0.5, 100], (0.5, 100)), (7, (7,)), ("", ())],
)
def test_lists_of_numbers(given: Any, milestones: tuple[float, ...]) -> None:
    assert load(None, {"milestones": given}).train.milestones == milestones


# --- what cannot be used


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("trian:\n  steps: 5\n", "trian", "'train'"),
        ("train:\n  stepz: 5\n", "train.stepz", "'steps'"),
        ("train:\n  learning-rate: 5\n", "train.learning-rate", "'learning_rate'"),
        ("model:\n  steps: 5\n", "model.steps", "backbone"),
        ("zzzz: 1\n", "zzzz", "model, data, train, detect"),
        ("5: 1\n", "5", "model, data, train, detect"),
        ("train: 5\n", "train", "'field: value' lines"),
        ("train:\n", "train", "'field: value' lines"),
        ("- steps\n", "", "the sections model, data, train, detect"),
        ("steps: [\n", "", "a YAML configuration"),
        ("a: \x00\n", "", "a YAML configuration"),
        ("? [a]\n: b\n", "", "a YAML configuration"),
        ("a: !!python/object/apply:os.getcwd []\n", "", "a YAML configuration"),
        ("train:\n  steps: many\n", "train.steps", "integer"),
        ("train:\n  steps: 0\n", "train.steps", "greater than 0"),
        ("train:\n  steps: 1.5\n", "train.steps", "integer"),
        ("train:\n  steps: [1]\n", "train.steps", "integer"),
        ("train:\n  learning_rate: .nan\n", "train.learning_rate", "finite"),
        ("train:\n  learning_rate: .inf\n", "train.learning_rate", "finite"),
        ("train:\n  seed: 2147483648\n", "train.seed", "less than 2147483648"),
        ("train:\n  milestones: [0.5, 0.5]\n", "train.milestones", "each larger than the one before"),
        ("train:\n  milestones: [0, 5]\n", "train.milestones", "numbers above 0"),
        ("train:\n  milestones: [a]\n", "train.milestones", "number"),
        ("train:\n  milestones: {0.5: 1}\n", "train.milestones", "tuple"),
        ("train:\n  optimizer: sgd\n", "train.optimizer", "'adam' or 'adamw'"),
        ("model:\n  output_stride: 3\n", "model.output_stride", "2 or 4"),
        ("model:\n  backbone: 4\n", "model.backbone", "string"),
        ("model:\n  backbone:\n", "model.backbone", "string"),
        ("data:\n  crop_size: 500\n", "data.crop_size", "multiple of 32"),
        ("data:\n  colour: purple\n", "data.color", "boolean"),
        ("data:\n  rotation: 90\n", "data.rotation", "45"),
        ("model:\n  merge: fpn\n", "model.merge", "'u' or 'bifpn'"),
        ("model:\n  levels: 8\n", "model.levels", "5, 6 or 7"),
        ("model:\n  levels: 6\n", "", "levels above 5, fpn_width and fpn_repeats need"),
        ("model:\n  fpn_width: 64\n", "", "need model.merge bifpn"),
        ("model:\n  fpn_repeats: 3\n", "", "need model.merge bifpn"),
        ("model:\n  fpn_repeats: -1\n", "model.fpn_repeats", "greater than or equal to 0"),
        (
            "model:\n  merge: bifpn\n  levels: 7\ndata:\n  crop_size: 448\n",
            "",
            "data.crop_size must be a multiple of 128 with levels 7",
        ),
        ("data:\n  scale_min: 2\n", "", "scale_min must not be larger than data.scale_max"),
        ("detect:\n  nms_iou: 1\n", "detect.nms_iou", "less than 1"),
        ("detect:\n  nms: soft\n", "detect.nms", "'locality' or 'standard'"),
        ("detect:\n  scales: []\n", "detect.scales", "such as 0.5,1,2"),
        ("detect:\n  scales: 1,1\n", "detect.scales", "such as 0.5,1,2"),
        ("detect:\n  scales: 0\n", "detect.scales", "such as 0.5,1,2"),
    ],
)
def test_bad_file(text: str, where: str, said: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as error:
        load(path)
    assert str(error.value).startswith(path) and "\n" not in str(error.value)
    assert where in error.value.where.removeprefix(path)
    assert said in error.value.hint


def test_no_such_file(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "no.yaml", "no such file"), (tmp_path, "cannot be read")):
        with pytest.raises(UserError, match=re.escape(f"{path}: {said}")):
            load(str(path))
    (tmp_path / "latin.yaml").write_bytes(b"train:\n  init: caf\xe9\n")
    with pytest.raises(UserError, match=r"latin\.yaml:2: byte 0xe9 is not UTF-8"):
        load(str(tmp_path / "latin.yaml"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_of_windows_tools(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "windows.yaml"
    path.write_bytes("train:\r\n  workdir: Läufe\r\n".encode(encoding))
    assert load(str(path)).train.workdir == "Läufe"


@pytest.mark.parametrize(
    ("name", "value", "where", "said"),
    [
        ("stepz", "5", "stepz", "'steps'"),
        ("steps", "many", "train.steps", "integer"),
        ("batch_size", "-1", "train.batch_size", "greater than 0"),
        ("learning_rate", "inf", "train.learning_rate", "finite"),
        ("score_threshold", 0, "detect.score_threshold", "greater than 0"),
        ("score_threshold", "1", "detect.score_threshold", "less than 1"),
        ("nms_iou", "0", "detect.nms_iou", "greater than 0"),
        ("box_threshold", "1", "detect.box_threshold", "less than 1"),
        ("max_candidates", "0", "detect.max_candidates", "greater than 0"),
        ("mix", ["synthetic"], "data.mix", "SOURCE=WEIGHT"),
        ("mix", ["=1"], "data.mix", "SOURCE=WEIGHT"),
        ("mix", ["synthetic=0"], "data.mix", "greater than 0"),
        ("mix", ["synthetic=inf"], "data.mix", "finite"),
        ("mix", ["synthetic=much"], "data.mix", "number"),
        ("mix", ["a=b=1", "a=b=2"], "data.mix", "a=b twice"),
        ("mix", "synthetic=1", "data.mix", "dictionary"),
        ("backbone", "b9", "backbone", "b0, b1, b2, b3, b4, b5, b6, b7, b8, l2, b4-modified, lite0"),
        ("backbone", "phi=13", "backbone", "from -3 to 12"),
        ("backbone", "phi=nan", "backbone", "from -3 to 12"),
        ("backbone", "phi=+1", "backbone", "from -3 to 12"),
        ("backbone", "phi= 1", "backbone", "from -3 to 12"),
        ("backbone", "phi=1=1", "backbone", "from -3 to 12"),
        ("backbone", "phi=\N{ARABIC-INDIC DIGIT ONE}", "backbone", "from -3 to 12"),
    ],
)
def test_bad_override(name: str, value: Any, where: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        load(None, {name: value})
    assert error.value.where == where and said in error.value.hint


@pytest.mark.parametrize(("levels", "crop_sizes"), [(5, (96, 512)), (6, (64, 448)), (7, (128, 512))])
def test_crops_fit_the_coarsest_map(levels: int, crop_sizes: tuple[int, ...]) -> None:
    for crop_size in crop_sizes:
        given = {"merge": "bifpn", "levels": levels, "crop_size": crop_size}
        assert load(None, given).model.size_divisor == {5: 32, 6: 64, 7: 128}[levels]
        with pytest.raises(UserError, match=f"multiple of {2**levels} with levels {levels}|multiple of 32"):
            load(None, given | {"crop_size": crop_size + 2 ** (levels - 1)})


def test_backbones_by_compound_coefficient() -> None:
    for name, phi in (("phi=0", 0.0), ("phi=1.5", 1.5), ("phi=-3", -3.0), ("phi=12.0", 12.0)):
        assert load(None, {"backbone": name}).model.backbone == name
        assert scaling.get_variant(name) == scaling.compound(phi)


names = st.sampled_from([*NAMES, "x"])
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(tree=st.dictionaries(st.sampled_from([*config.SECTIONS, "x"]), trees, max_size=3))
def test_any_file_is_a_configuration_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]
) -> None:
    path = write(tmp_path_factory.getbasetemp(), yaml.safe_dump(tree, allow_unicode=True))
    try:
        configuration = load(path)
    except UserError as error:
        assert "\n" not in str(error) and error.hint
    else:
        floats = [value for part in configuration.model_dump().values() for value in part.values()]
        assert all(math.isfinite(value) for value in floats if isinstance(value, float))


# --- the files in configs/


def test_there_are_files() -> None:
    assert {path.name for path in FILES} >= {"b0_icdar15_1h.yaml", "b4_icdar15.yaml"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_load_and_begin_with_their_command(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    commands = [line.lstrip("# ") for line in header if line.lstrip("# ").startswith("python train.py")]
    assert len(commands) == 1, "a header with the command to run"
    words = shlex.split(commands[0])[2:]
    arguments = PARSER.parse_args(["train", *words])
    assert arguments.config == f"configs/{path.name}"
    given = {name: value for name, value in vars(arguments).items() if name in NAMES}
    loaded = load(arguments.config, given)
    assert loaded.model.backbone == path.name.split("_")[0] or not path.name.startswith("b")
    for listed in (loaded.data.list, loaded.data.val_list):
        assert listed is None or Path(listed).is_file()


def test_lists_of_the_split() -> None:
    """img_1 to img_900 to train on, the last hundred to validate on."""
    from efficientnet_east.data.image_lists import read_image_list

    train, validation = (
        read_image_list(REPOSITORY / f"configs/icdar15_{part}.txt") for part in ("train", "val")
    )
    assert train == [f"img_{number}.jpg" for number in range(1, 901)]
    assert validation == [f"img_{number}.jpg" for number in range(901, 1001)]


def test_what_is_no_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("model:\n  backbone: [b0\n")
    with pytest.raises(UserError, match=r"a\.yaml:3: is no YAML \(.*\); expected a YAML configuration$"):
        load(str(tmp_path / "a.yaml"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backbone": "resnet50", "activation": "swish"}, "activation: 'swish' with resnet50"),
        ({"backbone": "resnet50", "pre_stride": "expand"}, "pre_stride: 'expand' with resnet50"),
        ({"backbone": "resnet50", "frozen": "stem"}, "frozen: unknown part 'stem'; expected one of conv1"),
        ({"frozen": "stage9"}, "frozen: unknown part 'stage9'; expected one of stem, stage1"),
    ],
)
def test_what_a_backbone_does_not_have_is_refused_before_any_work(options: dict[str, str], said: str) -> None:
    with pytest.raises(UserError) as error:
        load(None, options)
    assert said in str(error.value)
    load(None, {"backbone": "resnet50", "frozen": "block2"})
