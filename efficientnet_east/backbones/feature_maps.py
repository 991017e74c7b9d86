"""The names of a backbone's maps, `f1` to `f7` and `pool1` to `pool5`, and the pooling of the coarsest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from efficientnet_east.compat import Tensor, slim
from efficientnet_east.scaling import Feature


def named_maps(
    end_points: Mapping[str, Tensor], features: Sequence[Feature], levels: int
) -> dict[str, Tensor]:
    """Give the feature maps their names, and pool those that are coarser than the backbone's.

    Args:
      end_points: with the five maps.
      features: which of them are f1 to f5.
      levels: 5, 6 or 7. Pooling is EfficientDet's, 3x3 with stride 2 (Tan et al., CVPR 2020).

    Returns:
      `f1` ..., and `pool1` to `pool5`, the keys that slim EAST code reads.
    """
    maps = {feature.name: end_points[feature.end_point] for feature in features}
    named = {f"pool{level}": maps[f"f{level}"] for level in range(1, len(features) + 1)}
    for level in range(len(features) + 1, levels + 1):
        maps[f"f{level}"] = slim.max_pool2d(maps[f"f{level - 1}"], 3, stride=2, padding="SAME")
    return maps | named
