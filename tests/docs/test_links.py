"""Links between documents lead somewhere, and the README stays short."""

import re

import pytest

from tests.conftest import ROOT

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs").glob("*/README.md")),
]
LOG = sorted((ROOT / "docs" / "log").glob("*.md"))  # as it was; only its links are kept
ROOMS = "utils|preprocessing|models|training|original_implementation|prediction|benchmarks|configs"


@pytest.mark.parametrize("document", [*DOCUMENTS, *LOG], ids=lambda path: path.name)
def test_relative_links_lead_to_files(document):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert not missing


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 130


def test_the_page_on_few_labels_is_an_answer():
    text = (ROOT / "docs" / "few_labels.md").read_text(encoding="utf-8")
    assert (
        len(text.split()) <= 900
        and text.count("![") == 1
        and len(re.findall(r"^\|---", text, re.M)) == 1
    )


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_a_page_begins_with_what_its_reader_gets(page):
    _, _, first, *_ = page.read_text(encoding="utf-8").splitlines()
    assert first.startswith("You get: ")


@pytest.mark.parametrize("name", ["requirements.txt", *(d.name for d in DOCUMENTS[:2])])
def test_files_that_are_named_exist(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(rf"\b(?:docs|tests|{ROOMS})/[\w/]+\.(?:py|md|yaml|mseed)", text))
    assert not [path for path in sorted(named) if not (ROOT / path).is_file()]


def test_sections_that_requirements_name_exist():
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    sections = re.findall(r'see "([^"]+)" in README.md', text)
    assert sections and all(f"\n## {section}\n" in readme for section in sections)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_tests_that_a_document_names_exist(document):
    named = set(re.findall(r"tests/[\w/]+\.py", document.read_text(encoding="utf-8")))
    assert not [path for path in sorted(named) if not (ROOT / path).is_file()]
