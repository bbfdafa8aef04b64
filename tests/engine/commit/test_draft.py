"""The draft is read as it was written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gen_engine.engine.base.digests import seal, unseal
from gen_engine.engine.commit.draft import Draft
from gen_engine.engine.commit.records import FileRecord

DIGESTS = st.integers(0, 2**256 - 1).map("{:064x}".format)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NAMES = st.text(st.characters(codec="ascii", categories=["L"]), min_size=1)
DRAFTS = st.builds(
    Draft,
    plan=DIGESTS,
    card=TEXT,
    preview=st.builds(FileRecord, st.just("preview.png"), st.integers(0, 2**40), DIGESTS, st.none()),
    index=st.none() | st.dictionaries(NAMES, st.none() | st.integers(0, 9) | TEXT | st.lists(TEXT), max_size=4),
)


@given(DRAFTS)
def test_a_draft_is_read_as_it_was_written(draft: Draft) -> None:
    document = unseal(seal(draft.to_json()))
    del document["digest"]
    assert Draft.from_json(document, "here") == draft
    assert Draft.from_json(document, "here").to_json() == draft.to_json()
