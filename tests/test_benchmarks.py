"""The counting of multiply-accumulates, which a table of the docs rests on, and other scripts."""

import json
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import bench_checkpoint, macs, restore_memory, soak_resume, tiling_error
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
            "['opt_state'][1]['mu']: 1 of 2 values differ",
            "['params']['conv']['kernel']: 1 of 6 values differ",
            "['step']: 1 of 1 values differ",
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
    def run(self, monkeypatch, capsys, peak):
        monkeypatch.setattr(restore_memory, "_memory", {"VmRSS": 0.5, "VmHWM": peak}.get)
        monkeypatch.setattr(
            "sys.argv", ["restore_memory", "--megapixels", "0.05", "--tile", "160", "--overlap=32"]
        )
        try:
            restore_memory.main()
        finally:
            self.result = json.loads(capsys.readouterr().out)

    def test_what_is_reported(self, monkeypatch, capsys):
        self.run(monkeypatch, capsys, peak=2.75)
        assert self.result["image"] == [224, 224, 3]
        assert self.result["mode"] == "tiled 160/32"
        assert (self.result["idle_gb"], self.result["above_idle_gb"]) == (0.5, 2.25)

    def test_the_limit(self, monkeypatch, capsys):
        with pytest.raises(SystemExit, match=r"2\.60 GB above idle; the limit is 2\.5"):
            self.run(monkeypatch, capsys, peak=3.1)

    def test_memory_is_that_of_the_process(self):
        now = restore_memory._memory("VmRSS")
        block = np.ones(300_000_000, np.uint8)
        with_block = restore_memory._memory("VmRSS")
        assert with_block - now == pytest.approx(block.nbytes / 1e9, abs=0.05)
        assert restore_memory._memory("VmHWM") >= with_block


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

    def test_sadnet_with_an_overlap_of_64(self):
        """And with less, which its deformable blocks see beyond."""
        module = networks.create("sadnet", channels=1, width=4, offset_width=2, groups=2)
        enough, little = self.measured(module, [(160, 64), (160, 4)], width=270)
        assert enough["image"] == [180, 270, 1]
        assert enough["max_difference"] <= 2e-3 < little["max_difference"] / 10
        assert enough["change"] > 0.01  # so that differences could show
        assert enough["psnr_tiled"] == pytest.approx(enough["psnr_whole"], abs=0.01)

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
