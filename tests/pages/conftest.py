"""What the tests of pages share: Streamlit looks only once through all installed packages for components of theirs."""

from collections.abc import Iterator
from functools import cache

import pytest
from streamlit.components.v2 import manifest_scanner


@pytest.fixture(autouse=True, scope="package")
def _packages_are_scanned_once() -> Iterator[None]:
    """Every `AppTest` would do so anew when it starts, in half a second, and find the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", cache(manifest_scanner.scan_component_manifests))
        yield
