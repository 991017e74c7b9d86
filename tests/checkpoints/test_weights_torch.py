"""PyTorch's networks against their imported weights, and the files that PyTorch writes."""

import argparse
import functools
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
efficientnet_pytorch = pytest.importorskip("efficientnet_pytorch")

from helpers.graphs import assert_same_maps, random_weight, trunk  # noqa: E402

from efficientnet_east.checkpoints import weight_files, weights  # noqa: E402
from efficientnet_east.errors import UserError  # noqa: E402

SIZES = [(224, 224), (512, 288), (225, 225), (301, 203)]
LEAVES = {"weight": "weights", "running_mean": "moving_mean", "running_var": "moving_variance"}
BLOCKS, EXPANSIONS = [0, 2, 4, 10, 15], [1, 3, 5, 11]
MAPS = [*(f"blocks_{i}" for i in BLOCKS), *(f"blocks_{i}/expand" for i in EXPANSIONS), "head"]


def network(size: tuple[int, int]) -> Any:
    """lukemelas' B0, which pads as TensorFlow does for a size that it knows beforehand."""
    return efficientnet_pytorch.EfficientNet.from_name("efficientnet-b0", image_size=size).eval()


@functools.cache
def random_state() -> dict[str, Any]:
    return randomised(network((224, 224)).state_dict())


def randomised(state: dict[str, Any]) -> dict[str, Any]:
    """Other numbers of the same shapes, batch-norm statistics included."""
    rng = np.random.default_rng(0)
    found = {}
    for name, tensor in state.items():
        leaf = name.rpartition(".")[2]
        if leaf == "num_batches_tracked":
            found[name] = tensor + 7
            continue
        shape = tuple(tensor.shape)
        mine = "gamma" if leaf == "weight" and len(shape) == 1 else LEAVES.get(leaf, leaf)
        found[name] = torch.from_numpy(random_weight(rng, mine, shape, int(np.prod(shape[1:]))))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("torch")


def restored(path: Path, name: str = "b0") -> weights.Restored:
    return weights.restore(weight_files.read(path), name)


def saved(path: Path, state: Any, **options: Any) -> Path:
    torch.save(state, path, **options)
    return path


def taps(model: Any, size: tuple[int, int], modules: dict[str, Any], image: np.ndarray) -> list[np.ndarray]:
    """The outputs of some modules, (1, height, width, channels)."""
    outputs: dict[str, Any] = {}
    for name, module in modules.items():
        module.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output}))
    with torch.no_grad():
        model(torch.from_numpy(image.transpose(0, 3, 1, 2)))
    assert outputs.keys() == modules.keys() and image.shape[1:3] == size
    return [outputs[name].numpy().transpose(0, 2, 3, 1) for name in modules]


def swish(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def test_all_maps_of_lukemelas_network(folder: Path) -> None:
    found = restored(saved(folder / "b0.pth", random_state()))
    assert found.initialized == found.unused == () and len(found.more) == 5 + 2
    assert "by the names of lukemelas/EfficientNet-PyTorch" in found.report()
    rng = np.random.default_rng(1)
    images = [rng.normal(size=(1, *size, 3)).astype(np.float32) for size in SIZES]
    values = {n: array for n, array in (found.values | found.more).items() if "/logits/" not in n}
    mine = trunk("b0", "swish").run(values, images, MAPS)
    for size, image, maps in zip(SIZES, images, mine, strict=True):
        model = network(size)
        model.load_state_dict(random_state())
        modules = {f"blocks_{i}": model._blocks[i] for i in BLOCKS}
        modules |= {f"blocks_{i}/expand": model._blocks[i]._bn0 for i in EXPANSIONS} | {"head": model._bn1}
        theirs = taps(model, size, modules, image)
        theirs = [m if "/" not in n and n != "head" else swish(m) for n, m in zip(MAPS, theirs, strict=True)]
        assert_same_maps(maps, theirs, [f"{name} at {size}" for name in MAPS])


def test_classifier_of_lukemelas_network(folder: Path) -> None:
    found = restored(saved(folder / "b0.pth", random_state()))
    kernel = found.more["efficientnet-b0/logits/weights"]
    np.testing.assert_array_equal(kernel, random_state()["_fc.weight"].numpy().T)


def as_timm(name: str) -> str:
    """The published correspondence for B0, a line for each kind of name."""
    stages = enumerate((1, 2, 2, 3, 3, 4, 1))
    flat = [(stage, repeat) for stage, repeats in stages for repeat in range(repeats)]
    name = re.sub(r"^_blocks\.(\d+)", lambda m: "blocks.{}.{}".format(*flat[int(m[1])]), name)
    first = name.startswith("blocks.0.0.")
    for theirs, timm in (
        ("_depthwise_conv", "conv_dw"), ("_expand_conv", "conv_pw"), ("_se_", "se.conv_"),
        ("_project_conv", "conv_pw" if first else "conv_pwl"), ("_conv_stem", "conv_stem"),
        ("_conv_head", "conv_head"), ("_fc", "classifier"),
    ):  # fmt: skip
        name = name.replace(theirs, timm)
    if name.startswith("_bn"):
        return name.replace("_bn1", "bn2").replace("_bn0", "bn1")
    return re.sub(r"_bn(\d)", lambda m: f"bn{int(m[1]) + (0 if first else 1)}", name)


def test_timm_by_renaming(folder: Path) -> None:
    path = saved(folder / "timm.pth", {as_timm(name): tensor for name, tensor in random_state().items()})
    found = restored(path)
    assert "by the names of timm" in found.report()
    assert_equal(found, restored(saved(folder / "b0.pth", random_state())))


def test_timm_itself(folder: Path) -> None:
    """Where it is installed: its port of the official weights, with and without squeeze-and-excite."""
    timm = pytest.importorskip("timm")
    rng = np.random.default_rng(1)
    for name, activation in (("b0", "swish"), ("lite0", "relu6")):
        model = timm.create_model(f"tf_efficientnet_{name}", pretrained=False).eval()
        model.load_state_dict(randomised(model.state_dict()))
        found = restored(saved(folder / "timm.pth", model.state_dict()), name)
        assert found.initialized == found.unused == ()
        image = rng.normal(size=(1, 225, 160, 3)).astype(np.float32)
        values = {n: array for n, array in (found.values | found.more).items() if "/logits/" not in n}
        mine = trunk(name, activation).run(values, [image], MAPS[:5])[0]
        ends = zip(MAPS[:5], (0, 1, 2, 4, 6), strict=True)
        theirs = taps(model, (225, 160), {n: model.blocks[stage] for n, stage in ends}, image)
        assert_same_maps(mine, theirs, MAPS[:5])


def as_torchvision(name: str) -> str:
    """The correspondence for B0; parts of a block are counted, and without expansion there is one less."""
    stages = enumerate((1, 2, 2, 3, 3, 4, 1), start=1)
    flat = [(stage, repeat) for stage, repeats in stages for repeat in range(repeats)]
    top = {"_conv_stem": "features.0.0", "_bn0": "features.0.1", "_conv_head": "features.8.0",
           "_bn1": "features.8.1", "_fc": "classifier.1"}  # fmt: skip
    place, _, leaf = name.rpartition(".")
    if place in top:
        return f"{top[place]}.{leaf}"
    _, index, part = place.split(".")
    stage, repeat = flat[int(index)]
    number, inside = {
        "_expand_conv": (0, "0"), "_bn0": (0, "1"), "_depthwise_conv": (1, "0"), "_bn1": (1, "1"),
        "_se_reduce": (2, "fc1"), "_se_expand": (2, "fc2"), "_project_conv": (3, "0"), "_bn2": (3, "1"),
    }[part]  # fmt: skip
    return f"features.{stage}.{repeat}.block.{number - (index == '0')}.{inside}.{leaf}"


def test_torchvision_by_renaming(folder: Path) -> None:
    """Every array finds its place, and the real names are among those that the renaming gives."""
    state = {as_torchvision(name): tensor for name, tensor in random_state().items()}
    real = {  # read off torchvision's own B0
        "features.0.0.weight": (32, 3, 3, 3), "features.0.1.running_var": (32,),
        "features.1.0.block.0.0.weight": (32, 1, 3, 3), "features.1.0.block.1.fc1.weight": (8, 32, 1, 1),
        "features.1.0.block.2.1.bias": (16,), "features.2.0.block.0.0.weight": (96, 16, 1, 1),
        "features.2.1.block.1.0.weight": (144, 1, 3, 3), "features.3.1.block.2.fc2.bias": (240,),
        "features.6.3.block.3.0.weight": (192, 1152, 1, 1), "features.7.0.block.3.1.num_batches_tracked": (),
        "features.8.0.weight": (1280, 320, 1, 1), "classifier.1.weight": (1000, 1280),
    }  # fmt: skip
    assert {name: tuple(state[name].shape) for name in real} == real
    found = restored(saved(folder / "torchvision.pth", state))
    assert "by the names of torchvision" in found.report()
    assert found.initialized == found.unused == () and len(found.more) == 5 + 2
    assert_equal(found, restored(saved(folder / "b0.pth", random_state())))


def test_torchvision_of_another_variant(folder: Path) -> None:
    """Complete coverage is asked for: a file that lacks a block, or has one too many, is named."""
    state = {as_torchvision(name): tensor for name, tensor in random_state().items()}
    path = saved(folder / "torchvision.pth", state)
    with pytest.raises(UserError, match=r"lacks features\.1\.1\.block.*like b0; expected weights of b1"):
        restored(path, "b1")
    with pytest.raises(UserError, match="has none of its names; looks like b0; expected weights of lite0"):
        restored(path, "lite0")
    less = {name: tensor for name, tensor in state.items() if "fc1" not in name}
    source = weight_files.read(saved(folder / "less.pth", less))
    lacking = weights.restore(source, "b0")
    with pytest.raises(UserError, match=r"lacks 32 arrays: features\.1\.0\.block\.1\.fc1\.weight"):
        weights.expect_complete(lacking, source, allow_missing=False, allow_unused=False)


def pad_as_tensorflow(model: Any) -> None:
    """Give every convolution SAME padding, and batch norm the epsilon of the official weights."""

    def pad(module: Any, given: tuple[Any]) -> Any:
        (net,) = given
        sides = []
        for side, kernel, stride in zip(net.shape[2:], module.kernel_size, module.stride, strict=True):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            sides.append((total // 2, total - total // 2))
        return torch.nn.functional.pad(net, (*sides[1], *sides[0]))

    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.padding = (0, 0)
            module.register_forward_pre_hook(pad)
        elif isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-3


def test_torchvision_itself(folder: Path) -> None:
    """Where it is installed: with this project's padding and epsilon it is the same function."""
    torchvision = pytest.importorskip("torchvision")
    model = torchvision.models.efficientnet_b0(weights=None).eval()
    model.load_state_dict(randomised(model.state_dict()))
    pad_as_tensorflow(model)
    found = restored(saved(folder / "torchvision.pth", model.state_dict()))
    assert found.initialized == found.unused == ()
    image = np.random.default_rng(1).normal(size=(1, 225, 160, 3)).astype(np.float32)
    values = {n: array for n, array in (found.values | found.more).items() if "/logits/" not in n}
    mine = trunk("b0", "swish").run(values, [image], MAPS[:5])[0]
    ends = zip(MAPS[:5], (1, 2, 3, 5, 7), strict=True)
    theirs = taps(model, (225, 160), {n: model.features[stage] for n, stage in ends}, image)
    assert_same_maps(mine, theirs, MAPS[:5])


def assert_equal(one: weights.Restored, other: weights.Restored) -> None:
    assert one.values.keys() == other.values.keys() and one.more.keys() == other.more.keys()
    for name, array in (one.values | one.more).items():
        np.testing.assert_array_equal(array, (other.values | other.more)[name], err_msg=name)


# --- files


@pytest.mark.parametrize(
    ("wrap", "note"),
    [
        (lambda state: {f"module.{name}": tensor for name, tensor in state.items()}, None),
        (lambda state: {f"encoder.{n}": t for n, t in state.items()} | {"decoder.w": torch.ones(1)}, None),
        (lambda state: {"state_dict": state, "epoch": 3, "arch": "efficientnet_b0"}, "took state_dict"),
        (lambda state: {"state_dict": spoilt(state), "state_dict_ema": state}, "took state_dict_ema"),
        (lambda state: {"model": {"state_dict": state}, "optimizer": {}}, "took model/state_dict"),
    ],
    ids=["data parallel", "segmentation", "training", "averages", "nested"],
)  # fmt: skip
def test_wrapped_state_dicts(folder: Path, wrap: Any, note: str | None) -> None:
    found = restored(saved(folder / "wrapped.bin", wrap(random_state())))
    assert_equal(found, restored(saved(folder / "b0.pth", random_state())))
    assert found.unused == () and (note is None or f"{note} of the file" in found.report())


def spoilt(state: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor + 1 for name, tensor in state.items()}


def test_other_layouts_of_the_file(folder: Path) -> None:
    """The form before PyTorch 1.6, half precision, and safetensors in two precisions."""
    whole = restored(saved(folder / "b0.pth", random_state()))
    old = saved(folder / "old.pt", random_state(), _use_new_zipfile_serialization=False)
    assert_equal(restored(old), whole)
    half = {name: tensor.to(torch.bfloat16) for name, tensor in random_state().items()}
    paths = [saved(folder / "half.pth", half)]
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(random_state(), folder / "b0.safetensors")
    assert_equal(restored(folder / "b0.safetensors"), whole)
    safetensors.save_file(half, folder / "half.safetensors")
    paths.append(folder / "half.safetensors")
    for path in paths:
        for name, array in restored(path).values.items():
            np.testing.assert_allclose(array, whole.values[name], rtol=2**-8, err_msg=name)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        weight_files.read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class Trap:
    """Unpickling it ends the program."""

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return os._exit, (1,)


def test_files_that_hold_code(folder: Path) -> None:
    """Whole modules, and checkpoints with the options of their run: nothing of them is unpickled."""
    path = folder / "code.pth"
    for content, name in (
        (torch.nn.Conv2d(1, 1, 1), "torch.nn.modules.conv.Conv2d"),
        ({"state_dict": {}, "args": argparse.Namespace(lr=1)}, "argparse.Namespace"),
        ({"a": Trap()}, "posix._exit"),
    ):
        said = f"holds {name}, which may run code and is not loaded; expected what torch.save(model.state"
        assert said in refusal(saved(path, content))
    path.write_bytes(pickle.dumps(Trap(), protocol=2))
    assert "holds posix._exit, which" in refusal(path)


def test_damaged_and_empty_files(folder: Path) -> None:
    whole = saved(folder / "b0.pth", {"a": torch.arange(1000.0)}).read_bytes()
    for name, content in (("cut.pth", whole[:2000]), ("empty.pt", b""), ("text.bin", b"weights")):
        (folder / name).write_bytes(content)
        assert re.search(rf"{name}: cannot be read \(.+\); expected a state dict", refusal(folder / name))
    pytest.importorskip("safetensors")
    (folder / "cut.safetensors").write_bytes((99).to_bytes(8, "little") + b'{"a"')
    assert "cut.safetensors: cannot be read" in refusal(folder / "cut.safetensors")
    with pytest.raises(UserError, match="holds nothing, which are not the names of lukemelas"):
        restored(saved(folder / "none.pth", {"epoch": 3}))
    with pytest.raises(UserError, match="holds nothing"):
        restored(saved(folder / "tensor.pth", torch.ones(3)))


def test_not_finite(folder: Path) -> None:
    state = {"a.weight": torch.ones(2), "b.weight": torch.tensor([1.0, float("nan")])}
    assert "bad.pth: b.weight: holds NaN or infinity" in refusal(saved(folder / "bad.pth", state))
