"""Fixtures that many tests share."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans and tables; tests that need it are skipped where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real scans (../shared/data) are not here")
    return SHARED_DATA
