"""Pages for the Hugging Face hub."""

import pytest
import yaml

from lcdnet_jax import networks
from lcdnet_jax import weights as weights_lib
from lcdnet_jax.weights import card as card_lib
from lcdnet_jax.weights import model_card, pretrained


def header(page):
    _, text, _ = page.split("---\n", 2)
    return yaml.safe_load(text)


def change(card, **fields):
    return {**card, **fields}


def test_shipped_weights():
    """Everything that a reader asks: what for, how to use, scores with their protocol, license."""
    card = weights_lib.load_card(pretrained.path("sadnet-photo"))
    page = model_card.render(card, "org/photo")
    assert header(page) == {
        "library_name": "lcdnet_jax",
        "license": "cc-by-4.0",
        "pipeline_tag": "image-to-image",
        "tags": ["image-restoration", "denoising", "sadnet", "jax", "flax"],
    }
    assert "# photo\n" in page
    assert "`sadnet` (1,030,212 parameters) for color images, written" in page
    assert 'Restorer.from_pretrained("hf://org/photo")' in page
    assert "--checkpoint hf://org/photo\n" in page
    assert "| data | protocol | sigma | input_psnr | psnr | ssim | images |\n" in page
    cc = next(row for row in card["metrics"] if row["data"] == "cc")
    assert f"| cc | pairs |  | 33.76 | {cc['psnr']:.2f} | {cc['ssim']:.4f} | 5 |\n" in page
    steps = f"{card['step']:,} steps, averaged weights. "
    assert f"{steps}Degradation: camera, camera.balance=demo" in page
    assert "## License\n\nCC BY 4.0 (https" in page
    assert "\n\n\n" not in page


def test_without_training_scores_and_license(weights):
    page = model_card.render(weights.card, "org/tiny")
    assert header(page)["tags"] == ["image-restoration", "dncnn", "jax", "flax"]
    assert "license" not in header(page)
    assert "gray images" in page
    assert not {"## Scores", "## Training"} & set(page.splitlines())
    assert "## License\n\nnot stated\n" in page


def test_text_of_others(weights):
    """Cannot forge parts of the page."""
    row = {"data": "a|b", "protocol": "float\n| x |", "sigma": 25.0, "psnr": 30.0}
    card = change(
        weights.card, licence="mine\n---\nlicense: mit", notes="<script>\n# title", metrics=[row]
    )
    page = model_card.render(card, "org/tiny")
    assert header(page)["license"] == "other"
    assert header(page)["license_name"] == "see-below"
    assert "\n&lt;script> # title\n" in page
    assert "| a\\|b | float \\| x \\| | 25 | 30 |" in page


def test_networks_that_enlarge():
    card = card_lib.create("rcan", networks.create("rcan", scale=2), {})
    page = model_card.render(card, "org/large")
    assert "super-resolution" in header(page)["tags"]
    assert "which it enlarges 2 times" in page


def test_training_of_another_version(run):
    card = weights_lib.load_card(run[0])
    page = model_card.render(change(card, training={"degradation": 3}), "org/old")
    assert "Degradation: see the card." in page


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("CC BY 4.0 (https://...), as far as rights are ours", "cc-by-4.0"),
        ("CC-BY-4.0", "cc-by-4.0"),
        ("cc by-nc-sa 4.0", "cc-by-nc-sa-4.0"),
        ("CC0", "cc0-1.0"),
        ("MIT", "mit"),
        ("mit, with changes", "mit"),
        ("Mitsubishi", "other"),
        ("CC BY 4.01", "other"),
        ("Apache-2.0", "apache-2.0"),
        ("ask me", "other"),
        ("not stated", None),
        ("", None),
    ],
)
def test_licenses(text, name):
    assert model_card.find_license(text) == name
