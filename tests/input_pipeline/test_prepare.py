"""The command that checks a data set and writes it as shards."""

import os
import resource
import signal

import numpy as np
import pytest

import input_pipeline
from input_pipeline import prepare, shard_writer
from input_pipeline.sources import open_source
from lcdnet_jax import storage
from lcdnet_jax.data_sets import DATA_SETS

SHAPES = {"000001.png": (20, 30, 3), "000002.png": (20, 30, 3)}


@pytest.fixture
def gopro(tmp_path, fill):
    """Two sequences for training and one for testing; far fewer pairs than published."""
    root = tmp_path / "GOPRO_Large"
    for seed, place in enumerate(("train/GOPR1", "train/GOPR2", "test/GOPR3")):
        for k, half in enumerate(("blur", "blur_gamma", "sharp")):
            fill(root / place / half, SHAPES, seed=3 * seed + k)
    return root


def run(*arguments, fails=True):
    """Runs the command and returns the error with which it ends."""
    if not fails:
        prepare.main([*map(str, arguments)])
        return ""
    with pytest.raises(SystemExit) as ended:
        prepare.main([*map(str, arguments)])
    return str(ended.value.code)


def test_an_incomplete_data_set(gopro, tmp_path, capsys):
    """Both splits are reported, with the numbers of pairs, and nothing is written."""
    error = run("gopro", gopro, tmp_path / "out")
    assert "gopro is not as published; it can be obtained from https://seungjunnah" in error
    assert "--incomplete writes what is there" in error
    said = capsys.readouterr().out
    assert "wrong: train: 4 pairs (published: 2,103)" in said
    assert "wrong: test: 2 pairs (published: 1,111)" in said
    assert not (tmp_path / "out").exists()


def test_all_that_is_wrong_is_named(gopro, tmp_path, capsys):
    (gopro / "train/GOPR1/sharp/000001.png").unlink()
    (gopro / "train/GOPR2/blur").rename(gopro / "train/GOPR2/blurred")
    (gopro / "test/GOPR3/blur/000002.png").write_bytes(b"text")
    run("gopro", gopro)
    said = capsys.readouterr().out
    assert "GOPR1: files without a partner: blur/000001.png" in said
    assert "GOPR2: looked for blur/, found blur_gamma/, blurred/, sharp/" in said
    assert "000002.png: " in said.partition("wrong: test: ")[2]


def test_a_missing_folder(tmp_path, capsys):
    error = run("dpdd", tmp_path / "nowhere")
    assert f"obtained from {DATA_SETS['dpdd'].obtain}" in error
    assert capsys.readouterr().out == f"wrong: {tmp_path}/nowhere is no folder\n"


def test_what_can_be_obtained_says_where():
    without = [name for name, row in DATA_SETS.items() if not row.obtain.startswith("http")]
    assert without == ["photos", "folder", "tfds", "shards"]


def test_training_from_what_was_written(gopro, tmp_path, config, capsys):
    """What is there is written with --incomplete, and gives the batches of the files."""
    out = tmp_path / "out"
    run("gopro", gopro, out, "--incomplete", "--tile", 16, fails=False)
    said = capsys.readouterr().out
    assert f"4 pairs, 0.0 MB in 1 shard in {out}. To train on them:" in said.replace("0.1", "0.0")
    config.degradation.kind = "none"
    config.data.train.source, config.data.train.path = "gopro", str(gopro)
    expected = next(input_pipeline.create_dataset(config, "train").batches())
    assert "--config.data.train.source=shards" in said
    config.data.train.source, config.data.train.path = "shards", str(out)
    batch = next(input_pipeline.create_dataset(config, "train").batches())
    np.testing.assert_array_equal(batch["degraded"], expected["degraded"])
    np.testing.assert_array_equal(batch["clean"], expected["clean"])
    assert "is not empty; choose another directory" in run("gopro", gopro, out, "--incomplete")
    run("gopro", gopro, out, "--incomplete", "--split", "test", "--force", fails=False)
    source = open_source({"source": "shards", "path": str(out)}, field="data")
    assert [example.name for example in source.examples] == ["GOPR3_000001", "GOPR3_000002"]


def test_refusals(gopro, tmp_path, capsys):
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("words")
    error = run("gopro", gopro, other, "--incomplete", "--force")
    assert "is not an earlier folder of shards (thesis.txt)" in error
    assert (other / "thesis.txt").read_text() == "words"
    assert "--split is val; gopro has the splits train, test" in run(
        "gopro", gopro, "--split", "val"
    )
    run("gopro", gopro, tmp_path / "out", "--tile", 8)
    assert "--tile is 8; use at least 16" in capsys.readouterr().err
    assert "s3:" not in str(list(tmp_path.iterdir()))


def test_refusals_before_the_images_are_read(tmp_path, fill, monkeypatch, capsys):
    """A data set in a bucket takes hours to read."""
    fill(tmp_path / "images", SHAPES)
    monkeypatch.setattr(prepare, "check", None)
    assert f"{tmp_path} is not empty" in run("folder", tmp_path / "images", tmp_path)
    assert "images/000001.png is a file" in run("folder", tmp_path, tmp_path / "images/000001.png")
    error = run("folder", tmp_path / "images", tmp_path / "out", "--split", "../../x")
    assert error == "error: --split is ../../x, but folder has no splits; leave it out"
    run("folder", tmp_path / "images", "")
    assert "OUT is empty" in capsys.readouterr().err


def test_names_that_shells_and_encodings_do_not_like(tmp_path, fill, capsys):
    name = os.fsdecode(b"a \xff.png")
    fill(tmp_path / "images", {"b.png": (20, 30, 3)})
    (tmp_path / "images" / "b.png").rename(tmp_path / "images" / name)
    out = tmp_path / "out [1]"
    run("folder", tmp_path / "images", out, fails=False)
    assert f"'--config.data.train.path={out}'" in capsys.readouterr().out
    source = open_source({"source": "shards", "path": str(out)}, field="data")
    assert [f"{example.name}.png" for example in source.examples] == [name]


def test_a_link_that_leads_nowhere(tmp_path, fill, capsys):
    fill(tmp_path / "images", SHAPES)
    (tmp_path / "images" / "lost.png").symlink_to(tmp_path / "unmounted.png")
    run("folder", tmp_path / "images")
    assert "lost.png: " in capsys.readouterr().out


def test_a_full_disk(gopro, tmp_path):
    """TensorFlow's error becomes one sentence."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        error = run("gopro", gopro, tmp_path / "out", "--incomplete")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error == (
        f"error: cannot write {tmp_path}/out: File too large; choose a writable directory on a "
        "disk with free space"
    )


def test_images_that_cannot_be_decoded(gopro, tmp_path):
    """All of them are named, although the first one already prevents the shards."""
    for place in ("train/GOPR1/blur/000001.png", "train/GOPR2/sharp/000002.png"):
        data = bytearray((gopro / place).read_bytes())
        data[len(data) // 2] ^= 1
        (gopro / place).write_bytes(data)
    error = run("gopro", gopro, tmp_path / "out", "--incomplete")
    assert "2 images cannot be decoded" in error
    assert "GOPR1/blur/000001.png" in error
    assert "GOPR2/sharp/000002.png" in error
    assert not (tmp_path / "out").exists()


def test_images_without_a_header(gopro, tmp_path, capsys):
    """The other split can be written."""
    (gopro / "train/GOPR1/blur/000001.png").write_bytes(b"text")
    error = run("gopro", gopro, tmp_path / "out", "--incomplete")
    assert error.startswith("error: the split train cannot be written; repair or remove what is")
    assert "wrong: train: " in capsys.readouterr().out
    run("gopro", gopro, tmp_path / "out", "--incomplete", "--split", "test", fails=False)


def test_a_group_of_splits(tmp_path, fill):
    """The split "test" of Rain13K is its five test sets."""
    for name in DATA_SETS["rain13k"].groups["test"]:
        for half in ("input", "target"):
            fill(tmp_path / "rain" / "test" / name / half, {"1.png": (5, 6, 3)})
    out = tmp_path / "out"
    run("rain13k", tmp_path / "rain", out, "--incomplete", "--split", "test", fails=False)
    source = open_source({"source": "shards", "path": str(out)}, field="data")
    assert len(source.examples) == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption(gopro, tmp_path, monkeypatch, number):
    """Nothing is left, and the same command writes the shards afterwards."""
    before = set(tmp_path.iterdir())

    def interrupt(*arguments):
        os.kill(os.getpid(), number)

    monkeypatch.setattr(shard_writer, "_verify", interrupt)
    # A process in the background of a shell ignores SIGINT.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run("gopro", gopro, tmp_path / "out", "--incomplete") == str(128 + number)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert set(tmp_path.iterdir()) == before
    monkeypatch.undo()
    run("gopro", gopro, tmp_path / "out", "--incomplete", fails=False)


@pytest.mark.parametrize("out", ["", "train/shards"])
def test_out_in_the_data_set(gopro, out):
    before = set(gopro.rglob("*"))
    error = run("gopro", gopro, gopro / out, "--incomplete")
    assert ("not empty" if out == "" else "choose a folder outside") in error
    assert set(gopro.rglob("*")) == before


def test_a_disk_that_changes_what_was_written(gopro, tmp_path, monkeypatch):
    write = shard_writer._verify

    def damage(file, size, tiles):
        data = file.read_bytes()
        file.write_bytes(data[:-20] + bytes(16) + data[-4:])
        write(file, size, [(len(data) - 40, 30, 0)])

    monkeypatch.setattr(shard_writer, "_verify", damage)
    error = run("gopro", gopro, tmp_path / "out", "--incomplete")
    assert "is not as it was written; check the disk" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.extended
def test_a_bucket(gopro, bucket, monkeypatch, tmp_path):
    """Of an upload that was cut off nothing looks complete, and the command can be repeated."""
    upload = storage.writing.upload_file

    def fail(file, path):
        if path.name == "index.npz":
            raise OSError("cut off")
        upload(file, path)

    out = f"{bucket}/out"
    monkeypatch.setattr(storage.writing, "upload_file", fail)
    monkeypatch.setattr(storage, "is_down", lambda: True)  # what was written stays
    assert "cut off" in run("gopro", gopro, out, "--incomplete")
    with pytest.raises(ValueError, match=r"has no index\.npz, so its shards are not complete"):
        open_source({"source": "shards", "path": out}, field="data")
    monkeypatch.undo()
    run("gopro", gopro, out, "--incomplete", fails=False)
    source = open_source({"source": "shards", "path": out}, field="data")
    assert len(source.examples) == 4
    assert "is not empty; choose another" in run("gopro", gopro, out, "--incomplete")
    assert "does not exist" in run("gopro", gopro, f"{bucket}-typo/out", "--incomplete")
