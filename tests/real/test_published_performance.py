"""Published yearly tables: their ratios and benchmarks follow from the helpers of `performance`, misprints listed."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from etf_pipeline.core.calendar import sessions_between
from etf_pipeline.core.performance import annualised, geometric_excess, return_per_risk

HALF = 0.005  # half of the last printed digit
TABLES = ["strategy", "divergence", "style_timed"]

RATIOS = {
    "sharpe": ("return_pct", "vol_pct"),
    "information_ratio": ("excess_pct", "tracking_error_pct"),
}
# Printed ratios that do not follow from the return (excess) and risk printed beside them:
MISPRINTS = {
    # the excess lacks its minus sign: with −1.13 the ratio is −0.24 and the benchmark that of the divergence table
    ("strategy", "2019年", "information_ratio"),
    # the year to 2026-01-30: return and excess are printed as they are, the ratios are of annual ones
    *product(TABLES, ["2026年至今"], RATIOS),
}
# Years all three tables cover in full; 2019 begins in autumn in two of them, and 2026 ends in January in all.
WHOLE_YEARS = ["2020年", "2021年", "2022年", "2023年", "2024年", "2025年"]


@pytest.fixture(scope="module")
def yearly(shared: Path) -> dict[str, pd.DataFrame]:
    names = [*TABLES, "divergence_side"]
    return {name: pd.read_csv(shared / "reference" / f"{name}_yearly.csv").set_index("period") for name in names}


def follows(top: float, bottom: float, ratio: float) -> bool:
    """Whether figures that print as `top` and `bottom` can have a ratio that prints as `ratio`."""
    ends = [float(return_per_risk(top + a, bottom + b)) for a, b in product([-HALF, HALF], repeat=2)]
    return min(ends) - HALF - 1e-9 <= ratio <= max(ends) + HALF + 1e-9


def benchmark_pct(return_pct: float, excess_pct: float) -> float:
    """Benchmark return implied by a return and its geometric excess, in percent."""
    return 100 * float(geometric_excess(return_pct / 100, excess_pct / 100))


def rounding_pct(return_pct: float, excess_pct: float) -> float:
    """How far the implied benchmark can be off because both figures are rounded."""
    ends = [benchmark_pct(return_pct + a, excess_pct + b) for a, b in product([-HALF, HALF], repeat=2)]
    return (max(ends) - min(ends)) / 2


def test_ratios_follow_but_for_the_misprints(yearly: dict[str, pd.DataFrame]) -> None:
    broken, checked = set(), 0
    for table in TABLES:
        for period, row in yearly[table].iterrows():
            for ratio, (top, bottom) in RATIOS.items():
                checked += 1
                if not follows(row[top], row[bottom], row[ratio]):
                    broken.add((table, str(period), ratio))
    assert checked == 2 * (9 + 9 + 11)
    assert broken == MISPRINTS


def test_the_excess_of_2019_lacks_its_sign(yearly: dict[str, pd.DataFrame]) -> None:
    row, other = yearly["strategy"].loc["2019年"], yearly["divergence"].loc["2019年"]
    assert follows(-row["excess_pct"], row["tracking_error_pct"], row["information_ratio"])
    # same autumn, same benchmark: 31.91 % a year with the sign, 28.96 % without
    benchmark = benchmark_pct(other["return_pct"], other["excess_pct"])
    assert benchmark_pct(row["return_pct"], -row["excess_pct"]) == pytest.approx(benchmark, abs=0.02)
    assert benchmark_pct(row["return_pct"], row["excess_pct"]) < benchmark - 2.9


def test_ratios_of_2026_are_of_annual_returns(yearly: dict[str, pd.DataFrame]) -> None:
    sessions = len(sessions_between(pd.Timestamp("2026-01-01").date(), pd.Timestamp("2026-01-30").date()))
    assert sessions == 20
    powers = {}
    for table in TABLES:
        row = yearly[table].loc["2026年至今"]
        # sharpe × volatility is the annual return behind the ratio; what power of the printed return is it?
        behind = row["sharpe"] * row["vol_pct"] / 100
        powers[table] = np.log1p(behind) / np.log1p(row["return_pct"] / 100)
        annual = float(annualised(row["return_pct"] / 100, sessions, 252))
        assert return_per_risk(annual, row["vol_pct"] / 100) != pytest.approx(row["sharpe"], abs=0.05)
    # none of them is 252 / 20 = 12.6, nor do they agree: how they were annualised is not known
    assert {table: round(power, 1) for table, power in powers.items()} == {
        "strategy": 13.8,
        "divergence": 9.7,
        "style_timed": 13.6,
    }


@pytest.mark.parametrize("table", ["divergence", "style_timed", "divergence_side"])
def test_one_benchmark_in_all_tables(yearly: dict[str, pd.DataFrame], table: str) -> None:
    reference = yearly["strategy"]
    sides = {"divergence_side": ["etf_heavier_", "active_heavier_"]}.get(table, [""])
    for year, side in product(WHOLE_YEARS, sides):
        mine, other = reference.loc[year], yearly[table].loc[year]
        pairs = [
            (mine["return_pct"], mine["excess_pct"]),
            (other[f"{side}return_pct"], other[f"{side}excess_pct"]),
        ]
        first, second = (benchmark_pct(*pair) for pair in pairs)
        assert abs(first - second) <= sum(rounding_pct(*pair) for pair in pairs) + 1e-9, (year, side)


@pytest.mark.parametrize("side", ["etf_heavier", "active_heavier"])
def test_one_benchmark_in_the_long_tables(yearly: dict[str, pd.DataFrame], side: str) -> None:
    timed, sides = yearly["style_timed"], yearly["divergence_side"]
    for year in ["2018年", "2019年"]:
        pairs = [
            (timed.loc[year, "return_pct"], timed.loc[year, "excess_pct"]),
            (sides.loc[year, f"{side}_return_pct"], sides.loc[year, f"{side}_excess_pct"]),
        ]
        first, second = (benchmark_pct(*pair) for pair in pairs)
        assert abs(first - second) <= sum(rounding_pct(*pair) for pair in pairs) + 1e-9
    # 2017 begins on different days: 1.5 percentage points apart, so not a whole year in at least one of them
    first, second = (
        benchmark_pct(timed.loc["2017年", "return_pct"], timed.loc["2017年", "excess_pct"]),
        benchmark_pct(sides.loc["2017年", f"{side}_return_pct"], sides.loc["2017年", f"{side}_excess_pct"]),
    )
    assert first - second == pytest.approx(1.48, abs=0.02)


def test_full_history_has_one_benchmark_too(yearly: dict[str, pd.DataFrame]) -> None:
    strategy, divergence = (yearly[table].loc["全时期"] for table in ("strategy", "divergence"))
    first, second = (benchmark_pct(row["return_pct"], row["excess_pct"]) for row in (strategy, divergence))
    assert first == pytest.approx(7.45, abs=0.01)
    assert first == pytest.approx(second, abs=0.02)


@pytest.mark.parametrize("table", TABLES)
def test_full_drawdown_is_at_least_that_of_each_year(yearly: dict[str, pd.DataFrame], table: str) -> None:
    years = yearly[table].drop(index="全时期")
    full = yearly[table].loc["全时期"]
    assert len(years) >= 8
    for drawdown in ("max_drawdown_pct", "relative_max_drawdown_pct"):
        assert (years[drawdown] < 0).all()
        assert full[drawdown] <= years[drawdown].min()
