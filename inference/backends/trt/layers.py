"""The layers of a parsed network and of an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.files import write_text
from inference.backends.trt.build_progress import logger


def layers_file(engine: Path) -> Path:
    """Return where the layers of an engine are listed."""
    return engine.with_name(f"{engine.name}.layers.txt")


def write_layers(trt: Any, engine: Path) -> None:
    """List the layers of an engine as its inspector tells them, with their precision and kernel. Needs the device."""
    runtime = trt.Runtime(logger(trt))
    opened = runtime.deserialize_cuda_engine(engine.read_bytes())
    if opened is None:
        return
    inspector = opened.create_engine_inspector()
    write_text(layers_file(engine), str(inspector.get_engine_information(trt.LayerInformationFormat.ONELINE)))


def float_layers(trt: Any, network: Any) -> list[str]:
    """Return the convolutions and matrix products of a parsed network that do not read dequantized inputs.

    A product of two activations (attention) has no weights to quantize and is not among them.
    """
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    producer = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    kinds = trt.LayerType
    passing = {kinds.SHUFFLE, kinds.CAST, kinds.IDENTITY}

    def kind(tensor: Any) -> Any:
        layer = producer.get(tensor.name) if tensor is not None else None
        while layer is not None and layer.type in passing:
            layer = producer.get(layer.get_input(0).name)
        return layer and layer.type

    found = []
    for layer in layers:
        if layer.type in {kinds.CONVOLUTION, kinds.MATRIX_MULTIPLY}:
            read = [kind(layer.get_input(0)), kind(layer.get_input(1))]
            weighted = layer.type == kinds.CONVOLUTION or {kinds.CONSTANT, kinds.DEQUANTIZE} & set(read)
            if weighted and read != [kinds.DEQUANTIZE] * 2:
                found.append(layer.name)
    return found
