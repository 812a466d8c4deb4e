"""The benchmark of networks."""

import json

import jax
import pytest

from benchmarks import bench_networks, timing
from tests.benchmarks.tiny_cases import tiny_network

pytestmark = pytest.mark.usefixtures("short_trials")


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
