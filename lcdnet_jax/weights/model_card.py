"""Pages that describe weights on the Hugging Face hub: ``README.md``, made from their card."""

import re
from collections.abc import Mapping

from lcdnet_jax import config as config_lib
from lcdnet_jax import networks
from lcdnet_jax.messages import format_count
from lcdnet_jax.typing import Json
from lcdnet_jax.weights import card as card_lib
from lcdnet_jax.weights.card import Card

# Licenses by the identifiers of the hub. A card has free text, which begins with one of them.
_LICENSES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "cc0-1.0"),
    *("cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0"),
)
_SHORT = {"cc0": "cc0-1.0"}

# Tags by the last degradation of a training.
_TASKS = {
    "awgn": "denoising",
    "camera": "denoising",
    "defocus": "deblurring",
    "dual_pixel": "deblurring",
    "low_resolution": "super-resolution",
    "motion": "deblurring",
    "rain": "deraining",
}

_DESCRIBED = ("data", "protocol", "sigma", "step")


def render(card: Card, repo: str) -> str:
    """Renders the page of weights.

    Args:
        card: The card of the weights.
        repo: The repository, ``ORG/NAME``.

    Returns:
        Markdown with a YAML header, which the hub reads.

    Raises:
        CardError: If this version cannot use the network of the card.
        ImportError: If huggingface_hub, which writes the header, is not installed.
    """
    network, fields = card["network"], card_lib.network_fields(card)
    scale = networks.create(network, **{**fields, "channels": card["channels"]}).scale
    images = {1: "gray", 3: "color", 6: "dual-pixel"}[card["channels"]]
    result = f", which it enlarges {scale} times" if scale > 1 else ""
    parts = [
        _render_header(card, scale),
        f"# {repo.rpartition('/')[2]}",
        f"Weights of `{network}` ({format_count(card['parameters'], 'parameter')}) for {images} "
        f"images{result}, written by lcdnet_jax, a library for image restoration in JAX.",
        _plain(card["notes"]),
        "## Use",
        _render_use(repo),
        *_render_scores(card),
        *_render_training(card),
        "## License",
        _plain(card["licence"]),
        "## Files",
        "`model.safetensors` has the weights and their card, `card.json` is the same card to read, "
        "and `SHA256SUMS` has the checksums that are verified at each load.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def find_license(text: str) -> str | None:
    """Finds the license that free text begins with.

    Args:
        text: Such as "CC BY 4.0, as far as rights are ours".

    Returns:
        An identifier of the hub, "other" for a text that begins with none, and None for a license
        that is not stated.
    """
    if text in ("", "not stated"):
        return None
    words = re.sub(r"[\s_-]+", "-", text.strip().lower())
    for name in sorted((*_LICENSES, *_SHORT), key=len, reverse=True):
        if re.match(rf"{re.escape(name)}(?![\w.]*\w)", words):
            return _SHORT.get(name, name)
    return "other"


def _render_header(card: Card, scale: int) -> str:
    from huggingface_hub import ModelCardData  # of the extra `hub`

    license = find_license(card["licence"])
    task = "super-resolution" if scale > 1 else _TASKS.get(_degradation_kind(card))
    data = ModelCardData(
        license=license,
        license_name="see-below" if license == "other" else None,
        library_name="lcdnet_jax",
        pipeline_tag="image-to-image",
        tags=["image-restoration", *([task] if task else []), card["network"], "jax", "flax"],
    )
    return f"---\n{data.to_yaml().strip()}\n---"


def _degradation_kind(card: Card) -> str:
    """The last degradation of the training; empty if the card does not have one."""
    training: Mapping[str, Json] = card["training"] or {}
    degradation = training.get("degradation")
    kind = degradation.get("kind") if isinstance(degradation, dict) else ""
    return str(kind).rpartition("+")[2]


def _render_use(repo: str) -> str:
    return f"""```
pip install "lcdnet-jax[hub]"
lcdnet-jax restore photo.jpg --checkpoint hf://{repo}
```

```python
from lcdnet_jax import Restorer, image_io

restorer = Restorer.from_pretrained("hf://{repo}")
image_io.write("restored.png", restorer(image_io.read("photo.jpg")))
```"""


def _render_scores(card: Card) -> list[str]:
    rows = card["metrics"]
    if not rows:
        return []
    found = {name for row in rows for name in row if name not in _DESCRIBED}
    first = [name for name in ("input_psnr", "psnr", "ssim") if name in found]
    names = [*first, *sorted(found - {*first, "n"}), *(["n"] if "n" in found else [])]
    titles = ["data", "protocol", "sigma", *("images" if name == "n" else name for name in names)]
    lines = [f"| {' | '.join(map(_cell, titles))} |", "|" + " --- |" * len(titles)]
    for row in rows:
        sigma = "" if row["sigma"] is None else f"{row['sigma']:g}"
        scores = ["" if row.get(name) is None else f"{row[name]:.4g}" for name in names]
        cells = [row["data"], row["protocol"], sigma, *scores]
        lines.append(f"| {' | '.join(map(_cell, cells))} |")
    text = (
        "PSNR in dB, sigma in units of 8 bits. The protocol says how images were degraded and "
        "compared; a score under one cannot be compared with a score under another."
    )
    return ["## Scores", text, "\n".join(lines)]


def _render_training(card: Card) -> list[str]:
    if card["training"] is None:
        return []
    try:
        described = config_lib.describe_degradation(config_lib.upgrade(card["training"]))
    except (LookupError, TypeError, ValueError, AttributeError):  # of another version
        described = "see the card"
    averaged = ", averaged weights" if card["averaged"] else ""
    return [
        "## Training",
        f"{format_count(card['step'], 'step')}{averaged}. Degradation: {_plain(described)}. "
        "The card has the whole configuration (`lcdnet-jax info`).",
    ]


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """Free text in one paragraph, without markup of HTML."""
    return " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
