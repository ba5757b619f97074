"""A network that is hard to quantize is caught by the gate and repaired, and the search says how."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from export.graph.nodes import Graph
from export.precision.fp32 import to_onnx
from export.precision.int8 import float_layers
from export.quantize import calibration, search
from export.quantize.equalize import equalize, find_pairs
from export.quantize.search import EvalSet
from export.verify.parity import run_onnx, run_torch

FACTOR = 1000.0


@pytest.fixture(scope="module")
def hard(checkpoint, pack):
    """The checkpoint with one squeezed channel 1000 times as large and its readers the inverse: the same function."""
    network = checkpoint.build_network()
    fire = next(m for m in network.modules() if type(m).__name__ == "Fire")
    norm = fire.squeeze[1]
    assert isinstance(norm, nn.BatchNorm2d)
    norm.weight.data[0] *= FACTOR
    norm.bias.data[0] *= FACTOR
    for reader in (fire.expand1[0], fire.expand3[0]):
        reader.weight.data[:, 0] /= FACTOR
    rows = pack.rows("val")
    reference = run_torch(network, pack.images_nhwc, rows)
    assert np.abs(reference - run_torch(checkpoint.build_network(), pack.images_nhwc, rows)).max() < 1e-4
    data = EvalSet(pack.images_nhwc, calibration.calibration_rows(pack), rows, reference, pack.labels_n[rows])
    return to_onnx(network, 32), data


def equalized(fp32, data):
    return equalize(fp32, data.images_nhwc, data.calibration_rows[:64])


def test_the_plain_network_passes_as_it_is(fp32, hard, checkpoint, pack):
    rows = pack.rows("val")
    reference = run_torch(checkpoint.build_network(), pack.images_nhwc, rows)
    data = EvalSet(pack.images_nhwc, hard[1].calibration_rows, rows, reference, pack.labels_n[rows])
    found = search.search(fp32, data)
    assert found.passed
    assert (found.kept_float, found.equalized, len(found.steps)) == ([], [], 1)


def test_equalization_repairs_it(hard, caplog):
    found = search.search(*hard)
    assert found.passed
    assert found.kept_float == []
    assert len(found.equalized) > 0
    assert [step.outcome == "passed" for step in found.steps] == [False, True]
    assert "accuracy loss" in caplog.messages[0]
    assert "layers equalised: passed" in caplog.messages[1]


def test_the_layer_search_gives_back_the_two_readers_and_no_more(hard, monkeypatch):
    monkeypatch.setattr(search, "equalize", lambda model, *_: (model, []))
    found = search.search(*hard)
    graph = Graph(hard[0])
    squeezed = graph.weighted[1]
    (rectifier,) = graph.consumers[squeezed.output[0]]
    assert found.passed
    assert set(found.kept_float) == {node.name for node in graph.consumers[rectifier.output[0]]}
    assert set(float_layers(found.forms["int8"], found.kept_float)) == set(found.kept_float)
    assert "2 layers in float" in found.steps[-1].tried


def test_without_repair_a_failure_stays_one(hard):
    found = search.search(*hard, repair=False)
    assert not found.passed
    assert len(found.steps) == 1


def test_equalizing_keeps_the_function_and_balances_the_channels(hard):
    fp32, data = hard
    balanced, names = equalized(fp32, data)
    rows = data.val_rows
    assert np.abs(run_onnx(balanced, data.images_nhwc, rows) - data.reference).max() < 1e-4
    squeezed = Graph(fp32).weighted[1]
    assert squeezed.name in names
    name, rows = squeezed.output[0], data.calibration_rows[:64]
    before, after = (calibration.channel_ranges(m, [name], data.images_nhwc, rows)[name] for m in (fp32, balanced))
    assert before.max() / np.median(before) > 100
    assert after.max() / np.median(after) < 50


def test_only_layers_read_by_layers_alone_are_scaled(fp32):
    graph = Graph(fp32)
    for pair in find_pairs(fp32):
        assert all(graph.is_weighted(reader) for reader in pair.readers)
        assert {n.op_type for n in graph.consumers[pair.first.output[0]]} == {"Relu"}
    joined = {name for node in graph.nodes if node.op_type in {"Concat", "Add"} for name in node.input}
    rectified = {graph.producer[name].input[0] for name in joined if name in graph.producer}
    assert not rectified & {pair.first.output[0] for pair in find_pairs(fp32)}


def test_a_file_whose_answers_move_when_it_is_fused_is_searched_on(hard, monkeypatch):
    went_on = []
    monkeypatch.setattr(search, "TOLERANCE", {"int8": -1.0})
    monkeypatch.setattr(search, "make_gate", lambda precision, results: {"passed": True, "checks": []})
    monkeypatch.setattr(search, "equalize", lambda model, *_: (model, []))
    monkeypatch.setattr(search._Quantizer, "fall_back_to_float", lambda self: went_on.append(self))
    images = hard[1].images_nhwc
    found = search.search(hard[0], replace(hard[1], golden_rhwc=np.asarray(images[:4]), val_rows=hard[1].val_rows[:12],
                                           reference=hard[1].reference[:12], labels=hard[1].labels[:12]))  # fmt: skip
    assert not found.passed
    assert "golden frames, fused against as written is" in found.steps[0].outcome
    assert went_on
