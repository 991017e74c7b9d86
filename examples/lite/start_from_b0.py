"""Make a start for lite0 out of a trained B0.

    python examples/lite/start_from_b0.py --images DIR --output start.npz
    python train.py --backbone lite0 --pre-stride expand --recalibrate 30 --init start.npz ...

lite0 has B0's layers without squeeze-and-excite. In the bundled detector most gates hardly change from image
to image: on 40 photographs they deviate by about 9 % of their mean. So each gate becomes its mean over a few
photographs, and the 1x1 projection behind it takes that factor into its kernel. lite0 normalizes pixels in
another way, and the stem takes up the difference. `--recalibrate` estimates batch norm's statistics anew.
What training then has to mend is ReLU6 instead of swish.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import yaml

from efficientnet_east import model
from efficientnet_east.checkpoints import bundled, model_file, tf_checkpoints
from efficientnet_east.compat import tf
from efficientnet_east.data.folders import is_image, list_files
from efficientnet_east.data.images import read_image
from efficientnet_east.errors import UserError
from efficientnet_east.options import NORMALIZATIONS

SIDE = 512  # pixels of the square that is looked at in each photograph
GATE = "/se/expand/Sigmoid"


def mean_gates(weights: Mapping[str, np.ndarray], images: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """Average the gates of B0's squeeze-and-excite blocks over images.

    Args:
      weights: of a detector on B0 with swish on expanded maps, by name.
      images: uint8 (height, width, 3), RGB, sides multiples of 32.

    Returns:
      Block name -> float32 (channels,).
    """
    with tf.Graph().as_default() as graph:
        pixels = tf.placeholder(tf.uint8, [1, None, None, 3])
        model.build(pixels, backbone="b0", activation="swish", pre_stride="expand")
        gates = {
            operation.name.split("/")[1]: operation.outputs[0]
            for operation in graph.get_operations()
            if operation.name.endswith(GATE)
        }
        with tf.Session() as session:
            tf_checkpoints.assign(session, weights, tf.global_variables())
            found = [session.run(gates, {pixels: image[None]}) for image in images]
    return {block: np.mean([one[block].ravel() for one in found], axis=0) for block in gates}


def without_gates(
    weights: Mapping[str, np.ndarray], gates: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Give lite0's weights that compute what B0's do where every gate is at its mean.

    Args:
      weights: of the detector on B0.
      gates: block name -> float32 (channels,), see `mean_gates`.

    Returns:
      Name -> array of a detector on lite0. Estimate the statistics of batch norm anew (`--recalibrate`)
      before you train under ReLU6.
    """
    result = {}
    for name, array in weights.items():
        if "/se/" in name:
            continue
        if name.endswith("/project/weights"):
            array = array * gates[name.split("/")[1]][:, None]  # (1, 1, inputs, outputs)
        result[name.replace("efficientnet-b0", "efficientnet-lite0")] = array.astype(np.float32)
    return result | stem_for_lite(result)


def stem_for_lite(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Have the stem give from lite's pixels, (x - 127) / 128, what it gave from B0's.

    Args:
      weights: by lite0's names, made for B0's pixels.

    Returns:
      The stem's kernel and the moving mean behind it; not exact at the border, where zeros are padded.
    """
    (mean, deviation), (lite_mean, lite_deviation) = map(
        np.array, (NORMALIZATIONS["imagenet"], NORMALIZATIONS["lite"])
    )
    scope = "efficientnet-lite0/stem"
    kernel, moving = weights[f"{scope}/weights"], weights[f"{scope}/BatchNorm/moving_mean"]
    offset = (kernel * ((lite_mean - mean) / deviation)[:, None]).sum(axis=(0, 1, 2))
    scaled = kernel * (lite_deviation / deviation)[:, None]
    return {
        f"{scope}/weights": scaled.astype(np.float32),
        f"{scope}/BatchNorm/moving_mean": (moving - offset).astype(np.float32),
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", required=True, help="folder of photographs with text, 40 are enough")
    parser.add_argument("--model", default=bundled.DEFAULT, help="a detector on B0 (.npz)")
    parser.add_argument("--output", required=True, help="the .npz to write")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Write the start; the exit code is 2 where the user has to mend something."""
    options = parser().parse_args(argv)
    try:
        path = bundled.resolve(options.model)
        config = yaml.safe_load(model_file.read_config(path))
        made_for = {"backbone": "b0", "activation": "swish", "pre_stride": "expand"}
        if {key: config["model"][key] for key in made_for} != made_for:
            raise UserError(
                path, "is no detector on B0 with swish and pre_stride expand", "Choose another --model."
            )
        weights = model_file.read_weights(path)
        images = (
            read_image(image)[:SIDE, :SIDE]
            for image in [path for path in list_files(Path(options.images)) if is_image(path.name)][:40]
        )
        gates = mean_gates(weights, (image for image in images if image.shape[:2] == (SIDE, SIDE)))
        config["model"] |= {"backbone": "lite0", "activation": "relu6"}
        config["model"].pop("normalization", None)
        model_file.write(options.output, without_gates(weights, gates), yaml.safe_dump(config))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.output}: {len(gates)} gates folded; train it with --recalibrate 30")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
