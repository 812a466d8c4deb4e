"""DND: crops from files of the official structure, the submission, and eval.py around them."""

import builtins
import errno
import json
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.io

from configs import tiny
from input_pipeline.layouts import dnd
from lcdnet_jax import Restorer, image_io, storage
from lcdnet_jax import config as config_lib
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.image_io import ImageError
from tests.scripts import StandIn, error_of, run

h5py = pytest.importorskip("h5py")
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

# One-based y0, x0, y1, x1, both ends included; the second ends at the corner of the image.
BOXES = [
    [[1, 2, 10, 13], [5, 9, 20, 30], [3, 1, 12, 8]],
    [[2, 2, 9, 9], [1, 1, 4, 4], [4, 5, 6, 9]],
]


def matlab(path):
    """A file as MATLAB 7.3 begins it, with 512 bytes of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return h5py.File(path, "w", userblock_size=512)


def write_dnd(root, images, boxes, row=True):
    with matlab(root / "info.mat") as file:
        references = []
        for i, of_image in enumerate(boxes):
            stored = np.array(of_image, np.float64).T
            references.append(file.create_dataset(f"#refs#/{i}", data=stored).ref)
        shape = (1, -1) if row else (-1, 1)
        file["info/boundingboxes"] = np.array(references, h5py.ref_dtype).reshape(shape)
    for i, image in enumerate(images):
        with matlab(root / "images_srgb" / f"{i + 1:04d}.mat") as file:
            file["InoisySRGB"] = image.T  # [3, width, height]


@pytest.fixture
def images(rng):
    return [rng.random((20, 30, 3), np.float32) for _ in BOXES]


@pytest.fixture
def root(tmp_path, images):
    write_dnd(tmp_path / "dnd_2017", images, BOXES)
    return tmp_path / "dnd_2017"


def expected(images, i):
    return [images[i][y0 - 1 : y1, x0 - 1 : x1] for y0, x0, y1, x1 in BOXES[i]]


@pytest.mark.parametrize("row", [True, False])
def test_crops(tmp_path, images, row):
    write_dnd(tmp_path, images, BOXES, row=row)
    benchmark = dnd.DND(tmp_path)
    assert len(benchmark) == 2
    for i in range(2):
        crops = benchmark.crops(i)
        assert [crop.shape for crop in crops] == [crop.shape for crop in expected(images, i)]
        for crop, wanted in zip(crops, expected(images, i), strict=True):
            assert crop.dtype == np.float32
            assert crop.flags.c_contiguous
            np.testing.assert_array_equal(crop, wanted)


def read_submission(path):
    kinds = {name: (shape, kind) for name, shape, kind in scipy.io.whosmat(path)}
    count = kinds["Idenoised"][0][1]
    assert kinds == {
        "Idenoised": ((1, count), "cell"),
        "israw": ((1, 1), "logical"),
        "eval_version": ((1,), "char"),
    }
    content = scipy.io.loadmat(path)
    assert content["israw"].item() == 0
    assert content["eval_version"].item() == "1.0"
    return list(content["Idenoised"][0])


def test_submission(tmp_path, images):
    """Crops of one size too, which must stay a cell of separate arrays."""
    crops = [2 * images[0][:8, :9] - 0.5, images[1][:8, :9].astype(np.float64)]
    path = dnd.write(tmp_path, 41, crops)
    assert path == tmp_path / "0042.mat"
    assert [p.name for p in tmp_path.iterdir()] == ["0042.mat"]
    written = read_submission(path)
    assert len(written) == 2
    for crop, wanted in zip(written, crops, strict=True):
        assert crop.dtype == np.float32
        np.testing.assert_array_equal(crop, np.clip(wanted, 0, 1).astype(np.float32))
    assert written[0].min() == 0
    assert written[0].max() == 1


def test_submissions_do_not_mix(tmp_path, images):
    dnd.check_folder(tmp_path)
    dnd.write(tmp_path, 1, images[:1])
    dnd.write(tmp_path, 1, images[:1])
    for begin in (dnd.check_folder, lambda folder: dnd.write(folder, 0, images[:1])):
        with pytest.raises(ImageError, match=r"holds a submission already \(0002.mat\).*; move"):
            begin(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["0002.mat"]


def test_a_failed_write_leaves_nothing(tmp_path, images, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write .*0001.mat: No space left on device"):
        dnd.write(tmp_path, 0, images[:1])
    assert not list(tmp_path.iterdir())


def test_refusals(tmp_path, root, images):
    def refuses(*needles, folder=root):
        with pytest.raises(ImageError, match=re.escape(needles[0])) as caught:
            dnd.DND(folder).crops(0)
        for needle in needles[1:]:
            assert needle in str(caught.value)

    refuses(f"{tmp_path}/info.mat: does not exist; give the folder dnd_2017", folder=tmp_path)
    first = root / "images_srgb" / "0001.mat"
    for damaged, cause in (
        ({"Other": images[0].T}, "InoisySRGB"),
        ({"InoisySRGB": images[0][..., 0].T}, "InoisySRGB is float32 (30, 20)"),
        ({"InoisySRGB": np.zeros((3, 30, 20), np.uint8)}, "InoisySRGB is uint8 (3, 30, 20)"),
        ({"InoisySRGB/group": images[0].T}, "'Group' object"),
        ({"InoisySRGB": images[0][:19].T}, "19x30, but info.mat has the box [5, 9, 20, 30]"),
    ):
        with matlab(first) as file:
            file.update(damaged)
        refuses(str(first), cause)
    first.write_bytes(b"words")
    refuses(f"{first}: is not an HDF5 file of DND")
    first.unlink()
    refuses(f"{root}: images_srgb/ lacks 1 of 2 images, the first is 0001.mat")
    (root / "info.mat").unlink()
    for boxes, cause in (
        (np.zeros((1, 2)), "info/boundingboxes: "),  # numbers, not references
        (None, "info/boundingboxes: "),  # a group
        ([], "holds []"),
        ([np.zeros((3, 20))], "holds [(20, 3)], not arrays of [boxes, 4]"),
    ):
        with matlab(root / "info.mat") as file:
            if boxes is None:
                file.create_group("info/boundingboxes")
            elif isinstance(boxes, list):
                found = [
                    file.create_dataset(f"#refs#/{i}", data=b).ref for i, b in enumerate(boxes)
                ]
                file["info/boundingboxes"] = np.array(found, h5py.ref_dtype)
            else:
                file["info/boundingboxes"] = boxes
        refuses(f"{root}/info.mat: ", cause)
    (root / "info.mat").write_bytes(b"words")
    refuses(f"{root}/info.mat: is not an HDF5 file of DND")


def test_without_h5py(root, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments):
        if name == "h5py":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=re.escape('pip install "lcdnet-jax[train]"')):
        dnd.DND(root)


# eval.py


@pytest.fixture
def restorer(tmp_path, monkeypatch):
    """What eval.py loads for the working directory ``tmp_path / "run"``."""
    module = StandIn()
    variables = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    restorer = Restorer(module, variables)
    card = {"network": "sadnet", "step": 1, "averaged": False, "origin": []}

    def load(path, **options):
        training = config_lib.load(path / "config.json").to_dict()
        card_of_run = card | {"training": training}
        return weights_lib.Weights(module, variables, card_of_run, is_workdir=True)

    monkeypatch.setattr(weights_lib, "load", load)
    (tmp_path / "run").mkdir()
    config_lib.save(tiny.get_config(), tmp_path / "run" / "config.json")
    return restorer


@pytest.mark.extended
def test_eval_writes_a_submission(tmp_path, root, images, restorer, capsys):
    command = ("eval.py", "--workdir", tmp_path / "run", "--data", f"dnd:{root}")
    assert run(*command) is None
    output = tmp_path / "run" / "eval"
    assert [path.name for path in output.iterdir()] == ["dnd"]  # no scores
    assert sorted(path.name for path in (output / "dnd").iterdir()) == ["0001.mat", "0002.mat"]
    for i in range(2):
        written = read_submission(output / "dnd" / f"{i + 1:04d}.mat")
        for crop, noisy in zip(written, expected(images, i), strict=True):
            np.testing.assert_allclose(crop, restorer(noisy).clip(0, 1), atol=1e-6)
    out = capsys.readouterr().out
    assert "DND: image 1 of 2, 0001.mat\nDND: image 2 of 2, 0002.mat\n" in out
    assert f"written: {output}/dnd" in out
    assert "PSNR" not in out


def test_eval_of_other_kinds_beside_dnd(tmp_path, root, restorer, capsys, rng):
    for name in ("a_real.png", "a_mean.png"):
        (tmp_path / "nam").mkdir(exist_ok=True)
        image_io.write(tmp_path / "nam" / name, rng.integers(0, 256, (16, 20, 3), np.uint8))
    halves = {}
    for half in ("Noisy", "Gt"):
        name = f"Validation{half}BlocksSrgb"
        halves[half] = rng.integers(0, 256, (1, 2, 16, 16, 3), np.uint8)
        scipy.io.savemat(tmp_path / f"{name}.mat", {name: halves[half]})
    data = f"dnd:{root},nam:{tmp_path}/nam,sidd_validation:{tmp_path}"
    output = tmp_path / "out"
    assert run("eval.py", "--workdir", tmp_path / "run", "--data", data, "--output", output) is None
    rows = json.loads((output / "results.json").read_text())
    assert [(row["dataset"], row["protocol"], row["n"]) for row in rows] == [
        ("nam_nam", "pairs", 1),
        (f"sidd_validation_{tmp_path.name}", "sidd", 2),
    ]
    errors = np.mean((halves["Noisy"].astype(float) - halves["Gt"]) ** 2, axis=(2, 3, 4))
    psnr = np.mean(10 * np.log10(255**2 / errors))
    np.testing.assert_allclose(rows[1]["input_psnr"], psnr, rtol=1e-5)
    assert (output / "dnd" / "0002.mat").exists()


def test_eval_takes_several_sources_of_the_config(tmp_path, restorer, rng):
    config = tiny.get_config()
    config.data.eval.source = "nam,polyu"
    config.data.eval.path = f"{tmp_path}/a,{tmp_path}/b"
    config_lib.save(config, tmp_path / "run" / "config.json")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for half in ("real", "mean"):
            image = rng.integers(0, 256, (16, 20, 3), np.uint8)
            image_io.write(tmp_path / folder / f"x_{half}.png", image)
    assert run("eval.py", "--workdir", tmp_path / "run", "--save_images") is None
    output = tmp_path / "run" / "eval"
    (row,) = json.loads((output / "results.json").read_text())
    assert (row["dataset"], row["n"]) == ("nam+polyu", 2)
    saved = sorted(path.name for path in (output / "nam+polyu_pairs").iterdir())
    assert saved == ["nam_x.png", "polyu_x.png"]


def test_eval_mistakes(tmp_path, root, restorer):
    command = ("eval.py", "--workdir", tmp_path / "run", "--data")
    assert "info.mat: does not exist" in error_of(*command, f"dnd:{tmp_path}/nowhere")
    assert "two data sets are called dnd" in error_of(*command, f"dnd:{root},dnd:{root}")
    assert "no protocol 'x'" in error_of(*command, f"dnd:{root}", "--protocols", "x")
    assert "DND is of one mode" in error_of(*command, f"dnd:{root}", "--modes=full,tiled")
    assert "the photographs of scikit-image have no folder" in error_of(*command, "photos:train")
    assert "--data: " in error_of(*command, f"sidd:{tmp_path}/nowhere")
    assert not list((tmp_path / "run" / "eval").iterdir())


@pytest.mark.extended
def test_a_bucket(bucket, root, images, tmp_path):
    storage.upload(root, storage.to_path(f"{bucket}/dnd_2017"))
    there, local = dnd.DND(f"{bucket}/dnd_2017"), dnd.DND(root)
    assert len(there) == len(local) == len(images)
    for i in range(len(local)):
        for a, b in zip(there.crops(i), local.crops(i), strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ImageError, match=r"none/info.mat: does not exist; give the folder"):
        dnd.DND(f"{bucket}/none")
    storage.write(storage.to_path(f"{bucket}/dnd_2017/info.mat"), b"text")
    with pytest.raises(ImageError, match=r"info.mat: is not an HDF5 file of DND"):
        dnd.DND(f"{bucket}/dnd_2017")
    submission = storage.to_path(f"{bucket}/submission")
    dnd.submit(lambda crop: crop, local, submission)
    assert [*storage.list_files(submission)] == ["0001.mat", "0002.mat"]
    with pytest.raises(ImageError, match=r"0001\.mat"):
        dnd.check_folder(submission)
