from __future__ import annotations

from pathlib import Path

import pytest

from appliance.kernel.errors import BadInput, NotFound
from appliance.kernel.text_file import read_text


def test_text_is_read_without_the_mark_that_some_editors_put_first(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: \xc3\xa9\n")
    assert read_text(file) == "a: é\n"


def test_missing_file_and_folder_are_not_found(tmp_path: Path) -> None:
    for there in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(NotFound, match="There is no file") as refused:
            read_text(there)
        assert refused.value.code == "yaml.not_found"


@pytest.mark.parametrize(
    ("data", "named"), [(b"a: 1\nb: \xff\n", "a.yaml, line 2: byte 8"), (b"#" * ((1 << 20) + 1), "larger than 1 MiB")]
)
def test_what_nobody_wrote_is_refused(tmp_path: Path, data: bytes, named: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(data)
    with pytest.raises(BadInput, match=named) as refused:
        read_text(file)
    assert refused.value.code == "yaml.invalid"
