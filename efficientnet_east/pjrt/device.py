"""A device behind jaxlib's PJRT client: compile StableHLO, keep arrays there, execute. JAX is not needed.

The only file that knows jaxlib, whose names here are JAX's inner ones and not promised to anybody; they were
the same from 0.7.2 to 0.12.0.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from efficientnet_east.errors import UserError
from efficientnet_east.system import installed

PLATFORMS = ("auto", "cpu", "cuda", "tpu")
PLUGINS = {"cuda": ("jax_plugins", "xla_cuda*/xla_cuda_plugin.so"), "tpu": ("libtpu", "libtpu.so")}
Buffer = Any


def find_plugin(platform: str) -> Path | None:
    """Find the shared library of an installed plug-in.

    Args:
      platform: `cuda` (a package jax-cuda12-pjrt or jax-cuda13-pjrt) or `tpu` (the package libtpu).

    Returns:
      The library, or None if it is not installed.
    """
    package, pattern = PLUGINS[platform]
    spec = installed.find(package)
    folders = (spec.submodule_search_locations if spec else None) or ()
    return next((path for folder in folders for path in sorted(Path(folder).glob(pattern))), None)


class Device:
    """One device, and the client that it belongs to.

    Args:
      platform: of `PLATFORMS`; `auto` takes CUDA or a TPU if a plug-in for it is installed, else the CPU.

    Raises:
      UserError: jaxlib or the plug-in is not installed, or the plug-in finds no device.
    """

    def __init__(self, platform: str = "auto") -> None:
        try:
            from jaxlib import xla_client
        except ImportError:
            hint = "Run `pip install 'jaxlib>=0.7.2'`."
            raise UserError("jaxlib", "is not installed", hint) from None
        self._xla = xla_client
        self._client = _client(xla_client, platform)
        self._device = self._client.local_devices()[0]
        self._sharding = _whole(xla_client)(self._device)

    @property
    def name(self) -> str:
        """Platform and kind, for people."""
        return f"{self._client.platform} ({self._device.device_kind})"

    def compile(self, program: str) -> Program:
        """Compile a program for this device.

        Args:
          program: StableHLO text with one function `main`.

        Returns:
          The program.
        """
        options = self._xla.CompileOptions()
        devices = self._xla.DeviceList((self._device,))
        return Program(self._client.compile_and_load(program, devices, options))

    def put(self, array: np.ndarray) -> Buffer:
        """Begin to copy an array to the device; it must not change before the copy is done.

        Args:
          array: of any shape and dtype.

        Returns:
          The array on the device.
        """
        array = np.ascontiguousarray(array).reshape(array.shape)
        return self._xla.batched_device_put(
            _Aval(array.shape, array.dtype),
            self._sharding,
            [array],
            [self._device],
            host_buffer_semantics=self._xla.HostBufferSemantics.IMMUTABLE_UNTIL_TRANSFER_COMPLETES,
            enable_x64=True,  # or int64 would become int32
        )


class Program:
    """What `Device.compile` returns."""

    def __init__(self, executable: Any) -> None:
        self._executable = executable

    def __call__(self, arguments: Sequence[Buffer]) -> list[Buffer]:
        """Begin to execute the program.

        Args:
          arguments: on the device, in the program's order. Those that it donates are used up.

        Returns:
          The results, on the device; they may still be on their way.
        """
        results = self._executable.execute_sharded(arguments).disassemble_into_single_device_arrays()
        return [shards[0] for shards in results]


def fetch(buffer: Buffer) -> np.ndarray:
    """Wait for an array of the device.

    Args:
      buffer: from `Device.put` or a program.

    Returns:
      A copy of its own: on the CPU the array itself may be overwritten by the next step.
    """
    return np.array(buffer._single_device_array_to_np_array_did_copy()[0])


@dataclasses.dataclass(frozen=True)
class _Aval:
    """What jaxlib wants to know about an array."""

    shape: tuple[int, ...]
    dtype: np.dtype
    weak_type: bool = False


def _whole(xla_client: Any) -> type:
    """Make the sharding of an array that lies on one device as a whole, with two names that JAX adds."""

    class Whole(xla_client.SingleDeviceSharding):
        memory_kind = None

        def _to_xla_hlo_sharding(self, dimensions: int) -> Any:
            return xla_client.HloSharding.replicate()

    return Whole


def _client(xla_client: Any, platform: str) -> Any:
    candidates = ("cuda", "tpu") if platform == "auto" else (platform,)
    for name in candidates:
        if name == "cpu":
            break
        library = find_plugin(name)
        if library is not None:
            return _plugin_client(xla_client, name, library)
        if platform != "auto":
            package = {"cuda": "jax-cuda13-pjrt (or 12)", "tpu": "libtpu"}[name]
            raise UserError("platform", f"has no plug-in for {name}", f"Install the package {package}.")
    return xla_client.make_cpu_client()


def _plugin_client(xla_client: Any, name: str, library: Path) -> Any:
    options = dict(xla_client.generate_pjrt_gpu_plugin_options()) if name == "cuda" else {}
    if name == "tpu":
        os.environ.setdefault("TPU_LIBRARY_PATH", str(library))
    try:
        if not xla_client.pjrt_plugin_loaded(name):
            xla_client.load_pjrt_plugin_dynamically(name, str(library))
        if not xla_client.pjrt_plugin_initialized(name):
            xla_client.initialize_pjrt_plugin(name)
        return xla_client.make_c_api_client(name, options)
    except RuntimeError as error:
        problem = f"does not start ({str(error).partition(chr(10))[0]})"
        hint = "Check the device and its driver, or use the platform `cpu`."
        raise UserError(library, problem, hint) from None
