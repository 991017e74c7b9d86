"""What a detector's network may be: its options with their defaults, and the names that they may have.

`model.build`, the configuration and the command line take names and defaults from here. Nothing here needs
TensorFlow: the functions behind the names stand in the tables `east_head.MERGES` and `losses.SCORE_LOSSES`.
"""

from __future__ import annotations

import dataclasses

# Ways to merge the backbone's maps, and what each is. The functions: `east_head.MERGES`.
MERGES = {
    "u": "EAST's U-shaped merge",
    "bifpn": "EfficientDet's BiFPN",
}
# Losses of the score map, and what each is. The functions: `losses.SCORE_LOSSES`.
SCORE_LOSSES = {
    "dice": "one minus the dice coefficient",
    "balanced_cross_entropy": "text and background weigh the same",
    "dice_and_cross_entropy": "dice, and cross-entropy on the hardest background",
}
# Mean and deviation of RGB pixels in [0, 255] that published weights were trained with, by their family:
# `imagenet` the EfficientNets and MnasNet, `lite` the lite variants, `advprop` weights of adversarial
# training (Xie et al. 2020), `vgg` slim's ResNet, which takes off the mean color only.
NORMALIZATIONS = {
    "imagenet": ((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255)),
    "lite": ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0)),
    "advprop": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "vgg": ((123.68, 116.78, 103.94), (1.0, 1.0, 1.0)),
}


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """What the network is. A checkpoint fits one such set of options only.

    Attributes:
      backbone: see `backbones.get_backbone`.
      activation: of the backbone, a key of `backbones.ACTIVATIONS`; the head uses ReLU.
      normalization: a key of `NORMALIZATIONS`; `auto` takes that of the backbone's published weights.
      pre_stride: which of the backbone's maps are merged, see `scaling.features`.
      output_stride: pixels of the image per cell of the maps, 4 or 2.
      geometry: `rbox` or `quad`, see `geometry.label_maps`.
      text_scale: see `east_head.east_head`.
      merge: how the maps are merged, a key of `MERGES`.
      levels: the coarsest map is f<levels>, of stride 2**levels; 6 and 7 are of use to BiFPN only.
      fpn_width: channels of BiFPN's maps; 0 takes what EfficientDet has for the backbone's size.
      fpn_repeats: number of BiFPN's cells; 0 takes EfficientDet's.
    """

    backbone: str = "b0"
    activation: str = "relu"
    normalization: str = "auto"
    pre_stride: str = "block"
    output_stride: int = 4
    geometry: str = "rbox"
    text_scale: float = 512.0
    merge: str = "u"
    levels: int = 5
    fpn_width: int = 0
    fpn_repeats: int = 0

    @property
    def size_divisor(self) -> int:
        """What the sides of the network's input are multiples of: the coarsest map's stride."""
        return int(2**self.levels)
