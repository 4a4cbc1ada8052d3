import numpy as np
import pandas as pd
import pytest

from etf_pipeline.core.portfolio import period_excess

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
