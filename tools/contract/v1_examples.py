"""Bodies that a tool sends to `/v1`, for the document: UCloud's own messages of the same calls (contract.examples) are whole jobs, where a
tool names them by their ids.

They have no fields that stand in the path. Tests hold that each is a request of its method, in protobuf's standard JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_JOBS, _EVENTS, _TOKENS = "serai.jobs.v1.JobsService.", "serai.events.v1.EventsService.", "serai.tokens.v1.TokensService."
_SESSIONS, _SERVERS = "serai.sessions.v1.SessionsService.", "serai.licenses.v1.LicenseServersService."
_PRODUCT = {"id": "example-compute-1", "category": "example-compute", "provider": "example"}
_LICENSE = {"id": "example-license", "category": "example-license", "provider": "example"}
_TWO = {"jobIds": ["4711", "4712"]}

REQUESTS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        _JOBS + "Submit": {
            "An owner and a command": {"owner": "alice", "command": ["date"]},
            "All that there is": {
                "owner": "alice",
                "project": "e7a30b4a",
                "image": "debian:12",
                "command": ["sh", "-c", "echo $GREETING from $(hostname)"],
                "environment": {"GREETING": "Hello"},
                "product": _PRODUCT,
                "replicas": 2,
                "timeLimitMs": "3600000",
                "name": "greeting",
                "submissionId": "night-2026-11-26",
            },
        },
        _JOBS + "Extend": {"An hour more for two jobs": {**_TWO, "addedMs": "3600000"}},
        _JOBS + "Suspend": {"Two jobs": _TWO},
        _JOBS + "Unsuspend": {"Two jobs": _TWO},
        _JOBS + "Terminate": {"Two jobs": _TWO},
        _JOBS + "Disown": {"Two jobs": _TWO},
        _JOBS + "Follow": {
            "All, as it comes": {"follow": True},
            "On from where one was": {
                "ranks": [0],
                "follow": True,
                "offsets": [{"rank": 0, "stream": "OUTPUT_STREAM_STDOUT", "offset": "1024"}],
            },
        },
        _EVENTS + "Subscribe": {"What is new from now on": {"fromNow": True, "batchSize": 100}},
        _EVENTS + "Acknowledge": {
            "One is done, one was refused": {
                "settlements": [
                    {"sequence": "17", "outcome": "SETTLEMENT_OUTCOME_DELIVERED"},
                    {"sequence": "18", "outcome": "SETTLEMENT_OUTCOME_REFUSED", "detail": "no such user here"},
                ]
            },
        },
        _EVENTS + "GiveConsumer": {"To a tool's new token, by its id": {"owner": "0123456789ab"}},
        _SESSIONS + "Open": {"A shell in the first replica": {"jobId": "4711", "rank": 0, "kind": "SESSION_KIND_SHELL"}},
        _TOKENS + "Create": {
            "An operator's, for 90 days": {"name": "laptop", "role": "ROLE_OPERATOR", "lifetimeMs": "7776000000"},
            "To look at one project": {"name": "dashboard", "role": "ROLE_VIEWER", "project": "e7a30b4a"},
        },
        _SERVERS + "Add": {
            "With the vendor's key, in base64": {
                "server": {
                    "name": "solver",
                    "addresses": [{"host": "lic1.example.org", "port": 27000}],
                    "product": _LICENSE,
                    "features": [{"name": "solver", "seats": 5}],
                },
                "key": "bm90LWEtcmVhbC1rZXk=",
            },
        },
        _SERVERS + "SetKey": {"In base64": {"key": "bm90LWEtcmVhbC1rZXk="}},
        _SERVERS + "SetSeats": {"All that the vendor sold": {"features": [{"name": "solver", "seats": 10}]}},
        _SERVERS + "SetAddresses": {"All of them": {"addresses": [{"host": "lic2.example.org", "port": 27000}]}},
        _SERVERS + "AddMaintenance": {
            "An hour": {
                "product": _LICENSE,
                "maintenance": {
                    "description": "The vendor's server gets a new disk",
                    "availability": "MAINTENANCE_AVAILABILITY_NO_SERVICE",
                    "startsAt": "1795780800000",
                    "estimatedEndsAt": "1795784400000",
                },
            },
        },
        _SERVERS + "SetPayment": {"It was paid in another way": {"decision": "PAYMENT_DECISION_PAID"}},
    }
)
