"""The fields of the configuration, with their defaults and what they mean.

Every field name is unique over the sections, so that a command line can say `--learning-rate` alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import pydantic

from efficientnet_east.backbones import catalog
from efficientnet_east.options import MERGES, NORMALIZATIONS, SCORE_LOSSES, ModelOptions

if TYPE_CHECKING:
    Normalization: TypeAlias = str
    Merge: TypeAlias = str
    ScoreLoss: TypeAlias = str
else:
    Normalization, Merge = Literal["auto", *NORMALIZATIONS], Literal[*MERGES]
    ScoreLoss = Literal[*SCORE_LOSSES]

# Old names of fields, which older runs, model files and exports have -> what they are called now.
RENAMED = {"normalisation": "normalization", "colour": "color"}


class Section(pydantic.BaseModel):
    """A part of the configuration: known fields only, and no changes once it is made."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _with_new_names(cls, values: Any) -> Any:
        return renamed(values) if isinstance(values, Mapping) else values


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Give fields their new names; one that is there by both names keeps the value of the new one.

    Args:
      values: field name -> value.
    """
    new = {RENAMED.get(str(name), name): value for name, value in values.items() if name in RENAMED}
    return new | {name: value for name, value in values.items() if name not in RENAMED}


def _field(default: Any, help: str, **bounds: Any) -> Any:
    return pydantic.Field(default, description=help, **bounds)


def _split(value: Any) -> Any:
    """Split a list as a command line has it, `0.6,0.85`; wrap a single number."""
    if isinstance(value, str):
        return [part for part in value.split(",") if part.strip()]
    return [value] if isinstance(value, int | float) else value


def _rising(milestones: tuple[float, ...]) -> tuple[float, ...]:
    if any(first >= second for first, second in itertools.pairwise((0.0, *milestones))):
        raise ValueError("numbers above 0, each larger than the one before, such as 0.6,0.85")
    return milestones


Milestones = Annotated[tuple[float, ...], pydantic.BeforeValidator(_split), pydantic.AfterValidator(_rising)]


def _factors(scales: tuple[float, ...]) -> tuple[float, ...]:
    if not scales or len(set(scales)) < len(scales) or not all(1 / 16 <= scale <= 16 for scale in scales):
        raise ValueError("different numbers from 1/16 to 16, such as 0.5,1,2")
    return scales


Scales = Annotated[tuple[float, ...], pydantic.BeforeValidator(_split), pydantic.AfterValidator(_factors)]


def _read_mix(value: Any) -> Any:
    """Make a mapping of entries SOURCE=WEIGHT, as a command line gives them and a file may."""
    if value == ["none"] or not isinstance(value, list):
        return None if value == ["none"] else value
    mix: dict[str, str] = {}
    for entry in value:
        source, equals, weight = str(entry).rpartition("=")
        if not source or not equals:
            raise ValueError("SOURCE=WEIGHT, such as synthetic=1")
        if source in mix:
            raise ValueError(f"each source once, not {source} twice")
        mix[source] = weight
    return mix


def _in_one_order(mix: dict[str, float] | None) -> dict[str, float] | None:
    """Sort, since the crops of a source depend on its place, which must not depend on how you wrote it."""
    return dict(sorted(mix.items())) if mix else None


Mix = Annotated[
    dict[str, Annotated[float, pydantic.Field(gt=0)]] | None,
    pydantic.BeforeValidator(_read_mix),
    pydantic.AfterValidator(_in_one_order),
]


def _option(name: str, help: str, **bounds: Any) -> Any:
    """Make a field of the network, with the default of `ModelOptions`."""
    return _field(getattr(ModelOptions, name), help, **bounds)


def _in_words(table: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {meaning}" for name, meaning in table.items())


class Model(Section):
    """The network. A checkpoint fits one such section only."""

    backbone: str = _option("backbone", catalog.names_in_words())
    activation: Literal["relu", "relu6", "swish", "hard-swish"] = _option(
        "activation", "activation of the backbone; the ImageNet weights were trained with swish"
    )
    normalization: Normalization = _option(
        "normalization", "how pixels are scaled; auto: as for the backbone's published weights"
    )
    pre_stride: Literal["block", "expand"] = _option(
        "pre_stride", "maps to merge: block outputs, or the expansions right before each stride"
    )
    output_stride: Literal[2, 4] = _option("output_stride", "image pixels per cell of the output maps")
    geometry: Literal["rbox", "quad"] = _option(
        "geometry", "rbox: boxes are rotated rectangles; quad: four free corners"
    )
    text_scale: float = _option(
        "text_scale",
        "largest distance that rbox can predict, in pixels; quad predicts in units of an eighth of it",
        gt=0,
    )
    merge: Merge = _option("merge", f"how to merge the maps; {_in_words(MERGES)}")
    levels: Literal[5, 6, 7] = _option("levels", "the coarsest map has stride 2**levels; 6 and 7 need bifpn")
    fpn_width: int = _option(
        "fpn_width", "channels of the BiFPN maps; 0: as EfficientDet for this backbone", ge=0
    )
    fpn_repeats: int = _option(
        "fpn_repeats", "number of BiFPN cells; 0: as EfficientDet for this backbone", ge=0
    )

    @property
    def size_divisor(self) -> int:
        """The stride of the coarsest map; the sides of the network's input are multiples of it."""
        return ModelOptions(levels=self.levels).size_divisor


class Data(Section):
    """The images, and how training crops are cut from them."""

    data: str | None = _field(None, "folder of images and ground truth; none: train on synthetic scenes")
    list: str | None = _field(None, "text file of the image names to train on")
    limit: int | None = _field(None, "train on the first N images only", gt=0)
    mix: Mix = _field(
        None, "train on several sources; repeat it. SOURCE: synthetic, a folder, FOLDER@LIST or mined.json"
    )
    val_data: str | None = _field(
        None, "folder to validate on; none: the training folder, if val_list is given"
    )
    val_list: str | None = _field(None, "text file of the image names to validate on")
    val_limit: int | None = _field(None, "validate on the first N images only", gt=0)
    skip_bad: bool = _field(False, "skip images that cannot be used, and name them, instead of stopping")
    skip_share: float = _field(
        1.0,
        "stop if skip_bad skips more than this share of a folder's images",
        ge=0,
        le=1,
    )
    synthetic_scenes: int = _field(100_000, "number of different synthetic scenes", gt=0)
    synthetic_size: int = _field(640, "side of a synthetic scene in pixels", ge=128)
    crop_size: int = _field(
        512, "side of a training crop in pixels; a multiple of 32 (of 2**levels)", ge=64, multiple_of=32
    )
    scale_min: float = _field(0.6, "smallest random scale of an image", gt=0)
    scale_max: float = _field(1.4, "largest random scale of an image", gt=0)
    rotation: float = _field(10.0, "rotate crops by up to this many degrees", ge=0, le=45)
    quarter_turns: float = _field(0.0, "share of crops that are also rotated by 90 degrees", ge=0, le=1)
    text_crops: float = _field(
        0.8, "share of crops that contain a text; the others are taken anywhere", ge=0, le=1
    )
    aspect: float = _field(1.15, "stretch images by up to this factor in one direction", ge=1, le=2)
    color: bool = _field(True, "vary brightness, contrast, saturation, hue, sharpness and noise")
    color_strength: float = _field(1.0, "factor on how far and how often colors vary", ge=0, le=4)
    motion_blur: float = _field(0.0, "share of crops with motion blur", ge=0, le=1)
    jpeg: float = _field(0.0, "share of crops with JPEG artifacts", ge=0, le=1)
    mosaic: float = _field(0.0, "share of crops made of four smaller ones, from different images", ge=0, le=1)
    paste: float = _field(
        0.0, "share of the other crops that get words of another image where they show no text", ge=0, le=1
    )
    shrink: float = _field(
        0.3, "how much the score region of a text is shrunk (EAST paper, section 3.3.1)", ge=0, lt=0.5
    )
    core: float = _field(
        0.0, "least thickness of a score region in pixels, if the text has it; 0: no limit", ge=0
    )
    balance: float = _field(
        0.0, "0: each cell of text has the same weight; 1: each text has; 0.5: in between", ge=0, le=1
    )
    between: float = _field(
        1.0,
        "weight of background between words that are closer than their height; above 1 keeps them apart",
        gt=0,
    )
    min_text_side: float = _field(6.0, "ignore texts with a shorter side, in pixels of the crop", ge=0)
    ring: bool = _field(False, "ignore the cells between the shrunk and the full text region")
    workers: int = _field(1, "processes that prepare batches; 0: a thread prepares them", ge=0)
    cache_megabytes: int | None = _field(
        None, "memory for decoded images, in MB; none: up to half of what is free", ge=0
    )


class Train(Section):
    """The training."""

    workdir: str = _field(
        "runs/b0", "folder of the run: checkpoints, events, pictures; a run in it is resumed"
    )
    init: str | None = _field(
        None,
        "weights to start from: a weight file, a checkpoint, a workdir, or a bundled model such as `default`",
    )
    steps: int = _field(100_000, "number of training steps", gt=0)
    batch_size: int = _field(8, "crops per batch, over all devices", gt=0)
    accumulate: int = _field(1, "batches per step, whose gradients are averaged", gt=0)
    optimizer: Literal["adam", "adamw"] = _field("adam", "adam (with L2 in the loss) or adamw")
    learning_rate: float = _field(1e-3, "peak learning rate", gt=0)
    backbone_rate: float = _field(
        1.0, "factor on the learning rate of the backbone; 0: do not train it", ge=0
    )
    layer_decay: float = _field(
        1.0, "further factor for each block (or unit) of the backbone before the last", gt=0, le=1
    )
    schedule: Literal["cosine", "step", "exponential", "one-cycle", "constant"] = _field(
        "cosine", "how the learning rate falls after the warm-up; see docs/training.md"
    )
    warmup_steps: int = _field(200, "steps in which the learning rate rises from 0", ge=0)
    final_rate: float | None = _field(
        None, "last learning rate, as a share of the peak; none: 0 for cosine, 1e-4 for one-cycle", ge=0, le=1
    )
    rise: float = _field(0.3, "one-cycle: share of the run in which the rate rises", ge=0, lt=1)
    milestones: Milestones = _field(
        (0.6, 0.85), "step: where the rate falls by step_factor; steps, or shares of the run (below 1)"
    )
    step_factor: float = _field(0.1, "step: factor on the rate at each milestone", gt=0, le=1)
    decay_steps: int = _field(10_000, "exponential: steps in which the rate falls by decay_factor", gt=0)
    decay_factor: float = _field(0.94, "exponential: factor on the rate every decay_steps", gt=0, le=1)
    staircase: bool = _field(True, "exponential: fall once every decay_steps, not in every step")
    weight_decay: float = _field(1e-5, "L2 on kernels (adam), or decoupled weight decay (adamw)", ge=0)
    clip_norm: float = _field(5.0, "clip gradients to this global norm; 0: do not clip", ge=0)
    ema_decay: float = _field(
        0.997, "decay of the averaged weights, which are used for evaluation", ge=0, lt=1
    )
    drop_connect: float = _field(0.2, "stochastic depth: rate of an EfficientNet's last block", ge=0, lt=1)
    batch_norm: Literal["train", "frozen", "sync"] = _field(
        "train", "frozen: keep the backbone's statistics; sync: compute them over all replicas"
    )
    frozen: str | None = _field(
        None,
        f"do not train the backbone up to this part: {catalog.parts_in_words()}",
    )
    unfreeze_at: int = _field(0, "train the frozen part from this step on; 0: never", ge=0)
    recompute: bool = _field(False, "compute the blocks again in the backward pass: less memory, more time")
    precision: Literal["float32", "bfloat16", "float16"] = _field(
        "float32", "number format of convolutions in training; float16 scales the loss"
    )
    recalibrate: int = _field(0, "before the first step, estimate batch-norm statistics from N batches", ge=0)
    score_loss: ScoreLoss = _field("dice", f"loss of the score map; {_in_words(SCORE_LOSSES)}")
    score_weight: float = _field(1.0, "weight of the score loss", ge=0)
    iou_weight: float = _field(1.0, "weight of the box loss, -log IoU", ge=0)
    angle_weight: float = _field(10.0, "weight of the angle loss", ge=0)
    quad_weight: float = _field(1.0, "weight of the loss of the four corners (geometry quad)", ge=0)
    teacher: str | None = _field(
        None, "learn from the maps of this model, too: a workdir, a weight file or `default`"
    )
    teacher_weight: float = _field(1.0, "weight of the losses against the teacher's maps", ge=0)
    seed: int = _field(1, "seed of all random numbers", ge=0, lt=2**31)
    devices: str = _field(
        "auto", "auto: all GPUs, or the CPU; cpu; cpu:2 for two replicas; or numbers of GPUs, such as 0,1",
        pattern=r"^(auto|cpu(:[1-9]\d?)?|\d{1,3}(,\d{1,3})*)$",
    )  # fmt: skip
    peer_timeout: float = _field(
        1800.0, "seconds to wait for another process of a cluster (TF_CONFIG), which may be validating", gt=0
    )
    threads: int = _field(0, "CPU threads; 0: all that this process may use", ge=0)
    log_every: int = _field(20, "steps between two log lines", gt=0)
    save_every: int = _field(500, "steps between two checkpoints", gt=0)
    validate_every: int = _field(2000, "steps between two validations", gt=0)
    patience: int = _field(0, "stop after N validations in a row without a better hmean; 0: never", ge=0)
    picture_every: int = _field(1000, "steps between two pictures of the output maps", gt=0)
    keep_checkpoints: int = _field(
        3, "how many of the newest checkpoints to keep; the best is always kept", gt=0
    )


class Detect(Section):
    """The detection: how maps become boxes."""

    score_threshold: float = _field(0.9, "ignore cells with a lower score", gt=0, lt=1)
    score_scale: float = _field(
        1.0, "calibration: factor on the logit of the score; see the command calibrate", gt=0
    )
    score_offset: float = _field(0.0, "calibration: added to the scaled logit of the score")
    nms: Literal["corners", "locality", "standard"] = _field(
        "corners",
        "overlapping boxes: merge neighbors, each corner from the cells near it (corners) or each box by its "
        "score (locality, as in EAST), or keep the best (standard)",
    )
    nms_iou: float = _field(0.2, "boxes that overlap by at least this IoU are the same", gt=0, lt=1)
    box_threshold: float = _field(0.0, "drop boxes with a lower score", ge=0, lt=1)
    min_box_side: float = _field(3.0, "drop boxes thinner than this, in pixels of the network's input", ge=0)
    max_candidates: int = _field(50_000, "use at most N cells, the best ones, per 2400 x 2400 pixels", gt=0)
    max_detections: int = _field(0, "keep at most N boxes, the best ones; 0: all", ge=0)
    axis_aligned: bool = _field(False, "return the upright rectangle around each box")
    max_side: int = _field(
        2400,
        "scale larger images down to this longer side; split into tiles if that more than halves them",
        ge=32,
    )
    scales: Scales = _field((1.0,), "detect at several scales of the image; smaller ones add long words")
    tile_size: int = _field(
        0, "split larger images into tiles of this side, in pixels; 0: see max_side", ge=0
    )
    tile_overlap: float = _field(0.25, "share of a tile that overlaps the next one", ge=0, le=0.75)
    batch_pixels: int = _field(
        4_000_000, "run images (tiles) of one size together, up to this many pixels", gt=0
    )


class Config(Section):
    """The whole configuration."""

    model: Model = Model()
    data: Data = Data()
    train: Train = Train()
    detect: Detect = Detect()

    @pydantic.model_validator(mode="after")
    def _across_fields(self) -> Config:
        if self.data.scale_min > self.data.scale_max:
            raise ValueError("data.scale_min must not be larger than data.scale_max")
        if self.data.mix and (self.data.data or self.data.list or self.data.limit):
            raise ValueError("data.mix must name all that is trained on, without data.data, list or limit")
        network, divisor = self.model, self.model.size_divisor
        if network.merge == "u" and (network.levels > 5 or network.fpn_width or network.fpn_repeats):
            raise ValueError("model.levels above 5, fpn_width and fpn_repeats need model.merge bifpn")
        if self.train.unfreeze_at and self.train.frozen is None:
            raise ValueError("train.unfreeze_at needs train.frozen")
        if self.data.crop_size % divisor:
            raise ValueError(f"data.crop_size must be a multiple of {divisor} with levels {network.levels}")
        if self.data.mosaic and self.data.crop_size % 64:
            raise ValueError("data.crop_size must be a multiple of 64 with data.mosaic")
        return self


SECTIONS: dict[str, type[Section]] = {"model": Model, "data": Data, "train": Train, "detect": Detect}


def fields() -> Iterator[tuple[str, str, pydantic.fields.FieldInfo]]:
    """Yield (section, field name, field information) of the whole configuration, in order."""
    for section, model in SECTIONS.items():
        for name, info in model.model_fields.items():
            yield section, name, info
