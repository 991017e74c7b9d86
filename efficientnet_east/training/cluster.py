"""The processes of one run on several machines, as the environment variable TF_CONFIG names them."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from efficientnet_east.errors import UserError

logger = logging.getLogger(__name__)
VARIABLE = "TF_CONFIG"
_EXAMPLE = '{"cluster": {"worker": ["host0:port", "host1:port"]}, "task": {"type": "worker", "index": 0}}'


@dataclasses.dataclass(frozen=True)
class Cluster:
    """One process among those that train together.

    Attributes:
      addresses: `host:port` of all of them; the first is the chief, who alone writes.
      number: of this process, from 0.
      job: the name of this process's job, "worker" or "chief".
      index: of this process within its job.
    """

    addresses: tuple[str, ...] = ("",)
    number: int = 0
    job: str = "worker"
    index: int = 0

    @property
    def is_chief(self) -> bool:
        """Whether this process writes checkpoints, events and figures."""
        return self.number == 0

    def shares(self) -> tuple[int, int]:
        """Return this process's number and how many there are, as `data.loader.batches` takes its shard."""
        return self.number, len(self.addresses)


def from_environment(variables: Mapping[str, str] = os.environ) -> Cluster:
    """Read TF_CONFIG.

    Args:
      variables: of the environment.

    Returns:
      The cluster; of this process alone if the variable is not set or names no cluster.

    Raises:
      UserError: the variable cannot be used; its field is named.
    """
    text = variables.get(VARIABLE, "").strip()
    try:
        given = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise UserError(VARIABLE, f"is not JSON ({error})", f"expected {_EXAMPLE}") from None
    cluster = _member(given, "", "cluster", dict, {})
    if not cluster:
        return Cluster()
    lists = _addresses(cluster)
    job, index = _task(given, lists)
    number = index + (len(lists["chief"]) if job == "worker" else 0)
    return Cluster((*lists["chief"], *lists["worker"]), number, job, index)


def _addresses(cluster: Mapping[str, Any]) -> dict[str, list[str]]:
    """Read the addresses of both jobs, "chief" and "worker"."""
    for job in cluster:
        if job not in ("chief", "worker"):
            problem = "is not a job of a training run"
            raise UserError(f"{VARIABLE}: cluster.{job}", problem, "expected chief and worker")
    lists = {job: _member(cluster, "cluster.", job, list, []) for job in ("chief", "worker")}
    if len(lists["chief"]) > 1:
        raise UserError(f"{VARIABLE}: cluster.chief", f"has {len(lists['chief'])} addresses", "expected one")
    for job, addresses in lists.items():
        for place, address in enumerate(addresses):
            _expect_address(f"{VARIABLE}: cluster.{job}[{place}]", address)
    every = lists["chief"] + lists["worker"]
    repeated = next((address for address in every if every.count(address) > 1), None)
    if repeated:
        hint = "Give each process a port of its own."
        raise UserError(f"{VARIABLE}: cluster", f"names {repeated} twice", hint)
    return lists


def _task(given: Mapping[str, Any], lists: Mapping[str, list[str]]) -> tuple[str, int]:
    """Read the job of this process, and its index within the job."""
    task = _member(given, "", "task", dict, None)
    job = _member(task, "task.", "type", str, None)
    if not lists.get(job):
        known = " or ".join(name for name, addresses in lists.items() if addresses)
        raise UserError(f"{VARIABLE}: task.type", f"is {job!r}", f"expected a job of the cluster: {known}")
    index = _member(task, "task.", "index", int, None)
    if not 0 <= index < len(lists[job]):
        problem = f"is {index} in a cluster with {len(lists[job])} of type {job}"
        raise UserError(f"{VARIABLE}: task.index", problem, f"expected 0 to {len(lists[job]) - 1}")
    return job, index


def _member(values: Any, path: str, name: str, kind: type, default: Any) -> Any:
    """Read a member of a JSON object; without a default it must be there."""
    if not isinstance(values, dict):
        raise UserError(
            VARIABLE, f"{path.rstrip('.') or 'the whole'} is not an object", f"expected {_EXAMPLE}"
        )
    value = values.get(name, default)
    if isinstance(value, str) and kind is int and value.isdecimal():
        value = int(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        problem = "is missing" if value is None else f"is {value!r}"
        raise UserError(f"{VARIABLE}: {path}{name}", problem, f"expected {_EXAMPLE}")
    return value


def _expect_address(where: str, address: Any) -> None:
    host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(where, f"is {address!r}", "expected host:port")


def expect_free_port(cluster: Cluster) -> None:
    """Refuse a port that another program uses.

    Args:
      cluster: of this process.

    Raises:
      UserError: another program listens there.
    """
    address = cluster.addresses[cluster.number]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", int(address.rpartition(":")[2])))
        except OSError as error:
            where = f"{VARIABLE}: cluster.{cluster.job}[{cluster.index}]"
            problem = f"{address} cannot be opened ({error.strerror})"
            raise UserError(where, problem, "expected a free port") from None


def wait_for_all(cluster: Cluster, seconds: float, period: float = 30.0) -> None:
    """Wait until every other process can be reached.

    Args:
      cluster: of this process.
      seconds: how long at most.
      period: seconds between two lines about who is missing.

    Raises:
      UserError: a process could not be reached.
    """
    begun, last_line = time.monotonic(), float("-inf")
    while missing := unreachable(cluster):
        waited = time.monotonic() - begun
        if waited > seconds:
            problem = f"cannot be reached after {waited:.0f} s"
            raise UserError(", ".join(missing), problem, "Start every process of the cluster.")
        if waited - last_line >= period:
            logger.info("waiting for %s", ", ".join(missing))
            last_line = waited
        time.sleep(0.5)


def unreachable(cluster: Cluster, timeout: float = 5.0) -> list[str]:
    """List the addresses of the other processes at which nobody listens."""
    others = [address for number, address in enumerate(cluster.addresses) if number != cluster.number]
    return [address for address in others if not _listens(address, timeout)]


def _listens(address: str, timeout: float) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout).close()
    except OSError:  # a name that is not known yet, too
        return False
    return True
