"""The benchmarks on an accelerator, within a budget of time."""

import argparse
import json
import pathlib
import subprocess
import sys
import time
import types

import jax
import pytest

from benchmarks import accelerator, bench_deform_conv, bench_networks, parity, timing
from tests.benchmarks.tiny_cases import tiny_network, tiny_operation

pytestmark = pytest.mark.usefixtures("short_trials")


@pytest.mark.usefixtures("quickly_compiled")
class TestAccelerator:
    def options(self, **kwargs):
        fields = {"set": "tiny", "peer": None, "compile": False, "seconds": 0.0, "out": None}
        return argparse.Namespace(**{**fields, **kwargs})

    def lines(self, capsys):
        out = capsys.readouterr().out.splitlines()
        return [json.loads(line) for line in out if line.startswith("{")], out

    @pytest.mark.extended
    def test_the_program(self, monkeypatch, capsys, tmp_path):
        monkeypatch.setattr(timing, "use_one_core", lambda: None)
        monkeypatch.setitem(bench_networks.SETS, "tiny", [tiny_network(train=True, rank=3)])
        monkeypatch.setitem(bench_deform_conv.SETS, "tiny", [tiny_operation(gradient=False)])
        monkeypatch.setitem(parity.SETS, "tiny", [parity.Case("upsample2x", "float32")])
        command = ["accelerator", "--set=tiny", "--seconds=0", f"--out={tmp_path}"]
        monkeypatch.setattr("sys.argv", command)
        with pytest.raises(SystemExit, match="0"):
            accelerator.main()
        lines, out = self.lines(capsys)
        assert [line["benchmark"] for line in lines] == ["parity", "deform_conv", "networks"]
        assert all(line["value"] > 0 for line in lines)
        assert out[-4].startswith("case ")
        assert list(tmp_path.rglob("*.xplane.pb"))

    def test_what_does_not_fit_is_skipped(self, capsys):
        cases = bench_networks.SETS["accelerator"]
        status = accelerator.run(cases, self.options(set="accelerator"), time.monotonic() + 10)
        lines, _ = self.lines(capsys)
        assert status == 0
        assert [line["case"] for line in lines] == [case.name for case in cases]
        assert all(line["skipped"].endswith("seconds were left") for line in lines)

    def test_the_end_of_the_budget(self, monkeypatch, capsys):
        ends = []
        monkeypatch.setattr(accelerator.os, "_exit", ends.append)

        def measure(case, seconds, **_):
            time.sleep(0.5)
            return {"value": 1.0, "unit": "ms"}

        monkeypatch.setattr(bench_networks, "measure", measure)
        accelerator.run([tiny_network()], self.options(), time.monotonic() + 0.1)
        lines, out = self.lines(capsys)
        assert ends == [0]
        assert lines[0]["skipped"] == "the budget was spent"
        assert "skipped" in out[out.index("") + 2]

    def test_floors(self, monkeypatch):
        networks = {case.name: case for case in bench_networks.SETS["accelerator"]}
        assert {f"{name} bfloat16" for name in accelerator.FLOORS_H200} <= networks.keys()
        device = types.SimpleNamespace(device_kind="NVIDIA H200")
        monkeypatch.setattr(jax, "devices", lambda: [device])
        result = {"value": 2.82}
        train = "sadnet base 16x128x128 train"
        assert accelerator._add_share(networks[f"{train} bfloat16"], result)["share"] == 0.5
        assert "share" not in accelerator._add_share(networks[f"{train} float32"], result)
        device.device_kind = "cpu"
        assert accelerator._add_share(networks[f"{train} bfloat16"], result) == result


@pytest.mark.extended
def test_networks_are_measured_without_the_trainer():
    """Where only JAX, Flax and Optax are, and with PyTorch also beside it."""
    program = """
import importlib.util, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"clu", "ml_collections", "orbax", "tensorflow", "cv2"}:
            raise ImportError(name)

sys.meta_path.insert(0, Missing())
import benchmarks.accelerator
if importlib.util.find_spec("torch"):
    import benchmarks.torch_steps
"""
    root = pathlib.Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True, timeout=120)
