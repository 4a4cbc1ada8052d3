"""Look-through as a person would do it by hand: loops over days, ETFs and constituents, from the specification."""

import itertools
import math
from collections import defaultdict
from typing import Any

import pandas as pd
from market import SPLIT_DAYS, SPLIT_FACTORS, next_session

from etf_pipeline.contract import load_contract
from etf_pipeline.settings import Parameters
from etf_pipeline.sources.canonical import canonical_frame

Frames = dict[str, pd.DataFrame]


class NaiveMarket:
    def __init__(self, frames: Frames) -> None:
        rows = {n: canonical_frame(load_contract()[n], f, n).to_dict("records") for n, f in frames.items()}
        self.parameters = Parameters.load()
        self.sessions = [r["trade_date"] for r in rows["trading_calendar"]]
        self.number = {day: n for n, day in enumerate(self.sessions)}
        self.last_day = max(r["trade_date"] for r in rows["etf_share"])
        weeks: dict[Any, list[pd.Timestamp]] = defaultdict(list)
        for day in self.sessions:
            weeks[tuple(day.isocalendar())[:2]].append(day)
        self.week_end = {day: days[-1] for days in weeks.values() for day in days}
        self.week_ends = sorted(set(self.week_end.values()))
        self.etfs = {r["etf_code"]: r for r in rows["etf_info"]}
        self.themes = {r["theme"]: r["industry_code"] for r in rows["theme_industry"]}
        self.stays = rows["stock_industry"]
        self.industries = {r["industry_code"] for r in rows["industry_info"]}
        self.prices = self._prices(rows)
        self.observations = self._observations(rows)
        self.sets = self._weight_sets(rows)
        self.values = self._values(rows)
        self.flows = {code: self._flows(code) for code in self.etfs}

    def known(self, moment: pd.Timestamp) -> pd.Timestamp:
        """First session decided on after `moment`: decisions fall at 09:00 of the next session."""
        for day in self.sessions[:-1]:
            if (next_session(day) + pd.Timedelta(hours=9)).tz_localize("Asia/Shanghai") >= moment:
                return day
        raise AssertionError(moment)

    def _prices(self, rows: dict[str, list[Any]]) -> dict[str, dict[pd.Timestamp, Any]]:
        prices: dict[str, dict[pd.Timestamp, Any]] = defaultdict(dict)
        for r in rows["etf_bar"]:
            prices[r["etf_code"]][r["trade_date"]] = {"close": r["close"], "known": self.known(r["available_at"])}
        for r in rows["etf_nav"]:
            price = prices[r["etf_code"]].setdefault(r["trade_date"], {})
            price.update(nav=r["unit_nav"], known=self.known(r["available_at"]))
        return prices

    def _observations(self, rows: dict[str, list[Any]]) -> dict[str, dict[pd.Timestamp, Any]]:
        observations: dict[str, dict[pd.Timestamp, Any]] = defaultdict(dict)
        for r in rows["etf_share"]:
            if r["shares"] > 0:
                price = self.prices[r["etf_code"]].get(r["trade_date"], {})
                known = self.known(r["available_at"])
                # shares and price of a day are one observation, known when both are
                observations[r["etf_code"]][r["trade_date"]] = {
                    "shares": r["shares"],
                    "known": max(known, price.get("known", known)),
                }
        return observations

    def _weight_sets(self, rows: dict[str, list[Any]]) -> dict[str, dict[pd.Timestamp, Any]]:
        sets: dict[str, dict[pd.Timestamp, Any]] = defaultdict(dict)
        for r in rows["index_weight"]:
            a_set = sets[r["index_code"]].setdefault(r["as_of_date"], {"known": pd.Timestamp.min, "weights": {}})
            a_set["known"] = max(a_set["known"], self.known(r["available_at"]))
            a_set["weights"][r["stock_code"]] = r["weight"]
        return sets

    def _values(self, rows: dict[str, list[Any]]) -> dict[pd.Timestamp, Any]:
        values: dict[pd.Timestamp, Any] = {}
        for r in rows["stock_value"]:
            a_set = values.setdefault(r["trade_date"], {"known": pd.Timestamp.min, "values": {}})
            a_set["known"] = max(a_set["known"], self.known(r["available_at"]))
            a_set["values"][r["stock_code"]] = r["float_market_value"]
        return values

    def split(self, code: str, after: pd.Timestamp, until: pd.Timestamp) -> float:
        day = SPLIT_DAYS.get(code)
        return SPLIT_FACTORS[code] if day is not None and after < day <= until else 1.0

    def held_value(self, code: str, day: pd.Timestamp) -> float | None:
        etf, limit = self.etfs[code], self.parameters.share_value_age_limit_sessions
        if etf["asset_scope"] != "aShareStockEtf" or day > self.last_day:
            return None
        if (pd.notna(etf["list_date"]) and day < etf["list_date"]) or (
            pd.notna(etf["delist_date"]) and day >= etf["delist_date"]
        ):
            return None
        seen = [d for d, o in self.observations[code].items() if o["known"] <= day]
        priced = [d for d, p in self.prices[code].items() if p["known"] <= day]
        if not seen or not priced:
            return None
        share_day, price_day = max(seen), max(priced)
        if self.number[day] - min(self.number[share_day], self.number[price_day]) > limit:
            return None
        price = self.prices[code][price_day]
        value = self.observations[code][share_day]["shares"] * price.get("nav", price.get("close"))
        return value * self.split(code, share_day, price_day) / self.split(code, price_day, share_day)

    def _flows(self, code: str) -> dict[pd.Timestamp, tuple[float, int, pd.Timestamp]]:
        """By day: flow since the observation before, sessions in between, and that observation's day."""
        flows, days, suspected_before = {}, sorted(self.observations[code]), False
        for before, day in itertools.pairwise(days):
            old, new = self.observations[code][before]["shares"], self.observations[code][day]["shares"]
            price, price_before = self.prices[code].get(day, {}), self.prices[code].get(before, {})
            sessions, factor = self.number[day] - self.number[before], self.split(code, before, day)
            judged = any(kind in price and kind in price_before for kind in ("nav", "close"))
            jump = (
                max(new / old, old / new) >= self.parameters.split_suspect_ratio
                and sessions <= self.parameters.flow_interval_limit_sessions
            )
            not_followed = abs(math.log(new / old / factor)) >= abs(math.log(new / old))
            own = not_followed if factor != 1 else jump and not judged
            suspected = own or (factor == 1 and jump and suspected_before)
            suspected_before = own
            usable = not suspected and sessions <= self.parameters.flow_interval_limit_sessions and "nav" in price
            if usable and self.observations[code][day]["known"] == day:
                flows[day] = ((new - old * factor) * price["nav"], sessions, before)
        return flows

    def day_flow(self, code: str, day: pd.Timestamp) -> float | None:
        flow = self.flows[code].get(day)
        return flow[0] if flow and flow[1] == 1 else None

    def week_flow(self, code: str, day: pd.Timestamp) -> float | None:
        flow, ended = self.flows[code].get(day), [e for e in self.week_ends if e < day]
        return flow[0] if flow and ended and flow[2] >= ended[-1] else None

    def industry(self, stock: str, day: pd.Timestamp) -> str | None:
        for stay in self.stays:
            if stay["stock_code"] == stock and stay["in_date"] <= day and not day >= stay["out_date"]:
                return stay["industry_code"]
        return None

    def weights(self, index: Any, day: pd.Timestamp) -> tuple[pd.Timestamp, dict[str, float]] | None:
        known = [as_of for as_of, a_set in self.sets.get(index, {}).items() if a_set["known"] <= day]
        return (max(known), self.sets[index][max(known)]["weights"]) if known else None

    def spread(self, code: str, day: pd.Timestamp) -> list[tuple[str, str | None, str | None, float]]:
        """(basis, industry, stock, part) of one unit of the ETF; parts sum to one."""
        etf = self.etfs[code]
        chosen = self.weights(etf["index_code"], day)
        if "增强" in etf["name"]:
            return [("enhanced", None, None, 1.0)]
        if chosen is None:
            theme = self.themes.get(etf["theme"])
            return [("theme", theme, None, 1.0)] if theme else [("no weights", None, None, 1.0)]
        stale = (day - chosen[0]).days > self.parameters.stale_weights_days
        parts: list[tuple[str, str | None, str | None, float]] = []
        for stock, weight in chosen[1].items():
            if not stock.endswith((".SH", ".SZ", ".BJ")):
                parts.append(("outside A shares", None, stock, weight))
            elif (industry := self.industry(stock, day)) is None:
                parts.append(("no industry", None, stock, weight))
            else:
                parts.append(("stale weights" if stale else "constituents", industry, stock, weight))
        return [*parts, ("weight remainder", None, None, 1 - sum(chosen[1].values()))]

    def float_value(self, industry: str, day: pd.Timestamp) -> float | None:
        known = [value_day for value_day, a_set in self.values.items() if a_set["known"] <= day]
        if not known:
            return None
        values = self.values[max(known)]["values"]
        return sum(value for stock, value in values.items() if self.industry(stock, day) == industry)

    def exists(self, industry: str, day: pd.Timestamp) -> bool:
        return any(s["industry_code"] == industry and s["in_date"] <= day for s in self.stays)

    def results(self) -> dict[str, pd.DataFrame]:
        """Tables industry_daily, stock_weekly and look_through_coverage as the loops find them."""
        daily, stocks, coverage = [], _Sums("held_value_cny", "net_creation_cny"), _Sums("value_cny")
        for day in (d for d in self.sessions if d <= self.last_day):
            sums, week_end = _Sums("held_value_cny", "net_creation_cny", "week_net_creation_cny"), self.week_end[day]
            for code in self.etfs:
                value = self.held_value(code, day)
                if value is None:
                    continue
                flow, week_flow = self.day_flow(code, day), self.week_flow(code, day)
                for basis, industry, stock, part in self.spread(code, day):
                    sums.add(industry, part, value, flow, week_flow)
                    if day == week_end:
                        coverage.add((day, basis), part, value)
                    if stock:
                        stocks.add((week_end, stock), part, value if day == week_end else None, week_flow)
            reached = {key: row for key, row in sums.rows.items() if key is not None}
            if not reached:
                continue
            total = sum(row["held_value_cny"] for row in reached.values())
            for industry in self.industries:
                if not self.exists(industry, day):
                    continue
                row = {"trade_date": day, "industry_code": industry}
                for name in ("held_value_cny", "net_creation_cny", "week_net_creation_cny"):
                    some = any(r[name] is not None for r in reached.values())
                    row[name] = (reached.get(industry, {}).get(name) or 0.0) if some else None
                row["held_share_ratio"] = row["held_value_cny"] / total
                float_value = self.float_value(industry, day)
                row["penetration_ratio"] = row["held_value_cny"] / float_value if float_value else None
                daily.append(row)
        complete = {k: r for k, r in stocks.rows.items() if k[0] <= self.last_day and set(r.values()) != {None}}
        return {
            "industry_daily": pd.DataFrame(daily),
            "stock_weekly": pd.DataFrame(
                [{"week_end": k[0], "stock_code": k[1], **row} for k, row in complete.items()]
            ),
            "look_through_coverage": pd.DataFrame(
                [{"week_end": k[0], "basis": k[1], **row} for k, row in coverage.rows.items()]
            ),
        }


class _Sums:
    """Sums by key; a sum nothing was added to stays missing."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self.rows: dict[Any, dict[str, Any]] = {}

    def add(self, key: Any, part: float, *amounts: float | None) -> None:
        row = self.rows.setdefault(key, dict.fromkeys(self._names))
        for name, amount in zip(self._names, amounts, strict=True):
            if amount is not None:
                row[name] = (row[name] or 0.0) + amount * part
