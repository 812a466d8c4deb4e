"""The command models."""

import pytest

from lcdnet_jax import networks
from lcdnet_jax.cli import main
from lcdnet_jax.export import litert, onnx
from lcdnet_jax.networks import registered
from lcdnet_jax.networks.costs import COSTS
from lcdnet_jax.weights import pretrained

pytestmark = pytest.mark.usefixtures("stand_in")


def test_pretrained(capsys):
    """One line for each set of weights: name, what for, size."""
    main.main(["models", "--pretrained"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(pretrained.names())
    assert set(pretrained.PURPOSES) == set(pretrained.names())
    for name, line in zip(pretrained.names(), lines, strict=True):
        assert pretrained.PURPOSES[name] in line
        default = ", the default of restore" if name == pretrained.DEFAULT else ""
        assert line.endswith(f" ({2.1 if default else 0.6} MB{default})")
        assert len(line) < 100


def test_damaged_pretrained_weights(capsys, monkeypatch):
    def fail(name):
        raise pretrained.PretrainedError(f"{name} is damaged")

    monkeypatch.setattr(pretrained, "path", fail)
    with pytest.raises(SystemExit, match="sadnet-gray-blind is damaged; sadnet-photo is damaged"):
        main.main(["models", "--pretrained"])


class TestModels:
    def test_table(self, capsys):
        main.main(["models"])
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split() == ["network", "preset", "channels", "parameters", "kMAC/pixel"]
        assert "dncnn                                 1     556,032       554.1" in lines
        count = len(litert.UNSUPPORTED) + len(onnx.NEEDS_SIZE)
        table, notes = lines[1:-count], lines[-count:]
        assert {line.split()[0] for line in table} == set(networks.available())
        assert notes == [
            *(
                f"{name} cannot be exported as .tflite: {reason}"
                for name, reason in litert.UNSUPPORTED.items()
            ),
            *(
                f"{name} is exported as .onnx for one --size only: {reason}"
                for name, reason in onnx.NEEDS_SIZE.items()
            ),
        ]

    def test_has_every_network_and_preset(self):
        """Run python -m benchmarks.macs for what a new one costs."""
        with registered("sadnet", networks.SADNet):
            assert {name: set(presets) for name, presets in COSTS.items()} == {
                name: set(networks.get(name).PRESETS) or {""} for name in networks.available()
            }
