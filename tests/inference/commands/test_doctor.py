"""The doctor: what is here, what is not, and one command for each thing missing."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from core.errors import DeviceError, InputError
from inference import backends, cuda_device
from inference.capture import v4l2
from inference.commands import doctor


@pytest.fixture(scope="module")
def rows():
    return {row["part"]: row for row in doctor.examine()}


def test_each_thing_missing_has_one_command(rows):
    for row in rows.values():
        assert row["available"] or row["hint"], row
        assert " or " not in row["hint"], row
        assert not row["hint"] or row["hint"].split()[0] in {"pip", "sudo", "python", "nvidia-smi"}, row


@pytest.mark.parametrize(
    ("found", "hint"), [("no NVIDIA card in this machine", doctor.ORT), ("a card, but no driver for it", doctor.DRIVER)]
)
def test_without_a_card_or_a_driver_no_gpu_package_is_advised(monkeypatch, found, hint):
    monkeypatch.setattr(doctor, "_cuda_device", lambda: doctor._row("CUDA device", False, found, hint))
    rows = {row["part"]: row for row in doctor.examine()}
    for name in doctor.GPU_BACKENDS:
        assert rows[f"backend {name}"]["found"].startswith(f"{found}; ")
        assert rows[f"backend {name}"]["hint"] == hint


def test_backends_come_with_their_versions(rows):
    import onnxruntime

    assert rows["backend ort"]["found"] == onnxruntime.__version__
    assert {"backend null", "backend openvino", "backend trt", "CUDA device", "GStreamer in OpenCV"} <= set(rows)


def answering(card, caps, formats):
    """Return an ioctl of a node with these capabilities and formats."""

    def ioctl(descriptor, request, argument):
        if request == v4l2.QUERYCAP:
            whole = caps | v4l2.CAPTURE | v4l2.DEVICE_CAPS  # of all the camera's nodes together
            return v4l2.CAPABILITY.pack(b"uvcvideo", card, b"usb-1", 0, whole, caps)
        index, kind, *_ = v4l2.FORMAT.unpack(argument)
        if index >= len(formats):
            raise OSError(errno.EINVAL, "Invalid argument")
        return v4l2.FORMAT.pack(index, kind, 0, b"", struct.unpack("=I", formats[index])[0], 0)

    return ioctl


@pytest.fixture
def node(tmp_path):
    (tmp_path / "video0").write_text("")
    return tmp_path / "video0"


def test_a_camera_says_its_name_and_formats(node, monkeypatch):
    monkeypatch.setattr(v4l2.fcntl, "ioctl", answering(b"HD Camera", v4l2.CAPTURE, [b"MJPG", b"YUYV"]))
    assert v4l2.query_node(node) == v4l2.VideoNode("HD Camera", "uvcvideo", ("MJPG", "YUYV"))
    assert doctor._camera(node)["found"] == "HD Camera (uvcvideo): MJPG YUYV"


def test_a_node_of_metadata_gives_no_pictures(node, monkeypatch):
    monkeypatch.setattr(v4l2.fcntl, "ioctl", answering(b"HD Camera", 0x00800000, [b"UVCH"]))
    assert doctor._camera(node)["found"] == "HD Camera: no pictures on this node"


def test_a_node_that_does_not_answer_is_missing_with_a_hint(node):
    row = doctor._camera(node)  # a plain file is no V4L2 device
    assert (row["available"], row["hint"]) == (False, f"sudo fuser -v {node}")


def test_a_camera_that_this_user_may_not_open_says_the_group(node, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert doctor._camera(node)["hint"] == "sudo usermod -aG video $USER"


@pytest.mark.parametrize(
    ("card", "driver", "hint"),
    [(False, False, doctor.ORT), (True, False, "sudo ubuntu-drivers install"), (True, True, "pip install cuda-python")],
)
def test_a_cuda_device_lacks_its_card_its_driver_or_its_binding(card, driver, hint, monkeypatch, tmp_path):
    def absent():
        raise InputError("no CUDA device can be used here: cuda-python is not installed")

    class Nodes:
        def __init__(self, path):
            self._here = driver and path == "/dev/nvidiactl"

        def exists(self):
            return self._here

    monkeypatch.setattr(cuda_device, "device", absent)
    monkeypatch.setattr(doctor, "JETSON", tmp_path / "none")
    monkeypatch.setattr(doctor, "_has_nvidia_card", lambda: card)
    monkeypatch.setattr(doctor, "Path", Nodes)
    assert doctor._cuda_device()["hint"] == hint


def test_a_card_is_found_on_the_bus(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "PCI", tmp_path)
    assert not doctor._has_nvidia_card()
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "vendor").write_text("0x10de\n")
    assert doctor._has_nvidia_card()


def test_a_card_that_answers_with_an_error_is_a_row_of_the_table(monkeypatch):
    def failing():
        raise DeviceError("CUDA's cudaGetDeviceProperties failed (700): run `nvidia-smi` to see why")

    monkeypatch.setattr(cuda_device, "device", failing)
    assert not doctor._cuda_device()["available"]


def test_on_a_jetson_no_hint_names_a_package_that_is_not_made_for_it(monkeypatch, tmp_path):
    release = tmp_path / "nv_tegra_release"
    release.write_text("# R36 (release), REVISION: 4.3")
    monkeypatch.setattr(doctor, "JETSON", release)
    missing = backends.Availability(False, "", "it is not installed", "pip install it")
    monkeypatch.setattr(backends, "availability", lambda name: missing)
    hints = {row["part"]: row["hint"] for row in doctor.examine() if row["part"].startswith("backend")}
    assert hints["backend trt"] == "sudo apt install nvidia-jetpack"
    assert hints["backend ort_cuda"] == doctor.ORT
    assert hints["backend ort"] == "pip install it"
