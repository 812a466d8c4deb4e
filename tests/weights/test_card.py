"""What weights say about themselves: one schema, written, read and refused."""

import copy
import json

import jax
import numpy as np
import pytest

from lcdnet_jax import __version__, networks
from lcdnet_jax import config as config_lib
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.weights import card as card_lib
from lcdnet_jax.weights.card import CardError


@pytest.fixture
def card():
    module = networks.create("unet_n2n", input_range=(-0.5, 0.5))
    params = {"a": {"kernel": np.zeros((3, 3, 2, 4))}, "b": jax.ShapeDtypeStruct((5,), np.float32)}
    return card_lib.create(
        "unet_n2n",
        module,
        params,
        step=7,
        metrics=[{"step": 4, "data": "photos", "protocol": "float: ...", "sigma": None, "psnr": 9}],
        origin=[{"file": "a.pth", "sha256": "00"}],
    )


def test_create(card):
    assert card == {
        "format": 1,
        "lcdnet_jax": __version__,
        "network": "unet_n2n",
        "kwargs": {"input_range": [-0.5, 0.5]},
        "channels": 1,
        "dtype": "float32",
        "parameters": 3 * 3 * 2 * 4 + 5,
        "step": 7,
        "averaged": False,
        "storage": "float32",
        "input_range": [-0.5, 0.5],
        "training": None,
        "metrics": [
            {"step": 4, "data": "photos", "protocol": "float: ...", "sigma": None, "psnr": 9}
        ],
        "licence": "not stated",
        "notes": "",
        "origin": [{"file": "a.pth", "sha256": "00"}],
        "dropped": [],
    }


def test_what_json_cannot_hold():
    module = networks.create("dncnn")
    for value, cause in ((object(), "not JSON serializable"), (float("nan"), "JSON compliant")):
        with pytest.raises(CardError, match=rf"the card of dncnn cannot be written .*{cause}"):
            card_lib.create("dncnn", module, {}, training={"a": value})


def test_written_and_read(card, tmp_path):
    card_lib.write(card, tmp_path)
    assert card_lib.read(tmp_path) == card
    again = tmp_path / "again"
    again.mkdir()
    card_lib.write(card_lib.read(tmp_path), again)
    assert (again / "card.json").read_bytes() == (tmp_path / "card.json").read_bytes()


class TestReading:
    @pytest.fixture
    def message(self, tmp_path):
        """The message about a card with this content; it is one line and names the file."""

        def message(content):
            (tmp_path / "card.json").write_bytes(content)
            with pytest.raises(CardError) as error:
                card_lib.read(tmp_path)
            text = str(error.value)
            assert str(tmp_path / "card.json") in text
            assert "\n" not in text
            return text

        return message

    def test_missing(self, tmp_path):
        with pytest.raises(CardError, match=r"card.json does not exist; give a directory that"):
            card_lib.read(tmp_path / "none")

    def test_directory_in_its_place(self, tmp_path):
        (tmp_path / "card.json").mkdir()
        with pytest.raises(CardError, match=r"cannot read .*card.json: Is a directory"):
            card_lib.read(tmp_path)

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"nonsense"])
    def test_no_json(self, message, content):
        assert "is not valid JSON (" in message(content)

    @pytest.mark.parametrize("content", [b"[]", b"3", b"null", b"{}", b'{"network": "dncnn"}'])
    def test_no_card(self, message, content):
        assert "is not a card of lcdnet-jax" in message(content)

    @pytest.mark.parametrize("version", [0, -1, "1", None, 1.5])
    def test_no_version(self, message, card, version):
        assert "is not a card of lcdnet-jax" in message(
            json.dumps(card | {"format": version}).encode()
        )

    def test_newer(self, message):
        text = message(b'{"format": 2, "lcdnet_jax": "9.1", "something": "new"}')
        assert "was written by a newer version, lcdnet_jax 9.1 (card format 2, this is" in text
        assert text.endswith("update lcdnet-jax")

    @pytest.mark.parametrize(
        ("field", "value", "wanted"),
        [
            ("network", 3, "network must be a string, got 3"),
            ("kwargs", [], "kwargs must be a mapping without name, channels and dtype, "),
            ("kwargs", {"channels": 1}, "which are stored apart, got {'channels': 1}"),
            ("kwargs", {"name": "a"}, "which are stored apart, got {'name': 'a'}"),
            ("channels", "1", "channels must be an integer of at least 0, got '1'"),
            ("channels", True, "channels must be an integer of at least 0, got True"),
            ("step", -1, "step must be an integer of at least 0, got -1"),
            ("averaged", 0, "averaged must be True or False, got 0"),
            (
                "input_range",
                [0],
                "input_range must be a list of two numbers, the lower one first, got [0]",
            ),
            ("input_range", [0, float("nan")], "is not valid JSON (it holds NaN"),
            ("input_range", [0, 10**400], "is not valid JSON (the integer 10000000000"),
            ("input_range", [0, 1e308 * 10], "is not valid JSON (it holds Infinity"),
            (
                "input_range",
                [0, "1"],
                "input_range must be a list of two numbers, the lower one first, got [0, '1']",
            ),
            ("training", 3, "training must be an object or null, got 3"),
            ("metrics", {}, "metrics must be a list of scores"),
            ("metrics", [{"psnr": 3}], "metrics must be a list of scores"),
            ("origin", ["a.pth"], "origin must be a list of objects with file and sha256"),
            ("dropped", [3], "dropped must be a list of strings, got [3]"),
            ("licence", None, "licence must be a string, got None"),
            ("notes", {"a": "b" * 99}, "notes must be a string, got {'a': 'bbb"),
        ],
    )
    def test_wrong_types(self, message, card, field, value, wanted):
        text = message(json.dumps({**card, field: value}).encode())
        assert wanted in text
        assert len(text) < 400

    def test_wrong_scores(self, message, card):
        for field, value in (("psnr", "31"), ("protocol", 3), ("sigma", "25"), ("ssim", None)):
            wrong = copy.deepcopy(card)
            wrong["metrics"][0][field] = value
            assert "metrics must be a list of scores" in message(json.dumps(wrong).encode())

    def test_every_problem_is_listed(self, message, card):
        wrong = {**card, "author": "x", "step": "7"}
        del wrong["licence"]
        text = message(json.dumps(wrong).encode())
        for part in (
            "licence is missing",
            "'author' is unknown",
            "step must be an integer of at least 0",
        ):
            assert part in text


@pytest.mark.extended
def test_configuration_of_a_card(run):
    workdir, _ = run
    card = weights_lib.load(workdir).card
    stored = config_lib.load(workdir / "config.json")
    assert weights_lib.training_config(card, "x") == stored
    alone = weights_lib.training_config(card | {"training": None}, "x")
    assert sorted(alone) == ["data", "network"]
    with pytest.raises(CardError, match=r"^x has weights whose training .*update lcdnet-jax"):
        weights_lib.training_config(card | {"training": {"steps": 3}}, "x")
