"""What `lmutil lmstat -a` prints, as numbers. FlexNet has no form for programs, so this reads the one for people, and trusts nothing.

Example (facts nomad c12):

    Users of solver:  (Total of 5 licenses issued;  Total of 3 licenses in use)
      "solver" v2026.1, vendor: acmed, expiry: 01-jan-2028
      floating license
        alice node1 /dev/pts/3 (v2026.1) (lic1/27000 101), start Thu 11/26 9:01, 2 licenses
        1 RESERVATION for GROUP research (lic1/27000)
    Users of viewer:  (Uncounted, node-locked)
    Users of mesher:  (Error: 4 licenses, unsupported by licensed server)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_NUMBER = r"(\d[\d.,'\u00a0\u202f]{0,30})"
"""With an end, because what may stand in a number may stand behind it too, and every way to part them would be tried."""
_USERS = re.compile(r"\s*Users of\s+(\S+?):\s*(.*)", re.IGNORECASE)
_TOTALS = re.compile(rf"Total of\s+{_NUMBER}\s+licen[sc]es?\s+issued\W+Total of\s+{_NUMBER}\s+licen[sc]es?\s+in use", re.IGNORECASE)
_RESERVED = re.compile(rf"\s*{_NUMBER}\s+RESERVATIONs?\s+for\s", re.IGNORECASE)
_TROUBLE = re.compile(
    r"\berror(?::|\s+getting\b)|\bcannot |\bno such |lmgrd is not running|license server DOWN|vendor daemon is down",
    re.IGNORECASE,
)
_GROUPED = re.compile(r"\d{1,3}(?:[.,'\u00a0\u202f]\d{3})+")
_LONGEST_WORDS = 300
_LONGEST_LINE = 1_000
"""Characters; lmstat's own lines have some two hundred."""
_MOST_LINES = 200_000


@dataclass(frozen=True, slots=True)
class FeatureUse:
    total: int
    """Seats that the server has."""
    used: int
    """In use by anybody; reserved ones are, whoever they are kept for (facts nomad c12)."""


@dataclass(frozen=True, slots=True)
class Answer:
    features: Mapping[str, FeatureUse]
    """Only those of which it told both numbers, in small letters: FlexNet makes no difference."""
    trouble: str
    """The first line that tells of an error, cleaned; empty = none."""


def read(text: str) -> Answer:
    """Never raises: what is not understood is not there."""
    features: dict[str, FeatureUse] = {}
    reserved: dict[str, int] = {}
    trouble = feature = ""
    for whole in text.splitlines()[:_MOST_LINES]:
        line = whole[:_LONGEST_LINE]
        if found := _USERS.match(line):
            feature, rest = found[1].lower(), found[2]
            totals = _TOTALS.search(rest)
            if totals is not None:
                # The same feature again is another pool of it: of a second vendor's daemon, or of another version.
                before = features.get(feature, FeatureUse(0, 0))
                features[feature] = FeatureUse(before.total + _number(totals[1]), before.used + _number(totals[2]))
            elif not trouble and _TROUBLE.search(rest):
                trouble = words_of(line)
        elif (kept := _RESERVED.match(line)) and feature in features:
            reserved[feature] = reserved.get(feature, 0) + _number(kept[1])
        elif not trouble and _TROUBLE.search(line):
            trouble = words_of(line)
    for name, count in reserved.items():
        if count > features[name].used:
            features[name] = FeatureUse(features[name].total, count)
    return Answer(features, trouble)


def words_of(line: str) -> str:
    """What a program said, fit to be shown: one line, printable, not too long."""
    return " ".join("".join(c if c.isprintable() else " " for c in line[:_LONGEST_WORDS]).split())


def _number(text: str) -> int:
    """ "1,000" and "1.000" are a thousand, "5.0" is five: some releases follow the machine's own language."""
    text = text.rstrip(".,'\u00a0\u202f")
    if _GROUPED.fullmatch(text):
        text = re.sub(r"\D", "", text)
    whole = re.match(r"\d+", text)
    # No license has that many seats; a longer number is damage, and must not become one that a database cannot take.
    return min(int(whole[0][:12]), 1_000_000_000) if whole else 0
