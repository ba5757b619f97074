"""The labeled frames of a pack: written and read they are the same, and what is damaged is one sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.data.labeled_frames import FILE, LabeledFrame, LabeledObject, load_frame, read_frames, read_margin
from core.data.pack import Pack, open_pack
from core.errors import InputError
from core.files import write_json
from tests.training.data.detection_sets import BOXES, SIZES, write_kitti
from training.data.listing import PackOptions
from training.data.pack_writer import write_pack


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Pack:
    root = tmp_path_factory.mktemp("frames")
    return write_pack(str(write_kitti(root / "set", SIZES, BOXES)), root / "pack", PackOptions(size_px=32))


def every(write_pack: Pack) -> list[LabeledFrame]:
    return [frame for split in ("train", "val", "test") for frame in read_frames(write_pack, split)]


def test_each_frame_stands_in_the_split_of_its_rows_with_its_objects(packed):
    frames = {frame.source: frame for frame in every(packed)}
    assert {Path(source).name for source in frames} == set(SIZES)
    for source, split in zip(packed.sources_n, packed.splits_n, strict=True):
        assert frames[source].split == ("train" if split == "calibration" else split)
    for source, frame in frames.items():
        assert [labeled.label for labeled in frame.objects] == [label for label, _ in BOXES.get(Path(source).name, [])]
        assert frame.size_px == SIZES[Path(source).name]


def test_a_frame_is_loaded_by_its_name(packed):
    frame = every(packed)[0]
    assert load_frame(packed, frame).shape[1::-1] == frame.size_px
    other = LabeledFrame(frame.source, frame.group, frame.split, (7, 7))
    assert "its annotation says 7x7" in load_frame(packed, other)


EMPTY = LabeledFrame("a", "a", "test", (9, 9))
FRAME = '{"source":"a","group":"a","split":"test","size_px":[9,9],"objects":[%s]}'


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"source": "a"}',
        FRAME % '{"label":"car"}',
        FRAME % '{"label":"car","box":[5,5,5,9],"ignored":null}',
        FRAME.replace("test", "north") % "",
        FRAME % '{"label":"car","box":[1,1,Infinity,9],"ignored":null}',
        FRAME % '{"label":"car","box":[1,1,10,9],"ignored":null}',
        FRAME % '{"label":"car","box":[1,1,1%s,9],"ignored":null}' % ("0" * 30),
        "[" * 100_000,
    ],
)
def test_a_damaged_line_is_one_sentence(packed, tmp_path, line):
    copy = damaged(packed, tmp_path, line)
    with pytest.raises(InputError, match=r"frames\.jsonl, line 1, is not a labeled frame") as caught:
        read_frames(copy, "test")
    assert "\n" not in str(caught.value)


def damaged(packed: Pack, folder: Path, line: str) -> Pack:
    """Return a copy of the pack whose first frame is `line`."""
    for file in packed.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    lines = (folder / FILE).read_text().splitlines()
    (folder / FILE).write_text("\n".join([line, *lines[1:]]) + "\n")
    return open_pack(folder)


def test_a_frame_that_is_missing_is_one_sentence(packed, tmp_path):
    copy = damaged(packed, tmp_path, "{}")
    (tmp_path / FILE).write_text("")
    with pytest.raises(InputError, match=r"has 0 frames, pack\.json says 13"):
        read_frames(copy, "test")


@pytest.mark.parametrize(
    ("frames", "said"),
    [(None, "holds no labeled frames: give --frames-of"), ({"schema": 99}, r"frames\.schema is 99"), ("x", "no lab")],
)
def test_a_pack_without_frames_or_of_another_schema_opens_and_says_so_when_asked(packed, tmp_path, frames, said):
    copy = damaged(packed, tmp_path, "{}")
    write_json(tmp_path / "pack.json", copy.metadata | {"frames": frames})
    with pytest.raises(InputError, match=said):
        read_frames(open_pack(tmp_path), "test")


@pytest.mark.parametrize(("key", "read"), [("options", read_margin), ("source", lambda pack: load_frame(pack, EMPTY))])
@pytest.mark.parametrize("value", [None, "x", {}, {"root": 1, "margin": "x"}, {"margin": float("nan")}])
def test_damaged_facts_of_the_pack_are_one_sentence(packed, key, read, value):
    with pytest.raises(InputError, match=rf"pack\.json: {key}\..*pack the source again"):
        read(replace(packed, metadata=packed.metadata | {key: value}))


@pytest.mark.parametrize("source", ["gone.png", "a\0b"])
def test_a_picture_that_cannot_be_read_is_named(packed, source):
    assert f"{source}: unreadable" in load_frame(packed, replace(EMPTY, source=source))


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (5, 9, 8, 9), (-1, 0, 4, 4)])
def test_an_object_without_a_pixel_is_refused(box):
    with pytest.raises(InputError, match="box is"):
        LabeledObject("car", box)
