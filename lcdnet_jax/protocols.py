"""What exactly a score means: named evaluation protocols.

A PSNR without its protocol is not reproducible: whether noise was clipped, whether the output
was rounded, which border was cut and which channels were compared each move it by tenths of a
decibel or more. Every score of this library is printed beside one of these.
"""

from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jax import Array

from lcdnet_jax import metrics
from lcdnet_jax.degradations import NOISE_PROTOCOLS, SPECTRA

# Luma of BT.601 in studio range, the Y of super-resolution and deraining papers: R, G, B, offset.
_Y_WEIGHTS = (65.481 / 255, 128.553 / 255, 24.966 / 255)
_Y_OFFSET = 16 / 255


@dataclass(frozen=True)
class Protocol:
    """How a restored image is scored. The score of a data set is the mean over its images.

    Attributes:
        name: What tables call it.
        noise: What of synthetic noise the network sees, see ``degradations.as_stored``; None
            where degraded images come from disk.
        spectrum: How synthetic noise is filtered, see ``degradations.shape_noise``.
        spread: Its level rises by twice this from the first column to the last, with the given
            level in the middle, see ``degradations.varying_sigma``; 8-bit units.
        rounded: The output is rounded to 256 levels after the clip, as a saved PNG would be.
        border: Pixels cut off each side before scoring.
        luma: Scores are taken on the Y channel of BT.601 instead of RGB.
        multiple: Sides are cut, at the bottom and right, to multiples of this before the network
            sees the image.
        ssim_3d: SSIM is ``metrics.ssim_3d`` instead of ``metrics.ssim``.
    """

    name: str
    noise: str | None = "float"
    spectrum: str = "white"
    spread: float = 0.0
    rounded: bool = False
    border: int = 0
    luma: bool = False
    multiple: int = 1
    ssim_3d: bool = False

    def describe(self) -> str:
        """One line to print beside scores."""
        seen = {
            "float": "unclipped float noise",
            "clipped": "noise clipped to [0, 1]",
            "8bit": "noise clipped and rounded to 8 bits",
            None: "degraded images from disk",
        }[self.noise]
        if self.spectrum != "white":
            seen = f"{seen} ({self.spectrum})"
        if self.spread:
            seen = f"{seen}, level from -{self.spread:g} to +{self.spread:g} over the columns"
        rounded = " and rounded to 8 bits" if self.rounded else ""
        cut = f"sides cut to multiples of {self.multiple}; " if self.multiple > 1 else ""
        ssim = "SSIM with windows over height, width and channels; " if self.ssim_3d else ""
        return (
            f"{self.name}: {seen}; {cut}output clipped to [0, 1]{rounded}; border {self.border}; "
            f"{'Y of BT.601' if self.luma else 'all channels'}; {ssim}mean of per-image scores"
        )

    def with_noise(self, *, spectrum: str = "white", spread: float = 0.0) -> "Protocol":
        """The same for other noise, which its name then tells; see the attributes.

        Raises:
            ValueError: For an unknown spectrum, or pairs, which bring their own noise.
        """
        if spectrum not in SPECTRA:
            raise ValueError(f"no noise spectrum {spectrum!r}; use one of {', '.join(SPECTRA)}")
        if spectrum == "white" and spread == 0:
            return self
        if self.noise is None:
            raise ValueError(f"protocol {self.name!r} adds no noise; leave spectrum and spread off")
        name = self.name + (f"-{spectrum}" if spectrum != "white" else "")
        name += f"-varying{spread:g}" if spread else ""
        return replace(self, name=name, spectrum=spectrum, spread=spread)

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The part of an image ``[H, W, C]`` that is restored and scored.

        Raises:
            ValueError: If nothing is left to score.
        """
        height, width = (side - side % self.multiple for side in image.shape[:2])
        if min(height, width) <= 2 * self.border:
            raise ValueError(
                f"protocol {self.name!r} (sides cut to multiples of {self.multiple} pixels, border "
                f"{self.border}) leaves nothing of {image.shape[0]}x{image.shape[1]} pixels; use "
                "another protocol or a smaller border"
            )
        return image[:height, :width]

    def score(self, restored: Array, clean: Array, sizes: Array) -> dict[str, Array]:
        """Scores images that were padded at the bottom and right to a common shape.

        Args:
            restored: ``[N, H, W, C]`` network output.
            clean: ``[N, H, W, C]`` in [0, 1].
            sizes: ``[N, 2]`` true heights and widths.

        Returns:
            ``{"psnr": [N], "ssim": [N]}``.
        """
        restored = jnp.clip(restored, 0, 1)
        if self.rounded:
            restored = jnp.round(restored * 255) / 255
        if self.luma and clean.shape[-1] == 3:
            restored, clean = _luma(restored), _luma(clean)
        if self.border:
            restored, clean = (a[:, self.border :, self.border :] for a in (restored, clean))
            sizes = sizes - 2 * self.border
        return {
            "psnr": metrics.psnr(restored, clean, sizes=sizes),
            "ssim": (metrics.ssim_3d if self.ssim_3d else metrics.ssim)(
                restored, clean, sizes=sizes
            ),
        }


def _luma(x: Array) -> Array:
    weights = jnp.asarray(_Y_WEIGHTS, x.dtype).reshape(1, 1, 1, 3)
    return (x * weights).sum(-1, keepdims=True) + _Y_OFFSET


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        *(Protocol(name, noise=name, rounded=name == "8bit") for name in NOISE_PROTOCOLS),
        Protocol("pairs", noise=None),
        # The evaluation of SADNet's code: noisy images are 8-bit files, outputs are not rounded.
        Protocol("sadnet", noise="8bit", multiple=8, ssim_3d=True),
        Protocol("sadnet-pairs", noise=None, multiple=8, ssim_3d=True),
    )
}


def get(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ValueError: For an unknown name, listing the known ones.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"no protocol {name!r}; known protocols: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
