"""TF_CONFIG: what is read from it, what is refused and how; waiting for the other processes."""

import json
import socket
import threading
from typing import Any

import pytest

from efficientnet_east.errors import UserError
from efficientnet_east.training.cluster import (
    Cluster,
    expect_free_port,
    from_environment,
    unreachable,
    wait_for_all,
)


def variables(cluster: Any, task: Any) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


def test_without_a_cluster_a_process_is_alone() -> None:
    for given in ({}, {"TF_CONFIG": ""}, {"TF_CONFIG": "{}"}, variables({}, {"type": "worker", "index": 0})):
        alone = from_environment(given)
        assert alone.is_chief and alone.shares() == (0, 1)


def test_workers_are_numbered_behind_the_chief() -> None:
    workers = from_environment(variables({"worker": ["a:1", "b:2"]}, {"type": "worker", "index": "1"}))
    assert workers == Cluster(("a:1", "b:2"), 1, "worker", 1) and not workers.is_chief
    cluster = {"worker": ["b:2", "[::1]:3"], "chief": ["a:1"]}
    last = from_environment(variables(cluster, {"type": "worker", "index": 1}))
    assert last == Cluster(("a:1", "b:2", "[::1]:3"), 2, "worker", 1) and last.shares() == (2, 3)
    assert from_environment(variables(cluster, {"type": "chief", "index": 0})).is_chief


TWO = {"worker": ["a:1", "b:2"]}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"TF_CONFIG": "{"}, "TF_CONFIG: is not JSON"),
        ({"TF_CONFIG": "[1]"}, "TF_CONFIG: the whole is not an object"),
        (variables("a:1", {}), "TF_CONFIG: cluster: is 'a:1'"),
        (variables({"worker": "a:1"}, {}), "TF_CONFIG: cluster.worker: is 'a:1'"),
        (variables({"ps": ["a:1"]}, {}), "TF_CONFIG: cluster.ps: is not a job of a training run"),
        (variables({"chief": ["a:1", "b:1"]}, {}), "TF_CONFIG: cluster.chief: has 2 addresses; expected one"),
        (variables({"worker": ["a:1", "b"]}, {}), r"cluster.worker\[1\]: is 'b'; expected host:port"),
        (variables({"worker": ["a:1", 7]}, {}), r"cluster.worker\[1\]: is 7; expected host:port"),
        (variables({"worker": ["a:99999"]}, {}), r"TF_CONFIG: cluster.worker\[0\]: is 'a:99999'"),
        (variables({"worker": ["a:1", "a:1"]}, {}), "TF_CONFIG: cluster: names a:1 twice"),
        (variables(TWO, None), "TF_CONFIG: task: is missing"),
        (variables(TWO, {"index": 0}), "TF_CONFIG: task.type: is missing"),
        (variables(TWO, {"type": "chief", "index": 0}), "task.type: is 'chief'; expected .*worker"),
        (variables(TWO, {"type": "worker"}), "TF_CONFIG: task.index: is missing"),
        (variables(TWO, {"type": "worker", "index": 2}), "TF_CONFIG: task.index: is 2 .*expected 0 to 1"),
        (variables(TWO, {"type": "worker", "index": True}), "TF_CONFIG: task.index: is True"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        from_environment(given)


@pytest.fixture
def listening() -> Any:
    with socket.socket() as open_port:
        open_port.bind(("127.0.0.1", 0))
        open_port.listen()
        yield open_port.getsockname()[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_port_that_is_taken_is_refused(listening: int) -> None:
    with pytest.raises(UserError, match=rf"TF_CONFIG: cluster.worker\[0\]: 127.0.0.1:{listening} cannot be "):
        expect_free_port(Cluster((f"127.0.0.1:{listening}", "b:1")))
    expect_free_port(Cluster((f"127.0.0.1:{free_port()}", "b:1")))


def test_who_is_late_is_waited_for_and_named(listening: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    late = free_port()
    cluster = Cluster(("127.0.0.1:1", f"127.0.0.1:{listening}", f"127.0.0.1:{late}"))
    assert unreachable(cluster) == [f"127.0.0.1:{late}"]
    with pytest.raises(UserError, match=rf"127.0.0.1:{late}: cannot be reached after"):
        wait_for_all(cluster, 0.1)
    with socket.socket() as other:

        def come() -> None:
            other.bind(("127.0.0.1", late))
            other.listen()

        timer = threading.Timer(0.7, come)
        timer.start()
        wait_for_all(cluster, 20)
        timer.join()
    assert caplog.messages == [f"waiting for 127.0.0.1:{late}"] * 2
    wait_for_all(Cluster(), 0)
