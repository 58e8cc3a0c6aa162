from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.long_runs import LONGEST_RUN, cut_runs

MARK = "<|end|>"


def test_ordinary_texts_stay_whole() -> None:
    assert cut_runs("", []) == [""]
    prose = "words and spaces\n" * 10_000
    assert cut_runs(prose, [MARK]) == [prose]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "é", "-", " ", "\n", MARK, "b c"]), st.integers(1, 3 * LONGEST_RUN)),
        min_size=1,
        max_size=4,
    )
)
def test_parts_join_hold_no_long_run_and_cut_no_mark(runs: list[tuple[str, int]]) -> None:
    text = "".join(piece * count for piece, count in runs)
    found = cut_runs(text, [MARK, "never here"])
    assert "".join(found) == text
    assert sum(part.count(MARK) for part in found) == text.count(MARK)
    longest = max(len(run) for part in found for run in re.findall(r"\S+|\s+", part))
    assert longest < LONGEST_RUN + len(MARK)
