"""Flags of the well-known slim EAST programs, and what to use here instead."""

from __future__ import annotations

from collections.abc import Collection

_NOT_HERE = "nothing: it is for training only"
# Flag -> options that do its work, of which a command has at most one that is meant, and what to do in a
# command that has none of them. The page docs/from-slim-east.md has the same table.
FLAGS: dict[str, tuple[tuple[str, ...], str]] = {
    "checkpoint_path": (("--workdir", "--model"), ""),
    "restore": ((), "nothing: a --workdir with checkpoints is always resumed"),
    "pretrained_model_path": (("--init",), _NOT_HERE),
    "training_data_path": (("--data",), _NOT_HERE),
    "input_size": (("--crop-size",), "nothing: images are padded, not resized"),
    "batch_size_per_gpu": (("--batch-size",), _NOT_HERE),
    "gpu_list": (("--devices",), "CUDA_VISIBLE_DEVICES=0 before the command"),
    "num_readers": (("--workers",), _NOT_HERE),
    "learning_rate": (("--learning-rate",), _NOT_HERE),
    "max_steps": (("--steps",), _NOT_HERE),
    "moving_average_decay": (("--ema-decay",), "nothing: the averages are used"),
    "save_checkpoint_steps": (("--save-every",), _NOT_HERE),
    "save_summary_steps": (("--log-every",), _NOT_HERE),
    "text_scale": (("--text-scale",), "nothing: it is kept with the checkpoint"),
    "min_text_size": (("--min-text-side",), _NOT_HERE),
    "max_text_size": ((), "nothing: only --text-scale bounds a text"),
    "max_image_large_side": ((), "nothing: crops are cut from images of any size"),
    "min_crop_side_ratio": ((), "nothing: every crop has the same side, --crop-size of train.py"),
    "geometry": (("--geometry",), "nothing: it is kept with the checkpoint"),
    "test_data_path": (("--val-data", "--data"), "names of images or folders, without an option"),
    "output_dir": (("--output", "--json", "--workdir"), ""),
    "no_write_images": ((), "nothing: eval.py draws with --pictures only"),
}


def hint(given: str, known: Collection[str]) -> str | None:
    """Find what to write instead of a flag.

    Args:
      given: the flag with its dashes, without a value; `--norestore` is `--restore=False`.
      known: the options of the command.

    Returns:
      An end for `expected ...`; None if slim EAST has no such flag.
    """
    name = given.lstrip("-").replace("-", "_")
    name = name if name in FLAGS else name.removeprefix("no")
    if name not in FLAGS:
        return None
    options, otherwise = FLAGS[name]
    found = next((option for option in options if option in known), None)
    return f"{found} (did you mean that?)" if found else otherwise or None
