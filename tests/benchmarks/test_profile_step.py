"""What the profile counts in a compiled program."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import profile_step
from lcdnet_jax.ops.convolution import conv2d


def read(function, *shapes):
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    text = jax.jit(function).lower(*arguments).compile().as_text()
    return list(profile_step.read_instructions(text).values())


def test_a_convolution_is_counted():
    ((_, size, operations),) = read(conv2d, (1, 8, 8, 3), (3, 3, 3, 4))
    assert size == 4 * (8 * 8 * 3 + 3 * 3 * 3 * 4 + 8 * 8 * 4)
    assert operations == 2 * 8 * 8 * 4 * 3 * 3 * 3


def test_a_product_is_counted_within_a_fusion():
    found = read(lambda a, b: jnp.sin(a) @ b, (64, 32), (32, 16))
    assert sum(operations for *_, operations in found) == 2 * 64 * 32 * 16


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("jit(step)/jvp(SADNet)/res1/conv1/conv_general_dilated", "convolutions, forward"),
        (
            "jit(step)/transpose(jvp(SADNet))/res1/conv1/cond/branch_0_fun/conv_general_dilated",
            "convolutions, gradient of the image",
        ),
        (
            "jit(step)/transpose(jvp(SADNet))/res1/conv1/cond/branch_0_fun/dot_general",
            "convolutions, gradient of the kernel",
        ),
        (
            "jit(step)/jvp(SADNet)/dres1/dcnpack/conv_offset_mask/conv_general_dilated",
            "convolutions, forward",
        ),
        (
            "jit(step)/transpose(jvp(SADNet))/dres1/dcnpack/vmap()/scatter-add",
            "deformable convolutions, gradient",
        ),
        ("jit(step)/jvp(SADNet)/offset1/concatenate", "other layers, forward"),
        ("jit(step)/sqrt", "loss, Adam, copies"),
    ],
)
def test_operations_have_kinds(operation, kind):
    assert profile_step._name_kind(operation) == kind
