"""The measurement of memory in restoring."""

import json

import pytest

from benchmarks import resident, restore_memory


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
