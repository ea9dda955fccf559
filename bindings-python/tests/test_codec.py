"""Values cross as JSON, strictly, and bytes as they are."""

import json
import math
from collections import OrderedDict, defaultdict

import process_hub as ph
import pytest
from process_hub._native import decode, encode


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        0,
        -1,
        2**53,
        -(2**53),
        1.5,
        -0.0,
        1e300,
        "",
        "text",
        'quotes " and \\ and \n and é and 🐍',
        [],
        {},
        [1, [2, [3]]],
        {"a": {"b": [None, True, 1.0, "x"]}},
        b"",
        b"\x00\xff",
    ],
)
def test_value_encoded_and_decoded_then_equal(value):
    back = decode(encode(value))
    assert back == value
    assert type(back) is type(value)


def test_json_then_readable_by_the_standard_library():
    value = {"a": [1, 2.5, "é\u2028"], "b": None}
    payload = encode(value)
    assert payload.content_type == "application/json"
    assert json.loads(payload.data) == value


def test_bytearray_then_bytes():
    assert decode(encode(bytearray(b"abc"))) == b"abc"


def test_subclasses_that_compare_equal_then_encoded():
    assert decode(encode(OrderedDict(a=1))) == {"a": 1}
    assert decode(encode(defaultdict(int, b=2))) == {"b": 2}
    assert decode(encode(ph.Mode.ACTIVE)) == "active"


class Thing:
    pass


@pytest.mark.parametrize(
    ("value", "path", "why"),
    [
        ((1, 2), "$", "tuple"),
        ({"items": [1, 2, {"price": (1,)}]}, "$.items[2].price", "tuple"),
        ({1: "a"}, "$", "key 1 is not a text"),
        ({"a": {None: 1}}, "$.a", "key None is not a text"),
        ([math.nan], "$[0]", "NaN"),
        ({"x": math.inf}, "$.x", "inf"),
        ([2**53 + 1], "$[0]", "2^53"),
        ([-(2**70)], "$[0]", "2^53"),
        ({"raw": b"x"}, "$.raw", "bytes"),
        ([bytearray()], "$[0]", "bytes"),
        ({"a b": [{1, 2}]}, '$["a b"][0]', "set"),
        (Thing(), "$", "Thing"),
        ("\ud800", "$", "surrogate"),
    ],
)
def test_value_that_would_not_come_back_equal_then_refused_with_its_path(
    value, path, why
):
    with pytest.raises(ph.NotEncodableError) as caught:
        encode(value)
    assert caught.value.message.startswith(f"{path}: ")
    assert why in caught.value.message


def test_value_that_holds_itself_then_refused():
    loop = []
    loop.append(loop)
    with pytest.raises(ph.NotEncodableError, match="nested deeper"):
        encode(loop)


def test_deep_value_then_refused_at_the_depth_that_can_be_read_back():
    def nested(depth):
        value = 1
        for _ in range(depth):
            value = [value]
        return value

    assert decode(encode(nested(127))) == nested(127)
    with pytest.raises(ph.NotEncodableError):
        encode(nested(128))


def test_foreign_content_type_then_handed_over_as_payload():
    payload = decode(ph.Payload(b"x", "application/x-other"))
    assert (payload.data, payload.content_type) == (b"x", "application/x-other")


def test_json_of_a_broken_peer_then_handed_over_as_payload():
    payload = decode(ph.Payload(b'{"a":', "application/json"))
    assert payload.data == b'{"a":'
