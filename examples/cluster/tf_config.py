"""Print TF_CONFIG for one process of a run, from what Slurm or a StatefulSet tells it.

export TF_CONFIG=$(python examples/cluster/tf_config.py)
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping

PORT = 29500


def from_slurm(variables: Mapping[str, str], port: int = PORT) -> str:
    """Make TF_CONFIG for a task that `srun` started.

    Args:
      variables: of the environment, SLURM_* among them.
      port: of the first task on each node; further ones there take the ports after it.

    Returns:
      The value of TF_CONFIG.
    """
    hosts = expand(variables["SLURM_STEP_NODELIST"])
    per_node = tasks_per_node(variables["SLURM_STEP_TASKS_PER_NODE"])
    workers = [
        f"{host}:{port + local}"
        for host, count in zip(hosts, per_node, strict=True)
        for local in range(count)
    ]
    return as_text(workers, int(variables["SLURM_PROCID"]))


def from_stateful_set(variables: Mapping[str, str], port: int = PORT) -> str:
    """Make TF_CONFIG for a pod of a Kubernetes StatefulSet.

    Args:
      variables: of the environment: HOSTNAME, which ends in the pod's number, REPLICAS, and SERVICE, the
        name of the headless service.
      port: of every pod.

    Returns:
      The value of TF_CONFIG.
    """
    name, _, number = variables["HOSTNAME"].rpartition("-")
    pods = [f"{name}-{pod}.{variables['SERVICE']}:{port}" for pod in range(int(variables["REPLICAS"]))]
    return as_text(pods, int(number))


def expand(nodes: str) -> list[str]:
    """List the hosts of Slurm's short form, such as `gpu[01-03,7],login`."""
    hosts = []
    for part in re.findall(r"[^,\[]+(?:\[[^\]]*\])?[^,\[]*", nodes):
        found = re.fullmatch(r"([^\[]*)\[([^\]]*)\](.*)", part)
        if found is None:
            hosts.append(part)
            continue
        before, numbers, after = found.groups()
        for each in numbers.split(","):
            first, _, last = each.partition("-")
            every = range(int(first), int(last or first) + 1)
            hosts += [f"{before}{number:0{len(first)}d}{after}" for number in every]
    return hosts


def tasks_per_node(text: str) -> list[int]:
    """List the counts of Slurm's short form, such as `2(x3),1`."""
    counts = []
    for part in text.split(","):
        count, _, times = part.partition("(x")
        counts += [int(count)] * int(times.rstrip(")") or 1)
    return counts


def as_text(workers: list[str], index: int) -> str:
    """Write the value of TF_CONFIG for the process with this number."""
    return json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})


def main(variables: Mapping[str, str] = os.environ) -> int:
    """Print it for this process."""
    source = from_slurm if "SLURM_PROCID" in variables else from_stateful_set
    try:
        print(source(variables))
    except KeyError as missing:
        print(
            f"error: {missing.args[0]}: is not set; run this in a task of srun, or in a pod", file=sys.stderr
        )
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
