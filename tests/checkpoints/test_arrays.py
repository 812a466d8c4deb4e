"""Trees of arrays: literal paths, mismatches, values that are not finite, reading back."""

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from lcdnet_jax.checkpoints import arrays

TREE = {"conv": {"kernel": np.ones((3, 3), np.float32), "bias": np.zeros(3, np.float32)}}


def test_literal_path(tmp_path):
    path, release = arrays.make_literal_path(tmp_path)
    assert path == tmp_path
    release()
    assert tmp_path.exists()


@pytest.mark.parametrize("name", ["a*", "a?", "runs [v2]", "back\\slash"])
def test_special_characters(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "file").write_text("here")
    path, release = arrays.make_literal_path(folder)
    assert not set(str(path)) & set("*?[\\")
    assert (path / "file").read_text() == "here"
    release()
    assert not path.exists()
    assert (folder / "file").read_text() == "here"


def test_list_mismatches():
    assert arrays.list_mismatches("params", TREE, TREE) == []
    assert arrays.list_mismatches("params", None, TREE) == ["params: not in the checkpoint"]
    other = {"conv": {"kernel": np.ones((5, 5)), "scale": np.ones(3)}}
    assert arrays.list_mismatches("params", other, TREE) == [
        "params/conv/bias: missing in the checkpoint",
        "params/conv/scale: unknown to this run",
        "params/conv/kernel: shape (5, 5) there, (3, 3) needed",
    ]


def test_list_nonfinite():
    bad = {"kernel": jnp.array([1.0, jnp.inf]), "bias": np.array([np.nan]), "count": jnp.int32(3)}
    assert sorted(arrays.list_nonfinite({"params": {"conv": bad}, "ema": TREE})) == [
        "params/conv/bias",
        "params/conv/kernel",
    ]
    assert arrays.list_nonfinite({"params": TREE}) == []


def test_add_sharding():
    shape = jax.ShapeDtypeStruct((2, 3), jnp.bfloat16)
    placed = arrays.add_sharding(shape)
    assert (placed.shape, placed.dtype) == ((2, 3), jnp.bfloat16)
    assert placed.sharding.device_set == {jax.local_devices()[0]}
    assert arrays.add_sharding(placed) is placed
    assert arrays.add_sharding(3) == 3


def test_take_one_copy():
    devices = jax.local_devices()
    mesh = jax.sharding.Mesh(np.array(devices), "x")
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    copied = arrays.take_one_copy(jax.device_put(jnp.arange(3), everywhere))
    assert len(copied.devices()) == 1
    np.testing.assert_array_equal(copied, [0, 1, 2])
    assert arrays.take_one_copy("text") == "text"


def test_read_back(tmp_path):
    where = tmp_path / "8"
    with ocp.Checkpointer(arrays.make_handler()) as checkpointer:
        checkpointer.save(where, args=ocp.args.Composite(params=ocp.args.StandardSave(TREE)))
    assert arrays.list_mismatches("params", arrays.read_metadata(where, "params"), TREE) == []
    arrays.read_back(where, arrays.compute_checksums({"params": TREE}))
    other = jax.tree.map(np.copy, TREE)
    other["conv"]["bias"][1] = 1
    with pytest.raises(ValueError, match="params/conv/bias is not as it was saved"):
        arrays.read_back(where, arrays.compute_checksums({"params": other}))
