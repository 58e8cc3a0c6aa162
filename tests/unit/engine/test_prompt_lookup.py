from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.prompt_lookup import NGRAM, Lookup


def test_the_latest_continuation_is_guessed() -> None:
    lookup = Lookup()
    text = [1, 2, 3, 4, 5, 9, 1, 2, 3, 6, 7, 8, 1, 2, 3]
    assert lookup.draft(text, 2) == [6, 7]
    assert lookup.draft([*text, 6, 7], 3) == [8, 1, 2]
    assert lookup.draft([*text, 50], 3) == []


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), min_size=NGRAM, max_size=60), st.integers(0, 7), st.integers(NGRAM, 60))
def test_a_guess_is_what_followed_the_last_tokens_before(tokens: list[int], most: int, first: int) -> None:
    lookup = Lookup()
    lookup.draft(tokens[:first], most)
    draft = lookup.draft(tokens, most)
    assert len(draft) <= most
    if draft:
        places = [at for at in range(NGRAM, len(tokens)) if tokens[at - NGRAM : at] == tokens[-NGRAM:]]
        assert draft == tokens[places[-1] :][:most]
