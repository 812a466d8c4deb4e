"""PyTorch's side of the pipeline's benchmark: a DataLoader over images in memory.

Apart from ``torch_steps``, because each worker imports it.
"""

from collections.abc import Generator, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler


class Crops(Dataset[dict[str, Tensor]]):
    """A random crop of an image, in one of eight orientations, with noise if asked.

    Args:
        images: ``[H, W, C]`` uint8 each, no smaller than the crop.
        crop: Side of the crops, pixels.
        sigma: Standard deviation of noise, of 255; None for none.
    """

    def __init__(self, images: Sequence[np.ndarray], crop: int, sigma: float | None) -> None:
        self.images = [torch.from_numpy(image) for image in images]
        self.crop, self.sigma = crop, sigma

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """The crop ``[C, crop, crop]`` in [0, 1], "clean" and perhaps "degraded"."""
        image = self.images[number]
        top, left = (int(torch.randint(n - self.crop + 1, ())) for n in image.shape[:2])
        patch = image[top : top + self.crop, left : left + self.crop].permute(2, 0, 1)
        rows, columns, transpose = (torch.rand(3) < 0.5).tolist()
        if axes := [axis for axis, turn in ((1, rows), (2, columns)) if turn]:
            patch = patch.flip(axes)
        if transpose:
            patch = patch.transpose(1, 2)
        clean = patch.contiguous().float().div_(255)
        if self.sigma is None:
            return {"clean": clean}
        noise = torch.randn(clean.shape).mul_(self.sigma / 255)
        return {"clean": clean, "degraded": noise.add_(clean)}


class Epochs(Sampler[int]):
    """All images in random order, again and again, so that workers never restart."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[int]:
        """Numbers without end."""
        while True:
            yield from torch.randperm(self.count).tolist()


def batches(
    images: Sequence[np.ndarray], *, crop: int, batch: int, sigma: float | None, workers: int
) -> Generator[dict[str, Tensor], None, None]:
    """Endless batches of :class:`Crops`, made by so many processes, or 0 for this one.

    Closing it ends them.
    """
    torch.set_num_threads(1)  # more only wait for each other over a patch; workers have one, too
    loader = DataLoader(
        Crops(images, crop, sigma),
        batch_size=batch,
        sampler=Epochs(len(images)),
        num_workers=workers,
        # A process with JAX in it has threads, which a fork would lose.
        multiprocessing_context="spawn" if workers else None,
    )
    yield from loader
