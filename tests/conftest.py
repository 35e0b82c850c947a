"""Options of the whole suite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.detection import is_hypothesis_test

if TYPE_CHECKING:
    from xdist.scheduler import LoadFileScheduling

# The same examples in every run, so that a change is judged by what it changes. `--hypothesis-profile=explore`
# looks for new ones, which is how a law finds its next exception. How long an example takes is the machine's affair.
# Fewer than usual: repeated examples find nothing new, and all tests have five minutes.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=25)
settings.register_profile("explore", derandomize=False, deadline=None)
settings.load_profile("repeatable")
# Hypothesis also tries the constants of every module that happens to be loaded: with them the examples would depend on
# which test files ran before in the same process.
providers._get_local_constants = providers.Constants

_MOST_EXAMPLES = 50


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """How many examples a law names is for those who look for new ones; of the same ones fewer are as good."""
    if settings.get_current_profile_name() != "repeatable":
        return
    for item in items:
        test = getattr(item, "obj", None)
        test = getattr(test, "__func__", test)
        if is_hypothesis_test(test):
            asked = getattr(test, "_hypothesis_internal_use_settings", None)  # a state machine has its own
            if asked is not None and asked.max_examples > _MOST_EXAMPLES:
                test._hypothesis_internal_use_settings = settings(asked, max_examples=_MOST_EXAMPLES)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kong-bin", help="run the end-to-end tests on this Kong, not on the embedded host")
    parser.addoption("--gateway-url", help="run them on a gateway that runs, with tests/e2e/tenants.yaml")
    parser.addoption("--mock-url", help="its mock provider; tests that look there are skipped without it")
    parser.addoption("--redis-url", help="its Redis; tests that look there are skipped without it")


_OWN_GATEWAY = (
    "test_attached",
    "test_demo",
    "test_lua_plugins",
    "test_mcp_conformance",
    "test_postgres",
    "test_redis_cluster",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    """A file is one process's, and all files that share the end-to-end gateway are: it takes long to start."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::", 1)[0]
            folder, _, name = file.rpartition("/")
            return folder if folder == "tests/e2e" and not name.startswith(_OWN_GATEWAY) else file

    return Scheduling(config, log)
