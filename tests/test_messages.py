import jax
import pytest

from lcdnet_jax import messages


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (0.2, "0:01"),
        (59.5, "1:00"),
        (61, "1:01"),
        (3600, "1:00:00"),
        (3723, "1:02:03"),
    ],
)
def test_format_duration(seconds, text):
    assert messages.format_duration(seconds) == text


def test_is_out_of_memory():
    assert messages.is_out_of_memory(MemoryError())
    assert messages.is_out_of_memory(
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
    )
    assert not messages.is_out_of_memory(jax.errors.JaxRuntimeError("INTERNAL"))
