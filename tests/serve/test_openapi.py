"""The description names what the server answers."""

import re

from starlette.routing import Route

from lcdnet_jax.serve import openapi
from lcdnet_jax.serve.app import App
from lcdnet_jax.serve.settings import Settings
from tests.serve.running import add, finish


def test_every_request_is_described():
    app = App(None, None, Settings()).create()._app
    routes = {
        (re.sub(r":\w+}", "}", route.path), method.lower())
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods - {"HEAD"}
    }
    paths = openapi.describe()["paths"]
    described = {
        (path, method) for path, item in paths.items() for method in item if method != "parameters"
    }
    assert described == routes


def test_is_complete():
    document = openapi.describe()
    assert document["openapi"].startswith("3.1")
    operations = [
        operation
        for item in document["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    ]
    for operation in operations:
        assert operation["summary"]
        assert {"401", "403"} <= set(operation["responses"])
        assert all(response["description"] for response in operation["responses"].values())
    referred = set(re.findall(r"'#/components/schemas/(\w+)'", str(document)))
    assert referred == set(document["components"]["schemas"])


def test_answers_are_as_described(server):
    schemas = openapi.describe()["components"]["schemas"]
    job = finish(server, add(server))
    for name, answer in (
        ("Job", job),
        ("Catalog", server.client.get("/weights").json()),
        ("Health", server.client.get("/healthz").json()),
        ("Error", server.client.get("/nothing").json()),
    ):
        check(answer, schemas[name], name)


def check(value, schema, where):
    """Compares a value with the parts of JSON Schema that the description uses."""
    if "anyOf" in schema:
        kinds = [each["type"] for each in schema["anyOf"]]
        schema = schema["anyOf"][0] if value is not None else {"type": kinds[1]}
    if "enum" in schema:
        assert value in schema["enum"], where
    kinds = {
        "string": str,
        "integer": int,
        "number": int | float,
        "boolean": bool,
        "null": type(None),
        "array": list,
        "object": dict,
    }
    if "type" in schema:
        assert isinstance(value, kinds[schema["type"]]), (where, value)
    if schema.get("type") == "object":
        assert set(value) == set(schema["required"]) == set(schema["properties"]), where
        for name, each in value.items():
            check(each, schema["properties"][name], f"{where}.{name}")
    if schema.get("type") == "array":
        for each in value:
            check(each, schema["items"], where)
