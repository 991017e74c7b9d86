"""What the calculator counts and prints, from B0's table by hand to the options and the chart."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientnet_east import scaling
from efficientnet_east.backbones import catalog, report_chart
from efficientnet_east.backbones import report as calculator
from efficientnet_east.backbones.costs import KEPT_MAPS, Layer, recomputed_bytes
from efficientnet_east.cli.main import main
from efficientnet_east.drawing import charts
from efficientnet_east.errors import UserError

ROOT = Path(__file__).resolve().parents[2]

# The paper's Table 1: operator, input resolution, channels, layers; strides are those between its rows.
TABLE_1 = [
    ("stem", "Conv, k3x3", 2, 224, 32, 1),
    ("stage1", "MBConv1, k3x3, SE", 1, 112, 16, 1),
    ("stage2", "MBConv6, k3x3, SE", 2, 112, 24, 2),
    ("stage3", "MBConv6, k5x5, SE", 2, 56, 40, 2),
    ("stage4", "MBConv6, k3x3, SE", 2, 28, 80, 3),
    ("stage5", "MBConv6, k5x5, SE", 1, 14, 112, 3),
    ("stage6", "MBConv6, k5x5, SE", 2, 14, 192, 4),
    ("stage7", "MBConv6, k3x3, SE", 1, 7, 320, 1),
    ("head", "Conv, k1x1", 1, 7, 1280, 1),
    ("logits", "Mean, dense", None, 7, 1000, 1),
]
# Its Table 2: parameters in millions, multiply-adds in billions; and what is counted here where the two
# differ by more than 2.1 %.
TABLE_2 = {"b0": (5.3, 0.39), "b1": (7.8, 0.70), "b2": (9.2, 1.0), "b3": (12, 1.8), "b4": (19, 4.2),
           "b5": (30, 9.9), "b6": (43, 19), "b7": (66, 37)}  # fmt: skip
OFF = {"b4": 4.394, "b5": 10.27}

B0_TEXT = """\
b0 (phi 0, width 1, depth 1); 224x224 pixels, relu
        operator           stride  channels  repeats    input  parameters   mult.-  kept
                                                        cells              adds, G    MB
stem    Conv, k3x3              2        32        1  224x224         928   0.0108   3.2
stage1  MBConv1, k3x3, SE       1        16        1  112x112       1,448   0.0100   6.4
stage2  MBConv6, k3x3, SE       2        24        2  112x112      16,714   0.0549  23.5
stage3  MBConv6, k5x5, SE       2        40        2    56x56      46,640   0.0379   9.2
stage4  MBConv6, k3x3, SE       2        80        3    28x28     242,930   0.0436   6.2
stage5  MBConv6, k5x5, SE       1       112        3    14x14     543,148   0.0861   7.7
stage6  MBConv6, k5x5, SE       2       192        4    14x14   2,026,348   0.0915   5.2
stage7  MBConv6, k3x3, SE       1       320        1      7x7     717,232   0.0295   1.3
total                                                           3,595,388   0.3645  62.7
"""


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["scaling", *words]) == 0
    return capsys.readouterr().out


def figures(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict]:
    return json.loads(printed(capsys, *words, "--json", "-"))["backbones"]


def test_stages_are_those_of_the_paper() -> None:
    found = calculator.describe("b0", classes=1000).stages
    rows = [(s.name, s.operator, s.stride, s.height, s.channels, s.repeats) for s in found]
    assert rows == TABLE_1
    assert [s.kernel for s in found] == [3, 3, 3, 5, 3, 5, 5, 3, 1, 1]
    assert all(s.width == s.height for s in found)


def test_odd_sizes_round_up() -> None:
    found = calculator.describe("b0", (101, 76)).stages
    assert [stage.height for stage in found] == [101, 51, 51, 26, 13, 7, 7, 4]
    assert [stage.width for stage in found] == [76, 38, 38, 19, 10, 5, 5, 3]


def test_b0_by_hand() -> None:
    stem, first = calculator.describe("b0", activation="relu").stages[:2]
    assert stem.parameters == 3 * 3 * 3 * 32 + 2 * 32
    assert stem.multiply_adds == 112 * 112 * 864
    assert stem.activation_bytes == 4 * 2 * 112 * 112 * 32
    squeeze = (32 * 8 + 8) + (8 * 32 + 32)
    assert first.parameters == (9 * 32 + 64) + squeeze + (32 * 16 + 32)
    assert first.multiply_adds == 112 * 112 * (9 * 32 + 32 * 16) + 2 * 32 * 8
    # Depthwise: convolved, activated, gated; the gate's 8 and 32 channels; projected: convolved, normalised.
    assert first.activation_bytes == 4 * (112 * 112 * (3 * 32 + 2 * 16) + 2 * 8 + 2 * 32)


def test_table_of_b0(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, "b0", "--activation", "relu")
    assert out.startswith(B0_TEXT)
    assert (
        "\ntrunk alone; multiply-adds of 1 image\nkept: estimated for a training step of 1 image; with" in out
    )
    maps = [line.split() for line in out.splitlines()[-4:]]
    assert maps[1] == ["stride", "2", "4", "8", "16", "32"]
    assert maps[2] == ["channels", "16", "24", "40", "112", "320"]
    assert maps[3] == ["end", "point", "blocks_0", "blocks_2", "blocks_4", "blocks_10", "blocks_15"]


def test_resnet50_by_its_own_rows() -> None:
    found = calculator.describe("resnet50", (512, 512)).stages
    rows = [(s.name, s.stride, s.channels, s.repeats, s.height) for s in found]
    assert rows == [
        ("conv1", 2, 64, 1, 512),
        ("pool1", 2, 64, 1, 256),
        ("block1", 2, 256, 3, 128),
        ("block2", 2, 512, 4, 64),
        ("block3", 2, 1024, 6, 32),
        ("block4", 1, 2048, 3, 16),
    ]
    assert found[1].parameters == found[1].multiply_adds == 0
    # Convolved and activated at stride 2, and pooled at stride 4.
    assert found[0].activation_bytes == 4 * 64 * (2 * 256 * 256 + 128 * 128)


@pytest.mark.parametrize("name", TABLE_2)
def test_published_figures(name: str) -> None:
    report = calculator.describe(name, classes=1000)
    millions, billions = TABLE_2[name]
    assert report.parameters / 1e6 == pytest.approx(millions, rel=0.02)
    expected, tolerance = (OFF[name], 1e-3) if name in OFF else (billions, 0.021)
    assert report.multiply_adds / 1e9 == pytest.approx(expected, rel=tolerance)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([*catalog.names(), "phi=-2", "phi=0.7"]),
    st.integers(1, 900),
    st.integers(1, 900),
    st.integers(1, 9),
    st.sampled_from([None, 1000]),
)
def test_stages_add_up(name: str, height: int, width: int, batch: int, classes: int | None) -> None:
    report = calculator.describe(name, (height, width), batch=batch, classes=classes)
    for field in ("parameters", "multiply_adds", "activation_bytes"):
        assert sum(getattr(stage, field) for stage in report.stages) == getattr(report, field)
    backbone = catalog.get_backbone(name, classes=classes)
    assert report.parameters == backbone.parameters
    assert report.multiply_adds == backbone.multiply_adds(height, width)
    assert report.recomputed_bytes < report.activation_bytes
    strides = [stage.stride for stage in report.stages if stage.stride]
    assert np.prod(strides) == report.features[-1].stride
    assert report.stages[0].height == height and report.stages[0].width == width


@given(st.sampled_from(sorted(KEPT_MAPS)), st.integers(1, 5))
def test_recomputation_by_hand(activation: str, batch: int) -> None:
    """A stem of 2 channels, two parts of which the second is larger, a layer behind them."""
    layers = [
        Layer("stem", 3, 3, 2, 2, pooled=True),
        Layer("a/expand", 1, 2, 4, 4, part="a"),
        Layer("a/project", 1, 4, 3, 4, activated=False, part="a"),
        Layer("b/expand", 1, 3, 6, 4, part="b"),
        Layer("b/depthwise", 3, 6, 6, 8, depthwise=True, products=True, part="b"),
        Layer("b/project", 1, 6, 5, 8, activated=False, part="b"),
        Layer("head", 1, 5, 7, 8),
    ]
    maps = KEPT_MAPS[activation]
    # 12 x 16 pixels: 48 cells at stride 2, 12 at 4, 4 at 8 (1.5 rounds up to 2).
    outside = maps * 2 * 48 + 2 * 12 + 3 * 12 + 5 * 4 + maps * 7 * 4
    inside = maps * 6 * 12 + (maps + 1) * 6 * 4 + 2 * 5 * 4 + 6 * 12
    found = recomputed_bytes(layers, 12, 16, activation, batch)
    assert found == 4 * batch * (outside + inside)
    wanted = recomputed_bytes(layers, 12, 16, activation, batch, {"a/expand", "head"})
    assert wanted - found == 4 * batch * 4 * 12


def test_parts_are_blocks_and_units() -> None:
    def outside(name: str) -> list[str]:
        layers = catalog.get_backbone(name, classes=9).layers
        assert all(layer.name.startswith(f"{layer.part}/") for layer in layers if layer.part)
        return [layer.name for layer in layers if not layer.part]

    def parts(name: str) -> list[str]:
        return list(dict.fromkeys(layer.part for layer in catalog.get_backbone(name).layers if layer.part))

    assert outside("b0") == ["stem", "head", "logits"] and outside("resnet50") == ["conv1", "logits"]
    assert parts("b0") == [f"blocks_{number}" for number in range(16)]
    units = {"block1": 3, "block2": 4, "block3": 6, "block4": 3}
    expected = [f"{row}/unit_{unit}" for row, count in units.items() for unit in range(1, count + 1)]
    assert parts("resnet50") == expected


def test_expansions_that_are_merged_are_kept() -> None:
    kept = {
        kind: calculator.describe("b0", (64, 64), pre_stride=kind, classes=5) for kind in scaling.PRE_STRIDES
    }
    assert kept["expand"].activation_bytes == kept["block"].activation_bytes
    expansions = 96 * 32**2 + 144 * 16**2 + 240 * 8**2 + 672 * 4**2  # f5 is the head's, outside of the blocks
    assert kept["expand"].recomputed_bytes - kept["block"].recomputed_bytes == 4 * expansions


# --- options


def test_json_holds_the_reports(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["b1", "resnet50", "--phi", "0.5", "--phi", "-1", "--size", "96x64"]
    out = printed(capsys, *words, "--json", str(tmp_path / "new" / "out.json"))
    read = json.loads((tmp_path / "new" / "out.json").read_text())
    assert read["backbones"] == figures(capsys, *words)
    names = ["b1", "resnet50", "phi=0.5", "phi=-1"]
    reports = [calculator.describe(name, (64, 96)) for name in names]
    again = []
    for row in read["backbones"]:
        stages = tuple(calculator.StageCost(**stage) for stage in row["stages"])
        maps = tuple(scaling.Feature(**feature) for feature in row["features"])
        again.append(calculator.Report(**{**row, "stages": stages, "features": maps}))
    assert again == reports
    assert [line.split(" ")[0] for line in out.splitlines() if "pixels, " in line] == [
        *names[:1],
        "resnet50;",
        *names[2:],
    ]
    assert out.endswith(calculator.overview(reports) + "\n")


def test_every_option_reaches_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    (plain,) = figures(capsys, "b0")
    assert (plain["height"], plain["width"], plain["activation"], plain["batch"]) == (224, 224, "swish", 1)
    (sized,) = figures(capsys, "b0", "--size", "1280x720")
    assert (sized["height"], sized["width"]) == (720, 1280)
    assert sized["multiply_adds"] > 15 * plain["multiply_adds"]
    assert figures(capsys, "b0", "--size", "512")[0]["height"] == 512
    (many,) = figures(capsys, "b0", "--batch", "6")
    for field in ("activation_bytes", "recomputed_bytes"):
        assert many[field] == 6 * plain[field]
    assert many["multiply_adds"] == plain["multiply_adds"]
    (relu,) = figures(capsys, "b0", "--activation", "relu")
    assert relu["activation_bytes"] < plain["activation_bytes"] and relu["activation"] == "relu"
    (expanding,) = figures(capsys, "b0", "--pre-stride", "expand")
    assert [feature["channels"] for feature in expanding["features"]] == [96, 144, 240, 672, 1280]
    assert expanding["stages"][-1]["name"] == "head"
    (whole,) = figures(capsys, "b0", "--classes", "1000")
    assert whole["parameters"] == 5_288_548 and whole["stages"][-1]["channels"] == whole["classes"] == 1000
    assert [row["name"] for row in figures(capsys, "b0", "phi=1", "b0", "--phi", "1")] == ["b0", "phi=1"]


def test_overview_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "--classes", "1000").splitlines()
    rows = {line.split()[0]: line.split() for line in lines[2:-2]}
    assert list(rows) == list(catalog.names())
    assert rows["b4"][1:5] == ["380x380", "swish", "19,341,616", "4.3938"]
    assert rows["b4"][-5:] == ["24", "32", "56", "160", "448"]
    # ResNet-50 has neither other activations nor expansions.
    for words in (["--activation", "swish"], ["--pre-stride", "expand"]):
        named = [row["name"] for row in figures(capsys, *words)]
        assert named == [name for name in catalog.names() if name != "resnet50"]


@pytest.mark.parametrize("words", [[], ["--pre-stride", "expand"], ["--activation", "hard-swish"]])
def test_tables_fit_the_terminal(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    every = [name for name in catalog.names() if name != "resnet50" or not words]
    for names in ([], every):
        out = printed(capsys, *names, *words, "--size", "1280x720", "--batch", "16", "--classes", "1000")
        assert max(map(len, out.splitlines())) <= 100
        assert "\t" not in out and not any(line.endswith(" ") for line in out.splitlines())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["b9"], "backbone: unknown variant 'b9'; expected one of b0, b1, "),
        (["--phi", "big"], "phi: 'big' cannot be used; expected a plain decimal from -3 to 12"),
        (["--phi", "13"], "phi: '13' cannot be used"),
        (["--size", "0"], "size: '0' cannot be used; expected one side such as 512, or WIDTHxHEIGHT"),
        (["--size", "0x64"], "size: '0x64' cannot be used"),
        (["--size", "64x0"], "size: '64x0' cannot be used"),
        (["--size", "512x"], "size: '512x' cannot be used"),
        (["--size", "-5"], "size: '-5' cannot be used"),
        (["--size", "65537"], "size: '65537' cannot be used"),
        (["b0", "--batch", "0"], "batch: is 0; expected a whole number from 1"),
        (["b0", "--batch", "two"], "--batch: invalid int value: 'two'; see `"),
        (["b0", "--classes", "-3"], "classes: is -3; expected"),
        (["b0", "--activation", "gelu"], "activation: unknown 'gelu'; expected one of relu, relu6, swish"),
        (["b0", "--pre-stride", "stem"], "unknown 'stem'; expected one of block, expand"),
        (["resnet50", "--activation", "swish"], "activation: 'swish' with resnet50; expected relu"),
        (["resnet50", "--pre-stride", "expand"], "'expand' with resnet50; expected block"),
        (
            ["b0", "--plot", "a.jpg"],
            "--plot: a.jpg does not end in .png; expected a file name such as scaling.png",
        ),
        (["b0", "--json", "."], "--json: . is a folder; expected a file name such as out.json"),
    ],
)
def test_what_cannot_be_used(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["scaling", *words]) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert said in line and out == ""
    assert not list(tmp_path.iterdir())


def test_unknown_names_list_the_known() -> None:
    with pytest.raises(UserError) as caught:
        calculator.describe("b9")
    assert all(name in caught.value.hint for name in catalog.names())


# --- the chart


def pixels(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    assert image is not None and path.read_bytes().startswith(b"\x89PNG")
    return image


def test_chart_shows_what_was_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    printed(capsys, "--plot", str(tmp_path / "all.png"))
    printed(capsys, "phi=6.5", "resnet50", "--plot", str(tmp_path / "star.PNG"))
    plain, starred = pixels(tmp_path / "all.png"), pixels(tmp_path / "star.PNG")
    assert plain.shape == starred.shape == (520, 1000, 3)
    for half in np.split(plain, 2, axis=1):
        inked = (half != 255).any(axis=2).mean()
        assert 0.03 < inked < 0.5, "something is drawn, on white"
        assert len(np.unique(half.reshape(-1, 3), axis=0)) > 50, "in several colours"
    purple = np.array([189, 103, 148])  # the fifth of matplotlib's colours, BGR
    assert not (plain == purple).all(axis=2).any()
    for half in np.split(starred, 2, axis=1):
        assert (half == purple).all(axis=2).sum() > 20
    assert "b0" not in capsys.readouterr().err


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[charts.Series]]:
    """Gets what would be drawn, panel for panel."""
    panels: dict[str, list[charts.Series]] = {}

    def keep(title: str, x_label: str, given: list[charts.Panel]) -> bytes:
        panels.update({panel.label: list(panel.series) for panel in given})
        return b""

    monkeypatch.setattr(charts, "draw", keep)
    return panels


@pytest.mark.parametrize("options", [{"size": (64, 64)}, {"pre_stride": "expand"}, {"classes": 1000}])
def test_options_reach_the_chart(options: dict, drawn: dict[str, list[charts.Series]]) -> None:
    report_chart.against_phi([], **options)
    (work,) = (series for label, series in drawn.items() if label.startswith("multiply-adds"))
    reports = [calculator.describe(f"b{number}", **options) for number in range(9)]
    assert work[1].y == [report.multiply_adds / 1e9 for report in reports]
    assert work[3].label == ("B0 × (αβ²)^φ" if "size" in options else "B0 × 2^φ")


def test_chart_series_are_what_the_calculator_counts(drawn: dict[str, list[charts.Series]]) -> None:
    report_chart.against_phi([calculator.describe("l2"), calculator.describe("resnet50")])
    parameters, work = drawn.values()
    assert [series.label for series in work] == [
        "B0 scaled by φ", "published, B0 to B8", "published, lite0 to lite4", "B0 × 2^φ", "asked for"
    ]  # fmt: skip
    line, published, lite, rule, starred = work
    assert (line.x[0], line.x[-1]) == (-1, 12) and list(published.x) == list(range(9))
    assert published.y[4] == pytest.approx(catalog.get_backbone("b4").multiply_adds(380, 380) / 1e9)
    at_one = line.x.index(1.0)
    assert line.y[at_one] == pytest.approx(calculator.describe("phi=1").multiply_adds / 1e9)
    assert rule.y[rule.x.index(3.0)] == pytest.approx(8 * published.y[0])
    assert starred.names == ["l2"] and starred.x == [15]
    assert parameters[2].y[0] == pytest.approx(2_958_848 / 1e6) and lite.x == [0, 1, 2, 3, 4]
    growth = parameters[3].y[rule.x.index(1.0)] / parameters[1].y[0]
    assert growth == pytest.approx(1.2 * 1.1**2)


def test_starts_without_tensorflow(tmp_path: Path) -> None:
    program = (
        "import sys; from efficientnet_east.cli.main import main\n"
        "assert main(['scaling', 'b0']) == 0 and 'matplotlib' not in sys.modules\n"
        "assert main(['scaling', '--json', 'o.json', '--plot', 'o.png']) == 0\n"
        "loaded = {'tensorflow', 'tf_slim', 'tf_keras', 'keras', 'matplotlib.pyplot'} & sys.modules.keys()\n"
        "assert not loaded, loaded\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.json", "o.png"]


def test_report_is_complete() -> None:
    """Every field of the report and of its stages is in the JSON."""
    (row,) = calculator.as_dict([calculator.describe("b0")])["backbones"]
    assert set(row) == {field.name for field in dataclasses.fields(calculator.Report)}
    assert set(row["stages"][0]) == {field.name for field in dataclasses.fields(calculator.StageCost)}


# --- the page


def test_page_shows_what_is_counted() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    for name, (millions, billions) in TABLE_2.items():
        report = calculator.describe(name, classes=1000)
        giga = report.multiply_adds / 1e9
        (row,) = (line for line in page.splitlines() if line.startswith(f"| {name} |"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        published, counted = f"{millions} M", f"{report.parameters:,}"
        assert cells[1:3] == [published, counted] and float(cells[3].removesuffix(" G")) == billions
        assert cells[4:] == [f"{giga:.4g} G", f"{giga / billions - 1:+.1%}"]
    table = calculator.stage_table(calculator.describe("b0"))
    assert table.partition("\ntrunk alone")[0] in page


def test_page_shows_what_was_measured() -> None:
    """The table is that of the measured rows, whose estimates are what is estimated now."""
    specification = importlib.util.spec_from_file_location("memory", ROOT / "benchmarks" / "memory.py")
    memory = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(memory)
    rows = json.loads((ROOT / "benchmarks" / "results" / "memory.json").read_text())
    assert [
        {key: row[key] for key in case} for row, case in zip(rows, memory.cases(), strict=True)
    ] == memory.cases()
    assert [row["estimated_mb"] for row in rows] == [round(memory.estimate(row)) for row in rows]
    assert memory.table(rows) in (ROOT / "benchmarks" / "results" / "memory.md").read_text(encoding="utf-8")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """As in `scaling | head`: the pipe is closed before anything is written."""
    command = [sys.executable, "-m", "efficientnet_east", "scaling"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=100)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
