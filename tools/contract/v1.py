"""OpenAPI 3.1 of `/v1`: the server's methods in protobuf's standard JSON, as Envoy's transcoder serves them to tools."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message_factory import GetMessageClass
from serai_gateway.codec import Codec
from serai_gateway.routes import ROUTES

from contract import examples, v1_examples
from contract.comments import Comments, summary_of
from contract.schemas import Schema, described
from contract.served import Binding, Served, query_fields
from contract.standard import StandardSchemas, marked

_INFO = """\
What tools of a site ask of Serai, in protobuf's standard JSON; the same methods are there as gRPC, which clients in other languages use.

64-bit integers are text, so that no reader loses digits; bytes are base64; enum values have their full names. \
What is left out has its zero value. \
**A field of a body that does not exist is ignored**: a misspelled one counts as left out. \
A query parameter that does not exist is refused. \
Times are ms since epoch.

A tool shows a token: `Authorization: Bearer serai_…`, made with `serai tokens create`. Each call names the role that it needs; \
a role may do what those before it may: viewer, operator, admin.

An answer that is a stream comes as one JSON object a line, each as soon as it is there. It cannot tell an error once it has begun: \
it is whole when its last message says so."""


class V1Document:
    """Makes the document."""

    def __init__(self, methods: Iterable[Served], comments: Comments, version: str) -> None:
        self._methods = [method for method in methods if method.bindings]
        self._comments = comments
        self._version = version
        self._requests = StandardSchemas("request", comments)
        self._answers = StandardSchemas("answer", comments)
        self._examples = examples.load("2021")
        self._codec = Codec()

    def make(self) -> Schema:
        """The whole document."""
        paths: dict[str, dict[str, Schema]] = {}
        for one in self._methods:
            for index, binding in enumerate(one.bindings):
                path = paths.setdefault(binding.shown_path(one.method.input_type), {})
                path[binding.verb] = self._operation(one, binding, index)
        services = dict.fromkeys(one.method.containing_service.full_name for one in self._methods)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": "Serai for tools",
                "version": self._version,
                "description": _INFO,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "tags": [described({"name": name.rpartition(".")[2]}, self._comments.of(name)) for name in services],
            "security": [{"tool": []}],
            "paths": paths,
            "components": {
                "schemas": {**self._requests.components, **self._answers.components, **_ERRORS},
                "responses": {
                    "Error": {
                        "description": "An error: docs/errors.md.",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
                    }
                },
                "securitySchemes": {
                    "tool": {"type": "http", "scheme": "bearer", "description": "A token of `serai tokens create`."},
                },
            },
        }

    def _operation(self, one: Served, binding: Binding, index: int) -> Schema:
        method = one.method
        service = method.containing_service
        text = self._comments.of(method.full_name)
        request = method.input_type
        parameters = self._path(request, binding)
        if not binding.body:
            parameters += self._query(request, binding)
        found: Schema = {
            "operationId": f"{service.name}.{method.name}{'' if index == 0 else f'.{binding.verb}'}",
            "tags": [service.name],
            "summary": summary_of(text),
            "description": f"{text}\n\n{access_words(one)}",
            "x-serai-access": {"role": one.role, "ofProject": one.of_project},
            **({"parameters": parameters} if parameters else {}),
            **({"requestBody": self._body(one, binding)} if binding.body else {}),
            "responses": {"200": self._answer(one), "default": {"$ref": "#/components/responses/Error"}},
        }
        return marked(method, found)

    def _path(self, request: Descriptor, binding: Binding) -> list[Schema]:
        found: list[Schema] = []
        for name in binding.variables:
            field = request.fields_by_name[name]
            schema = {**self._requests.value(field), "minLength": 1}
            one: Schema = {"name": field.json_name, "in": "path", "required": True, "schema": schema}
            found.append(marked(field, described(one, self._comments.of_field(field))))
        return found

    def _query(self, request: Descriptor, binding: Binding) -> list[Schema]:
        return [
            marked(field, described({"name": key, "in": "query", "schema": self._requests.field(field)}, self._comments.of_field(field)))
            for key, field in query_fields(request, binding.variables)
        ]

    def _body(self, one: Served, binding: Binding) -> Schema:
        request = one.method.input_type
        variables = frozenset(binding.variables)
        schema = self._requests.object(request, variables) if variables else self._requests.of(request)
        return {"required": True, "content": {"application/json": {"schema": schema, **self._example(one, request, is_answer=False)}}}

    def _answer(self, one: Served) -> Schema:
        answer = one.method.output_type
        if one.method.server_streaming:
            # OpenAPI 3.1 has no schema for elements of a stream: it is that of a line.
            text = "A stream: one such object a line, as it comes."
            return {"description": text, "content": {"application/json": {"schema": self._answers.of(answer)}}}
        content: Schema = {"schema": self._answers.of(answer), **self._example(one, answer, is_answer=True)}
        return {"description": "Done.", "content": {"application/json": content}}

    def _example(self, one: Served, message: Descriptor, *, is_answer: bool) -> Schema:
        """What a tool sends; where nothing is written of that, UCloud's documented messages of the same method, in standard JSON."""
        sent = v1_examples.REQUESTS.get(one.method.full_name)
        if sent is not None and not is_answer:
            return {"examples": {f"tool-{index}": {"summary": name, "value": value} for index, (name, value) in enumerate(sent.items(), 1)}}
        path = f"/{one.method.containing_service.full_name}/{one.method.name}"
        route = next((route for route in ROUTES if route.method == path), None)
        if route is None:
            return {}
        found = examples.of(self._examples, route.verb, route.path, is_answer=is_answer)
        if not found or (is_answer and route.answers):
            return {}
        made = {name: {**example, "value": self._standard(message, example["value"])} for name, example in found.items()}
        return {"examples": made}

    def _standard(self, message: Descriptor, value: object) -> object:
        wire = self._codec.read(message, examples.compact(value))
        standard = json_format.MessageToJson(GetMessageClass(message).FromString(wire), sort_keys=True)  # protobuf's maps have no order
        return cast("object", json.loads(standard))


def access_words(one: Served) -> str:
    """Who may call it, as a sentence."""
    if one.role is None:
        return "No tool may call it."
    limited = (
        "A token that is limited to a project may call it, and finds that project's jobs only."
        if one.of_project
        else "Not for tokens that are limited to a project."
    )
    return f"Needs the role {one.role}. {limited}"


_ERRORS: dict[str, Schema] = {
    "Error": {"anyOf": [{"$ref": "#/components/schemas/Status"}, {"$ref": "#/components/schemas/ProxyError"}]},
    "Status": {
        "type": "object",
        "description": "What the server says: google.rpc.Status.",
        "properties": {
            "code": {"type": "integer", "format": "int32", "description": "Number of the gRPC code."},
            "message": {"type": "string", "description": "What a person should do, in words."},
            "details": {
                "type": "array",
                "description": "`google.rpc.ErrorInfo` has the `reason` of docs/errors.md; `google.rpc.BadRequest` names the field.",
                "items": {"type": "object", "properties": {"@type": {"type": "string"}}, "required": ["@type"]},
            },
        },
        "required": ["code"],
    },
    "ProxyError": {
        "type": "object",
        "description": "What Envoy says by itself, when it lets nothing through or does not reach the server.",
        "properties": {"why": {"type": "string"}},
        "required": ["why"],
    },
}
