"""The pictures of a recording are upright: a replay applies no key of camera.json a second time."""

from __future__ import annotations

import json
import shutil

import pytest

from core.errors import InputError
from core.files import write_json
from core.geometry.camera_config import PICTURE_KEYS
from tests.bundles import make_bundle
from tests.inference.capture.test_recording import run, said

PICTURE = {"rotation": 90, "crop": [0, 0, 0.5, 1], "mirror_for_network": True}
assert set(PICTURE) == set(PICTURE_KEYS)


@pytest.fixture(scope="module")
def turned(tmp_path_factory):
    """A bundle, the camera.json of a run that turns, crops and mirrors, and its recording."""
    folder = tmp_path_factory.mktemp("turned")
    camera, bundle = folder / "camera.json", make_bundle(folder / "b")
    write_json(camera, {"zones": {"left": [0, 0, 0.5, 1]}, **PICTURE})
    source = ("--source", "synthetic://?frames=4&width=160&height=90", "--record", folder / "r", "--record-lossless")
    run(bundle, *source, "--camera", camera, "--out", folder / "first")
    return bundle, camera, folder / "r"


@pytest.mark.parametrize("realtime", [(), ("--realtime",)])
def test_a_replay_with_the_camera_json_of_the_recorded_run_does_not_turn_the_picture_again(turned, tmp_path, realtime):
    bundle, camera, recording = turned
    rects = [line["zones"]["left"]["rect"] for line in said(recording.parent / "first")]
    for replayed_folder, kept in ((recording, "second"), (tmp_path / "second", "third")):  # a recorded replay, too
        again = ("--out", tmp_path / kept, "--record", tmp_path / kept, "--record-lossless", *realtime)
        run(bundle, "--source", f"replay://{replayed_folder}", "--camera", camera, *again)
        lines = said(tmp_path / kept)
        assert [line["zones"]["left"]["rect"] for line in lines] == rects[: len(lines)]
        assert realtime or lines == said(recording.parent / "first")


@pytest.mark.parametrize("key", PICTURE_KEYS)
def test_a_replay_with_other_keys_that_change_the_picture_is_refused(turned, tmp_path, key):
    bundle, _, recording = turned
    for name, keys in (("one.json", {key: PICTURE[key]}), ("two.json", {**PICTURE, "rotation": 180})):
        write_json(tmp_path / name, keys)
        with pytest.raises(InputError, match=rf'{name} has .*upright and cropped already.*recorded with .*"crop"'):
            run(bundle, "--source", f"replay://{recording}", "--camera", tmp_path / name)


def test_keys_that_change_the_picture_are_refused_where_a_recording_does_not_know_its_own(turned, tmp_path):
    bundle, camera, recording = turned
    early = shutil.copytree(recording, tmp_path / "early")
    facts = json.loads((early / "recording.json").read_text())
    del facts["configuration"]
    write_json(early / "recording.json", facts | {"schema": 1})
    with pytest.raises(InputError, match="are upright and cropped already: leave these keys out"):
        run(bundle, "--source", f"replay://{early}", "--camera", camera)
