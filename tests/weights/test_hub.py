"""Weights of the Hugging Face hub, from a stand-in for it on this machine."""

import hashlib
import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from lcdnet_jax import Restorer, image_io, networks
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.cli import main as cli
from lcdnet_jax.config import ConfigError
from lcdnet_jax.evaluation.checkpoint import find_checkpoint
from lcdnet_jax.training import workdir
from lcdnet_jax.weights import CardError, hub, pretrained
from lcdnet_jax.weights.hub import HubError
from tests.random_weights import SMALL
from tests.weights import _hub_stub

# As this library imports it.
huggingface_hub = hub._import_hub(hub._parse("hf://any/name"))

_getaddrinfo = socket.getaddrinfo


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The only hub that these tests can reach, and an empty cache."""
    constants = huggingface_hub.constants
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the stand-in has none
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", _find_this_machine)
    with _hub_stub.serve() as served:
        _set_endpoint(monkeypatch, served.url)
        yield served
    huggingface_hub.close_session()


@pytest.fixture(scope="module")
def weights():
    module = networks.create("dncnn", **SMALL)
    variables = module.init(jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32))
    return weights_lib.create_weights("dncnn", variables, **SMALL)


@pytest.fixture
def published(server, weights, monkeypatch):
    """A repository with weights, uploaded by this library; its commit."""
    monkeypatch.setenv("HF_TOKEN", "writer")
    name = weights_lib.save_to_hub(weights, "org/tiny", license="CC0", notes="Does nothing.")
    monkeypatch.delenv("HF_TOKEN")
    return name.removeprefix("hf://org/tiny@")


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """Makes the cache an empty one."""

    def fresh():
        number = len(list(tmp_path.glob("fresh*")))
        folder = str(tmp_path / f"fresh{number}")
        os.mkdir(folder)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", folder)

    return fresh


def unreachable(monkeypatch):
    """Cuts the network: nobody listens on this port."""
    _set_endpoint(monkeypatch, "http://127.0.0.1:9")


def _set_endpoint(monkeypatch, url):
    """As HF_ENDPOINT does, which is read at import."""
    constants, template = huggingface_hub.constants, "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + template)


def _find_this_machine(host, *arguments, **options):
    assert host == "127.0.0.1", "a test asked for another machine"
    return _getaddrinfo(host, *arguments, **options)


class TestDownload:
    def test_weights_are_those_uploaded(self, published, fresh, weights, capfd):
        fresh()
        file = hub.download("hf://org/tiny")
        assert (file.name, file.parent.name) == ("model.safetensors", published)
        assert capfd.readouterr() == ("", "")
        loaded = weights_lib.load(file)
        assert loaded.card["licence"] == "CC0"
        jax.tree.map(np.testing.assert_array_equal, loaded.variables, dict(weights.variables))
        image = np.random.default_rng(0).integers(0, 256, (9, 8), np.uint8)
        expected = Restorer(weights.module, weights.variables)(image)
        restorer = Restorer.from_pretrained("hf://org/tiny")
        np.testing.assert_array_equal(restorer(image), expected)

    def test_no_telemetry(self, published, server):
        asked = {path: agent for _, path, agent in server.requests if path.startswith("/api/")}
        assert {path.split("/")[2] for path in asked} == {"repos", "models", "validate-yaml"}
        for agent in asked.values():
            assert [part.split("/")[0] for part in agent.split("; ")] == [
                *("lcdnet_jax", "hf_hub", "python"),
            ]

    def test_revisions(self, published, server):
        repo = server.repos["org/tiny"]
        repo.tags["v1"] = published
        repo.commit({"model.safetensors": b"another version"})
        for revision in ("v1", published):
            assert hub.download(f"hf://org/tiny@{revision}").parent.name == published
        with pytest.raises(HubError, match="is not the file that was uploaded to hf://org/tiny "):
            hub.download("hf://org/tiny")

    def test_cached(self, published, server, fresh):
        """The second time, no file is transferred."""
        fresh()
        hub.download("hf://org/tiny")
        server.requests.clear()
        hub.download("hf://org/tiny")
        assert [path for _, path, _ in server.requests] == ["/api/models/org/tiny/revision/main"]
        server.requests.clear()
        hub.download(f"hf://org/tiny@{published}")
        assert server.requests == []

    @pytest.mark.parametrize("cut", ["offline", "no network", "down", "now private"])
    def test_without_the_hub(self, published, server, fresh, monkeypatch, cut):
        fresh()
        expected = hub.download("hf://org/tiny")
        if cut == "offline":
            monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        elif cut == "no network":
            unreachable(monkeypatch)
        elif cut == "down":
            server.status = 503
        else:
            server.repos["org/tiny"].private = True
        assert hub.download("hf://org/tiny") == expected
        messages = {
            "offline": r"^hf://org/tiny is not in the cache .* and HF_HUB_OFFLINE is set; download",
            "no network": r"^hf://org/tiny cannot be transferred, since http.*refused.*; check",
            "down": r"^hf://org/tiny: http.* answers with status 503.*; try again later$",
            "now private": r"^hf://org/tiny does not exist at http.*, or is private; correct .*tok",
        }
        fresh()
        with pytest.raises(HubError, match=messages[cut]) as error:
            hub.download("hf://org/tiny")
        assert "\n" not in str(error.value)

    def test_damage_in_the_cache(self, published, fresh):
        fresh()
        file = hub.download("hf://org/tiny").resolve()
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        with pytest.raises(
            HubError, match=r"model.safetensors is not the file .*; delete .*models--org--tiny to"
        ):
            hub.download("hf://org/tiny")

    def test_private_and_gated(self, published, server, fresh, monkeypatch):
        fresh()
        repo = server.repos["org/tiny"]
        repo.gated = True
        with pytest.raises(
            HubError, match=r"accept them at http.*/org/tiny, and run `hf auth login` or set HF_"
        ):
            hub.download("hf://org/tiny")
        repo.private = True
        with pytest.raises(HubError, match="or is private; correct the name, or give a token"):
            hub.download("hf://org/tiny")
        monkeypatch.setenv("HF_TOKEN", "reader")
        assert hub.download("hf://org/tiny").exists()

    def test_no_such_repository_or_revision(self, published):
        with pytest.raises(HubError, match=r"^hf://org/other does not exist at http"):
            hub.download("hf://org/other")
        with pytest.raises(HubError, match=r"^hf://org/tiny has no branch, tag or commit v9; see"):
            hub.download("hf://org/tiny@v9")

    def test_repository_of_others(self, server):
        server.repos["org/bert"] = _hub_stub.Repo()
        server.repos["org/bert"].commit({"model.safetensors": b"theirs", "config.json": b"{}"})
        with pytest.raises(
            HubError, match=r"holds no weights of lcdnet_jax, it has no card.json, SHA256SUMS; give"
        ):
            hub.download("hf://org/bert")

    def test_newer_card(self, published, server):
        repo = server.repos["org/tiny"]
        card = json.loads(repo.commits[-1][1]["card.json"]) | {"format": 99}
        repo.commit({"card.json": json.dumps(card).encode()})
        with pytest.raises(CardError, match=r"written by a newer version.*update lcdnet-jax"):
            hub.download("hf://org/tiny")

    @pytest.mark.parametrize("sums", [b"", b"\xff\xfe\n", b"one\n", b"a b c\n"])
    def test_damaged_sums(self, published, server, sums):
        server.repos["org/tiny"].commit({"SHA256SUMS": sums})
        with pytest.raises(HubError, match="is not the file that was uploaded"):
            hub.download("hf://org/tiny")

    @pytest.mark.parametrize(
        "name",
        [
            *("hf://", "hf://tiny", "hf://org/", "hf://org/tiny/x", "hf://org/tiny@", "hf://a b/c"),
            *("hf://org/a--b", "hf://org/tiny@../../etc", "hf://org/tiny@/etc", "hf://../x"),
        ],
    )
    def test_wrong_names(self, server, name):
        with pytest.raises(HubError, match=r"^hf://.* is no name of the hub"):
            pretrained.find(name)
        assert server.requests == []

    def test_without_the_package(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        for use in (Restorer.from_pretrained, pretrained.find):
            with pytest.raises(ImportError, match=r'run\n  pip install "lcdnet-jax\[hub\]"$'):
                use("hf://org/tiny")

    def test_settings_of_the_package_stay(self, published):
        """Which other parts of a program may have chosen."""
        logging, utils = huggingface_hub.utils.logging, huggingface_hub.utils
        before = logging.get_verbosity(), utils.are_progress_bars_disabled()
        hub.download("hf://org/tiny")
        assert (logging.get_verbosity(), utils.are_progress_bars_disabled()) == before


class TestNames:
    """The places that find weights."""

    def test_commands(self, published, tmp_path, capsys):
        cli.main(["info", "hf://org/tiny"])
        assert "license      CC0\n" in capsys.readouterr().out
        cli.main(["export", f"hf://org/tiny@{published}", "-o", str(tmp_path / "w.safetensors")])
        assert weights_lib.load_card(tmp_path / "w.safetensors")["licence"] == "CC0"
        image_io.write(tmp_path / "x.png", np.zeros((8, 9), np.uint8))
        out = str(tmp_path / "y.png")
        cli.main(["restore", str(tmp_path / "x.png"), "-o", out, "--checkpoint", "hf://org/tiny"])
        assert image_io.read(out).shape == (8, 9)
        with pytest.raises(SystemExit, match=r"^error: hf://org/no does not exist"):
            cli.main(["info", "hf://org/no"])

    def test_scripts(self, published):
        """eval.py --checkpoint, and config.init_from of train.py."""
        file = hub.download("hf://org/tiny")
        assert find_checkpoint(None, "hf://org/tiny") == file
        assert workdir._find_weights("hf://org/tiny") == file
        with pytest.raises(ConfigError, match=r"^config.init_from: hf://org/no does not exist"):
            workdir._find_weights("hf://org/no")

    def test_from_checkpoint_says_what_to_call(self):
        with pytest.raises(ValueError, match=r"by Restorer.from_pretrained\('hf://org/tiny'\)$"):
            Restorer.from_checkpoint("hf://org/tiny")

    def test_names_stay_in_cards(self, published, run, tmp_path):
        """Unlike paths, which are valid on one machine only."""
        loaded = weights_lib.load(run[0])
        training = {**loaded.card["training"], "init_from": "hf://org/tiny"}
        loaded.card["training"] = training
        card = weights_lib.save_safetensors(loaded, tmp_path / "w.safetensors")
        assert card["training"]["init_from"] == "hf://org/tiny"


class TestUpload:
    @pytest.fixture
    def writer(self, server, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "writer")
        return server

    def test_files(self, writer, weights, capfd):
        name = weights_lib.save_to_hub(weights, "org/new", license="MIT")
        repo = writer.repos["org/new"]
        commit, files = repo.commits[-1]
        assert name == f"hf://org/new@{commit}"
        assert len(repo.commits) == 2
        assert not repo.private
        assert set(files) == {
            *(".gitattributes", "README.md", "SHA256SUMS", "card.json", "model.safetensors")
        }
        for line in files["SHA256SUMS"].decode().splitlines():
            digest, file = line.split("  ")
            assert hashlib.sha256(files[file]).hexdigest() == digest
        assert json.loads(files["card.json"])["licence"] == "MIT"
        assert files["README.md"].startswith(b"---\n")
        assert b"hf://org/new" in files["README.md"]
        assert capfd.readouterr() == ("", "")

    def test_command(self, writer, exported, tmp_path, capsys):
        cli.main(["export", str(exported), "--push-to-hub", "org/new", "--private"])
        commit = writer.repos["org/new"].commits[-1][0]
        assert capsys.readouterr().out == f"uploaded     hf://org/new@{commit}\n"
        assert writer.repos["org/new"].private
        both = ["-o", str(tmp_path / "w"), "--push-to-hub", "hf://org/both"]
        cli.main(["export", str(exported), *both])
        assert "written      " in capsys.readouterr().out
        assert "org/both" in writer.repos

    def test_existing(self, writer, weights):
        first = weights_lib.save_to_hub(weights, "org/new")
        with pytest.raises(
            HubError, match=r"^hf://org/new has README.md, SHA256SUMS, .* or --force"
        ):
            weights_lib.save_to_hub(weights, "org/new", notes="newer")
        second = weights_lib.save_to_hub(weights, "org/new", notes="newer", force=True)
        notes = [
            weights_lib.load_card(hub.download(name))["notes"]
            for name in (first, second, "hf://org/new")
        ]
        assert notes == ["", "newer", "newer"]
        assert weights_lib.save_to_hub(weights, "org/new", notes="newer", force=True) != first

    def test_public_is_not_made_private(self, writer, weights):
        writer.repos["org/open"] = _hub_stub.Repo()
        with pytest.raises(HubError, match=r"^hf://org/open exists and is public; choose another"):
            weights_lib.save_to_hub(weights, "org/open", private=True)
        assert len(writer.repos["org/open"].commits) == 1

    def test_no_right(self, server, weights, monkeypatch):
        with pytest.raises(
            HubError, match=r"^uploading to hf://org/new needs a token .*hf auth log"
        ):
            weights_lib.save_to_hub(weights, "org/new")
        monkeypatch.setenv("HF_TOKEN", "reader")
        with pytest.raises(HubError, match=r"status 403 \(.*rights.*\); the token may not do this"):
            weights_lib.save_to_hub(weights, "org/new")
        monkeypatch.setenv("HF_TOKEN", "expired")
        with pytest.raises(HubError) as error:
            weights_lib.save_to_hub(weights, "org/new")
        assert "expired" not in str(error.value)
        assert server.repos == {}

    def test_without_the_hub(self, writer, weights, monkeypatch):
        writer.status = 500
        with pytest.raises(HubError, match="status 500"):
            weights_lib.save_to_hub(weights, "org/new")
        unreachable(monkeypatch)
        with pytest.raises(HubError, match=r"cannot be transferred, since http://127.0.0.1:9"):
            weights_lib.save_to_hub(weights, "org/new")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(HubError, match="HF_HUB_OFFLINE is set, so nothing is uploaded"):
            weights_lib.save_to_hub(weights, "org/new")

    @pytest.mark.parametrize("repo", ["new", "org/new@v1", "org/a--b", "/new", "org/n/w"])
    def test_wrong_names(self, writer, weights, repo):
        with pytest.raises(HubError, match=r"no name of the hub|names a version"):
            weights_lib.save_to_hub(weights, repo)
        assert writer.requests == []

    def test_checked_before_loading(self, server, tmp_path):
        with pytest.raises(HubError, match="needs a token"):
            weights_lib.save_to_hub(tmp_path / "nothing", "org/new")


@pytest.mark.extended
def test_environment(server, weights, tmp_path, exported):
    """As users start it: HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE of the environment."""
    settings = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_XET": "1",
    }
    program = [sys.executable, "-W", "error", "-c", "from lcdnet_jax.cli.main import main; main()"]
    root = pathlib.Path(__file__).parents[2]

    def run(*arguments, **more):
        return subprocess.run(
            [*program, *arguments],
            env={**settings, **more, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    pushed = run("export", str(exported), "--push-to-hub", "org/new", HF_TOKEN="writer")
    assert (pushed.returncode, pushed.stderr) == (0, "")
    assert pushed.stdout.startswith("uploaded     hf://org/new@")
    for more in ({}, {"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        shown = run("info", "hf://org/new", **more)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "network      dncnn" in shown.stdout
    missing = run("info", "hf://org/other", HF_HUB_OFFLINE="1")
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: hf://org/other is not in the cache")
    assert not any("harnesses" in path for _, path, _ in server.requests)
