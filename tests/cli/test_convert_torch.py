"""State dicts that an installed PyTorch wrote; skipped without it."""

import argparse
import io
import os
import pickle
import zipfile

import jax
import numpy as np
import pytest

from lcdnet_jax import Restorer, convert
from tests.cli.commands import SMALL, run, small_state
from tests.legacy_pth import read_pth

OFFICIAL = (
    "dncnn_gray_regular",
    "dncnn_gray_sfm_r0.85_s0.15",
    "memnet_gray_regular",
    "memnet_gray_sfm_r0.85_s0.15",
    "unet_n2n_bsd_regular",
    "unet_n2n_bsd_sfm",
)


class Caller:
    """A pickle of it calls ``mkdir(path)`` when it is loaded by other means."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class TestRealTorch:
    """What torch.save writes and torch.load does, in both formats of files."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def torch(cls):
        return pytest.importorskip("torch")

    @pytest.fixture(params=[True, False], ids=["zip", "legacy"])
    def save(self, request, torch, tmp_path):
        def save(content):
            path = tmp_path / "file.pth"
            torch.save(content, path, _use_new_zipfile_serialization=request.param)
            return path

        return save

    def test_arrays(self, torch, save):
        numbers = torch.arange(6, dtype=torch.float32).reshape(2, 3)
        path = save(
            {
                "plain": numbers,
                "turned": numbers.t(),
                "part": numbers[1],
                "parameter": torch.nn.Parameter(numbers),
                "half": numbers.bfloat16(),
                "double": numbers.double(),
                "count": torch.tensor(7),
            }
        )
        found = convert.read_state_dict(path)
        expected = np.arange(6, dtype=np.float32).reshape(2, 3)
        for key in ("plain", "parameter", "half", "double"):
            assert found[key].dtype == np.float32
            np.testing.assert_array_equal(found[key], expected)
        np.testing.assert_array_equal(found["turned"], expected.T)
        np.testing.assert_array_equal(found["part"], expected[1])
        assert found["count"] == 7

    def test_command(self, torch, save, tmp_path):
        state = {k: torch.from_numpy(np.asarray(v)) for k, v in small_state().items()}
        run("convert", "dncnn", save(state), "-o", tmp_path / "out", *SMALL)
        found = Restorer.from_checkpoint(tmp_path / "out").variables
        wanted = convert.from_torch("dncnn", small_state(), depth=3, features=4)
        jax.tree.map(np.testing.assert_array_equal, found, wanted)

    @pytest.mark.parametrize("name", OFFICIAL)
    def test_official_files(self, shared_data, name):
        path = shared_data(f"weights/sfm/{name}.pth")
        found, expected = convert.read_state_dict(path), read_pth(path)
        assert list(found) == list(expected)
        for key, array in expected.items():
            np.testing.assert_array_equal(found[key], array)

    @pytest.mark.parametrize(
        ("kind", "culprit"),
        [
            ("call", r"\w+\.mkdir"),
            ("module", r"torch\.nn\.modules\.conv\.Conv2d"),
            ("options", r"argparse\.Namespace"),
        ],
    )
    def test_code_is_not_run(self, torch, save, tmp_path, kind, culprit):
        path = save(
            {
                "call": {"a": Caller(tmp_path / "made")},
                "module": torch.nn.Conv2d(1, 1, 3),
                "options": {"state_dict": {"a": torch.ones(1)}, "args": argparse.Namespace(a=1)},
            }[kind]
        )
        with pytest.raises(ValueError, match=rf"would run code \({culprit}\), so it was not load"):
            convert.read_state_dict(path)
        assert not (tmp_path / "made").exists()

    @pytest.mark.parametrize("kind", ["text", "html", "pickle", "zip", "cut"])
    def test_not_a_torch_file(self, torch, tmp_path, kind):
        archive, whole = io.BytesIO(), io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("a.txt", "a")
        torch.save({"a": torch.ones(99)}, whole)
        path = tmp_path / "file.pth"
        path.write_bytes(
            {
                "text": b"hello\n",
                "html": b"<!DOCTYPE html>",
                "pickle": pickle.dumps({"a": Caller(tmp_path / "made")}),
                "zip": archive.getvalue(),
                "cut": whole.getvalue()[:400],
            }[kind]
        )
        with pytest.raises(ValueError, match=r"was not written by torch.save, or is dam"):
            convert.read_state_dict(path)
        assert not (tmp_path / "made").exists()

    @pytest.mark.parametrize("kind", ["repeats", "sparse", "meta", "shared"])
    def test_strange_tensors(self, torch, save, kind):
        whole = torch.zeros(1000)
        state = {
            "repeats": {"a": torch.zeros(1).expand(10**6, 10**5)},
            "sparse": {"a": torch.zeros(3, 3).to_sparse()},
            "meta": {"a": torch.zeros(3, device="meta")},
            "shared": {f"{i}": whole for i in range(10**4)},
        }[kind]
        with pytest.raises(ValueError, match=r"tensors (far larger|that are not plain)|is damaged"):
            convert.read_state_dict(save(state))

    @pytest.mark.parametrize("content", [[1], {"a": 1}, 3])
    def test_no_state_dict(self, save, content):
        with pytest.raises(ValueError, match=r"contains no state dict .* but a"):
            convert.read_state_dict(save(content))
