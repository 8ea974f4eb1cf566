import pytest

from cnn_jax.errors import InputError, unknown


def test_the_nearest_known_name_is_suggested_and_all_are_listed():
    error = unknown("config", "lenet_digts", ["vgg_cifar", "lenet_digits"])
    assert isinstance(error, InputError)
    expected = "unknown config 'lenet_digts'; did you mean 'lenet_digits'? "
    assert str(error) == expected + "Known: lenet_digits, vgg_cifar"


def test_many_names_are_listed_only_where_none_is_near():
    known = [f"field_{i}" for i in range(60)]
    assert str(unknown("field", "feld_7", known)).endswith("did you mean 'field_7'?")
    assert "Known: field_0, field_1, field_10" in str(unknown("field", "xyz", known))


@pytest.mark.parametrize("name", ["zzz", ""])
def test_nothing_is_suggested_where_nothing_is_near(name):
    text = str(unknown("thing", name, ["cosine", "step"]))
    assert text == f"unknown thing '{name}'. Known: cosine, step"
