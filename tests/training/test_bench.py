import json

from training import bench_data
from training.commands.bench import main


def test_json_holds_a_ratio_for_each_part(capsys, monkeypatch):
    measured = [{"size_px": 64, "ratio": 11.0, "images_per_s": 7000.0}]
    monkeypatch.setattr(bench_data, "measure", lambda pack: measured)  # it has its own tests
    small = ["--models", "squeezenet_inspired", "--size", "32", "--batch", "8", "--steps", "2", "--device", "cpu"]
    assert main([*small, "--json"]) is None
    result = json.loads(capsys.readouterr().out)
    assert result["data_path"] == measured
    assert result["step"][0]["ratio"] > 0
    assert result["step"][0]["arch"] == "squeezenet_inspired"
    assert result["loop"]["hours_uvh26_100_epochs"] > 0
    assert main(small) is None
    assert "whole loop on cpu, 32 px" in capsys.readouterr().out
