"""Who may ask, and what every response says to a browser."""

import asyncio

import httpx
import pytest
from starlette.responses import PlainTextResponse

from lcdnet_jax.serve.guard import COOKIE, Guard
from lcdnet_jax.serve.settings import Settings

TOKEN = "correct horse battery staple"


def guard(**settings):
    return Guard(PlainTextResponse("inside"), Settings(**settings))


def ask(guarded, path="/weights", *, host="127.0.0.1:7860", method="GET", **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}

    async def send():
        transport = httpx.ASGITransport(guarded)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, headers={"Host": host, **names})

    return asyncio.run(send())


class TestHost:
    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "127.0.0.1:7860", "localhost:8000", "LOCALHOST", "[::1]:7860"]
    )
    def test_of_this_machine(self, host):
        assert ask(guard(), host=host).text == "inside"

    @pytest.mark.parametrize(
        "host",
        [
            *("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:7860", ""),
            *("192.168.1.2:7860", "0.0.0.0:7860", "127.0.0.1:x", "a@127.0.0.1", "127.0.0.1/x"),
            *("[::1", "evil.example:80#127.0.0.1", "localhost evil"),
        ],
    )
    def test_of_another(self, host):
        answer = ask(guard(), host=host)
        assert answer.status_code == 403
        assert "Host header does not name this machine" in answer.json()["error"]

    def test_missing_or_twice(self):
        async def app(scope, receive, send):
            raise AssertionError

        for hosts in ([], ["localhost", "localhost"]):
            sent = []
            scope = {
                "type": "http",
                "method": "GET",
                "path": "/",
                "scheme": "http",
                "query_string": b"",
                "headers": [(b"host", host.encode()) for host in hosts],
            }

            async def send(message, sent=sent):
                sent.append(message)

            asyncio.run(Guard(app, Settings())(scope, None, send))
            assert sent[0]["status"] == 403

    def test_any_with_a_token(self):
        guarded = guard(host="0.0.0.0", token=TOKEN)
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert ask(guarded, host="photos.example", **bearer).text == "inside"
        assert ask(guarded, host="photos.example").status_code == 401
        assert ask(guarded, host="a@b", **bearer).status_code == 403


class TestSite:
    def test_own_page(self):
        own = {"Origin": "http://127.0.0.1:7860", "Sec_Fetch_Site": "same-origin"}
        assert ask(guard(), **own).text == "inside"
        assert ask(guard(), Sec_Fetch_Site="none").text == "inside"
        assert ask(guard(), Origin="https://127.0.0.1:7860").text == "inside"  # behind a proxy

    @pytest.mark.parametrize(
        "origin",
        [
            *("http://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:8000", ""),
            *("file://", "http://[x", "http://a@127.0.0.1:7860", "other://127.0.0.1:7860"),
        ],
    )
    def test_other_origins(self, origin):
        answer = ask(guard(), method="POST", Origin=origin)
        assert answer.status_code == 403
        assert "page of another server" in answer.json()["error"]

    @pytest.mark.parametrize("site", ["cross-site", "same-site", "what"])
    def test_without_origin(self, site):
        """As an image or a script of another page is asked for."""
        assert ask(guard(), "/demo", Sec_Fetch_Site=site).status_code == 403

    def test_links_to_the_page(self):
        link = {
            "Sec_Fetch_Site": "cross-site",
            "Sec_Fetch_Mode": "navigate",
            "Sec_Fetch_Dest": "document",
        }
        assert ask(guard(), "/", **link).text == "inside"
        assert ask(guard(), "/demo", **link).status_code == 403
        assert ask(guard(), "/", method="POST", **link).status_code == 403
        assert ask(guard(), "/", **{**link, "Sec_Fetch_Dest": "iframe"}).status_code == 403


class TestToken:
    @pytest.mark.parametrize(
        "header", [f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer", f"Bearer {TOKEN[:-1]}"]
    )
    def test_wrong(self, header):
        answer = ask(guard(token=TOKEN), Authorization=header)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "token is needed" in answer.json()["error"]
        assert TOKEN not in answer.text

    def test_becomes_a_cookie(self):
        guarded = guard(token=TOKEN)
        answer = ask(guarded, f"/?token={TOKEN}")
        assert answer.status_code == 200
        assert 'http-equiv="refresh" content="0; url=/"' in answer.text
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"{COOKIE}=")
        assert TOKEN not in cookie
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
        session = cookie.partition(";")[0]
        assert ask(guarded, Cookie=session).text == "inside"
        assert ask(guarded, Cookie=f"other=1; {session}").text == "inside"
        assert ask(guarded, Cookie=session[:-1]).status_code == 401
        assert ask(guard(token=TOKEN), Cookie=session).status_code == 401  # another process

    def test_in_other_addresses_is_none(self):
        for path in (f"/weights?token={TOKEN}", "/?token=x", "/?token="):
            assert ask(guard(token=TOKEN), path).status_code == 401

    def test_with_a_foreign_origin(self):
        bearer = {"Authorization": f"Bearer {TOKEN}", "Origin": "http://evil.example"}
        assert ask(guard(token=TOKEN), **bearer).status_code == 403


def test_headers_of_all_responses():
    answers = [ask(guard()), ask(guard(), host="evil.example"), ask(guard(token=TOKEN))]
    assert [answer.status_code for answer in answers] == [200, 403, 401]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert not [name for name in answer.headers if name.startswith("access-control")]
