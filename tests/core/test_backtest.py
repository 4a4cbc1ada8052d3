from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etf_pipeline.core.backtest import (
    BackTest,
    Periods,
    back_test,
    daily_values,
    equal_weights,
    lay_periods,
    period_values,
)
from etf_pipeline.core.portfolio import period_excess

NAN = np.nan
DAYS = pd.bdate_range("2026-01-05", periods=8, unit="us")


@dataclass
class Case:
    closes: pd.DataFrame
    signals: pd.DatetimeIndex
    weights: pd.DataFrame
    lag: int
    cost_ratio: float

    def periods(self) -> Periods:
        return lay_periods(self.closes, self.signals, self.lag)

    def run(self) -> BackTest:
        return back_test(self.periods(), self.weights, self.cost_ratio)


@st.composite
def cases(draw: st.DrawFn, cash: bool = True, only_priced: bool = False) -> Case:
    """Random closes with holes and late starts, signals, and weights with cash rows, absent rows and NaN."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    sessions, industries = draw(st.integers(1, 30)), draw(st.integers(1, 5))
    days = pd.bdate_range("2025-03-03", periods=sessions, unit="us")
    codes = [f"CI005{i + 1:03d}" for i in range(industries)]
    values = 100 * np.exp(np.cumsum(rng.normal(0, 0.05, (sessions, industries)), axis=0))
    values[rng.random(values.shape) < draw(st.sampled_from([0.0, 0.3]))] = NAN
    if draw(st.booleans()):
        values[: rng.integers(0, sessions + 1), rng.integers(industries)] = NAN
    lag = draw(st.integers(0, 1))
    signals = days[np.sort(rng.permutation(sessions)[: draw(st.integers(1, 6))])]
    closes = pd.DataFrame(values, index=days, columns=codes)
    known = closes.ffill().shift(-lag).ffill().reindex(signals).notna().to_numpy()

    weights = np.zeros((len(signals), industries))
    for row, priced in zip(weights, known, strict=True):
        choice = np.flatnonzero(priced) if only_priced else np.arange(industries)
        chosen = rng.permutation(choice)[: rng.integers(1, industries + 1)]
        if len(chosen) and not (cash and rng.random() < 0.2):
            row[chosen] = rng.dirichlet(np.ones(len(chosen)))
    frame = pd.DataFrame(weights, index=signals, columns=codes)
    if draw(st.booleans()):
        frame = frame.where(frame > 0)
    if cash:
        frame = frame[rng.random(len(signals)) < 0.9]
    return Case(closes, signals, frame, lag, draw(st.sampled_from([0.0, 0.0005, 0.02])))


@dataclass
class Trade:
    bought_at: pd.Timestamp
    traded: float
    value_before: float
    value_at_end: float = NAN
    end_weights: dict[str, float] = field(default_factory=dict)

    def close_day(self, value: float, shares: dict[str, float], price: dict[str, float]) -> None:
        self.value_at_end = value
        self.end_weights = {code: count * price[code] / value for code, count in shares.items()}


def by_trading(case: Case) -> tuple[dict[pd.Timestamp, float], list[Trade]]:
    """Independent answer: shares and cash, day by day, one industry after the other."""
    days, codes = list(case.closes.index), list(case.closes.columns)
    purchases: dict[int, pd.Timestamp] = {}
    for signal in case.signals:
        if days.index(signal) + case.lag < len(days):
            purchases[days.index(signal) + case.lag] = signal
    price = dict.fromkeys(codes, NAN)
    shares: dict[str, float] = {}
    cash, navs, trades = 1.0, {}, []
    for number, day in enumerate(days):
        for code in codes:
            if case.closes.loc[day, code] > 0:
                price[code] = case.closes.loc[day, code]
        value = cash + sum(count * price[code] for code, count in shares.items())
        if trades or number in purchases:
            navs[day] = value
        if trades:
            trades[-1].close_day(value, shares, price)
        if number in purchases:
            signal = purchases[number]
            wanted = {}
            if signal in case.weights.index:
                wanted = {code: w for code, w in case.weights.loc[signal].items() if w > 0}
            traded = 0.0
            for code in codes:
                old = shares[code] * price[code] if code in shares else 0.0
                traded += abs(wanted.get(code, 0.0) * value - old)
            trades.append(Trade(day, traded / value, value))
            value -= traded * case.cost_ratio
            shares = {code: w * value / price[code] for code, w in wanted.items()}
            cash = 0.0 if wanted else value
            trades[-1].close_day(cash + sum(count * price[code] for code, count in shares.items()), shares, price)
    return navs, trades


@settings(deadline=None, max_examples=100)
@given(cases())
def test_agrees_with_trading_shares(case: Case) -> None:
    result = case.run()
    navs, trades = by_trading(case)
    assert result.daily.index.tolist() == list(navs)
    np.testing.assert_allclose(result.daily["nav_after_costs"], list(navs.values()), rtol=1e-10)
    assert result.periods["bought_at"].tolist() == [trade.bought_at for trade in trades]
    for signal, trade in zip(result.periods.index, trades, strict=True):
        # an unknown value once is one for good in shares; what is traded is known again two purchases later
        if np.isfinite(trade.value_before):
            row = result.periods.loc[signal]
            np.testing.assert_allclose(row["turnover"], trade.traded / 2, rtol=1e-10, atol=1e-12)
            np.testing.assert_allclose(row["cost"], trade.traded * case.cost_ratio, rtol=1e-10, atol=1e-12)

    free = Case(case.closes, case.signals, case.weights, case.lag, 0.0)
    navs, trades = by_trading(free)
    np.testing.assert_allclose(result.daily["nav"], list(navs.values()), rtol=1e-10)
    assert len(result.industries) == sum(len(trade.end_weights) for trade in trades)
    for signal, trade in zip(result.periods.index, trades, strict=True):
        row = result.periods.loc[signal]
        assert row["industries_held"] == len(trade.end_weights)
        if np.isfinite(trade.value_before):
            expected = trade.value_at_end / trade.value_before - 1
            np.testing.assert_allclose(row["period_return"], expected, rtol=1e-10, atol=1e-12)
            for code, weight in trade.end_weights.items():
                np.testing.assert_allclose(result.industries.loc[(signal, code), "end_weight"], weight, rtol=1e-10)


@settings(deadline=None, max_examples=40)
@given(cases(only_priced=True))
def test_parts_add_up(case: Case) -> None:
    result = case.run()
    assert result.daily.notna().all(axis=None)
    periods = result.periods
    held = periods.index[periods["industries_held"] > 0]
    totals = result.industries.groupby(level="signal_date")[["weight", "end_weight"]].sum()
    assert totals.index.equals(held)
    np.testing.assert_allclose(totals, 1, rtol=1e-12)
    contribution = (result.industries["weight"] * result.industries["period_return"]).groupby(level="signal_date").sum()
    np.testing.assert_allclose(contribution, periods.loc[held, "period_return"], rtol=1e-10, atol=1e-14)
    after = (1 - periods["cost"]) * (1 + periods["period_return"]) - 1
    np.testing.assert_allclose(periods["period_return_after_costs"], after, rtol=1e-12, atol=1e-15)
    # compounded, the periods that have sessions are the last values
    lasting = periods[periods["held_until"] > periods["bought_at"]]
    if len(result.daily):
        compounded = (1 + lasting[["period_return", "period_return_after_costs"]]).prod()
        np.testing.assert_allclose(result.daily.iloc[-1], compounded, rtol=1e-10)
    assert periods["turnover"].between(0, 1 + 1e-12).all()
    if case.cost_ratio == 0:
        pd.testing.assert_series_equal(result.daily["nav"], result.daily["nav_after_costs"], check_names=False)
    else:
        assert (result.daily["nav_after_costs"] <= result.daily["nav"] * (1 + 1e-12)).all()


@settings(deadline=None, max_examples=25)
@given(cases(), st.floats(0.01, 100))
def test_unit_of_a_price_does_not_matter(case: Case, unit: float) -> None:
    scaled = case.closes.copy()
    scaled.iloc[:, 0] *= unit
    other = Case(scaled, case.signals, case.weights, case.lag, case.cost_ratio).run()
    result = case.run()
    pd.testing.assert_frame_equal(other.daily, result.daily, rtol=1e-10)
    pd.testing.assert_frame_equal(other.periods, result.periods, rtol=1e-10, atol=1e-12)
    pd.testing.assert_frame_equal(other.industries, result.industries, rtol=1e-10, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(cases(), st.integers(1, 30))
def test_later_data_change_nothing(case: Case, kept: int) -> None:
    cut = Case(case.closes.iloc[:kept], case.signals, case.weights, case.lag, case.cost_ratio)
    last = cut.closes.index[-1]
    # signals before the first session are refused, those after the last are only dropped
    known, whole = cut.run(), case.run()
    pd.testing.assert_frame_equal(known.daily, whole.daily[whole.daily.index <= last], rtol=1e-12)
    begun = whole.periods[whole.periods["bought_at"] <= last]
    at_purchase = ["bought_at", "industries_held", "turnover", "cost"]
    pd.testing.assert_frame_equal(known.periods[at_purchase], begun[at_purchase], rtol=1e-12)
    over = begun.index[begun["held_until"] <= last]
    pd.testing.assert_frame_equal(known.periods.loc[over], whole.periods.loc[over], rtol=1e-12)
    both = whole.industries.index.get_level_values("signal_date").isin(known.periods.index)
    pd.testing.assert_series_equal(known.industries["weight"], whole.industries["weight"][both], rtol=1e-12)


@settings(deadline=None, max_examples=40)
@given(cases())
def test_benchmark_against_itself(case: Case) -> None:
    periods = case.periods()
    benchmark = back_test(periods, equal_weights(periods), 0)
    # held under explicit weights of the same size: any route to the benchmark gives the same value
    explicit = pd.DataFrame(
        [
            {code: 1 / len(row) for code in row.index}
            for row in (r.dropna() for _, r in periods.period_growth.iterrows())
        ],
        index=periods.signal_dates,
    )
    again = back_test(periods, explicit, 0)
    assert benchmark.daily.notna().all(axis=None)
    np.testing.assert_allclose(again.daily["nav"] / benchmark.daily["nav"], 1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(again.periods["period_return"], benchmark.periods["period_return"], rtol=0, atol=1e-14)
    means = periods.period_growth.mean(axis=1).fillna(1) - 1
    np.testing.assert_allclose(benchmark.periods["period_return"], means, rtol=0, atol=1e-14)


@settings(deadline=None, max_examples=40)
@given(cases(), st.integers(0, 10**6))
def test_excess_is_the_published_one(case: Case, seed: int) -> None:
    periods = case.periods()
    rng = np.random.default_rng(seed)
    held = {
        signal: sorted(rng.permutation(case.closes.columns)[: rng.integers(1, case.closes.shape[1] + 1)])
        for signal in periods.signal_dates
    }
    weights = pd.DataFrame(
        [{code: 1 / len(codes) for code in codes} for codes in held.values()], index=periods.signal_dates
    )
    excess = (
        back_test(periods, weights, 0).periods["period_return"]
        - back_test(periods, equal_weights(periods), 0).periods["period_return"]
    )
    expected = [period_excess(periods.period_growth.loc[signal] - 1, held[signal]) for signal in periods.signal_dates]
    assert len(expected) == len(excess)
    np.testing.assert_allclose(excess, expected, rtol=0, atol=1e-13)


@settings(deadline=None, max_examples=15)
@given(cases(), st.integers(0, 10**6))
def test_many_weightings_at_once(case: Case, seed: int) -> None:
    periods, rng = case.periods(), np.random.default_rng(seed)
    shape = periods.period_growth.shape
    many = np.array([[rng.dirichlet(np.ones(shape[1])) for _ in range(shape[0])] for _ in range(6)])
    many = many.reshape(2, 3, *shape)
    values = period_values(periods, many, case.cost_ratio)
    nav, nav_after_costs = daily_values(periods, many, values)
    assert nav.shape == nav_after_costs.shape == (2, 3, len(periods.growth))
    for place in np.ndindex(2, 3):
        single = pd.DataFrame(many[place], index=periods.signal_dates, columns=case.closes.columns)
        result = back_test(periods, single, case.cost_ratio)
        np.testing.assert_allclose(nav[place], result.daily["nav"], rtol=1e-12)
        np.testing.assert_allclose(nav_after_costs[place], result.daily["nav_after_costs"], rtol=1e-12)
        np.testing.assert_allclose(
            values.gain_after_costs[place], result.periods["period_return_after_costs"], rtol=1e-12, atol=1e-15
        )


def closes(**columns: Sequence[float]) -> pd.DataFrame:
    length = len(next(iter(columns.values())))
    return pd.DataFrame(
        {code: np.asarray(values, dtype=float) for code, values in columns.items()}, index=DAYS[:length]
    )


def weights(signals: pd.DatetimeIndex, **columns: Sequence[float]) -> pd.DataFrame:
    return pd.DataFrame(columns, index=signals, dtype=float)


def test_by_hand() -> None:
    prices = closes(a=[10, 20, 20, 10, 10], b=[10, 10, 20, 20, 40])
    signals = DAYS[[0, 2]]
    result = back_test(lay_periods(prices, signals, 0), weights(signals, a=[0.5, 0.25], b=[0.5, 0.75]), 0.01)
    np.testing.assert_allclose(result.daily["nav"], [1, 1.5, 2, 2 * 0.875, 2 * 1.625])
    # first purchase: 1 traded; second: a 0.5 → 0.25 and b 0.5 → 0.75 traded, 0.5 in all, paid after that session
    paid = 0.99 * 0.995
    np.testing.assert_allclose(
        result.daily["nav_after_costs"], [1, 0.99 * 1.5, 0.99 * 2, paid * 2 * 0.875, paid * 2 * 1.625]
    )
    assert result.daily.index.name == "trade_date"
    first, second = (result.periods.loc[signal] for signal in signals)
    assert (first["bought_at"], first["held_until"]) == (DAYS[0], DAYS[2])
    assert (second["bought_at"], second["held_until"]) == (DAYS[2], DAYS[4])
    assert result.periods["industries_held"].tolist() == [2, 2]
    np.testing.assert_allclose(result.periods["period_return"], [1, 0.625])
    np.testing.assert_allclose(result.periods["period_return_after_costs"], [0.99 * 2 - 1, 0.995 * 1.625 - 1])
    np.testing.assert_allclose(result.periods["turnover"], [0.5, 0.25])
    np.testing.assert_allclose(result.periods["cost"], [0.01, 0.005])
    assert result.industries.index.names == ["signal_date", "industry_code"]
    np.testing.assert_allclose(result.industries["weight"], [0.5, 0.5, 0.25, 0.75])
    np.testing.assert_allclose(result.industries["end_weight"], [0.5, 0.5, 0.125 / 1.625, 1.5 / 1.625])
    np.testing.assert_allclose(result.industries["period_return"], [1, 1, -0.5, 1])


def test_one_session_later() -> None:
    prices = closes(a=[10, 20, 20, 10, 30])
    signals = DAYS[[0, 2, 4]]
    periods = lay_periods(prices, signals, 1)
    assert periods.signal_dates.equals(signals[:2].rename("signal_date"))  # the third would be bought after the end
    assert periods.bought_at.tolist() == [DAYS[1], DAYS[3]]
    assert periods.held_until.tolist() == [DAYS[3], DAYS[4]]
    assert periods.growth.index.tolist() == DAYS[1:5].tolist()
    np.testing.assert_allclose(periods.growth["a"], [1, 1, 0.5, 3])
    np.testing.assert_allclose(periods.period_growth["a"], [0.5, 3])
    result = back_test(periods, weights(signals, a=[1, 1, 1]), 0)  # the row of the dropped signal may stay
    np.testing.assert_allclose(result.daily["nav"], [1, 1, 0.5, 1.5])
    np.testing.assert_allclose(result.periods["turnover"], [0.5, 0])


def test_all_cash_stays_at_one() -> None:
    prices = closes(a=[10, 20, 5, 7], b=[NAN, 3, 4, 5])
    signals = DAYS[[0, 1, 3]]
    periods = lay_periods(prices, signals, 0)
    for empty in (
        weights(signals, a=[0, 0, 0]),
        weights(signals, a=[NAN, 0, NAN], b=[0, NAN, NAN]),
        weights(signals[:0], a=[]),
    ):
        result = back_test(periods, empty, 0.01)
        assert (result.daily == 1).all(axis=None)
        assert result.daily.shape == (4, 2)
        assert (result.periods[["period_return", "period_return_after_costs", "turnover", "cost"]] == 0).all(axis=None)
        assert result.periods["industries_held"].tolist() == [0, 0, 0]
        assert result.industries.empty


def test_into_and_out_of_cash() -> None:
    prices = closes(a=[10, 20, 40, 80, 80])
    signals = DAYS[[0, 1, 3]]
    result = back_test(lay_periods(prices, signals, 0), weights(signals[[0, 2]], a=[1, 1]), 0.1)
    np.testing.assert_allclose(result.daily["nav"], [1, 2, 2, 2, 2])
    np.testing.assert_allclose(result.daily["nav_after_costs"], [1, 1.8, 1.62, 1.62, 1.458])
    np.testing.assert_allclose(result.periods["turnover"], 0.5)


def test_missing_closes() -> None:
    prices = closes(a=[10, NAN, NAN, 40, 40, 80], b=[NAN, NAN, 5, 5, 5, 5])
    signals = DAYS[[0, 1, 3, 4]]
    periods = lay_periods(prices, signals, 0)
    # a is traded on the second session at the close of the first; b has no price for two purchases
    np.testing.assert_allclose(periods.growth["a"], [1, 1, 1, 4, 1, 2])
    np.testing.assert_allclose(periods.growth["b"], [NAN, NAN, NAN, NAN, 1, 1])
    assert equal_weights(periods).to_numpy().tolist() == [[1, 0], [1, 0], [0.5, 0.5], [0.5, 0.5]]
    result = back_test(periods, weights(signals, a=[1, 0.5, 0.5, 1], b=[0, 0.5, 0.5, 0]), 0.01)
    np.testing.assert_allclose(result.daily["nav"], [1, 1, NAN, NAN, NAN, NAN])
    np.testing.assert_allclose(result.daily["nav_after_costs"], [1, 0.99, NAN, NAN, NAN, NAN])
    np.testing.assert_allclose(result.periods["period_return"], [0, NAN, 0, 1])
    # what the period without a price is worth at its end is unknown, so is what is traded then; not so one later
    np.testing.assert_allclose(result.periods["turnover"], [0.5, 0.5, NAN, 0.5])
    np.testing.assert_allclose(result.periods["period_return_after_costs"], [-0.01, NAN, NAN, 0.98])
    second = result.industries.loc[signals[1]]
    np.testing.assert_allclose(second["period_return"], [3, NAN])
    assert second["end_weight"].isna().all()
    assert second["weight"].tolist() == [0.5, 0.5]


def test_bought_on_the_last_session() -> None:
    prices = closes(a=[10, 20])
    signals = DAYS[[0, 1]]
    result = back_test(lay_periods(prices, signals, 0), weights(signals, a=[1, 0]), 0.01)
    np.testing.assert_allclose(result.daily["nav_after_costs"], [1, 1.98])
    assert result.periods["bought_at"].iloc[1] == result.periods["held_until"].iloc[1] == DAYS[1]
    np.testing.assert_allclose(result.periods["period_return"], [1, 0])
    np.testing.assert_allclose(result.periods["period_return_after_costs"], [0.98, -0.01])


def test_one_session_and_none() -> None:
    prices = closes(a=[10])
    result = back_test(lay_periods(prices, DAYS[:1], 0), weights(DAYS[:1], a=[1]), 0.01)
    assert result.daily.to_numpy().tolist() == [[1, 1]]
    assert result.periods["period_return"].tolist() == [0]
    for periods in (
        lay_periods(prices, DAYS[:1], 1),
        lay_periods(prices, DAYS[:0], 0),
        lay_periods(prices[:0], DAYS, 0),
    ):
        nothing = back_test(periods, weights(DAYS[:1], a=[1]), 0.01)
        assert (len(nothing.daily), len(nothing.periods), len(nothing.industries)) == (0, 0, 0)
        assert list(nothing.daily) == ["nav", "nav_after_costs"]
        assert equal_weights(periods).empty


@pytest.mark.parametrize(
    ("prices", "signals", "lag", "message"),
    [
        (closes(a=[10, 20]).iloc[::-1], DAYS[:1], 0, "ascending"),
        (closes(a=[10, 20]).iloc[[0, 0]], DAYS[:1], 0, "ascending"),
        (pd.concat([closes(a=[10, 20])] * 2, axis=1), DAYS[:1], 0, "one column per industry"),
        (closes(a=[10, 20, 30]), DAYS[[1, 0]], 0, "signal dates must be ascending"),
        (closes(a=[10, 20, 30]), DAYS[[1, 1]], 0, "signal dates must be ascending"),
        (closes(a=[10, 20, 30]), DAYS[:1], -1, "the lag -1"),
        (closes(a=[10, 20, 30]).iloc[[0, 2]], DAYS[1:2], 0, "no sessions"),
        (closes(a=[10, 20, 30]).iloc[1:], DAYS[:1], 0, "no sessions"),
        (closes(a=[10, 0]), DAYS[:1], 0, "close of a on 2026-01-06 is 0.0"),
        (closes(a=[10, -1]), DAYS[:1], 0, "close of a on 2026-01-06 is -1.0"),
        (closes(a=[np.inf, 1]), DAYS[:1], 0, "close of a on 2026-01-05 is inf"),
    ],
)
def test_refused_periods(prices: pd.DataFrame, signals: pd.DatetimeIndex, lag: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lay_periods(prices, signals, lag)


@pytest.mark.parametrize(
    ("held", "cost_ratio", "message"),
    [
        (weights(DAYS[:1], a=[0.5]), 0, "sum 1 or 0"),
        (weights(DAYS[:1], a=[0.6], b=[0.6]), 0, "sum 1 or 0"),
        (weights(DAYS[:1], a=[1.5], b=[-0.5]), 0, "sum 1 or 0"),
        (weights(DAYS[:1], a=[1], b=[-1]), 0, "sum 1 or 0"),
        (weights(DAYS[:1], a=[np.inf]), 0, "sum 1 or 0"),
        (weights(DAYS[:1], a=[1], b=[-np.inf]), 0, "sum 1 or 0"),
        (weights(DAYS[1:2], a=[1]), 0, "no signals"),
        (weights(DAYS[:1], a=[1], c=[0]), 0, "'c'"),
        (weights(DAYS[[0, 0]], a=[1, 1]), 0, "one row per signal date"),
        (weights(DAYS[:1], a=[1])[["a", "a"]], 0, "one column per industry"),
        (weights(DAYS[:1], a=[1]), -0.01, "cost per amount"),
        (weights(DAYS[:1], a=[1]), 0.5, "cost per amount"),
        (weights(DAYS[:1], a=[1]), NAN, "cost per amount"),
    ],
)
def test_refused_weights(held: pd.DataFrame, cost_ratio: float, message: str) -> None:
    periods = lay_periods(closes(a=[10, 20, 30], b=[1, 1, 1]), DAYS[[0, 2]], 0)
    with pytest.raises(ValueError, match=message):
        back_test(periods, held, cost_ratio)
