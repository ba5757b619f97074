"""Picture files are found by one list of suffixes and read strictly: a damaged one is a reason, never pixels."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from core.data.picture_files import describe_left_out, scan
from core.data.picture_reader import read_picture
from core.data.stderr_capture import FREE_BYTES, StderrCapture
from core.errors import InputError
from inference.sources import kind_of, open_source
from tests.inference.sources.test_sources import read_all
from tests.inference.sources.videos import noise

ROOT = Path(__file__).parents[3]

PIXELS = cv2.resize(noise(1, 24, 32), (160, 120), interpolation=cv2.INTER_CUBIC)
UPRIGHT_6 = cv2.rotate(PIXELS, cv2.ROTATE_90_CLOCKWISE)


def encode(form: str, **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(PIXELS[..., ::-1]).save(out, form, **options)
    return out.getvalue()


JPEG = encode("JPEG", quality=90)
PROGRESSIVE = encode("JPEG", quality=90, progressive=True)
RESTARTS = encode("JPEG", quality=90, restart_marker_blocks=4)


def read(tmp_path, data: bytes):
    (tmp_path / "picture").write_bytes(data)
    return read_picture(tmp_path / "picture")


def cut(data: bytes) -> bytes:
    return data[: len(data) * 6 // 10] + b"\xff\xd9"


def zeroed(data: bytes) -> bytes:
    middle, n = len(data) // 2, len(data) // 10
    return data[:middle] + bytes(n) + data[middle + n :]


@pytest.mark.parametrize("damage", [cut, zeroed])
@pytest.mark.parametrize("whole", [JPEG, PROGRESSIVE, RESTARTS], ids=["baseline", "progressive", "restarts"])
def test_a_damaged_jpeg_whose_end_marker_stands_is_a_reason(tmp_path, whole, damage):
    assert isinstance(read(tmp_path, whole), np.ndarray)
    assert str(read(tmp_path, damage(whole))).startswith("damaged JPEG: ")


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_damage_that_libtiff_reports_is_a_reason(tmp_path, compression):
    whole = encode("TIFF", compression=compression)
    assert isinstance(read(tmp_path, whole), np.ndarray)
    assert str(read(tmp_path, zeroed(whole))).startswith("damaged")


@pytest.mark.parametrize("extra", [bytes(40), b"\xff" * 40], ids=["zeros", "ones"])
def test_padding_before_the_end_marker_is_no_damage(tmp_path, extra):
    assert isinstance(read(tmp_path, JPEG[:-2] + extra + JPEG[-2:]), np.ndarray)


@pytest.mark.parametrize("tail", [bytes(1000), b"\0\0\0\x18ftypmp42" + b"film" * 500], ids=["zeros", "motion photo"])
def test_bytes_after_the_end_of_a_jpeg_are_no_damage(tmp_path, tail):
    assert isinstance(read(tmp_path, JPEG + tail), np.ndarray)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_few_bits_in_a_file_of_16_are_a_reason_never_a_black_picture(tmp_path, suffix, bits):
    for name, shift in (("few", 16 - bits), ("whole", 0)):
        cv2.imwrite(str(tmp_path / (name + suffix)), (PIXELS.astype(np.uint16) * 257) >> shift)
    reason = read_picture(tmp_path / f"few{suffix}")
    assert str(reason).startswith("nearly black: ")
    assert np.abs(read_picture(tmp_path / f"whole{suffix}").astype(int) - PIXELS).max() <= 1


def test_a_black_picture_of_16_bits_and_a_dark_one_of_8_are_pictures(tmp_path):
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((20, 30, 3), np.uint16))
    cv2.imwrite(str(tmp_path / "dark.png"), np.full((20, 30, 3), 9, np.uint8))
    assert all(isinstance(read_picture(tmp_path / f"{name}.png"), np.ndarray) for name in ("black", "dark"))


def png_of(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


def jpeg_of(width: int, height: int) -> bytes:
    at = JPEG.find(b"\xff\xc0")
    return JPEG[: at + 5] + struct.pack(">HH", height, width) + JPEG[at + 9 :]


@pytest.mark.parametrize("data", [png_of(40000, 40001), jpeg_of(40000, 40001)], ids=["png", "jpeg"])
def test_a_picture_over_the_pixel_limit_is_too_large_not_broken(tmp_path, data):
    assert str(read(tmp_path, data)).startswith("too large: 40000x40001 px")


def test_an_avif_that_is_to_be_turned_is_refused_since_opencv_would_leave_it_lying(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert isinstance(read(tmp_path, encode("AVIF")), np.ndarray)
    assert "to be turned" in str(read(tmp_path, encode("AVIF", exif=exif)))


def test_what_other_threads_write_to_stderr_meanwhile_is_not_lost(tmp_path, capfd):
    stop, written = threading.Event(), []

    def talk() -> None:
        while not stop.is_set():
            written.append(f"line {len(written)}")
            os.write(2, f"{written[-1]}\n".encode())

    (tmp_path / "a.jpg").write_bytes(cut(JPEG))
    talker = threading.Thread(target=talk)
    talker.start()
    reasons = {str(read_picture(tmp_path / "a.jpg")) for _ in range(20)}
    stop.set()
    talker.join()
    read_picture(tmp_path / "a.jpg")  # passes on a line that was being written at the end of the last
    print("after", file=sys.stderr)
    assert reasons == {"damaged JPEG: premature end of data segment"}
    assert sorted(capfd.readouterr().err.splitlines()) == sorted([*written, "after"])


def test_a_line_that_is_half_written_is_passed_on_whole(capfd):
    capture = StderrCapture(re.compile("wanted"))
    with capture():
        os.write(2, b"one\nha")
    assert capfd.readouterr().err == "one\n"
    with capture():
        os.write(2, b"lf\n")
    assert capfd.readouterr().err == "half\n"


def test_the_memory_of_what_was_read_is_given_back_and_a_late_line_is_not_lost(capfd):
    """A thread may have begun to write within the `with` and be stopped by a busy machine until after it."""
    capture = StderrCapture(re.compile("wanted"))
    with capture():
        late = os.dup(2)
        os.write(2, b"wanted\n" * (3 * FREE_BYTES // 7))
    held_bytes = os.fstat(late).st_blocks * 512
    os.write(late, b"late\n")
    os.close(late)
    with capture():
        pass
    assert capfd.readouterr().err == "late\n"
    assert held_bytes <= FREE_BYTES


def test_each_suffix_that_opencv_decodes_is_a_picture_and_the_rest_is_counted(tmp_path):
    forms = {
        "jfif": "JPEG",
        "jpe": "JPEG",
        "mpo": "MPO",
        "gif": "GIF",
        "avif": "AVIF",
        "jp2": "JPEG2000",
        "TIF": "TIFF",
    }
    for suffix, form in forms.items():
        (tmp_path / f"a.{suffix}").write_bytes(encode(form))
    for name in ("b.heic", "c.heic", "d.txt", "e", ".DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    found = scan(tmp_path)
    assert [file.name for file in found.pictures] == sorted(f"a.{suffix}" for suffix in forms)
    assert all(isinstance(read_picture(file), np.ndarray) for file in found.pictures)
    assert describe_left_out([found], tmp_path) == [
        "left out: 4 files that are no pictures by their suffix (.heic 2, .txt 1, none 1)",
        "left out: 1 (.DS_Store): hidden",
    ]


def test_links_are_followed_loops_end_and_broken_ones_are_named(tmp_path):
    root, other = tmp_path / "car", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    (other / "a.png").write_bytes(encode("PNG"))
    (root / "linked").symlink_to(other)
    (root / "loop").symlink_to(root)
    (root / "up").symlink_to("..")
    (root / "twice").symlink_to(other)
    (root / "self.png").symlink_to(root / "self.png")
    (root / "gone.png").symlink_to(tmp_path / "gone")
    (root / "folder.png").mkdir()
    os.mkfifo(root / "pipe.png")
    found = scan(root)
    assert found.pictures == [root / "linked" / "a.png"]
    assert describe_left_out([found], root) == [
        "left out: 2 (gone.png, self.png): a broken link",
        "left out: 3 (loop, twice, up): a link to a folder above, or to one that was read already",
        "left out: 1 (pipe.png): no regular file",
    ]


def test_a_picture_is_found_in_its_own_folder_before_it_is_found_through_a_link(tmp_path):
    for name in ("bus", "car"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(encode("PNG"))
    (tmp_path / "bus" / "link").symlink_to("../car")
    assert scan(tmp_path).pictures == [tmp_path / "bus" / "a.png", tmp_path / "car" / "a.png"]


@pytest.mark.parametrize("name", ["a.jpg", "a.dat"])
def test_a_single_picture_is_upright_as_in_a_folder(tmp_path, name):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / name).write_bytes(encode("JPEG", quality=95, exif=exif))
    (frame,) = read_all(open_source(str(tmp_path / name)))
    assert np.abs(frame.image_bgr.astype(int) - UPRIGHT_6).mean() < 8
    assert (frame.name, dict(frame.ground_truth)) == (name, {})


@pytest.mark.parametrize("kind", ["png", "tif", "mjpeg"])
def test_a_name_that_is_not_utf8_is_a_name(tmp_path, kind):
    """OpenCV 5 crashes at a str with such a name, so this runs in a process of its own."""
    file = os.fsencode(tmp_path) + f"/h\xe9.{kind}".encode("latin-1")
    data = encode("JPEG") if kind == "mjpeg" else encode("PNG" if kind == "png" else "TIFF")
    Path(os.fsdecode(file)).write_bytes(data)
    script = "import sys; from inference.sources import open_source; print(open_source(sys.argv[1]).read(1).frame_id)"
    for source in (file, *([os.fsencode(tmp_path)] if kind != "mjpeg" else [])):
        done = subprocess.run([sys.executable, "-c", script, source], cwd=ROOT, capture_output=True, check=False)
        assert (done.returncode, done.stdout) == (0, b"0\n"), done.stderr


def test_a_gif_file_stays_a_film(tmp_path):
    (tmp_path / "a.gif").write_bytes(encode("GIF"))
    assert kind_of(str(tmp_path / "a.gif")) == "video"


def test_a_single_damaged_picture_is_refused_with_the_reason(tmp_path):
    (tmp_path / "a.jpg").write_bytes(cut(JPEG))
    with pytest.raises(InputError, match=r"a\.jpg \(damaged JPEG: premature end"):
        read_all(open_source(str(tmp_path / "a.jpg")))


@pytest.mark.parametrize("file", ["car/day/far/a.png", "val/car/night/a.png", "car/a.png", "train/a.png"])
def test_the_truth_of_nested_class_folders_is_the_class_folder(tmp_path, file):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_bytes(encode("PNG"))
    (tmp_path / "train" / "bus").mkdir(parents=True)
    (frame,) = read_all(open_source(str(tmp_path)))
    assert dict(frame.ground_truth) == ({} if file.startswith("train") else {"frame": "car"})


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png", ".tif", ".avif"])
def test_a_file_of_several_pictures_is_counted_and_named(tmp_path, suffix):
    first, second = (Image.fromarray(noise(seed, 24, 32)) for seed in (1, 2))
    first.save(tmp_path / f"one{suffix}")
    first.save(tmp_path / f"two{suffix}", save_all=True, append_images=[second])
    source = open_source(str(tmp_path))
    assert len(read_all(source)) == 2
    said = f"read in part: 1 (two{suffix}): several pictures in one file, the first is taken"
    assert source.report()["read_in_part"] == [said]


def test_a_folder_says_what_it_leaves_out_and_what_it_skips(tmp_path, capsys):
    for name, data in {"a.png": encode("PNG"), "b.jpg": cut(JPEG), "c.heic": b"x"}.items():
        (tmp_path / name).write_bytes(data)
    source = open_source(str(tmp_path))
    assert len(read_all(source)) == 1
    left_out = "left out: 1 file that is no picture by its suffix (.heic 1)"
    why = "damaged JPEG: premature end of data segment"
    assert source.report() == {"pictures": 2, "left_out": [left_out], "skipped": {"b.jpg": why}, "read_in_part": []}
    assert capsys.readouterr().err == (
        f"warning: {tmp_path}: {left_out}\nwarning: {tmp_path}: skipped: 1 of 2 pictures: b.jpg ({why})\n"
    )
