"""Licenses on UCloud's wire: the seed's example byte for byte, every field of its data models, and what Core is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from golden.load import golden
from golden.oracle import parse
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from serai.control.v1 import control_pb2
from serai.core.v1 import resources_pb2
from serai.licenses.v1 import license_pb2, licenses_provider_service_pb2, licenses_service_pb2
from serai_gateway.codec import Codec
from serai_gateway.codec.shape import Absent, Kind, MessageShape, Shapes
from serai_gateway.routes import ROUTES

CODEC = Codec()
SHAPES = Shapes()
REFERENCE = resources_pb2.ProductReference(id="example-license", category="example-license", provider="example")
SPECIFICATION = license_pb2.LicenseSpecification(product=REFERENCE)
OWNER = resources_pb2.ResourceOwner(created_by="user")
SEED = "licenses-enduser-2023-0"


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


PRODUCTS = licenses_service_pb2.RetrieveProductsResponse(
    products_by_provider={
        "example": licenses_service_pb2.ResolvedLicenseSupports(
            supports=[
                license_pb2.ResolvedLicenseSupport(
                    product=license_pb2.LicenseProduct(
                        name="example-license",
                        price_per_unit=1,
                        category=resources_pb2.ProductCategoryId(name="example-license", provider="example"),
                        description="An example license",
                        version=1,
                        allow_allocation_requests_from=license_pb2.ALLOCATION_REQUESTS_GROUP_ALL,
                        unit_of_price=resources_pb2.PRODUCT_PRICE_UNIT_PER_UNIT,
                        charge_type=resources_pb2.CHARGE_TYPE_ABSOLUTE,
                        product_type=resources_pb2.PRODUCT_TYPE_LICENSE,
                    ),
                    support=license_pb2.LicenseSupport(product=REFERENCE),
                )
            ]
        )
    }
)
RETRIEVED = licenses_service_pb2.RetrieveResponse(
    license=license_pb2.License(
        id="5123",
        specification=SPECIFICATION,
        owner=OWNER,
        created_at=1635170395571,
        status=license_pb2.LicenseStatus(state=license_pb2.LICENSE_STATE_READY),
    )
)
SAID: list[tuple[str, Message]] = [
    (f"{SEED}1-create-and-configure-a-license-get-retrieveproducts.response.json", PRODUCTS),
    (
        f"{SEED}2-create-and-configure-a-license-post-licenses.response.json",
        licenses_service_pb2.CreateResponse(responses=[resources_pb2.FindByStringId(id="5123")]),
    ),
    (f"{SEED}3-create-and-configure-a-license-get-retrieve.response.json", RETRIEVED),
    (
        "derived-licenses-control-update.request.json",
        control_pb2.LicensesControlServiceUpdateRequest(
            items=[
                control_pb2.LicenseUpdateAndId(
                    id="5123",
                    update=license_pb2.LicenseUpdate(timestamp=0, state=license_pb2.LICENSE_STATE_READY, status="License is ready for use"),
                )
            ]
        ),
    ),
    (
        "derived-licenses-control-chargeCredits.request.json",
        control_pb2.LicensesControlServiceChargeCreditsRequest(
            items=[control_pb2.ResourceChargeCredits(id="5123", charge_id="5123-2021-10-08", units=1, number_of_products=1)]
        ),
    ),
    (
        "derived-licenses-control-register.request.json",
        control_pb2.LicensesControlServiceRegisterRequest(
            items=[control_pb2.RegisteredLicense(spec=SPECIFICATION, provider_generated_id="lic-a", created_by="user")]
        ),
    ),
]


@pytest.mark.parametrize(("file", "message"), SAID, ids=[file for file, _ in SAID])
def test_what_serai_says_is_what_is_documented(file: str, message: Message) -> None:
    """Byte for byte as compact JSON: the same keys in the same order, explicit nulls, numbers as numbers."""
    assert CODEC.write(message) == compact(golden(file))


def test_the_seeds_create_is_read() -> None:
    """One license of one product, and nothing else said."""
    body = compact(golden(f"{SEED}2-create-and-configure-a-license-post-licenses.request.json"))
    read = licenses_service_pb2.CreateRequest.FromString(CODEC.read(licenses_service_pb2.CreateRequest.DESCRIPTOR, body))
    assert read == licenses_service_pb2.CreateRequest(items=[SPECIFICATION])
    assert CODEC.write(read) == body


BULK: list[tuple[str, str, Message]] = [
    (
        "derived-licenses-provider-create.response.json",
        "Create",
        licenses_provider_service_pb2.LicensesProviderServiceCreateResponse(responses=[licenses_provider_service_pb2.CreatedLicense()]),
    ),
    (
        "derived-licenses-provider-delete.response.json",
        "Delete",
        licenses_provider_service_pb2.LicensesProviderServiceDeleteResponse(responses=[licenses_service_pb2.Acknowledged()]),
    ),
]


@pytest.mark.parametrize(("file", "method", "message"), BULK, ids=[method for _, method, _ in BULK])
def test_bulk_answers_are_what_is_documented(file: str, method: str, message: Message) -> None:
    """null for a created license, as Serai has no id of its own to tell; {} for a deleted one."""
    route = next(route for route in ROUTES if route.method == f"/serai.licenses.v1.LicensesProviderService/{method}")
    assert json.loads(CODEC.write_bulk(message, route.empty_element)) == golden(file)


def test_core_of_2021_finds_its_support_in_ours() -> None:
    """The key of maintenance, which came later, is one that it passes over."""
    supports = [license_pb2.LicenseSupport(product=REFERENCE)]
    answer = licenses_provider_service_pb2.LicensesProviderServiceRetrieveProductsResponse(responses=supports)
    found = json.loads(CODEC.write(answer))["responses"]
    expected = golden("derived-licenses-provider-retrieveProducts.response.json")["responses"]
    assert [{key: value for key, value in one.items() if key != "maintenance"} for one in found] == expected


MODELS: dict[str, list[Any]] = golden("licenses-data-models.json")
# Of the seed's Kotlin classes, in their order.
SEED_FIELDS = {
    "License": "id specification owner createdAt status updates permissions providerGeneratedId",
    "LicenseIncludeFlags": "includeOthers includeUpdates includeSupport includeProduct filterCreatedBy filterCreatedAfter"
    " filterCreatedBefore filterProvider filterProductId filterProductCategory filterProviderIds filterIds hideProductId"
    " hideProductCategory hideProvider",
    "LicenseSpecification": "product",
    "LicenseStatus": "state resolvedSupport resolvedProduct boundTo",
    "LicenseSupport": "product maintenance",
    "LicenseUpdate": "timestamp state status binding",
}


def _descriptor(name: str) -> Descriptor:
    for file in (license_pb2.DESCRIPTOR, licenses_service_pb2.DESCRIPTOR):
        if name in file.message_types_by_name:
            return file.message_types_by_name[name]
    raise KeyError(name)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in MODELS.items() for value in values])
def test_every_data_model_goes_both_ways(name: str, value: Any) -> None:
    """Read, it is what json_format reads; written again, it is the same bytes."""
    descriptor = _descriptor(name)
    read = GetMessageClass(descriptor).FromString(CODEC.read(descriptor, compact(value)))
    assert read == parse(descriptor, value)
    assert CODEC.write(read) == compact(value)


@pytest.mark.parametrize("name", SEED_FIELDS)
def test_the_golden_models_have_every_field_of_the_seed(name: str) -> None:
    """In one of the messages at least with a value; what Serai has besides is left out where it is not set."""
    fields = SEED_FIELDS[name].split()
    assert all(any(value[field] not in (None, "", []) for value in MODELS[name]) for field in fields)
    shape = SHAPES.message(_descriptor(name))
    assert [field.key for field in shape.fields if field.key in fields] == fields
    assert all(field.absent is Absent.OMIT for field in shape.fields if field.key not in fields)


def _words(shape: MessageShape, value: Any, found: dict[str, set[str]]) -> None:
    """Which words of which enums stand in a value."""
    for field in shape.fields:
        one = value.get(field.key)
        for element in one if field.repeated else [one]:
            if element is not None and field.kind is Kind.ENUM:
                found.setdefault(field.words.full_name, set()).add(element)
            elif element is not None and field.message is not None and not field.message.union_key and not field.is_map:
                _words(field.message, element, found)


def test_every_state_and_kind_is_in_the_golden_models() -> None:
    """LicenseState, the kinds of maintenance and of binding: each of their words."""
    found: dict[str, set[str]] = {}
    for name in ("License", "LicenseStatus", "LicenseSupport", "LicenseUpdate"):
        for value in MODELS[name]:
            _words(SHAPES.message(_descriptor(name)), value, found)
    assert found["serai.licenses.v1.LicenseState"] == {"PREPARING", "READY", "UNAVAILABLE"}
    assert found["serai.licenses.v1.MaintenanceAvailability"] == {"MINOR_DISRUPTION", "MAJOR_DISRUPTION", "NO_SERVICE"}
    assert found["serai.licenses.v1.JobBindKind"] == {"BIND", "UNBIND"}
