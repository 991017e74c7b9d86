"""Who comes from slim EAST and types its flags is told the options of this project."""

import re
from pathlib import Path

import pytest

from efficientnet_east.cli import main, slim_flags
from efficientnet_east.errors import UserError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "from-slim-east.md"
# The flags of the well-known program's train.py, its data reader and its eval.py.
TRAIN = {
    "input_size": "--crop-size", "batch_size_per_gpu": "--batch-size", "num_readers": "--workers",
    "max_steps": "--steps", "moving_average_decay": "--ema-decay", "gpu_list": "--devices",
    "checkpoint_path": "--workdir", "save_checkpoint_steps": "--save-every",
    "save_summary_steps": "--log-every", "pretrained_model_path": "--init", "training_data_path": "--data",
    "min_text_size": "--min-text-side", "test_data_path": "--val-data", "output_dir": "--workdir",
}  # fmt: skip
EVAL = {"test_data_path": "--data", "checkpoint_path": "--model", "output_dir": "--json"}
NOTHING = ["restore", "norestore", "max_text_size", "max_image_large_side", "min_crop_side_ratio"]


def refusal(command: str, *words: str) -> str:
    with pytest.raises(UserError) as caught:
        main.parser().parse_args([command, *words])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("command", "flag", "option"),
    [("train", *pair) for pair in TRAIN.items()] + [("eval", *pair) for pair in EVAL.items()],
)
@pytest.mark.parametrize("form", ["--{}=1", "--{} 1"])
def test_a_flag_leads_to_its_option(command: str, flag: str, option: str, form: str) -> None:
    said = refusal(command, *form.format(flag).split())
    assert said == f"--{flag}: unknown argument; expected {option} (did you mean that?)"


@pytest.mark.parametrize("flag", NOTHING)
def test_a_flag_that_nothing_stands_for(flag: str) -> None:
    assert f"--{flag}: unknown argument; expected nothing: " in refusal("train", f"--{flag}")


def test_a_command_without_the_option_says_what_to_do() -> None:
    assert "expected CUDA_VISIBLE_DEVICES=0 before the command" in refusal("eval", "--gpu_list=0")
    assert "expected nothing: it is kept with the checkpoint" in refusal("eval", "--geometry=RBOX")
    assert "expected nothing: eval.py draws with --pictures only" in refusal("eval", "--no_write_images")
    assert "expected names of images" in refusal("detect", "a.jpg", "--output=o", "--test_data_path=d")


@pytest.mark.parametrize("flag", ["learning_rate=1e-4", "text_scale=512", "geometry=quad"])
def test_flags_that_are_the_same_are_taken(flag: str) -> None:
    assert vars(main.parser().parse_args(["train", f"--{flag}"]))[flag.split("=")[0]]


def test_other_slips_get_the_nearest_option() -> None:
    assert "expected --devices (did you mean that?)" in refusal("train", "--device=0")


def test_the_page_and_the_hints_agree() -> None:
    """Every flag has a row, and the row names the option that the hint names."""
    table = PAGE.read_text(encoding="utf-8").partition("## Flags")[2].partition("\n\nA command")[0]
    lines = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    rows = {flag: "|".join(cells[2:]) for cells in lines for flag in re.findall(r"`(\w+)`", cells[1])}
    assert rows.keys() == slim_flags.FLAGS.keys()
    for flag, (options, _) in slim_flags.FLAGS.items():
        assert not options or any(f"`{option}" in rows[flag] for option in options), flag
    for flag, option in TRAIN.items():
        assert flag == "output_dir" or option in rows[flag]
