"""The command restore: shards, and several processes."""

import os
import socket
import subprocess
import sys

import pytest

from lcdnet_jax import multihost
from lcdnet_jax.cli import main
from tests.cli.commands import ROOT
from tests.cli.halving import contents, halved, noise, put, same

pytestmark = pytest.mark.usefixtures("stand_in")


class TestShares:
    def test_shards_partition(self, place, run):
        """The images that one run restores, under the same names."""
        for i in range(5):
            put(place / "in" / "x" / f"{i}.png", noise(seed=i))
        shares = []
        for i in range(3):
            out = run("in", "-o", f"out{i}", f"--shard={i}/3")
            shares.append(sorted(contents(place / f"out{i}")))
            assert out.startswith(f"share {i} of 3: {len(shares[i])} of 5 images\n")
        assert shares == [["x/0.png", "x/3.png"], ["x/1.png", "x/4.png"], ["x/2.png"]]
        same(place / "out1" / "x" / "4.png", halved(noise(seed=4)))

    def test_a_shard_is_the_same_after_an_interruption(self, place, run):
        for i in range(4):
            put(place / "in" / f"{i}.png")
        put(place / "out" / "0.png")
        out = run("in", "-o", "out", "--shard=0/2", "--skip-existing")
        assert "share 0 of 2: 2 of 4 images\n1 of 2 images skipped" in out
        assert sorted(contents(place / "out")) == ["0.png", "2.png"]
        assert run("0.png", "-o", "new", "--shard=1/2") == "share 1 of 2: 0 of 1 image\n"

    def test_an_error_does_not_keep_other_processes_waiting(self, place, monkeypatch, error_of):
        """They wait until each process has left."""
        left = []
        monkeypatch.setattr(multihost, "initialize", lambda **options: "process 0 of 2")
        monkeypatch.setattr(multihost, "leave", lambda: left.append(True))
        put(place / "a.png")
        assert "no device 'none'" in error_of("a.png", "-o", "b.png", "--device=none")
        assert left == [True]
        assert "none" in error_of("a.png", "-o", "b.png", "--reference=none")
        assert left == [True, True]

    @pytest.mark.parametrize("option", ["--process-index=1", "--process_index=1"])
    def test_number_of_a_process(self, place, option):
        with pytest.raises(SystemExit) as end:
            main.main(["restore", "a.png", option])
        assert "missing: --coordinator, --processes" in str(end.value.code)

    @pytest.mark.extended
    def test_two_processes(self, place):
        """Each restores its share of what process 0 finds, and stands alone then."""
        for i in range(5):
            put(place / "in" / f"{i}.png", noise((60, 60, 3), seed=i))
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        started = [
            subprocess.Popen(
                [
                    sys.executable, "-c", "from lcdnet_jax.cli.main import main; main()", "restore",
                    *(["in"] if i == 0 else ["in/0.png"]), "-o", "out", "--tile=32", "--overlap=0",
                    f"--coordinator=localhost:{port}", "--processes=2", f"--process-index={i}",
                ],
                env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=place,
            )
            for i in range(2)
        ]  # fmt: skip
        outputs = [process.communicate(timeout=120) for process in started]
        assert [process.returncode for process in started] == [0, 0], outputs
        for i, (out, _) in enumerate(outputs):
            assert f"process {i} of 2 (found by flags), 8 of 16 devices here\n" in out
            assert f"share {i} of 2: {3 - i} of 5 images\n" in out
            assert f"out/{i + 2}.png  60x60\n" in out
        assert sorted(contents(place / "out")) == [f"{i}.png" for i in range(5)]
