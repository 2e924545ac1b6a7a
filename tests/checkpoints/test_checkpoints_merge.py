import jax
import numpy as np
import pytest

from rmtjax import checkpoints
from rmtjax.errors import InputError


def tree(**shapes):
    return {name: {"kernel": np.full(shape, i, np.float32)} for i, (name, shape) in enumerate(shapes.items())}


def test_values_come_from_the_file_and_the_structure_from_the_model():
    fresh = tree(encoder=(2, 3), head=(3, 4))
    loaded = jax.tree.map(lambda x: x + 10, fresh)
    merged = checkpoints.merge(fresh, loaded)
    assert merged["encoder"]["kernel"] is loaded["encoder"]["kernel"]
    assert merged["head"]["kernel"] is loaded["head"]["kernel"]
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), fresh)
    assert jax.tree.structure(checkpoints.merge(abstract, loaded)) == jax.tree.structure(fresh)


def test_reinit_keeps_fresh_values_only_where_the_file_does_not_fit():
    fresh = tree(encoder=(2, 3), head=(3, 4), norm=(3,))
    loaded = tree(encoder=(2, 3), head=(3, 7), old=(5,), norm=(3,))
    loaded["norm"]["kernel"] += 5
    merged = checkpoints.merge(fresh, loaded, r"(head|old|norm)/.*")
    assert merged["head"]["kernel"] is fresh["head"]["kernel"]  # another shape
    assert merged["norm"]["kernel"] is loaded["norm"]["kernel"]  # fits, so it is loaded
    assert sorted(merged) == ["encoder", "head", "norm"]  # "old" is left out


def test_a_missing_head_keeps_its_fresh_values():
    fresh = tree(encoder=(2, 3), head=(3, 4))
    merged = checkpoints.merge(fresh, tree(encoder=(2, 3)), "head/kernel")
    assert merged["head"]["kernel"] is fresh["head"]["kernel"]


def test_a_mismatch_lists_both_sides():
    fresh = tree(encoder=(2, 3), head=(3, 4), embed=(1, 8))
    loaded = tree(encoder=(2, 5), head=(3, 4), embedding=(1, 8), bias=(4,))
    with pytest.raises(InputError) as caught:
        checkpoints.merge(fresh, loaded, "head/.*")
    assert str(caught.value) == (
        "the weights do not fit the model: missing in the file: embed/kernel; "
        "extra in the file: bias/kernel, embedding/kernel; "
        "different: encoder/kernel: (2, 3) in the model, (2, 5) in the file; "
        "model.reinit='head/.*' allows none of these"
    )


def test_the_regex_must_match_the_whole_name():
    fresh, loaded = tree(head=(3, 4)), tree(head=(3, 7))
    with pytest.raises(InputError, match="head/kernel"):
        checkpoints.merge(fresh, loaded, "head")
    with pytest.raises(InputError, match="head/kernel"):
        checkpoints.merge(fresh, loaded)


def test_a_broken_regex_is_named():
    with pytest.raises(InputError, match=r"reinit='head/\(' is not a regular expression: missing \)"):
        checkpoints.merge({}, {}, "head/(")
