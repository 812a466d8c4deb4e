"""The counting of multiply-accumulates, which a table of the docs rests on, and other scripts."""

import argparse
import dataclasses
import json
import math
import os
import pathlib
import subprocess
import sys
import time
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import benchmarks
from benchmarks import (
    accelerator,
    bench_checkpoint,
    bench_deform_conv,
    bench_layers,
    bench_networks,
    bench_table7,
    compile_time,
    compute_types,
    macs,
    parity,
    resident,
    restore_memory,
    restore_speed,
    soak_resume,
    tiling_error,
    timing,
)
from lcdnet_jax import networks
from lcdnet_jax.checkpoints import Checkpoints


class Layers(nn.Module):
    """One of everything, each of a known cost on 8x6 pixels of 4 channels."""

    @nn.compact
    def __call__(self, x):
        channels = x.shape[-1]
        y = nn.Conv(5, (3, 3))(x)  # 8*6 * 3*3*4*5
        y = nn.Conv(10, (3, 2), strides=(2, 2), feature_group_count=5)(y)  # 4*3 * 3*2*1*10
        y = nn.ConvTranspose(4, (2, 2), strides=(2, 2), padding="VALID")(y)  # 4*3 * 2*2*10*4
        y = nn.relu(y) * 2.0 + jax.image.resize(x, y.shape, "bilinear")  # no parameters
        y = y @ y.swapaxes(2, 3) @ y  # activations only
        scanned = nn.scan(
            lambda layer, carry, _: (layer(carry), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
        )
        y, _ = scanned(nn.Dense(4), y, None)  # 3 * 8*6 * 4*4
        kernel = self.param("kernel", nn.initializers.ones, (channels, channels))
        doubled = jax.jit(lambda k: k * 2.0 + 1.0)(kernel)
        return jnp.einsum("nhwc,cd->nhwd", y, doubled)  # 8*6 * 4*4


def test_layers_by_hand():
    conv, depthwise, dense = 8 * 6 * 180, 4 * 3 * 60, 8 * 6 * 16
    transposed = 4 * 3 * 160
    shape = (2, 8, 6, 4)
    assert macs.count_macs(Layers(), shape) == 2 * (conv + depthwise + transposed + 4 * dense)
    expected = (180 + 5) + (60 + 10) + (160 + 4) + 3 * (16 + 4) + 16
    assert macs.count_parameters(Layers(), shape) == expected


def test_sadnet_has_the_cost_of_its_layers():
    """The sums of the specification of the layers at 480x320, in 1e9."""
    module = networks.create("sadnet")
    assert macs.count_macs(module, (1, 320, 480, 3)) == pytest.approx(47.12e9, abs=0.005e9)
    assert macs.count_parameters(module, (1, 320, 480, 3)) == 4_234_723


def test_unknown_lengths_are_refused():
    class Loop(nn.Module):
        @nn.compact
        def __call__(self, x):
            return jax.lax.while_loop(lambda y: jnp.sum(y) > 1, lambda y: y * 0.5, x)

    with pytest.raises(NotImplementedError, match="the program holds a while"):
        macs.count_macs(Loop(), (1, 2, 2, 1))


class TestSoakResume:
    """That it would notice a run that does not end as the uninterrupted one."""

    def state(self):
        return {
            "params": {"conv": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}},
            "opt_state": [np.int32(3), {"mu": np.float32([0.0, math.nan])}],
        }

    def saved(self, workdir, items, step=4):
        checkpoints = Checkpoints(workdir, keep=1)
        checkpoints.save(step, jax.tree.map(jnp.asarray, items))
        checkpoints.finish(step)
        checkpoints.close()
        return soak_resume.read_state(workdir)

    def test_states_read_from_checkpoints(self, tmp_path):
        wanted = self.saved(tmp_path / "a", self.state())
        assert soak_resume.state_differences(wanted, self.saved(tmp_path / "b", self.state())) == []
        changed = self.state()
        changed["params"]["conv"]["kernel"].view(np.uint32)[1, 2] ^= 1
        changed["opt_state"][1]["mu"][0] = -0.0
        found = self.saved(tmp_path / "c", changed, step=8)
        assert soak_resume.state_differences(wanted, found) == [
            "['opt_state'][1]['mu']: 1 of 2 values different",
            "['params']['conv']['kernel']: 1 of 6 values different",
            "['step']: 1 of 1 value different",
        ]

    def test_arrays_of_another_kind(self):
        found = self.state()
        found["params"]["conv"]["kernel"] = np.zeros((3, 2), np.float32)
        found["ema"] = found["opt_state"].pop()
        assert soak_resume.state_differences(self.state(), found) == [
            "['ema']['mu'] is unknown",
            "['opt_state'][1]['mu'] is missing",
            "['params']['conv']['kernel'] is float32[3, 2], not float32[2, 3]",
        ]

    @pytest.mark.parametrize(
        ("steps", "loss", "expected"),
        [
            ([1, 2, 3], 0.5, []),
            ([1, 3], 0.5, ["step 2 is missing"]),
            ([1, 2, 3, 3], 0.5, ["step 3 is there 2 times"]),
            ([1, 2, 3, 4], 0.5, ["step 4 has", "not None"]),
            (
                [1, 2, 3],
                0.5000001,
                ["step 2 has", "'train/loss': 0.5000001,", "'train/loss': 0.5,"],
            ),
        ],
    )
    def test_metrics(self, tmp_path, steps, loss, expected):
        def written(name, steps, loss):
            numbers = dict.fromkeys(("train/psnr", "train/grad_norm", "train/learning_rate"), 1.0)
            rows = [{"step": s, **numbers, "train/loss": loss if s == 2 else 0.1} for s in steps]
            rows.append({"step": 2, "compilations": len(steps)})  # differs, and may
            (tmp_path / name).mkdir()
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (tmp_path / name / "metrics.jsonl").write_text(text)
            return tmp_path / name

        wanted = written("wanted", [1, 2, 3], 0.5)
        lines = soak_resume.metrics_differences(wanted, written("found", steps, loss))
        assert len(lines) == bool(expected)
        assert all(part in lines[0] for part in expected)


@pytest.mark.extended
def test_checkpoint_benchmark(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench_checkpoint", "--quick"])
    monkeypatch.setattr(bench_checkpoint, "silence_orbax", lambda: None)  # lasts for good
    bench_checkpoint.main()
    alone, saved, one = map(json.loads, capsys.readouterr().out.splitlines())
    assert alone["value"] < saved["value"]  # 10 steps with a save, or without
    assert one["value"] < one["peer_value"]
    assert 0.9 < one["megabytes_on_disk"] / one["megabytes"] < 1.2


@pytest.mark.usefixtures("quickly_compiled")
class TestRestoreMemory:
    SMALL = ("--megapixels=0.05", "--tile=160", "--overlap=32")

    def run(self, monkeypatch, capsys, peak, options=SMALL):
        monkeypatch.setattr(resident, "read", {"VmRSS": 0.5, "VmHWM": peak}.get)
        monkeypatch.setattr("sys.argv", ["restore_memory", *options])
        try:
            restore_memory.main()
        finally:
            self.result = json.loads(capsys.readouterr().out)

    def test_what_is_reported(self, monkeypatch, capsys):
        self.run(monkeypatch, capsys, peak=2.75)
        assert self.result["image"] == [224, 224, 3]
        assert self.result["mode"] == "tiled 160/32"
        assert (self.result["idle_gb"], self.result["above_idle_gb"]) == (0.5, 2.25)

    @pytest.mark.extended
    def test_of_a_network_that_enlarges(self, monkeypatch, capsys):
        of_rcan = ("--network=rcan", "--preset=small", "--scale=2")
        sizes = ("--megapixels=0.0144", "--tile=64", "--overlap=16")
        self.run(monkeypatch, capsys, peak=2.75, options=(*of_rcan, *sizes))
        assert self.result["image"] == [120, 120, 3]
        assert (self.result["scale"], self.result["mode"]) == (2, "tiled 64/16")

    def test_the_limit(self, monkeypatch, capsys):
        with pytest.raises(SystemExit, match=r"2\.60 GB above idle; the limit is 2\.5"):
            self.run(monkeypatch, capsys, peak=3.1)


@pytest.mark.usefixtures("quickly_compiled")
class TestTilingError:
    """Of networks small enough for a test; the docs have the table of real ones."""

    def measured(self, module, tiles, width):
        """Kernels such as training starts with; other parameters, layer scales among them, 0.1."""
        rng = np.random.default_rng(0)

        def start(leaf):
            spread = math.prod(leaf.shape[:-1]) ** -0.5
            is_kernel = leaf.ndim > 2
            return rng.normal(0, spread, leaf.shape) if is_kernel else np.full(leaf.shape, 0.1)

        shapes = networks.abstract_variables(module)
        variables = jax.tree.map(lambda leaf: start(leaf).astype(np.float32), shapes)
        return list(tiling_error.measure((module, variables, "random"), tiles, width=width))

    @pytest.mark.extended
    @pytest.mark.slow
    def test_sadnet_with_an_overlap_of_64(self):
        """And with less, which its deformable blocks see beyond."""
        module = networks.create("sadnet", channels=1, width=4, offset_width=2, groups=2)
        enough, little = self.measured(module, [(160, 64), (160, 4)], width=270)
        assert enough["image"] == [180, 270, 1]
        assert enough["max_difference"] <= 2e-3 < little["max_difference"] / 10
        assert enough["change"] > 0.01  # so that differences could show
        assert enough["psnr_tiled"] == pytest.approx(enough["psnr_whole"], abs=0.01)

    @pytest.mark.extended
    @pytest.mark.slow
    def test_lcdnet_sees_the_whole_frame(self):
        """With layer scales that are not 0: its means over the image differ, and are reported."""
        module = networks.create(
            "lcdnet", channels=1, width=16, enc_blocks=(1, 1, 1, 1), block="naf", use_msfm=False,
            scam_type="none", sfe_type="naf", global_branch="none", layer_scale_init=0.3,
        )  # fmt: skip
        (line,) = self.measured(module, [(64, 16)], width=90)
        assert 1e-4 < line["max_difference"] < 1
        assert line["psnr_tiled"] != line["psnr_whole"]
        assert line["psnr_input"] == pytest.approx(20.7, abs=0.5)

    def test_a_network_that_enlarges(self):
        fields = {"channels": 1, "groups": 1, "blocks": 1, "features": 16}
        (line,) = self.measured(networks.create("rcan", scale=2, **fields), [(64, 16)], width=90)
        assert line["image"] == [60, 90, 1]
        assert 0 < line["mean_difference"] < line["change"]  # means over the image differ
        assert line["psnr_input"] > 30  # of bicubic interpolation

    def test_the_program(self, monkeypatch, capsys):
        monkeypatch.setitem(tiling_error._RANDOM, "dncnn-3", ("dncnn", {"depth": 3, "features": 4}))
        command = ["tiling_error", "--networks", "dncnn-3,dncnn", "--tiles=32/4", "--size=60"]
        monkeypatch.setattr("sys.argv", command)
        tiling_error.main()
        out, err = capsys.readouterr()
        line = json.loads(out)
        assert (line["network"], line["weights"], line["tile"]) == ("dncnn-3", "random", 32)
        assert line["max_difference"] < 1e-6
        assert err == "left out: dncnn, without weights\n"
        monkeypatch.setattr("sys.argv", ["tiling_error", "--networks", "unknown"])
        with pytest.raises(SystemExit, match="no network 'unknown'; there are dncnn, "):
            tiling_error.main()


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


def sleeping(milliseconds):
    return timing.Call(lambda: time.sleep(milliseconds / 1e3), wait=lambda _: None)


@pytest.fixture(autouse=True)
def short_trials(monkeypatch):
    monkeypatch.setattr(timing, "_TRIAL_SECONDS", 0.0)


class TestTiming:
    @pytest.mark.parametrize("may_have", [False, True])
    def test_begin_keeps_to_one_core(self, monkeypatch, may_have):
        monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        monkeypatch.setattr(timing, "_may_have_accelerator", lambda: may_have)
        before = os.sched_getaffinity(0)
        try:
            timing.use_one_core()
            assert timing.describe_device()["cores"] == len(os.sched_getaffinity(0)) == 1
            if may_have:  # threads that JAX had started
                threads = map(int, os.listdir("/proc/self/task"))
                assert all(len(os.sched_getaffinity(thread)) == 1 for thread in threads)
        finally:
            for thread in os.listdir("/proc/self/task"):
                os.sched_setaffinity(int(thread), before)

    def test_begin_leaves_cores_to_an_accelerators_host(self, monkeypatch):
        monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        monkeypatch.setattr(timing, "_may_have_accelerator", lambda: True)
        monkeypatch.setattr(timing, "on_cpu", lambda: False)
        before = os.sched_getaffinity(0)
        timing.use_one_core()
        assert os.sched_getaffinity(0) == before

    def test_processor_time_is_what_counts_on_a_cpu(self):
        (times,) = timing.measure_medians([sleeping(10)], seconds=0.0)
        assert times.wall >= 10
        assert times.value == times.processor < 5
        assert times.rounds == 3

    def test_of_several_steps_a_call_each(self):
        call = timing.Call(lambda: time.sleep(0.02), wait=lambda _: None, steps=4)
        (times,) = timing.measure_medians([call], seconds=0.0)
        assert 5 <= times.wall < 20

    def test_accelerators_are_waited_for_once_a_round(self, monkeypatch):
        monkeypatch.setattr(timing, "on_cpu", lambda: False)
        waits = []
        call = timing.Call(lambda: time.sleep(1e-3), waits.append)
        (times,) = timing.measure_medians([call], seconds=0.0)
        assert times.value == times.wall >= 1
        assert len(waits) == 1 + 1 + 3  # warm up, one alone, three rounds

    def test_the_fastest_peer_counts(self, monkeypatch):
        def call(milliseconds):
            return timing.Call(lambda: milliseconds, wait=lambda _: None)

        monkeypatch.setattr(timing, "_time_round", lambda call, count: (9 * call.run(), call.run()))
        agreed = []
        peers = {
            "slow": lambda: timing.Peer(call(9.0), "of slow"),
            "fast": lambda: timing.Peer(call(3.0), "of fast", memory=2**20),
        }
        fields = timing.compare(call(6.0), peers, agreed.append, seconds=0.0)
        assert fields["ratio"] == 2
        assert (fields["value"], fields["wall_ms"], fields["clock"]) == (6, 54, "processor")
        assert (fields["peer"], fields["peer_value"]) == ("fast", 3)
        assert fields["peer_memory_mib"] == 1
        assert fields["peer_trials_ms"] == {"slow": 9, "fast": 3}
        assert agreed == ["of slow", "of fast"]
        assert "ratio" not in timing.compare(call(1.0), {}, agreed.append, seconds=0.0)

    def test_agreement(self, rng):
        start, change = rng.normal(size=(2, 4, 5))
        almost = change * (1 + 1e-3)
        timing.check_close("it", start + almost, start + change, 2e-3, start=start)
        for wrong in (start + change * 1.01, start, np.nan * start):
            with pytest.raises(ValueError, match="it differs from the peer's by"):
                timing.check_close("it", wrong, start + change, 2e-3, start=start)

    def test_compilations_are_counted(self):
        double = jax.jit(lambda x: x * 2.5)
        arguments = jax.device_put(np.ones(3, "f")), jax.device_put(np.ones(4, "f"))
        for argument, count in zip((*arguments, *arguments), (1, 1, 0, 0), strict=True):
            with timing.record_compilations() as found:
                double(argument).block_until_ready()
            assert len(found) == count

    def test_a_cache_of_its_own(self):
        before = jax.config.jax_compilation_cache_dir
        with timing.fresh_compilation_cache():
            folder = pathlib.Path(jax.config.jax_compilation_cache_dir)
            jax.jit(lambda x: x * 3.5)(np.ones(3, "f")).block_until_ready()
            assert any(folder.iterdir())
        assert jax.config.jax_compilation_cache_dir == before != str(folder)
        assert not folder.exists()


def tiny_network(**kwargs):
    fields = (("depth", 3), ("features", 4))
    return bench_networks.Case("dncnn", "", (2, 8, 8, 1), fields=fields, **kwargs)


def tiny_operation(**kwargs):
    return bench_deform_conv.Case("small", 1, 6, 8, 2, **kwargs)


@pytest.mark.usefixtures("quickly_compiled")
class TestNetworks:
    @pytest.mark.extended
    def test_training(self):
        case = tiny_network(train=True, steps=2)
        assert case.name == "dncnn depth=3 features=4 2x8x8 train float32, 2 steps a call"
        hits = []
        listen = lambda event, **_: hits.append(event.endswith("/cache_hits"))  # noqa: E731
        jax.monitoring.register_event_listener(listen)
        result = bench_networks.measure(case, 0.0)
        jax.monitoring.unregister_event_listener(listen)
        assert any(hits)
        assert result["recompiles"] == 0
        assert result["compile_s"] > 0 < result["compile_cached_s"]
        # Two batches of images and of targets, and some activations.
        assert 2 * 2 * 2 * 8 * 8 * 4 < result["memory_mib"] * 2**20 < 200_000
        images = result["images_per_s"] * result["value"] / 1e3
        assert images == pytest.approx(2, rel=1e-2)

    @pytest.mark.parametrize("train", [False, True])
    def test_beside_torch(self, train, monkeypatch):
        pytest.importorskip("torch")
        from benchmarks import torch_steps

        case = tiny_network(train=train)
        result = bench_networks.measure(case, 0.0, peer="torch")
        assert result["ratio"] == pytest.approx(result["value"] / result["peer_value"], rel=1e-2)
        assert set(result["peer_trials_ms"]) == {"torch contiguous", "torch channels_last"}
        if train:
            monkeypatch.setattr(torch_steps, "LEARNING_RATE", 2e-3)
            with pytest.raises(ValueError, match="the fall of the loss differs from the peer's"):
                bench_networks.measure(case, 0.0, peer="torch")

    @pytest.mark.parametrize("train", [False, True])
    @pytest.mark.parametrize("scale", [2, 3, 4])
    def test_networks_that_enlarge_beside_torch(self, scale, train):
        pytest.importorskip("torch")
        fields = (("scale", scale), ("groups", 2), ("blocks", 2), ("features", 16))
        case = bench_networks.Case("rcan", "", (2, 6, 8, 1), train, fields=fields)
        assert bench_networks.measure(case, 0.0, peer="torch")["ratio"] > 0

    def test_the_peer_of_rcan_has_its_size(self):
        torch = pytest.importorskip("torch")
        from benchmarks import torch_peers

        for case in bench_networks.SETS["cpu"]:
            if case.network == "rcan" and case.train:
                module = case.module("float32")
                variables = bench_networks.random_variables(module)
                peer = torch_peers.network("rcan", module, variables)
                sizes = [parameter.numel() for parameter in peer.parameters()]
                assert sum(sizes) == sum(leaf.size for leaf in jax.tree.leaves(variables))
                enlarged = peer(torch.zeros(1, 1, 6, 4)).shape
                assert enlarged == (1, 1, 6 * module.scale, 4 * module.scale)

    def test_what_make_bench_leaves_out(self):
        kept = [case for case in bench_networks.SETS["cpu"] if not bench_networks._is_slow(case)]
        assert {case.name for case in kept if case.network == "rcan"} == {
            f"rcan small scale={scale} 1x64x64 {what} float32"
            for scale in (2, 4)
            for what in ("forward", "train")
        }
        assert all(case.steps == 1 and "low_memory" not in dict(case.fields) for case in kept)

    def test_wrong_outputs_are_refused(self, rng):
        images, ours = rng.uniform(size=(2, *tiny_network().shape))
        bench_networks._agree(tiny_network(), ours, images, ours)
        with pytest.raises(ValueError, match="the output differs"):
            bench_networks._agree(tiny_network(), ours, images, ours[:, ::-1])

    def test_the_program(self, monkeypatch, capsys):
        monkeypatch.setattr(timing, "use_one_core", lambda: None)
        monkeypatch.setitem(bench_networks.SETS, "tiny", [tiny_network(), tiny_network(train=True)])
        command = ["bench_networks", "--set=tiny", "--only=forward", "--dtype=bfloat16"]
        monkeypatch.setattr("sys.argv", [*command, "--seconds=0"])
        bench_networks.main()
        line = json.loads(capsys.readouterr().out)
        assert line["case"].endswith(" 2x8x8 forward bfloat16")
        assert line["clock"] == "processor"


@pytest.mark.usefixtures("quickly_compiled")
class TestDeformConv:
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_beside_the_textbook(self, dtype):
        result = bench_deform_conv.measure(tiny_operation(gradient=True, dtype=dtype), 0.0)
        assert result["peer"] == "take_along_axis"
        assert result["memory_mib"] > 0

    @pytest.mark.parametrize("gradient", [False, True])
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_beside_torch(self, dtype, gradient):
        pytest.importorskip("torch")
        case = tiny_operation(gradient=gradient, dtype=dtype)
        result = bench_deform_conv.measure(case, 0.0, peer="torch")
        assert "torch grid_sample" in result["peer_trials_ms"]

    def test_wrong_gradients_are_named(self, rng):
        ours = [rng.normal(size=(3, 4)) for _ in range(6)]
        bench_deform_conv._agree("float32", ours, ours)
        with pytest.raises(ValueError, match="d/d mask differs"):
            bench_deform_conv._agree("float32", [*ours[:3], ours[3] * 1.1, *ours[4:]], ours)


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
