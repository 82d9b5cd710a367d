"""OpenAPI 3.1 of UCloud's wire: the calls that UCloud/Core and its users make to this provider.

Made from the routes and shapes that the gateway serves by, so it says what is so. The two generations of Core make the same calls of us
where both make them; the documents differ in the examples, in the header that names the user, and in their words.
"""

from __future__ import annotations

from collections.abc import Iterable

from serai.core.v1 import resources_pb2
from serai.wire.v1 import options_pb2
from serai_gateway.codec.diagnosis import MOST_ITEMS
from serai_gateway.codec.shape import FieldShape, Kind, MessageShape, Shapes
from serai_gateway.errors import TABLE
from serai_gateway.routes import ROUTES, Route

from contract import examples
from contract.comments import Comments, summary_of
from contract.schemas import AnswerSchemas, RequestSchemas, Schema, described, nullable

_ABOUT = {
    "2021": "This document is for Core of 2021, as UCloud's documents describe it.",
    "2026": "This document is for today's Core (2026).",
}
_USERNAME = {
    "2021": "The UCloud user who caused the call, raw text. Absent when no user did.",
    "2026": "The UCloud user who caused the call, in standard base64. Absent when no user did.",
}
_INFO = """\
What a UCloud compute provider answers: the calls that UCloud/Core makes to `/ucloud/{provider}/…`, \
and those that users make by themselves to `/api/licenses/…`.

{about} Serai takes requests in the form of either generation at any time.

Numbers are JSON numbers up to 64 bits. What a request leaves out reads as null, keys that are not known are passed over, \
and `Content-Type` is not looked at. \
Times are ms since epoch. A bulk request has 1 to 1,000 items and one answer for each, in order, done all or none. \
Follow and shells are WebSockets, which OpenAPI has no words for: docs/follow.md and docs/sessions.md."""


class UCloudDocument:
    """Makes the document of one generation."""

    def __init__(self, generation: str, comments: Comments, version: str, routes: Iterable[Route] = ROUTES) -> None:
        self._generation = generation
        self._comments = comments
        self._version = version
        self._routes = [route for route in routes if route.ingoing]
        self._examples = examples.load(generation)
        self._shapes = Shapes()
        self._requests = RequestSchemas(comments)
        self._answers = AnswerSchemas(comments)

    def make(self) -> Schema:
        """The whole document; `servers` is the root, and {provider} any id: the gateway fills in its own."""
        paths: dict[str, dict[str, Schema]] = {}
        for route in self._routes:
            paths.setdefault(route.path, {})[route.verb.lower()] = self._operation(route)
        about = _ABOUT[self._generation]
        services = dict.fromkeys(_service(route) for route in self._routes)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": f"Serai as a provider of UCloud {self._generation}",
                "version": self._version,
                "description": _INFO.replace("{about}", about),
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "tags": [described({"name": name.rpartition(".")[2]}, self._comments.of(name)) for name in services],
            "paths": paths,
            "components": self._components(),
        }

    def _components(self) -> Schema:
        error = self._answers.of(self._shapes.message(resources_pb2.CommonErrorMessage.DESCRIPTOR))
        example = examples.error()
        return {
            "schemas": {**self._requests.components, **self._answers.components},
            "parameters": {
                "provider": {
                    "name": "provider",
                    "in": "path",
                    "required": True,
                    "description": "The provider's id.",
                    "schema": {"type": "string"},
                },
                "username": {
                    "name": "UCloud-Username",
                    "in": "header",
                    "description": _USERNAME[self._generation],
                    "schema": {"type": "string"},
                },
                "project": {
                    "name": "Project",
                    "in": "header",
                    "description": "The project in which the user works; without it their personal workspace.",
                    "schema": {"type": "string"},
                },
            },
            "responses": {
                name: {"description": text, "content": {"application/json": _content(error, example if name == "Error" else None)}}
                for name, text in _errors().items()
            },
            "securitySchemes": {
                "core": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "Core's token: RS256 with this provider's key, subject `_UCloud`, role SERVICE.",
                },
                "user": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The token that UCloud/Core gave its user: docs/licenses-api.md.",
                },
            },
        }

    def _operation(self, route: Route) -> Schema:
        service, method = _service(route), route.method.rpartition("/")[2]
        name = service.rpartition(".")[2]
        text = self._comments.of(f"{service}.{method}")
        body = None if route.verb == "GET" else self._body(route)
        parameters: list[Schema] = [{"$ref": "#/components/parameters/provider"}] if "{provider}" in route.path else []
        if route.users:
            parameters.append({"$ref": "#/components/parameters/project"})
        elif not route.open:
            parameters.append({"$ref": "#/components/parameters/username"})
        if route.verb == "GET":
            parameters += self._query(self._shapes.message(route.request))
        return {
            "operationId": f"{name}.{method}{self._type_of(route)}",
            "tags": [name],
            "summary": summary_of(text),
            "description": text,
            "security": [] if route.open else [{"user": []}] if route.users else [{"core": []}],
            **({"parameters": parameters} if parameters else {}),
            **({"requestBody": body} if body is not None else {}),
            "responses": self._responses(route),
        }

    def _type_of(self, route: Route) -> str:
        """A call of several paths has the type of resource in its id."""
        same = [other.path for other in self._routes if other.method == route.method]
        return "" if len(same) == 1 else "." + route.path.partition("{provider}/")[2].removesuffix("/retrieveProducts").replace("/", ".")

    def _body(self, route: Route) -> Schema:
        message = self._shapes.message(route.request)
        found = self._requests.of(message)
        if route.bulk:
            found = self._bulk(message)
        example = examples.of(self._examples, route.verb, route.path, is_answer=False)
        # A request that has no field may come without a body too.
        return {
            "required": bool(message.fields),
            "content": {"application/json": {"schema": found, **({"examples": example} if example else {})}},
        }

    def _bulk(self, message: MessageShape) -> Schema:
        """The request's schema, with how many items there may be and, where generation 2021 sends items bare, that form too."""
        properties = self._requests.properties(message)
        items = next(field for field in message.fields if field.key == "items")
        item = self._requests.value(items)
        only = items.submessage.bare_field if items.kind is Kind.MESSAGE else None
        if only is not None:
            bare = described(self._requests.value(only), "Generation 2021 sends the job itself.")
            item = {"anyOf": [item, bare]}
        listed: Schema = {"type": "array", "items": item, "minItems": 1, "maxItems": MOST_ITEMS}
        properties["items"] = described(listed, str(properties["items"].get("description", "")))
        return {"type": "object", "properties": properties, "required": ["items"]}

    def _query(self, message: MessageShape) -> list[Schema]:
        found: list[Schema] = []
        for field in message.fields:
            if field.flat:
                found += self._query(field.submessage)
            else:
                text = self._comments.of(f"{message.full_name}.{field.name}")
                parameter: Schema = {"name": field.key, "in": "query", "required": field.required, "schema": self._query_value(field)}
                found.append(described(parameter, text))
        return found

    def _query_value(self, field: FieldShape) -> Schema:
        found = self._requests.value(field)
        return {**found, "minLength": 1} if field.required and field.kind is Kind.TEXT else found

    def _responses(self, route: Route) -> Schema:
        example = examples.of(self._examples, route.verb, route.path, is_answer=True)
        content: Schema = {"schema": self._answer(route), **({"examples": example} if example else {})}
        errors = ["400", *(() if route.open else ("401",)), "500", "503"]
        return {
            "200": {"description": "Done.", "content": {"application/json": content}},
            **{status: {"$ref": f"#/components/responses/Error{status}"} for status in errors},
            "default": {"$ref": "#/components/responses/Error"},
        }

    def _answer(self, route: Route) -> Schema:
        message = self._shapes.message(route.response)
        if not route.answers:
            return self._answers.of(message)
        field = next(field for field in message.fields if field.key == "responses")
        element: Schema = self._answers.value(field)
        if not field.submessage.fields:
            element = {"type": "object", "maxProperties": 0} if _says_object(route) else {"type": "null"}
        elif _says_object(route):
            element = {"anyOf": [element, {"type": "object", "maxProperties": 0}]}
        else:
            element = nullable(element)
        text = self._comments.of(f"{message.full_name}.{field.name}") or "One for each item, in order."
        return {
            "type": "object",
            "properties": {"responses": {"type": "array", "items": element, "description": text}},
            "required": ["responses"],
        }


def _says_object(route: Route) -> bool:
    return route.empty_element == options_pb2.EMPTY_ELEMENT_OBJECT


def _service(route: Route) -> str:
    return route.method.removeprefix("/").partition("/")[0]


def _content(schema: Schema, example: object) -> Schema:
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def _errors() -> dict[str, str]:
    """Descriptions of the errors that any call may have, by the name of their component."""
    by_status: dict[int, list[str]] = {}
    for row in TABLE.values():
        by_status.setdefault(row.http_status, []).append(row.name)
    often = {status: f"{_WORDS[status]} Reasons: {', '.join(by_status[status])}." for status in _WORDS}
    return {**{f"Error{status}": text for status, text in often.items()}, "Error": "Any other error: docs/errors.md."}


_WORDS = {
    400: "The request is wrong, or asks for what this provider does not do; `why` names the field.",
    401: "No token, or not one for this call.",
    500: "An error of the provider; `why` has an id by which its operator finds it.",
    503: "The provider cannot do that right now; try again.",
}
