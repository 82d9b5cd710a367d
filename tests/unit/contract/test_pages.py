"""The pages of the API have each method and message, in words that a newcomer can read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from contract.comments import Comments, summary_of, text_of
from contract.files import descriptor_set, own_files
from contract.pages import Pages

API = Path(__file__).parents[3] / "docs" / "api"
FILES = own_files(descriptor_set())
PAGES = sorted(API.glob("*.md"))
LINK = re.compile(r"\]\(([^)#]*)(?:#([^)]*))?\)")


def test_all_has_words() -> None:
    """Each service, method, message, field, enum and value says what it is: a comment in the proto, or one of what it is made of."""
    assert Comments(descriptor_set()).wordless(FILES) == []


def test_what_has_no_words_is_found() -> None:
    """Of each kind; a field is saved by the words of its type, a request by those of its method."""
    bare = descriptor_set()
    for file in bare.file:
        if file.name == "serai/tokens/v1/tokens_service.proto":
            file.ClearField("source_code_info")
    found = set(Comments(bare).wordless(FILES))
    assert {name.removeprefix("serai.tokens.v1.") for name in found if name.startswith("serai.tokens.")} >= {
        "TokensService",
        "TokensService.Create",
        "Token",
        "Token.id",
        "CreateRequest.name",
    }
    assert "serai.tokens.v1.Token.role" not in found, "its type, Role, has words"
    assert "serai.tokens.v1.CreateRequest" not in found, "its method is what has to have words"


def test_each_method_is_in_the_index_and_on_its_page() -> None:
    """With its gRPC path where the server answers it."""
    index = (API / "README.md").read_text("utf-8")
    for file in FILES:
        for service in file.services_by_name.values():
            page = f"{file.package.split('.')[1]}.md"
            text = (API / page).read_text("utf-8")
            for name in service.methods_by_name:
                assert f"[{name}]({page}#{service.name.lower()}{name.lower()})" in index
                assert f"### {service.name}.{name}\n" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """To a file that is there, and to a heading that is in it."""
    for target, anchor in LINK.findall(page.read_text("utf-8")):
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
            known = {re.sub(r"[^a-z0-9 _-]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", one).lower()).replace(" ", "-") for one in headings}
            assert anchor in known, (target, anchor)


@pytest.mark.parametrize("file", sorted(API.iterdir()), ids=lambda file: file.name)
def test_readers_are_not_sent_to_our_sources(file: Path) -> None:
    """Where a rule is known from stands in the protos, for people who have those sheets."""
    text = file.read_text("utf-8")
    assert not re.search(r"§|\bfacts (2021|today|on)\b|Source:", text)


def test_tables_are_whole() -> None:
    """Each row of a table has the cells of its head."""
    for page in PAGES:
        cells = 0
        for line in page.read_text("utf-8").splitlines():
            if not line.startswith("|"):
                cells = 0
                continue
            found = len(re.findall(r"(?<!\\)\|", line))
            assert found == (cells or found), (page.name, line)
            cells = found


def test_the_pages_are_those_that_are_made() -> None:
    """`make check` compares all of docs/api; this says which is behind."""
    made = Pages(FILES, Comments(descriptor_set())).make()
    assert {page.name: page.read_text("utf-8") for page in PAGES} == {name: text.rstrip("\n") + "\n" for name, text in made.items()}


@pytest.mark.parametrize(
    ("comment", "text"),
    [
        (" One\n two.\n", "One two."),
        (" One.\n\n Two.\n", "One.\n\nTwo."),
        (" Its name (facts 2021 §8.6).\n", "Its name."),
        (" What it is. Source: seed, Product.License; facts 2021 §8.4.\n", "What it is."),
        (" What it can. Source: seed (first two examples). null = nothing.\n", "What it can. null = nothing."),
        (" Seeds of grass (green).\n", "Seeds of grass (green)."),
    ],
)
def test_comments_as_people_read_them(comment: str, text: str) -> None:
    """Lines become paragraphs, sources go, the rest stays."""
    assert text_of(comment) == text


def test_the_first_sentence() -> None:
    """Without its full stop; one with a number or a path in it is not cut."""
    assert summary_of("Costs 1.5 units. More.") == "Costs 1.5 units"
    assert summary_of("See docs/errors.md for it.\n\nMore.") == "See docs/errors.md for it"
    assert summary_of("") == ""


def test_a_name_that_nobody_declares() -> None:
    """Is an error, so that a typing mistake does not make an empty page."""
    assert Comments(descriptor_set()).of("serai.jobs.v1.Job")
    with pytest.raises(KeyError):
        Comments(descriptor_set()).of("serai.jobs.v1.Jop")
