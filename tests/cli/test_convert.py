"""The command convert. PyTorch is not needed: a stand-in reads what these tests write."""

import hashlib
import json
import pathlib
import pickle
import sys
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from lcdnet_jax import Restorer, storage
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.checkpoints import manager
from lcdnet_jax.cli import convert as convert_command
from lcdnet_jax.cli import main
from lcdnet_jax.weights import card as card_lib
from tests.cli.commands import SMALL, contents, error_of, run, saved, small_state
from tests.legacy_pth import read_pth


class TestConvert:
    def test_prints_and_writes(self, pth, tmp_path, capsys):
        output = tmp_path / "new folder" / "out"
        run("convert", "dncnn", pth, "-o", output, *SMALL)
        out = capsys.readouterr().out
        for line in (
            "network      dncnn, depth=3, features=4",
            "channels     1",
            "parameters   224",
            "dropped      1 unused key: dncnn.dncnn.3.num_batches_tracked",
            f"written      {output}",
            f"  python eval.py --checkpoint '{output}' --data FOLDER --sigmas 25 "
            "--protocols clipped",
        ):
            assert f"{line}\n" in out
        card = card_lib.read(output)
        assert card["parameters"] == 2 * 9 * 4 + 9 * 16 + 2 * 4
        digest = hashlib.sha256(pth.read_bytes()).hexdigest()
        assert card["origin"] == [{"file": "small.pth", "sha256": digest}]
        assert card["dropped"] == ["dncnn.dncnn.3.num_batches_tracked"]
        assert (card["step"], card["training"], card["metrics"]) == (0, None, [])
        stored = json.loads((output / "config.json").read_text())
        assert len(stored.pop("sha256")) == 64
        assert stored == {
            "network": {"name": "dncnn", "kwargs": {"depth": 3, "features": 4}, "dtype": "float32"},
            "data": {"channels": 1},
        }
        assert sorted(p.name for p in output.parent.iterdir()) == ["out"]
        (tmp_path / "plain").mkdir()
        assert output.stat().st_mode == (tmp_path / "plain").stat().st_mode  # umask, not private

    def test_restorer_takes_it(self, converted):
        directory, state = converted
        restorer = Restorer.from_checkpoint(directory)
        assert restorer.module.depth == 3
        norm = restorer.variables["batch_stats"]["dncnn"]["bn_1"]
        np.testing.assert_array_equal(norm["mean"], state["module.dncnn.dncnn.3.running_mean"])
        kernel = restorer.variables["params"]["dncnn"]["conv_2"]["kernel"]
        weight = state["module.dncnn.dncnn.5.weight"]
        np.testing.assert_array_equal(kernel, weight.transpose(2, 3, 1, 0))
        assert restorer(np.full((9, 10), 0.5, np.float32)).shape == (9, 10)

    def test_fields_reach_the_network(self, pth, tmp_path):
        saved(pth, small_state(channels=3))
        run("convert", "dncnn", pth, "-o", tmp_path / "out", "--channels", "3", *SMALL,
            "--set", "dtype=bfloat16")  # fmt: skip
        module, _, card = weights_lib.load(tmp_path / "out")
        assert (module.channels, module.dtype, card["step"]) == (3, jnp.bfloat16, 0)
        assert json.loads((tmp_path / "out" / "card.json").read_text())["kwargs"] == {
            "depth": 3,
            "features": 4,
        }

    def test_input_range(self, torch, tmp_path, shared_data):
        source = shared_data("weights/sfm/unet_n2n_bsd_regular.pth")
        torch.read = read_pth
        run("convert", "unet_n2n", source, "-o", tmp_path / "out", "--set", "input_range=-0.5,0.5")
        assert json.loads((tmp_path / "out/card.json").read_text())["input_range"] == [-0.5, 0.5]
        module, _, _ = weights_lib.load(tmp_path / "out")
        assert module.input_range == (-0.5, 0.5)
        assert hash(module) is not None

    def test_wrapped_state_dict(self, pth, tmp_path):
        saved(pth, {"epoch": 3, "state_dict": small_state()})
        run("convert", "dncnn", pth, "-o", tmp_path / "out", *SMALL)
        assert Restorer.from_checkpoint(tmp_path / "out").module.features == 4

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("17", 17),
            ("-0.5,0.5", (-0.5, 0.5)),
            ("[1, 2]", [1, 2]),
            ("base", "base"),
            ("'base'", "base"),
            ("False", False),
            ("false", False),
            ("null", None),
            ("", ""),
            ("os.getcwd()", "os.getcwd()"),
            ("{[]:1}", "{[]:1}"),
            *((character * 100_000, character * 100_000) for character in "[("),
            ("-" * 100_000 + "1", "-" * 100_000 + "1"),
        ],
    )
    def test_values(self, text, value):
        (found,) = convert_command._parse_fields([f"field={text}"]).values()
        assert found == value
        assert type(found) is type(value)


class TestExistingOutput:
    @pytest.fixture
    def output(self, pth, tmp_path):
        run("convert", "dncnn", pth, "-o", tmp_path / "out", *SMALL)
        return tmp_path / "out"

    @pytest.fixture
    def other(self, pth):
        """Another file for the same network."""
        state = small_state()
        state["module.dncnn.dncnn.3.bias"] = np.full(4, 2, np.float32)
        return saved(pth.with_name("other.pth"), state)

    def test_is_kept(self, output, other):
        before = contents(output)
        message = error_of("convert", "dncnn", other, "-o", output, *SMALL)
        assert f"{output} is not empty; choose another directory, or --force" in message
        assert contents(output) == before

    def test_is_replaced_by_force(self, output, other):
        (output / "eval").mkdir()
        run("convert", "dncnn", other, "-o", output, *SMALL, "--force")
        assert card_lib.read(output)["origin"][0]["file"] == "other.pth"
        assert not (output / "eval").exists()
        bias = Restorer.from_checkpoint(output).variables["params"]["dncnn"]["bn_1"]["bias"]
        np.testing.assert_array_equal(bias, np.full(4, 2))
        assert not list(output.parent.glob(".*"))

    @pytest.mark.parametrize("name", ["metrics.jsonl", "notes.txt"])
    def test_of_something_else_is_never_replaced(self, output, other, name):
        (output / name).write_text("")
        message = error_of("convert", "dncnn", other, "-o", output, *SMALL, "--force")
        assert f"not an earlier conversion ({name}), and --force replaces nothing else" in message
        (output / name).unlink()
        (output / "card.json").unlink()
        message = error_of("convert", "dncnn", other, "-o", output, *SMALL, "--force")
        assert "not an earlier conversion (no card.json)" in message
        assert (output / "config.json").exists()

    def test_empty_directory_or_link_is_filled(self, pth, tmp_path):
        (tmp_path / "empty").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "empty")
        run("convert", "dncnn", pth, "-o", tmp_path / "link", *SMALL)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "empty" / "card.json").exists()

    def test_file(self, pth):
        assert "is a file; give a directory" in error_of("convert", "dncnn", pth, "-o", pth)

    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("x")])
    def test_failure_leaves_everything_as_it_was(self, output, other, monkeypatch, error):
        def fail(*args, **kwargs):
            raise error

        monkeypatch.setattr(manager.ocp.AsyncCheckpointer, "wait_until_finished", fail)
        before = contents(output.parent)
        for target in (output, output.with_name("new")):
            message = error_of("convert", "dncnn", other, "-o", target, *SMALL, "--force")
            assert "cannot write the checkpoint" in message
            assert contents(output.parent) == before

    def test_failing_to_move_brings_the_old_one_back(self, output, other, monkeypatch):
        real = pathlib.Path.rename

        def rename(path, target):
            if path.name == "new":
                raise OSError(5, "Input/output error")
            return real(path, target)

        monkeypatch.setattr(pathlib.Path, "rename", rename)
        before = contents(output.parent)
        message = error_of("convert", "dncnn", other, "-o", output, *SMALL, "--force")
        assert "cannot write" in message
        assert contents(output.parent) == before

    def test_unwritable(self, pth):
        target = pth / "out"  # below a file
        message = error_of("convert", "dncnn", pth, "-o", target, *SMALL)
        assert f"cannot write {target}: " in message
        assert "choose a writable directory" in message


class TestMistakes:
    """Each in words, with its fix; none leaves anything behind."""

    @pytest.fixture(autouse=True)
    def nothing_is_written(self, tmp_path):
        yield
        assert not (tmp_path / "out").exists()
        assert not list(tmp_path.glob(".*"))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["fly"], "invalid choice: 'fly' (choose from "),
            (["convert", "dncnn", "{pth}"], "are required: -o/--output (lcdnet-jax convert --help"),
            (["convert", "dncnn", "{pth}", "-o", "{out}", "--sett", "a=1"], "unrecognized argumen"),
            (
                ["convert", "resnet", "{pth}", "-o", "{out}"],
                "no network 'resnet'; known networks: buifd, dncnn, ikc, kmsr, lcdnet, memnet, "
                "n3net, nafnet, rcan, restormer, ridnet, rrdb, sadnet, unet_n2n",
            ),
            (
                ["convert", "dncnn", "{pth}", "-o", "{out}", "--set", "dept=3"],
                "network 'dncnn' has no field 'dept'; its fields: channels, depth, dtype, features",
            ),
            (
                ["convert", "dncnn", "{pth}", "-o", "{out}", "--set", "depth=deep"],
                "depth must be an integer of at least 2, got 'deep'",
            ),
            (
                ["convert", "sadnet", "{pth}", "-o", "{out}", "--set", "dilations=1234"],
                "SADNet dilations must be 4 integers of at least 1, got 1234",
            ),
            (
                ["convert", "sadnet", "{pth}", "-o", "{out}", "--set", "preset=huge"],
                "network 'sadnet' has no preset 'huge'; its presets: base, fast, small",
            ),
            (
                ["convert", "dncnn", "{pth}", "-o", "{out}", "--set", "depth"],
                "--set takes FIELD=VALUE, such as depth=17; got 'depth'",
            ),
            (
                ["convert", "dncnn", "{pth}", "-o", "{out}", "--set", "depth=3", "depth=4"],
                "depth is given twice; keep one",
            ),
            (
                ["convert", "dncnn", "{pth}", "-o", "{out}", "--channels=1", "--set", "channels=1"],
                "channels is given twice; keep one",
            ),
            (
                ["convert", "dncnn", "{pth}", "-o", "{out}", "--channels", "2"],
                "channels must be one of 1, 3, 6, got 2",
            ),
            (
                ["convert", "dncnn", "{pth}", "-o", "{out}", "--channels", "three"],
                "channels must be an integer of at least 1, got 'three'",
            ),
            (
                ["convert", "dncnn", "{pth}", "-o", "{out}", "--set", "dtype=float16"],
                "dtype must be one of 'float32', 'bfloat16', got 'float16'",
            ),
            (
                ["convert", "dncnn", "{pth}", "-o", "{out}", "--set", "name=x"],
                "multiple values for argument 'name'",
            ),
        ],
        ids=str,
    )
    def test_arguments(self, pth, tmp_path, arguments, message):
        places = {"pth": pth, "out": tmp_path / "out"}
        assert message.format(**places) in error_of(*(a.format(**places) for a in arguments))

    def test_weights_of_another_network(self, pth, tmp_path):
        message = error_of("convert", "dncnn", pth, "-o", tmp_path / "out",
                           "--set", "depth=4", "features=5")  # fmt: skip
        for part in (
            "these are not the weights of dncnn with {'depth': 4, 'features': 5} missing: ",
            " wrong shape: dncnn.dncnn.3.running_mean gives (4,), the network needs (5,); ",
            "Check the network's fields",
        ):
            assert part in message
        message = error_of("convert", "unet_n2n", pth, "-o", tmp_path / "out")
        assert "missing: dec_conv1a.weight; " in message
        assert "unknown: dncnn.dncnn.0.weight; " in message
        assert "; and 4 more (--debug lists all). Check the network's fields" in message
        assert len(message) < 600
        with pytest.raises(ValueError, match=r"dncnn\.dncnn\.5\.weight"):
            run("convert", "unet_n2n", pth, "-o", tmp_path / "out", "--debug")

    def test_without_torch(self, pth, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)  # makes the import fail
        message = error_of("convert", "dncnn", pth, "-o", tmp_path / "out")
        assert "reading a .pth file needs PyTorch" in message
        assert 'pip install "lcdnet-jax[torch]"' in message
        message = error_of("convert", "dncnn", tmp_path / "no.pth", "-o", tmp_path / "out")
        assert "No such file or directory" in message

    def test_no_such_file(self, pth, tmp_path):
        path = tmp_path / "no.pth"
        message = error_of("convert", "dncnn", path, "-o", tmp_path / "out")
        assert f"cannot read {path}: No such file or directory; give a .pth or .pt" in message
        message = error_of("convert", "dncnn", tmp_path / "none", "-o", tmp_path / "out")
        assert f"cannot read {tmp_path / 'none'}: No such file or directory" in message
        message = error_of("convert", "dncnn", tmp_path, "-o", tmp_path / "out")
        assert f"{tmp_path} is a directory, which names its network" in message

    def test_empty_file(self, pth, tmp_path):
        pth.write_bytes(b"")
        message = error_of("convert", "dncnn", pth, "-o", tmp_path / "out")
        assert message == f"{pth} is empty; download it again"

    def test_not_a_torch_file(self, pth, tmp_path):
        pth.write_text("<html>")
        message = error_of("convert", "dncnn", pth, "-o", tmp_path / "out")
        assert f"{pth} was not written by torch.save, or is damaged" in message

    def test_archive_that_grows(self, pth, tmp_path):
        """A small file that would unpack to gigabytes is not unpacked."""
        with zipfile.ZipFile(pth, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("data.pkl", bytes(2**24))
        message = error_of("convert", "dncnn", pth, "-o", tmp_path / "out")
        assert "would unpack to 16777216, far more than weights do" in message
        pth.write_bytes(pth.read_bytes()[:-30] + b"PK\5\6" + bytes(26))
        message = error_of("convert", "dncnn", pth, "-o", tmp_path / "out")
        assert message.startswith(f"{pth} ")

    def test_tensors_that_repeat_memory(self, torch, pth, tmp_path):
        """As ``torch.zeros(1).expand(10**12)``, which takes four bytes in a file."""
        huge = {"a": np.broadcast_to(np.float32(0), (10**6, 10**6))}
        torch.read = lambda path: huge
        message = error_of("convert", "dncnn", pth, "-o", tmp_path / "out")
        assert "describes tensors far larger than the file" in message

    def test_tensors_that_are_no_arrays(self, torch, pth, tmp_path, monkeypatch):
        def fail(self):
            raise TypeError("can't convert sparse_coo tensor to numpy")

        monkeypatch.setattr(torch.Tensor, "numpy", fail)
        message = error_of("convert", "dncnn", pth, "-o", tmp_path / "out")
        assert "holds tensors that are not plain arrays (can't convert sparse_coo" in message

    @pytest.mark.parametrize(
        "text",
        [
            "Unsupported global: GLOBAL posix.system was not an allowed global by default.",
            "Trying to load unsupported GLOBAL posix.system whose module posix is blocked.",
        ],
    )
    def test_code(self, torch, pth, tmp_path, text):
        """PyTorch refuses to run it, in these words."""

        def refuse(path):
            raise pickle.UnpicklingError(f"Weights only load failed.\n\n{text}\n\nCheck the")

        torch.read = refuse
        message = error_of("convert", "dncnn", pth, "-o", tmp_path / "out")
        assert "loading it would run code (posix.system), so it was not loaded" in message
        assert "torch.save(model.state_dict(), FILE)" in message

    @pytest.mark.parametrize(
        ("content", "described"),
        [
            ([np.ones(2)], "a list"),
            (np.ones(2), "a Tensor"),
            ({"a": 1, "b": 0.5}, "a dict of a (int), b (float)"),
            ({}, "a dict of nothing"),
            ({"state_dict": {}}, "a dict of nothing"),
            ({"model": {"a": np.ones(2)}}, "a dict of model (dict)"),
            ({1: np.ones(2)}, "a dict of 1 (Tensor)"),
        ],
        ids=str,
    )
    def test_no_state_dict(self, pth, tmp_path, content, described):
        saved(pth, content)
        message = error_of("convert", "dncnn", pth, "-o", tmp_path / "out")
        assert f"{pth} contains no state dict (names and tensors) but {described}; save" in message

    def test_debug_shows_where(self, pth, tmp_path):
        with pytest.raises(ValueError, match="no network 'resnet'"):
            run("convert", "resnet", pth, "-o", tmp_path / "out", "--debug")


def test_help_has_examples(capsys):
    for arguments in (["--help"], ["convert", "--help"]):
        with pytest.raises(SystemExit) as end:
            main.main(arguments)
        assert end.value.code == 0
    out = capsys.readouterr().out
    for example in ("convert dncnn dncnn_gray.pth -o weights/dncnn", "input_range=-0.5,0.5"):
        assert example in out


@pytest.mark.extended
def test_from_and_to_a_bucket(bucket, pth, tmp_path, capsys):
    """The files of a local conversion, the same card."""
    storage.upload_file(pth, storage.to_path(f"{bucket}/small.pth"))
    run("convert", "dncnn", pth, "-o", tmp_path / "out", "--channels", "1", *SMALL)
    local = capsys.readouterr().out
    arguments = ("-o", f"{bucket}/out", "--channels", "1", *SMALL)
    run("convert", "dncnn", f"{bucket}/small.pth", *arguments)
    assert capsys.readouterr().out.replace(f"{bucket}/", f"{tmp_path}/") == local
    assert "is not empty" in error_of("convert", "dncnn", f"{bucket}/small.pth", *arguments)
    run("convert", "dncnn", f"{bucket}/small.pth", *arguments, "--force")
    capsys.readouterr()
    run("info", tmp_path / "out")
    described = capsys.readouterr().out
    run("info", f"{bucket}/out")
    assert capsys.readouterr().out == described
    names = {name.partition("/")[0] for name in storage.list_files(storage.to_path(bucket) / "out")}
    assert names == {"card.json", "checkpoints", "config.json"}
    message = error_of("convert", "dncnn", f"{bucket}/none.pth", "-o", tmp_path / "x")
    assert message.startswith(f"cannot read {bucket}/none.pth: No such file")
