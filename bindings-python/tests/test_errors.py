"""Every kind of the core's table has its class."""

import pickle
import re

import process_hub as ph
import pytest
from process_hub import errors
from process_hub._error_table import ERRORS
from process_hub._native import error_table


def test_committed_table_then_equal_to_the_core():
    assert list(ERRORS) == error_table()


@pytest.mark.parametrize(("kind", "code", "_meaning"), ERRORS)
def test_kind_then_its_class_with_its_number(kind, code, _meaning):
    error = errors.from_native(kind, "call", "what happened", "c1", "n1", True)
    assert type(error) is not ph.HubError
    assert isinstance(error, ph.HubError)
    assert (error.kind, error.code) == (kind, code)
    assert (error.operation, error.message) == ("call", "what happened")
    assert (error.child_id, error.node) == ("c1", "n1")
    assert error.maybe_executed is True
    words = [word for word in re.findall("[A-Z][a-z]+", type(error).__name__)]
    name = "_".join(words).lower().removesuffix("_error").removeprefix("hub_")
    assert name == kind.removeprefix("hub_")
    assert getattr(ph, type(error).__name__) is type(error)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        ("timeout", TimeoutError),
        ("host_timeout", TimeoutError),
        ("handover_timeout", TimeoutError),
        ("not_found", LookupError),
        ("unknown_kind", LookupError),
        ("invalid_argument", ValueError),
        ("invalid_config", ValueError),
        ("not_encodable", ValueError),
        ("unreachable", ConnectionError),
        ("closed", RuntimeError),
    ],
)
def test_kind_then_also_the_natural_builtin(kind, builtin):
    with pytest.raises(builtin):
        raise errors.from_native(kind, "op", "message")


def test_kind_of_a_newer_core_then_plain_hub_error():
    assert type(errors.from_native("brand_new", "op", "message")) is ph.HubError


def test_pickled_then_equal_facts():
    error = errors.from_native("timeout", "call", "m", "c", "n", True, "trace")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is ph.HubTimeoutError
    assert vars(back) == vars(error)


def test_trace_of_host_code_then_the_cause():
    error = errors.from_native("child_failed", "call", "m", trace="Traceback ...")
    assert "Traceback ..." in str(error.__cause__)
