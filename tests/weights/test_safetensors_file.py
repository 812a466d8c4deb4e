"""Safetensors files, to the last bit."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from lcdnet_jax import convert, networks
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.checkpoints import CheckpointError
from lcdnet_jax.weights import safetensors_file
from lcdnet_jax.weights.card import CardError
from tests.random_weights import SMALL, assert_same, drawn


class TestSafetensors:
    @pytest.fixture
    def file(self, weights, tmp_path):
        path = tmp_path / "model.safetensors"
        weights_lib.save_safetensors(weights, path, license="MIT")
        return path

    def test_one_file_is_enough(self, weights, file):
        module, variables, card = weights_lib.load(file)
        assert (type(module).__name__, module.depth, module.features) == ("DnCNN", 3, 4)
        assert_same(variables, weights.variables)
        assert card == weights.card | {"licence": "MIT"}
        assert weights_lib.load_card(file) == card
        x = jnp.full((1, 5, 6, 1), 0.5)
        assert module.apply(variables, x).shape == x.shape

    def test_names(self, weights, file):
        found = safetensors.numpy.load_file(file)
        assert "batch_stats/dncnn/bn_1/mean" in found
        np.testing.assert_array_equal(
            found["params/dncnn/conv_0/kernel"],
            weights.variables["params"]["dncnn"]["conv_0"]["kernel"],
        )

    def test_same_weights_same_bytes(self, exported, tmp_path):
        for name in ("a", "b"):
            weights_lib.save_safetensors(exported, tmp_path / f"{name}.safetensors")
        weights_lib.save_safetensors(tmp_path / "a.safetensors", tmp_path / "c.safetensors")
        bytes_of = {p.read_bytes() for p in tmp_path.iterdir()}
        assert len(bytes_of) == 1

    @pytest.mark.parametrize(
        ("network", "kwargs"),
        [
            ("sadnet", {"preset": "small", "dilations": (1, 1, 2, 3), "channels": 1}),
            ("unet_n2n", {"input_range": (-1.0, 1.0), "dtype": jnp.bfloat16}),
        ],
    )
    def test_fields_of_networks(self, tmp_path, network, kwargs):
        made = weights_lib.create_weights(network, drawn(network, **kwargs), **kwargs)
        weights_lib.save_safetensors(made, tmp_path / "a.safetensors")
        module, variables, _ = weights_lib.load(tmp_path / "a.safetensors")
        assert module == networks.create(network, **kwargs)
        assert_same(variables, made.variables)

    @pytest.mark.extended
    def test_cards_that_name_a_preset(self, tmp_path, monkeypatch):
        """Of older versions. The preset may mean something else by now."""
        kwargs = {"preset": "small", "use_rsab": False}
        made = weights_lib.create_weights("sadnet", drawn("sadnet", **kwargs), **kwargs)
        module = networks.create("sadnet", **kwargs)
        assert made.card["kwargs"]["width"] == 8
        assert "preset" not in made.card["kwargs"]
        weights_lib.save_safetensors(
            dataclasses.replace(made, card={**made.card, "kwargs": kwargs}),
            tmp_path / "new.safetensors",
        )
        new = tmp_path / "new.safetensors"
        assert weights_lib.load_card(new)["kwargs"] == made.card["kwargs"]
        tensors, header = safetensors_file.read(new)
        entry = {"card": {**header.card, "kwargs": kwargs}, "sha256": header.sha256}
        old = tmp_path / "old.safetensors"
        safetensors.numpy.save_file(tensors, old, metadata={"lcdnet_jax": json.dumps(entry)})
        changed = {"small": {"width": 16, "offset_width": 16, "groups": 4}}
        monkeypatch.setattr(networks.SADNet, "PRESETS", changed)
        assert weights_lib.load(old).module == module
        written = weights_lib.save_directory(old, tmp_path / "directory")
        assert written["kwargs"] == made.card["kwargs"]
        assert weights_lib.load(tmp_path / "directory").module == module
        stored = json.loads((tmp_path / "directory" / "config.json").read_text())
        assert stored["network"]["kwargs"] == made.card["kwargs"]

    @pytest.mark.parametrize("keep", [0, 4, 100, -1])
    def test_cut(self, file, keep):
        file.write_bytes(file.read_bytes()[:keep])
        with pytest.raises(
            CheckpointError, match=r"model.safetensors is not a safetensors file"
        ) as e:
            weights_lib.load(file)
        assert "\n" not in str(e.value)

    def test_a_flipped_bit(self, file):
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"arrays are not as they were saved \(SHA-256"):
            weights_lib.load(file)

    @pytest.fixture
    def rewritten(self, file):
        """Writes the file again, with another header or arrays."""

        def rewrite(change=lambda entry: entry, tensors=None):
            with safetensors.safe_open(file, framework="numpy") as old:
                entry = json.loads(old.metadata()["lcdnet_jax"])
            tensors = safetensors.numpy.load_file(file) if tensors is None else tensors
            entry["sha256"] = safetensors_file.digest(tensors)
            text = json.dumps(change(entry))
            file.write_bytes(safetensors.numpy.save(tensors, metadata={"lcdnet_jax": text}))
            return file

        return rewrite

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"format": 2}, "the header of .* was written by a newer version"),
            ({"step": "3"}, "the header of .*: step must be an integer of at least 0"),
            ({"network": "resnet"}, "does not hold what its card says: no network 'resnet'"),
            ({"kwargs": {"depth": 4, "features": 4}}, "says: these are not variables of dncnn"),
            (
                {"kwargs": {"name": "x"}},
                "kwargs must be a mapping without name, channels and dtype",
            ),
            ({"dtype": "float3"}, "says: data type 'float3' not understood"),
            ({"channels": 2}, "says: channels must be one of 1, 3, 6, got 2"),
        ],
        ids=str,
    )
    def test_card_that_cannot_be_used(self, rewritten, change, message):
        path = rewritten(lambda entry: entry | {"card": entry["card"] | change})
        with pytest.raises((CardError, CheckpointError), match=message) as error:
            weights_lib.load(path)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("entry", [[], "x", {"card": {}}, {"sha256": "0"}], ids=str)
    def test_damaged_header(self, rewritten, entry):
        with pytest.raises(CardError, match=r"the header of .* is damaged; restore the file"):
            weights_lib.load(rewritten(lambda _: entry))

    def test_arrays_of_another_network(self, rewritten):
        with pytest.raises(CheckpointError, match=r"says: these are not variables .* unknown: x"):
            weights_lib.load(rewritten(tensors={"x": np.ones(3, np.float32)}))

    @pytest.mark.parametrize(
        "names", [["params/" + "a/" * 100_000 + "b"], ["a", "a/b"], ["", "/", "//"]], ids=range(3)
    )
    def test_strange_names(self, rewritten, names):
        """Names become levels of a dict only if they are those of the network."""
        with pytest.raises(CheckpointError, match=r"says: these are not variables .* unknown: "):
            weights_lib.load(rewritten(tensors={name: np.ones(3, np.float32) for name in names}))

    @pytest.mark.parametrize("depth", [10**7, 60_000, 2**62])
    def test_a_network_that_the_file_cannot_hold(self, rewritten, depth):
        path = rewritten(lambda e: e | {"card": e["card"] | {"kwargs": {"depth": depth}}})
        with pytest.raises(CheckpointError, match=r"says: DnCNN (depth is|with these fields has)"):
            weights_lib.load(path)

    def test_of_pytorch(self, weights, file, tmp_path):
        """A state dict without a card, as others keep it."""
        state_dict = convert.to_torch("dncnn", weights.variables, **SMALL)
        file.write_bytes(
            safetensors.numpy.save({**state_dict, "a.num_batches_tracked": np.ones(1)})
        )
        with pytest.raises(ValueError, match=r"does not name the network of its weights; give"):
            weights_lib.load(file)
        with pytest.raises(CardError, match=r"model.safetensors has no card"):
            weights_lib.load_card(file)
        loaded = weights_lib.load(file, network="dncnn", network_kwargs=SMALL)
        assert_same(loaded.variables, weights.variables)
        assert loaded.card["origin"][0]["file"] == "model.safetensors"
        assert loaded.card["dropped"] == ["a.num_batches_tracked"]
