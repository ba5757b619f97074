"""A broken source, detector layout or sink stops no run that does not ask for it, and is named."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from core.errors import InputError
from core.geometry.camera_config import CameraConfig
from core.plugins import _warn_once
from inference import detectors, sinks, sources
from inference.commands import doctor
from inference.frame.regions import whole_frame
from inference.sinks import SinkContext, open_sinks
from tests.bundles import make_bundle
from tests.inference.detectors.networks import network_of

OPTIONS = "from dataclasses import dataclass\n\n\n@dataclass\nclass Options:\n    web: str | None = None\n\n\n"
TEXTS = ["def (", "raise RuntimeError('no card')", "import core.nothing", "", "\0", "# \xff"]


@pytest.fixture(params=TEXTS, ids=repr)
def text(request):
    return request.param


@pytest.fixture(params=[sources, detectors, sinks], ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


@pytest.fixture
def add(tmp_path, monkeypatch):
    """Add a plug-in `broken` with this text to a kind."""

    def add(kind, text):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        (folder / "broken.py").write_bytes(text.encode("latin-1"))
        monkeypatch.setattr(kind, "__path__", [*kind.__path__, str(folder)])

    _warn_once.cache_clear()
    yield add
    for kind in (sources, detectors, sinks):
        sys.modules.pop(f"{kind.__name__}.broken", None)


def use(kind, tmp_path, **options):
    """Use the other plug-ins of a kind as a run does."""
    if kind is sources:
        sources.open_source("synthetic://?frames=1").close()
    elif kind is detectors:
        assert detectors.recognize(network_of(np.zeros((1, 126, 8), np.float32))) == "yolox"
    else:
        bundle = make_bundle(tmp_path / f"bundle {options}".replace("/", "-"))
        source = sources.open_source("synthetic://?frames=1")
        opened = open_sinks(SinkContext(bundle, source, CameraConfig(), whole_frame(), ()), options)
        for sink in opened:
            sink.close()
        assert len(opened) == 2 * ("out" in options)


def test_the_others_go_on_and_it_is_named(kind, text, add, tmp_path, caplog):
    add(kind, text)
    options = {"out": tmp_path / "out"} if kind is sinks else {}
    use(kind, tmp_path, **options)
    assert f"the plug-in {kind.__name__}.broken" in caplog.text
    assert "correct or remove its file; the others go on without it" in caplog.text


def test_doctor_lists_it_and_no_other(add):
    for kind in (sources, detectors, sinks):
        add(kind, f"raise RuntimeError('{kind.__name__}')")
    parts = [row["part"] for row in doctor.examine() if not row["available"]]
    assert [part for part in parts if part.endswith("broken")] == ["sources broken", "detectors broken", "sinks broken"]
    assert not [part for part in parts if part.startswith("sinks ") and part != "sinks broken"]


def test_a_sink_that_may_be_asked_for_stops_the_run(add, tmp_path):
    """Else a drive would end without what it was to leave."""
    add(sinks, OPTIONS + "def open_sink(:\n")
    use(sinks, tmp_path, out=tmp_path / "out")
    with pytest.raises(InputError, match=r"the plug-in inference\.sinks\.broken does not load \(SyntaxError"):
        use(sinks, tmp_path, web="0")


def test_a_layout_that_is_named_stops_the_run(add):
    add(detectors, "def (")
    with pytest.raises(InputError, match=r"the plug-in inference\.detectors\.broken does not load"):
        detectors.find("broken")
