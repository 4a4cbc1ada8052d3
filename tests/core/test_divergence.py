import numpy as np
import pandas as pd
import pytest

from etf_pipeline.core.divergence import divergence, last_complete_month, new_issue_heat


def issues(rows: dict[str, tuple[float, float]]) -> pd.DataFrame:
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=["etf_issue", "active_issue"])
    return frame.set_axis(pd.PeriodIndex(frame.index, freq="M"))


def test_divergence_is_a_difference_of_shares() -> None:
    day = pd.DatetimeIndex(["2026-01-16"])
    etf = pd.DataFrame([[0.3, 0.2, 0.5]], index=day, columns=["a", "b", "c"])
    active = pd.DataFrame([[0.1, np.nan, 0.6]], index=day, columns=["a", "b", "c"])
    np.testing.assert_allclose(divergence(etf, active), [[0.2, np.nan, -0.1]])


def test_heat_by_hand() -> None:
    heat = new_issue_heat(issues({"2025-11": (100, 50), "2025-12": (150, 60), "2026-01": (75, 60)}))
    np.testing.assert_allclose(heat["etf_change"], [np.nan, 0.5, -0.5])
    np.testing.assert_allclose(heat["active_change"], [np.nan, 0.2, 0.0])
    np.testing.assert_allclose(heat["heat"], [np.nan, 0.3, -0.5])
    assert heat["signal"].tolist() == [pd.NA, 1, 0]


def test_heat_never_spans_a_missing_month() -> None:
    heat = new_issue_heat(issues({"2025-09": (1, 1), "2025-10": (2, 1), "2025-12": (3, 1), "2026-01": (6, 1)}))
    assert heat.index.astype(str).tolist() == ["2025-09", "2025-10", "2025-11", "2025-12", "2026-01"]
    assert heat["signal"].tolist() == [pd.NA, 1, pd.NA, pd.NA, 1]


def test_heat_after_a_month_without_issues() -> None:
    heat = new_issue_heat(issues({"2025-10": (4, 2), "2025-11": (0, 2), "2025-12": (5, 2)}))
    assert heat["signal"].tolist() == [pd.NA, 0, pd.NA]
    assert heat["heat"].iloc[1] == -1


def test_heat_takes_dates_in_any_order() -> None:
    monthly = issues({"2025-11": (100, 50), "2025-12": (150, 60)})
    by_date = monthly.set_axis(pd.DatetimeIndex(["2025-11-28", "2025-12-31"])).iloc[::-1]
    pd.testing.assert_frame_equal(new_issue_heat(by_date), new_issue_heat(monthly))
    assert new_issue_heat(issues({})).empty


def test_heat_refusals() -> None:
    with pytest.raises(ValueError, match=r"two rows of one month: .*2025-11"):
        new_issue_heat(issues({"2025-11": (1, 1)}).iloc[[0, 0]])
    with pytest.raises(ValueError, match="negative"):
        new_issue_heat(issues({"2025-11": (1, -1)}))


def test_month_is_complete_on_its_last_session() -> None:
    sessions = pd.bdate_range("2025-11-03", "2026-02-27")  # 2026-01-31 is a Saturday
    dates = pd.DatetimeIndex(["2026-01-30", "2026-01-16", "2025-12-31", "2026-01-29", "2026-01-31", "2025-12-19"])
    months = last_complete_month(dates, sessions)
    assert months.astype(str).tolist() == ["2026-01", "2025-12", "2025-12", "2025-12", "2026-01", "2025-11"]


def test_unknown_future_is_refused() -> None:
    sessions = pd.bdate_range("2026-01-01", "2026-01-30")
    with pytest.raises(ValueError, match="beyond the last signal date 2026-01-30"):
        last_complete_month(pd.DatetimeIndex(["2026-01-30"]), sessions)
