"""Distillation: what the teacher's share of the loss is, who teaches, and what is refused."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from core.data.pack import open_pack
from core.errors import InputError
from tests.export.runs import train, write_small_pack
from tests.training.learner import Learner
from training.commands.train import main
from training.compare.variants import parse_variant
from training.compute.mode import Compute, ComputeMode
from training.recipes import load_recipe
from training.teacher import Teacher

ARCH = "squeezenet_inspired"
MODE = ComputeMode("fp32", "contiguous")
SETTINGS = ["--models", ARCH, "--recipe", "edge", "--epochs", "2", "--batch", "32", "--precision", "fp32",
            "--memory-format", "channels_last", "--threads", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "pack"
    write_small_pack(path)
    return open_pack(path)


@pytest.fixture(scope="module")
def file(pack):
    path = pack.path.parent / "teacher.safetensors"
    train(pack.path, steps=60).save(path)
    return path


@pytest.fixture(scope="module")
def teacher(pack, file):
    return Teacher(file, pack.classes, Compute(MODE))


def batch(pack):
    rows = pack.rows("train")[:32]
    return torch.from_numpy(pack.images_nhwc[rows]), torch.from_numpy(pack.labels_n[rows])


def test_the_divergence_is_that_of_the_softened_probabilities(pack, teacher):
    frames, _ = batch(pack)
    ours, theirs = torch.randn(32, 3), teacher.logits(frames)
    p, q = (torch.softmax(x / 3, 1) for x in (theirs, ours))
    expected = (p * (p / q).log()).sum(1).mean() * 9
    assert teacher.divergence(frames, ours, 3.0) == pytest.approx(float(expected), rel=1e-4)


def test_a_pupil_that_says_the_same_has_nothing_to_learn(pack, teacher):
    frames, _ = batch(pack)
    assert float(teacher.divergence(frames, teacher.logits(frames), 2.0)) == pytest.approx(0, abs=1e-6)


def test_a_step_s_loss_is_the_labels_share_and_the_teacher_s(pack, teacher):
    frames, labels = batch(pack)
    recipe = replace(load_recipe("edge"), dropout={"default": 0.0}, distill=0.25, label_smoothing=0.0)
    pupil = Learner(ARCH, 3, recipe, MODE, teacher=teacher)
    logits = MODE.logits(pupil.state.network, pupil.objective.deployed.normalize(frames))
    hard, soft = cross_entropy(logits, labels), teacher.divergence(frames, logits, recipe.distill_temperature)
    loss = float(pupil.step(frames, labels, 1e-3, 0)[0]) / 32
    assert loss == pytest.approx((0.75 * hard + 0.25 * soft).item(), rel=1e-5)


def test_a_teacher_judges_small_pictures_at_its_own_size(pack, teacher):
    frames, _ = batch(pack)
    assert teacher.logits(frames[:, ::2, ::2]).shape == (32, 3)
    sizes = []
    handle = teacher.network.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[-1]))
    teacher.logits(frames[:, ::2, ::2])
    handle.remove()
    assert sizes == [pack.geometry.size_px]


def test_a_teacher_never_changes(pack, teacher):
    before = {name: value.clone() for name, value in teacher.network.state_dict().items()}
    frames, labels = batch(pack)
    Learner(ARCH, 3, load_recipe("edge"), MODE, teacher=teacher).step(frames, labels, 1e-2, 0)
    assert all(torch.equal(before[name], value) for name, value in teacher.network.state_dict().items())


def test_a_run_is_gone_on_with_by_the_same_teacher_alone(pack, file, tmp_path):
    assert not main([str(pack.path), "--out", str(tmp_path / "run"), *SETTINGS, "--teacher", str(file)])
    with pytest.raises(InputError, match=r"begun with teacher '[0-9a-f]{64}', not None"):
        main([str(pack.path), "--out", str(tmp_path / "run"), *SETTINGS, "--resume"])


def test_a_teacher_of_other_classes_is_refused_before_anything_is_written(pack, tmp_path):
    checkpoint = train(pack.path, steps=1)
    other = replace(checkpoint, metadata=replace(checkpoint.metadata, classes=("red", "green", "violet")))
    file = tmp_path / "other.safetensors"
    other.save(file)
    with pytest.raises(InputError, match=r"knows red, green, violet, the pack red, green, blue: give --teacher"):
        main(
            [
                str(pack.path),
                "--out",
                str(tmp_path / "run"),
                *SETTINGS,
                "--teacher",
                str(tmp_path / "other.safetensors"),
            ]
        )
    assert not (tmp_path / "run").exists()


def test_mixed_pictures_are_refused(pack, file, tmp_path):
    with pytest.raises(InputError, match="does not go with mixed images"):
        main([str(pack.path), "--out", str(tmp_path / "r"), *SETTINGS, "--teacher", str(file), "--mixup-alpha", "0.2"])


def test_a_variant_may_have_a_teacher():
    variant = parse_variant("edge:teacher=runs/a/best.safetensors,distill=0.7")
    assert variant.flags(3)[-4:] == ["--teacher", "runs/a/best.safetensors", "--distill", "0.7"]
    assert "/" not in variant.folder
    assert variant.resolve().distill == 0.7
