"""SavedModels of TensorFlow."""

import json
import sys

import numpy as np
import pytest

from lcdnet_jax import export, storage
from lcdnet_jax.atomic_io import TargetError

pytest.importorskip("flatbuffers")
from tests.export.cases import image

pytestmark = pytest.mark.usefixtures("quickly_compiled")


@pytest.mark.parametrize("name", ["a [v2]/model", "a*", "what?"])
def test_path_that_tensorflow_takes_for_a_pattern(doubling, tmp_path, name):
    with pytest.raises(export.ExportError, match="for a pattern; use a path without them"):
        export.write_saved_model(tmp_path / name, *doubling)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
class TestSavedModel:
    def test_any_size(self, doubling, tmp_path):
        tf = pytest.importorskip("tensorflow")
        module, variables = doubling
        path = tmp_path / "model"
        card = export.write_saved_model(path, module, variables, about={"step": 7})
        assert card == json.loads((path / "card.json").read_text())
        assert card["about"] == {"step": 7}
        assert len(card["verified"]) == 2
        loaded = tf.saved_model.load(str(path))
        for shape in ((3, 7, 9, 1), (1, 12, 8, 1)):
            x = image(*shape)
            expected = module.apply(variables, x)
            np.testing.assert_allclose(loaded(x).numpy(), expected, rtol=0, atol=1e-5, strict=True)
        (served,) = loaded.signatures["serving_default"](images=tf.constant(x)).values()
        np.testing.assert_allclose(served.numpy(), expected, rtol=0, atol=1e-5)

        with pytest.raises(TargetError, match="is not empty; choose another directory, or --force"):
            export.write_saved_model(path, module, variables)
        (path / "mine").touch()
        with pytest.raises(
            TargetError, match=r"is not an earlier export \(mine\), and --force repl"
        ):
            export.write_saved_model(path, module, variables, force=True)
        (path / "mine").unlink()
        export.write_saved_model(path, module, variables, sizes=[(8, 12), (16, 16)], force=True)
        assert [p.name for p in tmp_path.iterdir()] == ["model"]
        loaded = tf.saved_model.load(str(path))
        assert set(loaded.signatures) == {"serving_default", "size_16x16"}
        x = image(2, 16, 16, 1)
        expected = module.apply(variables, x)
        np.testing.assert_allclose(loaded(x).numpy(), expected, rtol=0, atol=1e-5, strict=True)

    @pytest.mark.parametrize("sizes", [None, [(8, 12)]])
    def test_fixed_batch(self, doubling, tmp_path, sizes):
        """As converters to other forms need it."""
        tf = pytest.importorskip("tensorflow")
        module, variables = doubling
        path = tmp_path / "model"
        card = export.write_saved_model(path, module, variables, sizes=sizes, batch=2)
        assert card["batch"] == 2
        assert {case["images"] for case in card["verified"]} == {2}
        loaded = tf.saved_model.load(str(path))
        (specification,) = loaded.signatures["serving_default"].inputs[:1]
        assert specification.shape[0] == 2
        x = image(2, 8, 12, 1)
        expected = module.apply(variables, x)
        np.testing.assert_allclose(loaded(x).numpy(), expected, rtol=0, atol=1e-5, strict=True)
        with pytest.raises(export.ExportError, match="batch is a number of images, at least 1"):
            export.write_saved_model(path, module, variables, batch=0, force=True)

    def test_refusals(self, doubling, tmp_path, monkeypatch):
        (tmp_path / "mine").write_text("something else")
        with pytest.raises(TargetError, match="is a file; give a directory"):
            export.write_saved_model(tmp_path / "mine", *doubling, force=True)
        with pytest.raises(TargetError, match=r"not an earlier export \(mine\), and --force"):
            export.write_saved_model(tmp_path, *doubling, force=True)
        with pytest.raises(export.ExportError, match="verified on the CPU; add cpu"):
            export.write_saved_model(tmp_path / "new", *doubling, platforms=("tpu",))
        monkeypatch.setitem(sys.modules, "tensorflow", None)
        with pytest.raises(ImportError, match=r"needs TensorFlow.*\n.*lcdnet-jax\[export\]"):
            export.write_saved_model(tmp_path / "new", *doubling)
        assert [p.name for p in tmp_path.iterdir()] == ["mine"]


@pytest.mark.slow
def test_a_bucket(bucket, doubling, tmp_path, monkeypatch):
    """Complete when its marker exists, which is written last."""
    pytest.importorskip("tensorflow")
    path = storage.to_path(f"{bucket}/model")
    written, upload_file = [], storage.upload_file
    monkeypatch.setattr(
        storage, "upload_file", lambda file, to: (written.append(to.name), upload_file(file, to))
    )
    card = export.write_saved_model(str(path), *doubling)
    assert written[-1] == "saved_model.pb"
    assert json.loads(storage.read_bytes(path / "card.json")) == card
    with pytest.raises(TargetError, match="is not empty; choose another directory"):
        export.write_saved_model(path, *doubling)
    export.write_saved_model(path, *doubling, force=True)
    export.write_saved_model(tmp_path / "model", *doubling)
    assert [*storage.list_files(path)] == [*storage.list_files(tmp_path / "model")]
