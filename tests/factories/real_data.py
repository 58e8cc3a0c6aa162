"""Public data that nobody here wrote, for trying the product on it. It lies outside the repository, if anywhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

_DEFAULT: Final = Path(__file__).resolve().parents[3] / "shared" / "data"
REAL_DATA: Final = Path(os.environ.get("INTRAMUROS_TEST_DATA") or _DEFAULT)
needs_real_data: Final = pytest.mark.skipif(
    not (REAL_DATA / "banking77").is_dir(),
    reason=f"{REAL_DATA} has no public data sets; INTRAMUROS_TEST_DATA may name another folder",
)
