"""Engines are built here for devices that are not here, and an int8 one computes in int8."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from core.bundle.contract import onnx_name
from core.bundle.engine_manifest import load_manifest
from core.errors import CheckError, InputError
from export import engines
from export.graph.nodes import Graph
from export.precision import int8 as to_int8
from export.precision.fp16 import to_fp16
from export.precision.fp32 import to_onnx
from export.quantize import calibration
from inference.backends.trt import BuildOptions, build
from models.deployed import DeployedNetwork
from tests.bundles import make_bundle


@pytest.fixture(scope="module")
def graphs(pack):
    """fp32, fp16, int8, and int8 with its second convolution in float, of a small network with a linear head."""
    pytest.importorskip("tensorrt_rtx")
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(0.5), nn.Linear(16, 3),
    )  # fmt: skip
    fp32 = to_onnx(DeployedNetwork(layers, (0.45,) * 3, (0.1,) * 3).eval(), 32)
    kept = Graph(fp32).weighted[1].name
    plans = [to_int8.plan_quantization(fp32), to_int8.plan_quantization(fp32, [kept])]
    observer = calibration.Observer(fp32, plans[0].tensors)
    amax = calibration.choose_ranges(calibration.build_histograms(observer, pack.images_nhwc, np.arange(16)), "minmax")
    int8, mixed = (to_int8.quantize(fp32, plan, amax) for plan in plans)
    return {"fp32": fp32, "fp16": to_fp16(fp32), "int8": int8, "mixed": mixed, "kept": kept}


@pytest.fixture
def bundle(graphs, tmp_path):
    made = make_bundle(tmp_path / "bundle", precisions=("fp32", "fp16", "int8"))
    for precision in ("fp32", "fp16", "int8"):
        onnx.save(graphs[precision], made.path / onnx_name(precision))
    return made.with_files(list(made.files))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("sm", [75, 120])
def test_every_precision_builds_for_old_and_new_devices(bundle, precision, sm):
    engine = build(bundle, precision, runtime="tensorrt_rtx", sm=sm)
    assert (load_manifest(engine, "").target, load_manifest(engine, "").state) == (f"sm{sm}", "built")


def test_an_int8_file_with_a_float_layer_is_refused_unless_the_search_gave_it_back(bundle, graphs):
    onnx.save(graphs["mixed"], bundle.path / onnx_name("int8"))
    mixed = bundle.with_files(list(bundle.files))
    with pytest.raises(CheckError, match=f"the layers {graphs['kept']} would run in float"):
        build(mixed, "int8", runtime="tensorrt_rtx", sm=86)
    told = replace(mixed, gates={"int8": {"passed": True, "checks": [], "kept_float": [graphs["kept"]]}})
    assert build(told, "int8", runtime="tensorrt_rtx", sm=86).is_file()


def test_zones_get_their_own_profile(bundle):
    engine = build(bundle, "fp32", runtime="tensorrt_rtx", sm=86, options=BuildOptions(batches=(1, 3)))
    assert load_manifest(engine, "").batches == (1, 3)


def test_a_target_that_does_not_exist_is_refused(bundle):
    with pytest.raises(InputError, match="has no target sm33"):
        build(bundle, "fp32", runtime="tensorrt_rtx", sm=33)


def test_a_target_that_a_precision_cannot_serve_is_named_and_not_fatal(bundle, monkeypatch):
    real = engines.build

    def build_but_one(bundle, precision, *, runtime, sm, options):
        if (precision, sm) == ("fp32", 75):
            raise CheckError("cannot build model.fp32.onnx for sm75 (FP32 GEMM is not supported)")
        return real(bundle, precision, runtime=runtime, sm=sm, options=options)

    monkeypatch.setattr(engines, "build", build_but_one)
    rows = engines.build_engines(bundle, [("tensorrt_rtx", 75), ("tensorrt_rtx", 86)], BuildOptions())
    states = {(row["precision"], row["target"]): row["state"] for row in rows}
    assert states.pop(("fp32", "sm75")) == "not built"
    assert set(states.values()) == {"built"}
    assert "FP32 GEMM" in next(row["reason"] for row in rows if row["state"] == "not built")
