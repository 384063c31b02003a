import numpy as np
import polars as pl
import pytest

from vrp.tables.arrays import as_array, as_matrices


def test_lists_of_one_shape_become_an_array():
    rows = pl.Series("x", [[1.0, 2.0], [3.0, float("nan")]], pl.List(pl.Float32))
    found = as_array(rows)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([[1, 2], [3, np.nan]], np.float32))
    cube = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    nested = pl.Series("x", cube.tolist(), pl.List(pl.List(pl.Float32)))
    np.testing.assert_array_equal(as_array(nested), cube)


@pytest.mark.parametrize("rows", [[[1.0], [1.0, 2.0]], [[[1.0], [1.0, 2.0]], [[1.0], [1.0]]]])
def test_rows_of_other_shapes_are_refused(rows):
    with pytest.raises(ValueError, match="differ in shape"):
        as_array(pl.Series("x", rows))


def test_matrices_may_differ_from_row_to_row():
    matrices = [np.arange(6.0).reshape(2, 3), np.arange(4.0).reshape(2, 2), np.zeros((0, 0))]
    rows = pl.Series("x", [m.tolist() for m in matrices], pl.List(pl.List(pl.Float64)))
    found = list(as_matrices(rows))
    assert [m.shape for m in found] == [(2, 3), (2, 2), (0, 0)]
    for ours, given in zip(found, matrices, strict=True):
        np.testing.assert_array_equal(ours, given)


def test_a_ragged_matrix_is_refused():
    rows = pl.Series("x", [[[1.0, 2.0, 3.0], [4.0]]], pl.List(pl.List(pl.Float64)))
    with pytest.raises(ValueError, match="a row's lists differ in length"):
        list(as_matrices(rows))
