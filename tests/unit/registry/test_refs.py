from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.kernel.errors import BadInput
from appliance.registry.refs import Ref, check_name, parse_ref

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)


@given(NAMES, st.integers(0, 999_999_999))
def test_a_reference_is_read_back_as_it_was_written(name: str, version: int) -> None:
    ref = Ref(name=name, version=version)
    assert parse_ref(str(ref), what="model") == ref


def test_a_run_is_named_by_its_job_in_any_case() -> None:
    assert parse_ref("run:01abc", what="model") == Ref(run="01ABC")
    assert str(parse_ref("run:01abc", what="model")) == "run:01ABC"


@pytest.mark.parametrize(
    "text",
    ["", "run:", "run: ", "a@", "a@0", "a@-1", "a@01", "a@²", "a@٣", "a@1.0", "a@1@2", "a@" + "9" * 30, "a@ 1", "@1"],
)
def test_anything_else_is_refused_in_words(text: str) -> None:
    with pytest.raises(BadInput):
        parse_ref(text, what="model")


@pytest.mark.parametrize("name", ["", "A", "-a", ".a", "a b", "a/b", "a\n", "ä", "a" * 64, "../etc"])
def test_names_are_safe_in_paths_and_addresses(name: str) -> None:
    with pytest.raises(BadInput, match="model"):
        check_name(name, what="model")
