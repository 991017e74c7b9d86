"""TF_CONFIG from Slurm and Kubernetes, and the files that start runs there."""

import subprocess
from pathlib import Path

import pytest
import yaml
from helpers.programs import load_example

from efficientnet_east.cli.main import parser
from efficientnet_east.training.cluster import from_environment

CLUSTER = Path(__file__).resolve().parents[2] / "examples" / "cluster"
(tf_config,) = load_example("cluster", "tf_config")


def test_slurms_short_forms() -> None:
    assert tf_config.expand("gpu[01-03,7],login") == ["gpu01", "gpu02", "gpu03", "gpu7", "login"]
    assert tf_config.expand("a9,b[098-100].x") == ["a9", "b098.x", "b099.x", "b100.x"]
    assert tf_config.tasks_per_node("2(x3),1") == [2, 2, 2, 1]


def test_every_task_of_slurm_finds_itself() -> None:
    given = {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_TASKS_PER_NODE": "2,1"}
    for task in range(3):
        text = tf_config.from_slurm(given | {"SLURM_PROCID": str(task)})
        found = from_environment({"TF_CONFIG": text})
        assert found.addresses == ("n1:29500", "n1:29501", "n2:29500") and found.number == task


def test_every_pod_finds_itself() -> None:
    documents = list(yaml.safe_load_all((CLUSTER / "train.yaml").read_text()))
    service, pods = documents
    (container,) = pods["spec"]["template"]["spec"]["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment == {"SERVICE": service["metadata"]["name"], "REPLICAS": str(pods["spec"]["replicas"])}
    assert service["spec"]["ports"] == [{"port": tf_config.PORT}]
    for number in (0, 1):
        text = tf_config.from_stateful_set(environment | {"HOSTNAME": f"{pods['metadata']['name']}-{number}"})
        found = from_environment({"TF_CONFIG": text})
        assert found.addresses == ("east-0.east:29500", "east-1.east:29500") and found.number == number
    assert_options(container["args"][0].split("train.py")[1].split("&&")[0].split())


def test_the_batch_script() -> None:
    script = (CLUSTER / "train.sbatch").read_text()
    subprocess.run(["bash", "-n", str(CLUSTER / "train.sbatch")], check=True)
    assert_options(script.split("train \\\n")[1].split())


def assert_options(words: list[str]) -> None:
    assert parser().parse_args(["train", *words]).batch_norm == "sync"


def test_outside_of_both_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert tf_config.main({}) == 2
    assert capsys.readouterr().err.startswith("error: HOSTNAME: is not set")
