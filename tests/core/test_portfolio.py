import numpy as np
import pandas as pd
import pytest

from etf_pipeline.core.portfolio import period_excess, top_weights

RETURNS = pd.Series({"a": 0.04, "b": 0.02, "c": -0.03, "d": 0.01})


def test_excess_by_hand() -> None:
    assert period_excess(RETURNS, ["a", "b"]) == pytest.approx(0.03 - 0.01)
    assert period_excess(RETURNS, list(RETURNS.index)) == pytest.approx(0)


def test_missing_returns() -> None:
    holed = RETURNS.where(RETURNS.index != "c")
    assert np.isnan(period_excess(holed, ["a", "c"]))
    assert period_excess(holed, ["a"]) == pytest.approx(0.04 - 0.07 / 3)


@pytest.mark.parametrize("held", [[], ["a", "a"], ["a", "x"]])
def test_refusals(held: list[str]) -> None:
    with pytest.raises(ValueError, match="held industries"):
        period_excess(RETURNS, held)


def scores_of(rows: list[list[float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, pd.date_range("2024-01-05", periods=len(rows), freq="14D"), list("abcde"))


def test_the_highest_composites_are_held_equally() -> None:
    scores = {
        "flow": scores_of([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [1, 1, 1, 1, np.nan]]),
        "level": scores_of([[0, 0, 0, 0, 0], [-9, 0, 0, 0, 9], [2, 2, 1, 1, 1]]),
    }
    weights = top_weights(scores, ["flow", "level"], [1, 2], 0.2)
    assert weights[2].values.tolist() == [[0, 0, 0, 0.5, 0.5], [0, 0.5, 0, 0, 0.5], [0.5, 0.5, 0, 0, 0]]
    assert weights[1].values.tolist() == [[0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [1, 0, 0, 0, 0]]
    # one factor alone ranks differently
    assert top_weights(scores, ["flow"], [2], 0.2)[2].iloc[1].tolist() == [0.5, 0.5, 0, 0, 0]


def test_a_withheld_date_holds_nothing() -> None:
    scores = {"flow": scores_of([[1, 2, 3, np.nan, np.nan], [1, 2, 3, 4, np.nan]])}
    weights = top_weights(scores, ["flow"], [2], 0.2)[2]
    assert weights.values.tolist() == [[0, 0, 0, 0, 0], [0, 0, 0.5, 0.5, 0]]
