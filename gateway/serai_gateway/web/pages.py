"""What a person or a program reads in place of an application's page: a few plain words.

Nothing of the request is repeated in it but a job's id and rank, which have passed a pattern: so there is nothing to inject into.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

import msgspec

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><meta name="viewport" content="width=device-width">{refresh}
<style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1rem}}h1{{font-size:1.3rem}}</style></head>
<body><h1>{title}</h1><p>{text}</p></body></html>
"""
RELOAD_S = 3
"""After which a page about an application that is not there yet looks again."""

SAFE = (
    ("cache-control", "no-store"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
)
"""Headers of everything that is ours on an application's origin."""


class Page(NamedTuple):
    """An answer of ours."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def told(status: int, why: str, *, html: bool, reload: bool = False) -> Page:
    """`why` in plain words; `html` = a browser asks, else it is UCloud's JSON; `reload` = the page looks again by itself."""
    if html:
        refresh = f'<meta http-equiv="refresh" content="{RELOAD_S}">' if reload else ""
        body = _PAGE.format(title=_title(status), text=_escaped(why), refresh=refresh).encode()
        kind = "text/html; charset=utf-8"
    else:
        body = msgspec.json.encode({"statusCode": status, "why": why, "errorCode": None, "detailedCode": 0})
        kind = "application/json"
    return Page(status, (("content-type", kind), *SAFE), body)


def redirect(location: str, set_cookie: str | None) -> Page:
    cookie = (("set-cookie", set_cookie),) if set_cookie is not None else ()
    return Page(HTTPStatus.FOUND, (("location", location), *cookie, ("content-length", "0"), *SAFE), b"")


def wants_html(accept: bytes) -> bool:
    return b"text/html" in accept.lower()


def _title(status: int) -> str:
    match status:
        case 401:
            return "This page needs a session"
        case 404:
            return "There is no such page"
        case 502:
            return "The application does not answer yet"
        case _:
            return "This cannot be shown"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
