"""Look-through as a person would do it by hand: loops over days, ETFs and constituents, from the specification."""

import itertools
import math
from collections import defaultdict
from typing import Any

import pandas as pd
from market import SPLITS, next_session

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
            known = self.known(r["available_at"])
            prices[r["etf_code"]][r["trade_date"]] = {"close": r["close"], "close_known": known}
        for r in rows["etf_nav"]:
            price = prices[r["etf_code"]].setdefault(r["trade_date"], {})
            price.update(nav=r["unit_nav"], nav_known=self.known(r["available_at"]))
        return prices

    def _observations(self, rows: dict[str, list[Any]]) -> dict[str, dict[pd.Timestamp, Any]]:
        observations: dict[str, dict[pd.Timestamp, Any]] = defaultdict(dict)
        for r in rows["etf_share"]:
            if r["shares"] > 0:
                known = self.known(r["available_at"])
                observations[r["etf_code"]][r["trade_date"]] = {"shares": r["shares"], "known": known}
        for code, of_etf in observations.items():
            # what came only with or after newer shares never was the latest
            stale = [d for d, o in of_etf.items() if any(n > d and of_etf[n]["known"] <= o["known"] for n in of_etf)]
            observations[code] = {d: o for d, o in of_etf.items() if d not in stale}
        return observations

    def _weight_sets(self, rows: dict[str, list[Any]]) -> dict[str, dict[pd.Timestamp, Any]]:
        sets: dict[str, dict[pd.Timestamp, Any]] = defaultdict(dict)
        for r in rows["index_weight"]:
            a_set = sets[r["index_code"]].setdefault(r["as_of_date"], {})
            a_set[r["stock_code"]] = (r["weight"], self.known(r["available_at"]))
        return sets

    def _values(self, rows: dict[str, list[Any]]) -> dict[pd.Timestamp, Any]:
        values: dict[pd.Timestamp, Any] = {}
        for r in rows["stock_value"]:
            a_set = values.setdefault(r["trade_date"], {})
            a_set[r["stock_code"]] = (r["float_market_value"], self.known(r["available_at"]))
        return values

    def share_factor(self, code: str, day: pd.Timestamp) -> float:
        """New shares per old one that shares and NAV of `day` have taken."""
        split = SPLITS.get(code)
        return split.factor if split and day >= split.share_day else 1.0

    def price_factor(self, code: str, day: pd.Timestamp, kind: str) -> float:
        """The same for the price of `day`: a NAV takes a split with the shares, a traded price on the ex-date."""
        split = SPLITS.get(code)
        if split and kind == "close":
            return split.factor if day >= split.ex_day else 1.0
        return self.share_factor(code, day)

    def held_value(self, code: str, day: pd.Timestamp) -> float | None:
        etf, limit = self.etfs[code], self.parameters.share_value_age_limit_sessions
        if etf["asset_scope"] != "aShareStockEtf" or day > self.last_day:
            return None
        if (pd.notna(etf["list_date"]) and day < etf["list_date"]) or (
            pd.notna(etf["delist_date"]) and day >= etf["delist_date"]
        ):
            return None
        flows = self.flows[code]
        seen = [d for d, flow in flows.items() if flow["known"] <= day and not flow["unfollowed"]]
        # the newest price known, the NAV before the close of the same day
        priced = [
            (d, kind == "nav", kind)
            for d, p in self.prices[code].items()
            for kind in ("close", "nav")
            if kind in p and p[f"{kind}_known"] <= day
        ]
        if not seen or not priced:
            return None
        share_day, (price_day, _, kind) = max(seen), max(priced)
        if self.number[day] - min(self.number[share_day], self.number[price_day]) > limit:
            return None
        value = self.observations[code][share_day]["shares"] * self.prices[code][price_day][kind]
        return value * self.price_factor(code, price_day, kind) / self.share_factor(code, share_day)

    def _flows(self, code: str) -> dict[pd.Timestamp, dict[str, Any]]:
        """By day: what the shares did since the observation before, and when that was known."""
        days = sorted(self.observations[code])
        flows = {d: self._flow(code, None, d) for d in days[:1]}
        for before, day in itertools.pairwise(days):
            flow = flows[day] = self._flow(code, before, day)
            # shares that follow one file late
            follows_late = flow["own"] == "none" and flow["jump"] and flows[before]["own"] == "suspected"
            flow["status"] = "suspected" if follows_late else flow["own"]
            if flow["status"] == "suspected":
                flow["amount"] = None
        return flows

    def _flow(self, code: str, before: pd.Timestamp | None, day: pd.Timestamp) -> dict[str, Any]:
        new, known = self.observations[code][day]["shares"], self.observations[code][day]["known"]
        flow = {"before": before, "sessions": None, "known": known, "factor": 1.0, "amount": None}
        flow |= {"jump": False, "unfollowed": False, "own": "none", "status": "none"}
        if before is None:
            return flow
        limit, old = self.parameters.flow_interval_limit_sessions, self.observations[code][before]["shares"]
        prices, growth = (self.prices[code].get(before, {}), self.prices[code].get(day, {})), new / old
        close_pair = all("close" in price for price in prices)
        # a NAV that comes late tells nothing on the day
        nav_pair = all("nav" in price and price["nav_known"] <= day for price in prices)
        sessions = self.number[day] - self.number[before]
        factor = self.share_factor(code, day) / self.share_factor(code, before)
        jump = max(growth, 1 / growth) >= self.parameters.split_suspect_ratio and sessions <= limit
        # the traded price may take a split a session after the shares: without NAVs it takes that long to tell
        waits = jump and not nav_pair
        unfollowed = factor != 1 and abs(math.log(growth / factor)) >= abs(math.log(growth))
        unfollowed |= sessions <= limit and abs(math.log(growth / factor)) >= math.log(
            self.parameters.share_limit_ratio
        )
        if unfollowed or (factor == 1 and waits and (not close_pair or day == self.last_day)):
            own = "suspected"
        elif factor != 1:
            own = "listed" if SPLITS[code].listed else "inferred"
        else:
            own = "none"
        amount = (new - old * factor) * prices[1]["nav"] if "nav" in prices[1] and sessions <= limit else None
        return {
            **flow,
            "sessions": sessions,
            "known": max(known, next_session(day)) if waits else known,
            "factor": factor,
            "amount": amount,
            "jump": jump,
            "unfollowed": unfollowed,
            "own": own,
        }

    def day_flow(self, code: str, day: pd.Timestamp) -> float | None:
        flow = self.flows[code].get(day)
        return flow["amount"] if flow and self._in_time(code, day) and flow["sessions"] == 1 else None

    def week_flow(self, code: str, day: pd.Timestamp) -> float | None:
        flow = self.flows[code].get(day)
        return flow["amount"] if flow and self._in_time(code, day) else None

    def _in_time(self, code: str, day: pd.Timestamp) -> bool:
        nav_known = self.prices[code].get(day, {}).get("nav_known", day)
        return self.flows[code][day]["known"] == day and nav_known <= day

    def industry(self, stock: str, day: pd.Timestamp) -> str | None:
        for stay in self.stays:
            if stay["stock_code"] == stock and stay["in_date"] <= day and not day >= stay["out_date"]:
                return stay["industry_code"]
        return None

    def weights(self, index: Any, day: pd.Timestamp) -> tuple[pd.Timestamp, dict[str, float]] | None:
        """The newest set of which 99 % is known, as far as it is known."""
        for as_of, a_set in sorted(self.sets.get(index, {}).items(), reverse=True):
            known = {stock: weight for stock, (weight, since) in a_set.items() if since <= day}
            if sum(known.values()) >= 0.99:
                return as_of, known
        return None

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
        """Of each stock the newest value known, of the last two days with any."""
        newest: dict[str, float] = {}
        days = [d for d, a_set in self.values.items() if any(since <= day for _, since in a_set.values())]
        for value_day in sorted(days)[-2:]:
            newest |= {stock: value for stock, (value, since) in self.values[value_day].items() if since <= day}
        return sum(value for stock, value in newest.items() if self.industry(stock, day) == industry) or None

    def exists(self, industry: str, day: pd.Timestamp) -> bool:
        stays = [s for s in self.stays if s["industry_code"] == industry]
        begun, not_over = any(s["in_date"] <= day for s in stays), any(not day >= s["out_date"] for s in stays)
        return begun and not_over

    def looked_through(self, code: str, day: pd.Timestamp) -> tuple[str, float, dict[str, float]] | None:
        """Of an ETF whose value reaches industries: by weights or theme, its value, and the part of each industry."""
        value, parts = self.held_value(code, day), self.spread(code, day)
        way = "theme" if parts[0][0] == "theme" else "weights"
        if value is None or parts[0][0] in ("enhanced", "no weights"):
            return None
        by_industry: dict[str, float] = defaultdict(float)
        for _, industry, _, part in parts:
            if industry:
                by_industry[industry] += part
        return way, value, by_industry

    def share_changes(self, day: pd.Timestamp, before: pd.Timestamp) -> tuple[float, dict[str, float]]:
        """Part of the value that compares on both days, and each industry's change of share among it."""
        sides: list[list[Any]] = [[], []]
        for code, etf in self.etfs.items():
            now, then = self.looked_through(code, day), self.looked_through(code, before)
            if now and then:
                alike = now[0] == then[0]
            else:
                alike = bool((now and etf["list_date"] > before) or (then and etf["delist_date"] <= day))
            for side, seen in zip(sides, (now, then), strict=True):
                if seen:
                    side.append((alike, *seen[1:]))
        ratios, shares = [], []
        for side in sides:
            ratios.append(sum(v for alike, v, _ in side if alike) / sum(v for _, v, _ in side))
            held = _Sums("value")
            for alike, value, parts in side:
                for industry, part in parts.items() if alike else ():
                    held.add(industry, part, value)
            total = sum(row["value"] for row in held.rows.values())
            shares.append({industry: row["value"] / total for industry, row in held.rows.items()})
        return min(ratios), {i: shares[0].get(i, 0.0) - shares[1].get(i, 0.0) for i in self.industries}

    def results(self) -> dict[str, pd.DataFrame]:
        """Tables industry_daily, stock_weekly, look_through_coverage and etf_flow as the loops find them."""
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
                if industry not in reached and not self.exists(industry, day):
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
            "etf_flow": pd.DataFrame(
                [
                    {
                        "trade_date": day,
                        "etf_code": code,
                        "split_status": flow["status"],
                        "split_factor": flow["factor"],
                        "interval_sessions": flow["sessions"],
                        "interval_net_creation_cny": flow["amount"],
                        "net_creation_cny": flow["amount"] if flow["sessions"] == 1 else None,
                    }
                    for code, flows in self.flows.items()
                    for day, flow in flows.items()
                ]
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
