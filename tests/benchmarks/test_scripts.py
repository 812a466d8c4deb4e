"""Benchmarks with a test or two each; the others have files of their names."""

import dataclasses
import json
import pathlib
import types

import numpy as np
import pytest

import benchmarks
from benchmarks import (
    bench_checkpoint,
    bench_layers,
    bench_table7,
    compile_time,
    compute_types,
    restore_speed,
    timing,
)
from lcdnet_jax import networks

pytestmark = pytest.mark.usefixtures("short_trials")


@pytest.mark.extended
def test_checkpoint_benchmark(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench_checkpoint", "--quick"])
    monkeypatch.setattr(bench_checkpoint, "silence_orbax", lambda: None)  # lasts for good
    bench_checkpoint.main()
    alone, saved, one = map(json.loads, capsys.readouterr().out.splitlines())
    assert alone["value"] < saved["value"]  # 10 steps with a save, or without
    assert one["value"] < one["peer_value"]
    assert 0.9 < one["megabytes_on_disk"] / one["megabytes"] < 1.2


def test_ratio_is_our_time_by_the_peers():
    assert benchmarks.compare_with_peer(2.0, "it", 4.0)["ratio"] == 0.5
    assert benchmarks.compare_with_peer(2.0, "it", 4.0, is_rate=True)["ratio"] == 2.0
    case = {"benchmark": "b", "case": "c"}
    rows = [
        {**case, "value": 2.0, "unit": "ms", **benchmarks.compare_with_peer(2.0, "it", 4.0)},
        {**case, "skipped": "no time"},
        {**case, "error": "wrong"},
    ]
    head, row, skipped, failed = benchmarks.format_table(rows).splitlines()
    assert head.split() == ["case", "value", "unit", "ours", "/", "peer"]
    assert row.split() == ["b:", "c", "2.00", "ms", "0.50", "(it)"]
    assert (skipped.split()[-1], failed.split()[-1]) == ("skipped", "failed")


def test_scripts_that_are_given_a_peer_know_it():
    from benchmarks import __main__ as all_of_them

    for name in all_of_them._WITH_TORCH:
        assert '"--peer"' in (all_of_them._HERE / f"bench_{name}.py").read_text()


@pytest.mark.usefixtures("quickly_compiled")
def test_table7_at_another_size(monkeypatch, capsys):
    small = (None, {"name": "dncnn", "depth": 3, "features": 4})
    monkeypatch.setattr(bench_table7, "_NETWORKS", {"small": small, "dncnn": ("DnCNN", {})})
    command = ["bench_table7", "--size=12x8", "--only=small", "--seconds=0"]
    monkeypatch.setattr("sys.argv", command)
    bench_table7.main()
    out = capsys.readouterr().out.splitlines()
    line = json.loads(out[0])
    assert line["parameters"] == 9 * (3 * 4 + 4 * 4 + 4 * 3) + 2 * 4
    assert line["value"] > 0
    assert out[2].startswith("12x8 color")
    assert len(out) == 4


class TestTorchLoader:
    def test_crops_and_noise(self, rng):
        pytest.importorskip("torch")
        from benchmarks import torch_loader

        image = rng.integers(0, 256, (9, 8, 3), np.uint8)
        turned = [image, image[::-1], image[:, ::-1], image[::-1, ::-1]]
        turned += [x.swapaxes(0, 1) for x in turned]
        windows = np.concatenate(
            [
                np.lib.stride_tricks.sliding_window_view(x, (6, 6), (0, 1)).reshape(-1, 3, 6, 6)
                for x in turned
            ]
        )
        made = torch_loader.batches([image], crop=6, batch=40, sigma=25.0, workers=0)
        batch = {name: tensor.numpy() for name, tensor in next(made).items()}
        made.close()
        found = (np.rint(255 * batch["clean"])[:, None] == windows[None]).all(axis=(2, 3, 4))
        assert found.any(axis=1).all()
        assert found.any(axis=0).sum() > 20
        noise = 255 * (batch["degraded"] - batch["clean"])
        assert noise.std() == pytest.approx(25, rel=0.1)


@pytest.mark.parametrize("name", ["conv 2x2 up", "spectral gate", "depthwise 3x3"])
def test_layers(name):
    layer = bench_layers.LAYERS[name]
    small = dataclasses.replace(layer, image=(1, 6, 4, layer.image[3]))
    result = bench_layers.measure(small, gradient=False, seconds=0.0)
    assert result["peer"] == layer.peer_name
    other = dataclasses.replace(small, peer=lambda x, kernel: 2 * layer.peer(x, kernel))
    with pytest.raises(ValueError, match="would be that of another computation"):
        bench_layers.measure(other, gradient=False, seconds=0.0)


def test_compute_types_of_every_network():
    assert {network for network, _ in compute_types.CASES.values()} == set(networks.available())
    row = compute_types.measure("dncnn", {"depth": 3, "features": 4}, 8, 0.0)
    assert row["ratio"] == pytest.approx(row["value"] / row["float32_ms"], rel=1e-2)


def test_compile_time(monkeypatch):
    """In new processes, of which the second finds the programs of the first."""
    monkeypatch.setitem(compile_time.CASES, "tiny", ("dncnn", "", (1, 8, 8, 1), False))
    folders = []

    def run(command, *, env, **options):
        assert command[-2:] == ["--here", "tiny"]
        folders.append(env["JAX_COMPILATION_CACHE_DIR"])
        seconds = {"trace_s": 1.0, "compile_s": 9.0 / len(folders)}
        return types.SimpleNamespace(stdout=json.dumps(seconds))

    monkeypatch.setattr(compile_time.subprocess, "run", run)
    row = compile_time.measure("tiny", 1)
    assert row == {"case": "tiny", "trace_s": 1.0, "compile_s": 9.0, "cached_s": 4.5, "runs": 1}
    assert folders[0] == folders[1]


def test_restore_speed(monkeypatch):
    monkeypatch.setattr(timing, "use_one_core", lambda: None)
    weights = str(
        pathlib.Path(benchmarks.__file__).parents[1] / "checkpoints/dncnn-gray.safetensors"
    )
    row = restore_speed.measure(weights, 0.01, 64, 1)
    assert row["image"] == [87, 115]
    assert row["windows"] == [3, 96, 128]  # one for each color
    assert row["computed"] == round(3 * 96 * 128 / 87 / 115, 3)
    assert row["ratio"] > 0
