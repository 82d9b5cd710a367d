"""Messages that are spelled as the value of their one field, and words in lower case."""

from __future__ import annotations

import json

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor
from serai.licenses.v1 import license_pb2, licenses_service_pb2
from serai.wire.v1 import options_pb2
from serai_gateway.codec import Codec, WireError
from serai_gateway.codec.shape import Shapes

CODEC = Codec()
PRODUCTS = licenses_service_pb2.RetrieveProductsResponse
RETRIEVED = licenses_service_pb2.RetrieveResponse


def test_a_whole_answer_is_the_value_of_its_only_field() -> None:
    """A license that is retrieved stands there by itself; nothing retrieved is null."""
    answer = RETRIEVED(license=license_pb2.License(id="5123"))
    assert CODEC.write(answer) == CODEC.write(answer.license)
    assert RETRIEVED.FromString(CODEC.read(RETRIEVED.DESCRIPTOR, CODEC.write(answer))) == answer
    assert CODEC.write(RETRIEVED()) == b"null"
    assert CODEC.read(RETRIEVED.DESCRIPTOR, b"null") == b""


def test_lists_stand_as_values_of_a_map() -> None:
    """Lists without anything in them too."""
    answer = PRODUCTS()
    for provider, names in (("b", ["x", "y"]), ("a", [])):
        supports = answer.products_by_provider[provider].supports
        supports.extend(license_pb2.ResolvedLicenseSupport(product=license_pb2.LicenseProduct(name=name)) for name in names)
    written = json.loads(CODEC.write(answer))["productsByProvider"]
    assert [(provider, [one["product"]["name"] for one in several]) for provider, several in written.items()] == [
        ("a", []),
        ("b", ["x", "y"]),
    ]
    assert PRODUCTS.FromString(CODEC.read(PRODUCTS.DESCRIPTOR, CODEC.write(answer))) == answer


@pytest.mark.parametrize(
    ("descriptor", "body", "path", "words"),
    [
        (RETRIEVED.DESCRIPTOR, "7", "", "an object, found a whole number"),
        (RETRIEVED.DESCRIPTOR, "[]", "", "an object, found a list"),
        (RETRIEVED.DESCRIPTOR, "{}", "id", "a text, found no such key"),
        (RETRIEVED.DESCRIPTOR, '{"id":"1","owner":7}', "owner", "an object, found a whole number"),
        (PRODUCTS.DESCRIPTOR, '{"productsByProvider":{"a":null}}', 'productsByProvider["a"]', "a list, found null"),
        (PRODUCTS.DESCRIPTOR, '{"productsByProvider":{"a":{}}}', 'productsByProvider["a"]', "a list, found an object"),
        (PRODUCTS.DESCRIPTOR, '{"productsByProvider":{"a":[7]}}', 'productsByProvider["a"][0]', "an object, found a whole number"),
        (PRODUCTS.DESCRIPTOR, '{"productsByProvider":{"a":[{"product":7}]}}', 'productsByProvider["a"][0].product', "an object"),
        (licenses_service_pb2.ResolvedLicenseSupports.DESCRIPTOR, "null", "", "a list, found null"),
    ],
)
def test_what_is_wrong_has_the_path_that_its_sender_knows(descriptor: Descriptor, body: str, path: str, words: str) -> None:
    """The field that is not on the wire is not in the path either."""
    with pytest.raises(WireError, match=words) as caught:
        CODEC.read(descriptor, body.encode())
    assert caught.value.path == path


def test_words_in_lower_case() -> None:
    """A direction of sorting is written so and read so, and no other spelling is taken in a body."""
    search = licenses_service_pb2.SearchRequest(query="x", sort_direction=licenses_service_pb2.SORT_DIRECTION_ASCENDING)
    assert json.loads(CODEC.write(search))["sortDirection"] == "ascending"
    assert licenses_service_pb2.SearchRequest.FromString(CODEC.read(search.DESCRIPTOR, CODEC.write(search))) == search
    with pytest.raises(WireError, match="one of ascending, descending"):
        CODEC.read(search.DESCRIPTOR, b'{"query":"x","sortDirection":"ASCENDING"}')


def _field(name: str, number: int, kind: int, type_name: str | None = None) -> descriptor_pb2.FieldDescriptorProto:
    return descriptor_pb2.FieldDescriptorProto(name=name, number=number, label=1, type=kind, type_name=type_name)  # pyright: ignore[reportArgumentType] -- numbers of an enum


def test_forms_that_would_be_ambiguous_are_refused_when_they_are_compiled() -> None:
    """Two fields cannot both be the value; and within another message the null of a single value would mean two things."""
    only = descriptor_pb2.MessageOptions()
    only.Extensions[options_pb2.message].only = True
    two = descriptor_pb2.DescriptorProto(name="Two", field=[_field("a", 1, 9), _field("b", 2, 9)], options=only)
    one = descriptor_pb2.DescriptorProto(name="One", field=[_field("a", 1, 9)], options=only)
    around = descriptor_pb2.DescriptorProto(name="Around", field=[_field("one", 1, 11, ".odd.One")])
    pool = descriptor_pool.DescriptorPool()
    # The options are read by the extension of the default pool; a pool of its own needs its files.
    for name in ("google/protobuf/descriptor.proto", "serai/wire/v1/options.proto"):
        file = descriptor_pb2.FileDescriptorProto()
        descriptor_pool.Default().FindFileByName(name).CopyToProto(file)
        pool.Add(file)  # pyright: ignore[reportUnknownMemberType] -- the stub leaves the result open
    pool.Add(  # pyright: ignore[reportUnknownMemberType] -- the stub leaves the result open
        descriptor_pb2.FileDescriptorProto(
            name="odd.proto",
            package="odd",
            syntax="proto3",
            message_type=[two, one, around],
            dependency=["serai/wire/v1/options.proto"],
        )
    )
    for name, words in (("Two", "its only field has one"), ("Around", "only where that is a list")):
        with pytest.raises(TypeError, match=words):
            Shapes().message(pool.FindMessageTypeByName(f"odd.{name}"))
    assert Shapes().message(pool.FindMessageTypeByName("odd.One")).only
