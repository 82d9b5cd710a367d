"""What lmstat prints, read: the numbers that count, whatever stands around them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from serai_server.licenses.servers.lmstat import FeatureUse, read

WHOLE = """lmutil - Copyright (c) 1989-2021 Flexera. All Rights Reserved.
Flexible License Manager status on Thu 11/26/2026 10:05

[Detecting lmgrd processes...]
License server status: 27000@lic1,27000@lic2,27000@lic3
    License file(s) on lic1: /opt/flexlm/license.dat:

      lic1: license server UP (MASTER) v11.18.0
      lic2: license server UP v11.18.0
      lic3: license server UP v11.18.0

Vendor daemon status (on lic1):

     acmed: UP v11.18.0
Feature usage info:

Users of Solver:  (Total of 5 licenses issued;  Total of 3 licenses in use)

  "Solver" v2026.1, vendor: acmed, expiry: 01-jan-2028
  vendor_string: error tolerance
  floating license

    alice node1 /dev/pts/3 (v2026.1) (lic1/27000 101), start Thu 11/26 9:01, 2 licenses
    bob node2 /dev/pts/1 (v2026.1) (lic1/27000 204), start Thu 11/26 9:30

Users of mesher:  (Total of 1 license issued;  Total of 0 licenses in use)

Users of viewer:  (Uncounted, node-locked)
"""


class TestNumbers:
    def test_a_whole_answer(self) -> None:
        """Features by their names in small letters; one that is not counted is not there."""
        answer = read(WHOLE)
        assert answer.features == {"solver": FeatureUse(5, 3), "mesher": FeatureUse(1, 0)}

    @pytest.mark.parametrize(
        ("totals", "expected"),
        [
            ("(Total of 1 license issued;  Total of 1 license in use)", FeatureUse(1, 1)),
            ("(Total of 1,250 licenses issued;  Total of 1,001 licenses in use)", FeatureUse(1250, 1001)),
            ("(Total of 1.250 licenses issued;  Total of 1.001 licenses in use)", FeatureUse(1250, 1001)),
            ("(Total of 1\u202f250 licenses issued; Total of 12 licenses in use)", FeatureUse(1250, 12)),
            ("(Total of 5.0 licenses issued;  Total of 3.0 licenses in use)", FeatureUse(5, 3)),
            ("(total of 5 LICENCES issued; total of 3 licences in use)", FeatureUse(5, 3)),
            ("(Total of 5 licenses issued;  Total of 3 licenses in use)\r", FeatureUse(5, 3)),
            ("(Total of 99999999999999999999 licenses issued;  Total of 3 licenses in use)", FeatureUse(1_000_000_000, 3)),
        ],
    )
    def test_forms_of_numbers(self, totals: str, expected: FeatureUse) -> None:
        """One and many, thousands with any mark, floats, other spelling, line ends of Windows, damage."""
        assert read(f"Users of solver:  {totals}\n").features == {"solver": expected}

    def test_the_same_feature_twice(self) -> None:
        """Pools of two vendor daemons, or of two versions, are added up."""
        line = "Users of solver:  (Total of 5 licenses issued;  Total of 3 licenses in use)\n"
        assert read(line + line).features == {"solver": FeatureUse(10, 6)}

    def test_reservations_count_as_used(self) -> None:
        """Facts nomad c12: lmstat counts them in its total; where a release does not, they are at least as many as it lists."""
        text = (
            "Users of solver:  (Total of 9 licenses issued;  Total of {} licenses in use)\n"
            "    2 RESERVATIONs for GROUP research (lic1/27000)\n    1 RESERVATION for HOST node9 (lic1/27000)\n"
        )
        assert read(text.format(4)).features == {"solver": FeatureUse(9, 4)}
        assert read(text.format(0)).features == {"solver": FeatureUse(9, 3)}


class TestTrouble:
    @pytest.mark.parametrize(
        "line",
        [
            'Error getting status: Cannot connect to license server system. (-15,570:115 "Operation now in progress")',
            "lmgrd is not running: Cannot connect to license server system. (-15,570)",
            "Users of solver: Cannot get users of solver: No such feature exists. (-5,222)",
            "Users of mesher:  (Error: 4 licenses, unsupported by licensed server)",
            "     acmed: The desired vendor daemon is down. (-97,121)",
        ],
    )
    def test_it_is_found(self, line: str) -> None:
        """In the words of the program, and no seats come of it."""
        answer = read(f"lmutil - Copyright\n{line}\n")
        assert answer.features == {}
        assert answer.trouble == " ".join(line.split())

    def test_words_are_fit_to_be_shown(self) -> None:
        """One line, printable, bounded."""
        trouble = read("Error: \x1b[31m" + "x" * 5_000).trouble
        assert trouble.startswith("Error: [31mxxx")
        assert len(trouble) <= 300

    def test_a_good_answer_has_none(self) -> None:
        """A version or a name that has the word in it is no error. The first line that is one is kept beside the numbers."""
        assert read(WHOLE).trouble == ""
        assert read(WHOLE + "Users of x:  (Error: 4 licenses, unsupported by licensed server)").features["solver"] == FeatureUse(5, 3)


@given(st.text())
def test_anything_is_read(text: str) -> None:
    """Rubbish has no seats, and nothing is raised."""
    read(text)
    read(f"Users of solver:  ({text}")
    read(f"Users of {text}:  (Total of 5 licenses issued;  Total of {text} licenses in use)\n {text} RESERVATIONs for {text}")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("line", ["  1{}x", "Users of a: (Total of 1{} x", "  1{} RESERVATIONS"])
def test_a_line_that_is_made_to_be_slow_is_not(line: str) -> None:
    """Millions of blanks that may stand in a number and behind one: each way to part them was once tried, for hours."""
    assert read(line.format("\u00a0" * 2_000_000)).features == {}


def test_a_line_that_is_too_long_is_read_as_far_as_it_goes() -> None:
    """What it says at its beginning counts."""
    text = "Users of solver:  (Total of 5 licenses issued;  Total of 3 licenses in use)" + "x" * 5_000
    assert read(text).features["solver"].used == 3
