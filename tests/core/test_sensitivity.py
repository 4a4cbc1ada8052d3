import numpy as np
import pandas as pd
import pytest

from etf_pipeline.core.backtest import lay_periods
from etf_pipeline.core.sensitivity import Cell, cell_results, construction_cells

DEFAULT = Cell(("flow", "level"), "share_change", "auto", 2)
MEASURES = (["share_change", "net_subscription"], ["auto", "share"])


def market(seed: int) -> tuple[pd.DataFrame, pd.DatetimeIndex]:
    """Closes of 200 sessions × 5 industries and every tenth session as signal date."""
    rng = np.random.default_rng(seed)
    sessions = pd.bdate_range("2023-01-02", periods=200)
    closes = pd.DataFrame(100 * np.exp(rng.normal(0, 0.01, (200, 5)).cumsum(axis=0)), sessions, list("abcde"))
    return closes, sessions[4::10]


def random_scores(seed: int, dates: pd.DatetimeIndex) -> dict[str, pd.DataFrame]:
    rng = np.random.default_rng(seed)
    return {f: pd.DataFrame(rng.normal(size=(len(dates), 5)), dates, list("abcde")) for f in ("flow", "level")}


def test_a_measure_is_varied_only_where_it_matters() -> None:
    cells = construction_cells(["flow", "level", "change"], *MEASURES, [2, 3], DEFAULT)
    assert len(cells) == len(set(cells))
    # per number held: flow 2, level 2, change 1, flow+level 4, flow+change 2, level+change 2, all 4
    assert len(cells) == 2 * (2 + 2 + 1 + 4 + 2 + 2 + 4)
    assert {(c.flow_measure, c.level_measure) for c in cells if c.factors == ("change",)} == {("share_change", "auto")}
    assert DEFAULT in cells


def test_against_a_walk_through_the_days() -> None:
    closes, dates = market(0)
    scores = random_scores(1, dates)
    # nothing to hold on the second date
    scores["flow"].iloc[1, :2] = np.nan
    [result] = cell_results(lay_periods(closes, dates, 0), [DEFAULT], {("share_change", "auto"): scores}, 0.2, 252)

    mean = (scores["flow"] + scores["level"]) / 2
    value, against, values, benchmark, excess = 1.0, 1.0, [1.0], [1.0], []
    ends = [*dates[1:], closes.index[-1]]
    for position, (start, end) in enumerate(zip(dates, ends, strict=True)):
        held = [] if position == 1 else list(mean.loc[start].nlargest(2).index)
        bought, all_bought = value, against
        for day in closes.index[(closes.index > start) & (closes.index <= end)]:
            growth = closes.loc[day] / closes.loc[start]
            value = bought * growth[held].mean() if held else bought
            against = all_bought * growth.mean()
            values.append(value)
            benchmark.append(against)
        if held:
            excess.append(value / bought - against / all_bought)
    years = (len(values) - 1) / 252
    annual, annual_benchmark = value ** (1 / years) - 1, against ** (1 / years) - 1
    daily = np.diff(values) / values[:-1] - np.diff(benchmark) / benchmark[:-1]
    relative = np.array(values) / benchmark

    assert result["periods"] == len(dates) - 1
    assert result["annual_return"] == pytest.approx(annual, abs=1e-12)
    assert result["excess_return"] == pytest.approx((1 + annual) / (1 + annual_benchmark) - 1, abs=1e-12)
    assert result["tracking_error"] == pytest.approx(daily.std(ddof=1) * np.sqrt(252), abs=1e-12)
    assert result["information_ratio"] == pytest.approx(result["excess_return"] / result["tracking_error"], abs=1e-12)
    assert result["relative_max_drawdown"] == pytest.approx(
        (relative / np.maximum.accumulate(relative) - 1).min(), abs=1e-12
    )
    assert result["sharpe_of_excess"] == pytest.approx(np.mean(excess) / np.std(excess, ddof=1), abs=1e-12)


def test_a_cell_that_never_holds_anything_has_no_statistics() -> None:
    closes, dates = market(2)
    scores = random_scores(3, dates)
    scores["level"][:] = np.nan
    [result] = cell_results(lay_periods(closes, dates, 0), [DEFAULT], {("share_change", "auto"): scores}, 0.2, 252)
    assert result.pop("periods") == 0
    assert len(result) == 6
    assert np.isnan(list(result.values())).all()


def test_results_come_in_the_order_of_the_cells() -> None:
    closes, dates = market(4)
    scores = {(f, m): random_scores(n, dates) for n, (f, m) in enumerate([("x", "m"), ("y", "m")])}
    cells = [Cell(("flow",), f, "m", n) for n in (3, 1, 2) for f in ("y", "x")]
    periods = lay_periods(closes, dates, 0)
    together = cell_results(periods, cells, scores, 0.2, 252)
    alone = [cell_results(periods, [cell], scores, 0.2, 252)[0] for cell in cells]
    for one, other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, rel=1e-12)
    assert len({result["annual_return"] for result in together}) == len(cells)
