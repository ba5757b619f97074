"""One image file, four roads: pack, evaluation, calibrator and camera feed the network the same bytes."""

import cv2
import numpy as np
import pytest

from benchmarks.measure.accuracy import classify_rows
from core.geometry.preprocess import Geometry, whole
from export.verify.parity import batches
from inference.backends import open_backend
from inference.capture.base import EndOfStream
from inference.frame.classifier import RegionClassifier
from inference.sources import open_source
from tests.bundles import make_bundle
from training.data.listing import PackOptions
from training.data.pack_writer import write_pack

SIZE_PX = 40


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Photographs of odd sizes, as JPEG, whose decoding leaves no bit to chance."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for label in ("car", "truck"):
            for i in range(3):
                height, width = (int(v) for v in random.integers(30, 300, 2))
                coarse = random.integers(0, 256, (8, 8, 3), np.uint8)
                file = root / split / label / f"{i}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(file), cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    return root


@pytest.fixture(scope="module")
def packed(photos, tmp_path_factory):
    return write_pack(
        str(photos), tmp_path_factory.mktemp("packed") / "pack", PackOptions(size_px=SIZE_PX, processes=1)
    )


@pytest.fixture
def classifier(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", size_px=SIZE_PX)
    return RegionClassifier(bundle, open_backend("ort", bundle, "fp32", batch=1, threads=1))


def rows_of(packed):
    return {packed.sources_n[row]: packed.images_nhwc[row] for row in range(len(packed.labels_n))}


def test_the_camera_source_feeds_the_pack_s_bytes(photos, packed, classifier):
    rows, source, seen = rows_of(packed), open_source(str(photos)), 0
    while True:
        try:
            frame = source.read(1.0)
        except EndOfStream:
            break
        classifier.classify(frame.image_bgr, [whole(frame.image_bgr)])
        assert np.array_equal(classifier.backend.input_nhwc[0], rows[frame.name])
        seen += 1
    assert seen == len(rows) == 18


def test_the_calibrator_feeds_the_pack_s_bytes(packed):
    rows = packed.rows("calibration")
    assert np.array_equal(np.concatenate(list(batches(packed.images_nhwc, rows, 2))), packed.images_nhwc[rows])


def test_the_evaluation_feeds_the_pack_s_bytes(packed, classifier):
    fed = []
    infer = classifier.backend.infer

    def recording(n):
        fed.append(classifier.backend.input_nhwc[0].copy())
        return infer(n)

    classifier.backend.infer = recording
    classify_rows(classifier, packed.images_nhwc[packed.rows("test")])
    assert np.array_equal(np.stack(fed), packed.images_nhwc[packed.rows("test")])


def test_the_geometry_is_the_contract_s(packed, classifier):
    assert packed.geometry == classifier.geometry == Geometry(SIZE_PX)
