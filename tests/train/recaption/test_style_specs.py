import pytest
from textlens.errors import InputError
from textlens.train.recaption.style_specs import style_encoders


@pytest.mark.parametrize(("encoders", "styles", "expected"), [
    (["coca"], [], {"coca": "coca"}),
    (["coca:runs/a=b"], [], {"coca_runs_a_b": "coca:runs/a=b"}),
    (["coca"], ["short"], {"short": "coca"}),
    (["short=coca", "long=hf:x/y"], [], {"short": "coca", "long": "hf:x/y"}),
    (["short=coca", "long=decap"], ["long", "short"], {"long": "decap", "short": "coca"}),
    (["coca:runs/{style}/model"], ["a", "b"], {"a": "coca:runs/a/model", "b": "coca:runs/b/model"}),
])  # fmt: skip
def test_styles_and_their_encoders(encoders, styles, expected):
    found = style_encoders(encoders, styles)
    assert found == expected
    assert list(found) == list(expected)


@pytest.mark.parametrize(("encoders", "styles", "message"), [
    ([], [], "no encoder was given"),
    (["coca"], ["a", "b"], "would write the same caption"),
    (["coca", "decap"], [], "2 encoders without a style"),
    (["a=coca", "decap"], [], "some encoders have a style and some have none"),
    (["a=coca", "a=decap"], [], "a style has two encoders"),
    (["a=coca"], ["b"], "expected the same"),
    (["a=coca"], ["a", "a"], "expected each style once"),
    (["coca:{style}"], [], "name the styles"),
    (["key=coca"], [], "cannot name a column"),
    (["keep_a=coca"], [], "cannot name a column"),
    (["coca"], ["a b"], "cannot name a column"),
    (["a="], [], "has no encoder"),
])  # fmt: skip
def test_what_does_not_fit_is_an_error(encoders, styles, message):
    with pytest.raises(InputError, match=message):
        style_encoders(encoders, styles)
