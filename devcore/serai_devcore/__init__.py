"""A stand-in for UCloud/Core, for people who develop against a provider, for the demo and for the tests."""

from serai_devcore.accounts import Charge, Product, WalletKey
from serai_devcore.applications import (
    ACME_BATCH,
    ACME_SOLVER,
    EXAMPLE_LICENSE,
    EXAMPLE_PRODUCT,
    UCLOUD_ETC,
    Application,
    JobRequest,
    acme_request,
    licensed_request,
    shell_request,
)
from serai_devcore.billing import Bill
from serai_devcore.core import DevCore
from serai_devcore.faults import Away, Effect, Fault
from serai_devcore.jobs import Arrival, Job
from serai_devcore.outcomes import Outcome
from serai_devcore.own_ids import Repeat
from serai_devcore.provider import Answer, Provider
from serai_devcore.records import Direction, Exchange
from serai_devcore.resources import Resource, ResourceRequest
from serai_devcore.settings import Settings
from serai_devcore.submissions import Submission
from serai_devcore.wire import CoreError, Generation

__all__ = [
    "ACME_BATCH",
    "ACME_SOLVER",
    "EXAMPLE_LICENSE",
    "EXAMPLE_PRODUCT",
    "UCLOUD_ETC",
    "Answer",
    "Application",
    "Arrival",
    "Away",
    "Bill",
    "Charge",
    "CoreError",
    "DevCore",
    "Direction",
    "Effect",
    "Exchange",
    "Fault",
    "Generation",
    "Job",
    "JobRequest",
    "Outcome",
    "Product",
    "Provider",
    "Repeat",
    "Resource",
    "ResourceRequest",
    "Settings",
    "Submission",
    "WalletKey",
    "acme_request",
    "licensed_request",
    "shell_request",
]
