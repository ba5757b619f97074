"""The TensorRT engines of an export: for the device of this machine, or for those that were asked for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from core.bundle.contract import Bundle
from core.bundle.engine_manifest import OF_DETECTOR, load_manifest
from core.errors import CheckError
from core.geometry.camera_config import CameraConfig
from inference import backends, cuda_device
from inference.backends.trt import PRECISIONS, BuildOptions, build, build_detector
from inference.backends.trt.runtimes import supporting_runtimes
from inference.runner.region_choice import find_detector

log = logging.getLogger(__name__)
RTX = "tensorrt_rtx"
"""The runtime that builds ahead of time, for devices that are not here."""
Target = tuple[str, int | None]
"""The runtime and compute capability of an engine; None: that of this machine's device."""


def choose_targets(runtimes: Sequence[str] | None, sms: Sequence[int]) -> list[Target]:
    """Return what engines are built for. runtimes: None for what this machine's device and `sms` ask for."""
    if runtimes is None:
        runtimes = (RTX,) if sms else _runtimes_here()
    return [(name, sm) for name in runtimes for sm in (sms if name == RTX and sms else (None,))]


def _runtimes_here() -> list[str]:
    """Return the runtime for the device of this machine; without a device, say that no engine is built."""
    found = backends.availability("trt")
    if not found.available:
        log.info(f"no engines: {found.reason}; --sm builds them for a device that is not here")
        return []
    return supporting_runtimes(cuda_device.device().sm)[:1]


def build_engines(bundle: Bundle, targets: Sequence[Target], options: BuildOptions) -> list[dict[str, Any]]:
    """Build the engines of each precision and of the detector; return a row for each, with the reason if it failed."""
    rows = []
    builds = {p: partial(build, bundle, p) for p in bundle.precisions if p in PRECISIONS}
    if detector := find_detector(bundle, CameraConfig()):
        builds[OF_DETECTOR] = partial(build_detector, detector)
    for runtime, sm in targets:
        for precision, build_engine in builds.items():
            target = f"sm{sm}" if sm else "here"
            row: dict[str, Any] = {"runtime": runtime, "precision": precision, "target": target}
            try:
                engine = build_engine(runtime=runtime, sm=sm, options=options)
                manifest = load_manifest(engine, "")
                row |= {"file": engine.name, "bytes": manifest.engine_bytes, "seconds": manifest.build_seconds}
                row |= {"state": manifest.state}
            # a row all the same: the bundle ships without this engine, and the report says why
            except CheckError as error:
                row |= {"state": "not built", "reason": str(error)}
                log.error(f"{bundle.arch}: {error}")
            rows.append(row)
    return rows
