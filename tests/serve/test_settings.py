"""Settings of a server."""

import pytest

from lcdnet_jax.serve import ServeError, Settings
from lcdnet_jax.serve.settings import is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", ""])
def test_other_machines_need_a_token(host):
    with pytest.raises(ServeError, match="a token is needed: --token TEXT"):
        Settings(host=host)
    assert Settings(host=host, token="x").host == host


@pytest.mark.parametrize("token", ["", "grün", "a\nb"])
def test_tokens_that_no_header_holds(token):
    with pytest.raises(ServeError, match="token"):
        Settings(token=token)


def test_loopback():
    assert all(map(is_loopback, ("127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST")))
    assert not any(
        map(is_loopback, ("0.0.0.0", "::", "", "127.1", "localhost.example", "10.0.0.1"))
    )


def test_a_body_has_room_for_16_bits_and_alpha():
    assert Settings(max_megapixels=2).body_bytes > 2e6 * 8
