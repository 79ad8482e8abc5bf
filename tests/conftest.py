"""Which tests stay together where several processes run them (`pytest -n 2 --dist loadgroup`)."""

import pytest


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those of a file, which share its fixtures, and those of the one vLLM server."""
    for item in items:
        served = "vllm_address" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("vllm" if served else str(item.path)))
