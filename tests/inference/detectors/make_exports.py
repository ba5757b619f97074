"""Make exports/*.npz: for each detector family, what its own library feeds, gets and finds.

    python -m venv /tmp/detectors && /tmp/detectors/bin/pip install ultralytics yolov5 onnxruntime
    /tmp/detectors/bin/python tests/inference/detectors/make_exports.py

Weights are random, with the last layers enlarged so that scores and boxes differ. YOLOX alone is trained: it is read
from ../shared/data, and its package is not to be had, so its numpy code stands here (YOLOX/yolox/utils/demo_utils.py).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import types
from pathlib import Path
from unittest.mock import MagicMock

import cv2
import numpy as np
import onnxruntime
import torch
import torchvision

HERE = Path(__file__).parent / "exports"
NAMES = ("person", "car", "truck", "bus", "cat")
SIZE_HW = (64, 96)
STEP = 4
"""Only each so-many-th pixel of the input is stored, in both directions."""
KEEP = 30
"""About this many candidates are over the threshold."""


def picture(height: int = 60, width: int = 100, seed: int = 5) -> np.ndarray:
    """Return blocks of color: it compresses, and every part of it is different."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


def save(name: str, onnx: Path, frame: np.ndarray, fed: np.ndarray, boxes: np.ndarray, **config: object) -> None:
    """Run the export on what the library feeds it; store all of it. boxes: x0, y0, x1, y1, score, class."""
    session = onnxruntime.InferenceSession(str(onnx))
    kinds = {"float": "float32", "int64": "int64"}
    facts = {
        side: [(t.name, kinds[t.type[7:-1]], [n if isinstance(n, int) else None for n in t.shape]) for t in tensors]
        for side, tensors in (("inputs", session.get_inputs()), ("outputs", session.get_outputs()))
    }
    facts |= {"metadata": session.get_modelmeta().custom_metadata_map, "config": config, "step": STEP}
    fed = np.ascontiguousarray(fed, np.float32)
    outputs = dict(
        zip([t.name for t in session.get_outputs()], session.run(None, {facts["inputs"][0][0]: fed}), strict=True)
    )
    grey = np.rint(fed * (255 if fed.max() <= 1.01 else 1)).astype(np.uint8)
    grey = grey[..., ::STEP, ::STEP]
    for value in outputs.values():
        if name == "yolox_nano":  # rows that cannot be over the threshold become zero, which compresses
            value[value[..., 4] < 0.05] = 0
    arrays = {f"output_{key}": value for key, value in outputs.items()}
    np.savez_compressed(
        HERE / f"{name}.npz", facts=json.dumps(facts), frame=frame, fed=grey, boxes=boxes.astype(np.float32), **arrays
    )
    print(f"{name}: {len(boxes)} boxes, {(HERE / f'{name}.npz').stat().st_size} bytes")


def ultralytics(name: str, folder: Path, **export: object) -> None:
    """Export one of Ultralytics' networks, predict with the export, and store it."""
    import ultralytics as library
    import yaml

    torch.manual_seed(1)
    kind = library.RTDETR if name.startswith("rtdetr") else library.YOLO
    found = next(
        Path(library.__file__).parent.glob(
            f"cfg/models/**/{name.replace('n', '', 1) if name[-1] == 'n' else name}.yaml"
        )
    )
    body = yaml.safe_load(found.read_text())
    config = folder / f"{name}.yaml"
    config.write_text(yaml.safe_dump({**body, "nc": len(NAMES)}))
    model = kind(str(config))
    model.model.names = dict(enumerate(NAMES))
    size = (96, 96) if name.startswith("rtdetr") else SIZE_HW
    settle(model.model, several(size))
    onnx = Path(model.export(format="onnx", imgsz=size, simplify=False, **export))
    frame = picture()
    runner = kind(str(onnx))
    asked = {"imgsz": size, "iou": 0.5, "verbose": False, "device": "cpu"}
    everything = runner.predict(frame, conf=0.001, **asked)[0].boxes
    threshold = float(np.sort(everything.conf.numpy())[-min(KEEP, len(everything))]) - 1e-4
    found = runner.predict(frame, conf=threshold, **asked)[0].boxes
    fed = runner.predictor.preprocess([frame]).numpy()
    boxes = np.concatenate([found.xyxy.numpy(), found.conf.numpy()[:, None], found.cls.numpy()[:, None]], 1)
    label = "_".join([name, *export])
    save(label, onnx, frame, fed, boxes, threshold=threshold, overlap=0.5)


def as_input(picture_bgr: np.ndarray) -> torch.Tensor:
    """Return float32 (1, 3, H, W), RGB, 0 to 1."""
    return torch.from_numpy(np.ascontiguousarray(picture_bgr[..., ::-1].transpose(2, 0, 1)[None])).float() / 255


def several(size_hw: tuple[int, int]) -> torch.Tensor:
    """Return a batch of other pictures, some of them with grey bars, as letterboxes have them."""
    batch = [as_input(picture(*size_hw, seed)) for seed in range(8)]
    for image in batch[::2]:
        image[:, :, :3], image[:, :, -3:] = 114 / 255, 114 / 255
    return torch.cat(batch)


def settle(network: torch.nn.Module, pictures: object) -> None:
    """Fit the batch statistics to one batch, so that random layers do not fade out; then spread the last answers."""
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    network.eval()
    for layer in layers:
        layer.momentum = 1.0
        layer.train()
    with torch.no_grad():
        network(pictures)
        network.eval()
        spread(network)
        network(pictures)


def spread(network: torch.nn.Module) -> None:
    """Make the last layers answer differently everywhere: hooks that scale their weights at the first run."""
    for layer in network.modules():
        last = isinstance(layer, torch.nn.Conv2d) and layer.bias is not None
        if last or (isinstance(layer, torch.nn.Linear) and layer.out_features in (4, len(NAMES))):
            layer.register_forward_hook(scale_once)


def scale_once(layer: torch.nn.Module, inputs: tuple[torch.Tensor], answer: torch.Tensor) -> torch.Tensor:
    """Give a layer's answers the deviation 1.5, and a mean of 3 where they are distances, as YOLO26 has them."""
    if hasattr(layer, "scaled"):
        return answer
    layer.scaled = True
    mean = -1.0
    if len(layer.bias) == 4 != len(NAMES):
        mean = 3.0 if isinstance(layer, torch.nn.Conv2d) else 0.0
    with torch.no_grad():
        if not answer.std():  # RT-DETR begins with boxes that do not move
            layer.weight.normal_()
            answer = torch.nn.functional.linear(inputs[0], layer.weight, layer.bias)
        gain = (0.4 if isinstance(layer, torch.nn.Linear) and mean == 0 else 1.5) / answer.std()
        shift = mean - answer.mean() * gain
        layer.weight *= gain
        layer.bias.copy_(layer.bias * gain + shift)
        return answer * gain + shift


def yolov5(folder: Path) -> None:
    """Export the YOLOv5 of its own package, with objectness and anchors."""

    def missing(name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock()

    for package in ("seaborn", "pandas", "fire", "roboflow", "sahi", "boto3", "pybboxes", "thop"):
        sys.modules[package] = types.ModuleType(package)  # what it imports for plots and uploads
        sys.modules[package].__getattr__ = missing  # type: ignore[method-assign]
    sys.modules["IPython"] = MagicMock(version_info=(9, 0))
    import yolov5 as library
    from yolov5.models.yolo import Model
    from yolov5.utils.augmentations import letterbox
    from yolov5.utils.general import non_max_suppression, scale_boxes

    torch.manual_seed(1)
    model = Model(str(Path(library.__file__).parent / "models/yolov5n.yaml"), ch=3, nc=len(NAMES)).eval()
    settle(model, several(SIZE_HW))
    model.model[-1].export = True
    onnx, frame = folder / "yolov5n.onnx", picture()
    torch.onnx.export(model, torch.zeros(1, 3, *SIZE_HW), str(onnx), input_names=["images"], output_names=["output0"],
                      dynamo=False, opset_version=17)  # fmt: skip
    fitted = letterbox(frame, SIZE_HW, auto=False)[0]
    fed = as_input(fitted)
    raw = torch.from_numpy(onnxruntime.InferenceSession(str(onnx)).run(None, {"images": fed.numpy()})[0])
    scores = np.sort((raw[0, :, 4] * raw[0, :, 5:].max(1).values).numpy())
    threshold = float(scores[-KEEP]) - 1e-4
    boxes = non_max_suppression(raw.clone(), threshold, 0.5)[0]
    boxes[:, :4] = scale_boxes(SIZE_HW, boxes[:, :4], frame.shape)
    save("yolov5n", onnx, frame, fed.numpy(), boxes.numpy(), threshold=threshold, overlap=0.5)


def ssd(folder: Path) -> None:
    """Export torchvision's SSDlite for pictures of one size; its own answer is that of the network in torch."""
    torch.manual_seed(0)
    frame, onnx = picture(), folder / "ssd.onnx"
    made = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=6, score_thresh=0.05, detections_per_img=40
    ).eval()
    settle(made, list(several(frame.shape[:2])))
    fed = as_input(frame)[0]
    torch.onnx.export(made, ([fed],), str(onnx), input_names=["image"], dynamo=False, opset_version=17)
    answer = made([fed])[0]
    parts = [answer["boxes"], answer["scores"][:, None], answer["labels"][:, None].float()]
    boxes = torch.cat(parts, 1).detach().numpy()
    threshold = float(np.median(boxes[:, 4])) - 1e-4
    save("ssdlite", onnx, frame, fed.numpy(), boxes[boxes[:, 4] > threshold], threshold=threshold)


def yolox(onnx: Path) -> None:
    """Decode YOLOX-Nano as `demo_postprocess` and its demo do, on a picture in which it finds something."""
    video = cv2.VideoCapture(str(onnx.parents[1] / "video/road_960x540.mp4"))
    frame = cv2.resize(video.read()[1][270:470, 0:420], (210, 100), interpolation=cv2.INTER_AREA)
    gain = min(416 / frame.shape[0], 416 / frame.shape[1])
    fitted = np.full((416, 416, 3), 114, np.uint8)
    small = cv2.resize(frame, (int(frame.shape[1] * gain), int(frame.shape[0] * gain)), interpolation=cv2.INTER_LINEAR)
    fitted[: small.shape[0], : small.shape[1]] = small
    fed = fitted.transpose(2, 0, 1)[None].astype(np.float32)
    raw = onnxruntime.InferenceSession(str(onnx)).run(None, {"images": fed})[0]
    grids, strides = [], []
    for stride in (8, 16, 32):
        x, y = np.meshgrid(np.arange(416 // stride), np.arange(416 // stride))
        grids.append(np.stack((x, y), 2).reshape(1, -1, 2))
        strides.append(np.full((1, (416 // stride) ** 2, 1), stride))
    grid, step = np.concatenate(grids, 1), np.concatenate(strides, 1)
    xy, wh = ((raw[..., :2] + grid) * step)[0], (np.exp(raw[..., 2:4]) * step)[0]
    scores = (raw[..., 4:5] * raw[..., 5:])[0]
    boxes = torch.from_numpy(np.concatenate([xy - wh / 2, xy + wh / 2], 1) / gain).float()
    best, classes = torch.from_numpy(scores).max(1)
    over = best > 0.1
    boxes, best, classes = boxes[over], best[over], classes[over]
    kept = torchvision.ops.batched_nms(boxes, best, classes, 0.5)
    boxes = boxes[kept].clamp(torch.zeros(4), torch.tensor([210.0, 100.0, 210.0, 100.0]))
    found = torch.cat([boxes, best[kept, None], classes[kept, None].float()], 1).numpy()
    save("yolox_nano", onnx, frame, fed, found, threshold=0.1, overlap=0.5)


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    wanted = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        jobs = {
            "yolov8n": lambda: ultralytics("yolov8n", Path(scratch)),
            "yolo11n": lambda: ultralytics("yolo11n", Path(scratch), nms=True),
            "yolo26n": lambda: ultralytics("yolo26n", Path(scratch), end2end=True),
            "rtdetr": lambda: ultralytics("rtdetr-resnet50", Path(scratch)),
            "yolov5": lambda: yolov5(Path(scratch)),
            "ssd": lambda: ssd(Path(scratch)),
            "yolox": lambda: yolox(Path(__file__).parents[4] / "shared/data/detector/yolox_nano.onnx"),
        }
        for name in wanted or jobs:
            jobs[name]()
