"""Settings: the strategy's numbers (`parameters.yaml`) and where a deployment reads and writes.

`Parameters` decide what is computed and are hashed into every result. `Deployment` says from which source,
into which lake and over which days; it never changes what a given day's result is.
"""

import difflib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from datetime import date, time
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from etf_pipeline.contract import load_contract

FACTORS = ("flow", "level", "change", "divergence")
Factor = Literal["flow", "level", "change", "divergence"]


class SettingsError(ValueError):
    """A parameter or deployment setting is unknown or has a value it cannot take."""


class Parameters(BaseModel):
    """Frozen numbers of the strategy; meaning, unit, reason and source of each stand in `parameters.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scheme: Literal["citic", "sw"]
    rebalance_anchor: date
    rebalance_every_weeks: int = Field(ge=1)
    decision_sessions_after: int = Field(ge=0)
    decision_time: time
    rsi_periods: int = Field(ge=2)
    size_large_index: str
    size_small_index: str
    growth_index: str
    value_index: str
    size_lambda: float = Field(gt=0)
    growth_value_lambda: float = Field(gt=0)
    momentum_weeks: int = Field(ge=1)
    factors: tuple[Factor, ...] = Field(min_length=1)
    flow_measure: Literal["share_change", "net_subscription"]
    level_measure: Literal["auto", "penetration", "share"]
    change_weeks: int = Field(ge=1)
    top_n: int = Field(ge=1)
    missing_industries_limit: float = Field(ge=0, le=1)
    spread_minimum_ratio: float = Field(ge=0, lt=1)
    disclosed_months: int = Field(ge=0)
    disclosure_quorum: float = Field(gt=0, le=1)
    simulation_window_sessions: int = Field(ge=2)
    share_value_age_limit_sessions: int = Field(ge=0)
    flow_interval_limit_sessions: int = Field(ge=1)
    stale_weights_days: int = Field(ge=1)
    split_price_jump: float = Field(gt=0)
    split_integer_tolerance: float = Field(gt=0, lt=0.25)
    premium_limits: dict[str, Annotated[float, Field(gt=0)]]
    market_flow_limit_ratio: float = Field(gt=0)
    market_flow_limit_multiple: float = Field(gt=1)
    market_flow_window_sessions: int = Field(ge=1)
    market_flow_least_etfs: int = Field(ge=1)
    nav_carry_sessions: int = Field(ge=0, le=20)
    split_minimum_step: float = Field(gt=0, lt=0.1)
    split_dividend_limit: float = Field(gt=0, lt=1)
    split_follow_tolerance: float = Field(gt=0, lt=1)
    split_adjusted_tolerance: float = Field(gt=0, lt=0.1)
    split_suspect_ratio: float = Field(gt=1)
    share_limit_ratio: float = Field(gt=1)
    conservation_tolerance: float = Field(gt=0)
    short_file_ratio: float = Field(gt=0, lt=1)
    freshness_limit_sessions: int = Field(ge=0)
    coverage_floor: float = Field(ge=0, le=1)
    compared_floor: float = Field(ge=0, le=1)
    evidence_weight_sets: int = Field(ge=1)
    evidence_largest_etf: float = Field(gt=0, le=1)
    tracker_purity: float = Field(gt=0, le=1)
    tracker_liquidity_sessions: int = Field(ge=1)
    cost_basis_points: float = Field(ge=0)
    sessions_per_year: int = Field(ge=1)
    evidence_split: date
    ic_weeks: int = Field(ge=1)
    permutation_draws: int = Field(ge=1)
    bootstrap_draws: int = Field(ge=1)
    bootstrap_block_periods: int = Field(ge=1)
    random_seed: int = Field(ge=0)
    grid_top_n: tuple[int, ...] = Field(min_length=1)
    grid_size_lambda: tuple[float, ...] = Field(min_length=1)
    grid_growth_value_lambda: tuple[float, ...] = Field(min_length=1)
    report_language: Literal["zh", "en"]
    repull_sessions: int = Field(ge=0)
    catch_up_limit_sessions: int = Field(ge=1)
    calendar_warning_sessions: int = Field(ge=1)
    run_log_days: int = Field(ge=1)

    @classmethod
    def load(cls, overrides: Mapping[str, Any] | None = None, path: Path | None = None) -> Self:
        """Parameters of `parameters.yaml` (or `path`, a file of the same form), some replaced.

        Raises:
            SettingsError: an unknown name, or a value outside its domain; the message lists each.
        """
        values = {name: entry["value"] for name, entry in describe_parameters(path).items()}
        try:
            return cls.model_validate({**values, **(overrides or {})})
        except ValidationError as error:
            problems = "; ".join(_problem(e, list(cls.model_fields)) for e in error.errors())
            raise SettingsError(f"parameters: {problems}. Names and units: etf_pipeline/parameters.yaml") from error

    @property
    def style_indices(self) -> tuple[str, str, str, str]:
        """Codes of the indices both style regimes are made of."""
        return self.size_large_index, self.size_small_index, self.growth_index, self.value_index

    @property
    def hash(self) -> str:
        """First 12 hexadecimal digits of the SHA-256 of what the strategy uses; equal values, equal hash.

        Numbers the strategy does not use (`use: research`, `use: operations`) are left out: no holding depends on them.
        """
        used = self.model_dump(mode="json", exclude=_unused_by_strategy())
        return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()[:12]

    def differing(self, other: Self) -> dict[str, tuple[Any, Any]]:
        """Values here and there of each parameter that differs and is not one of operation alone, by name."""
        mine, theirs = self.model_dump(mode="json"), other.model_dump(mode="json")
        names = [name for name in mine if mine[name] != theirs[name] and _uses()[name] != "operations"]
        return {name: (mine[name], theirs[name]) for name in names}

    def dbt_vars(self) -> dict[str, Any]:
        """The values SQL models read with `var()`, in JSON types: parameters, and the least sum of a set of weights."""
        rule = load_contract()["index_weight"].set_sum
        assert rule
        return {**self.model_dump(mode="json", exclude=_unused_by_strategy()), "weight_set_minimum": rule.minimum}


def _problem(error: Mapping[str, Any], names: Sequence[str]) -> str:
    """What is wrong with one parameter; for a name there is not, the nearest one."""
    name = ".".join(map(str, error["loc"]))
    if error["type"] != "extra_forbidden":
        return f"{name}: {error['msg']}"
    nearest = difflib.get_close_matches(name, names, n=1)
    return f"{name}: no such parameter" + (f", perhaps {nearest[0]} is meant" if nearest else "")


def describe_parameters(path: Path | None = None) -> dict[str, dict[str, Any]]:
    """Every parameter with its value, unit, reason, source and (where the strategy does not use it) use, in order."""
    text = path.read_text(encoding="utf-8") if path else _packaged_parameters()
    return yaml.safe_load(text)


@lru_cache(maxsize=1)
def _packaged_parameters() -> str:
    return files("etf_pipeline").joinpath("parameters.yaml").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _uses() -> dict[str, str]:
    return {name: entry.get("use", "strategy") for name, entry in describe_parameters().items()}


def _unused_by_strategy() -> set[str]:
    return {name for name, use in _uses().items() if use != "strategy"}


class Deployment(BaseModel):
    """Where data comes from and goes to: source, data folder, lake, and the days to cover.

    `start` and `end` default to the span of the source. `parameters` are overrides by name. `gateways` are base URLs
    that stand in for hosts of source akshare, such as a cache: host to URL. They may hold passwords, so that they come
    from the environment alone and no file keeps them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = "sample"
    data: Path | None = None
    lake: Path = Path("lake")
    start: date | None = None
    end: date | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    gateways: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def from_env(cls) -> Self:
        """Deployment named by ETF_PIPELINE_SOURCE, _DATA, _LAKE, _START, _END, _PARAMETERS and _GATEWAYS (JSON).

        Raises:
            SettingsError: a variable that cannot be read; the message names it.
        """
        names = {name: f"ETF_PIPELINE_{name.upper()}" for name in cls.model_fields}
        given: dict[str, Any] = {n: os.environ[v] for n, v in names.items() if os.environ.get(v)}
        try:
            given |= {name: json.loads(given[name]) for name in ("parameters", "gateways") if name in given}
            return cls.model_validate(given)
        except json.JSONDecodeError as error:
            raise SettingsError(f"environment ({', '.join(names[n] for n in given)}): {error}") from error
        except ValidationError as error:
            # without the values, of which a gateway's may hold a password
            problems = "; ".join(f"{names[str(e['loc'][0])]}: {e['msg']}" for e in error.errors())
            raise SettingsError(f"environment: {problems}") from None

    def to_env(self) -> dict[str, str]:
        """Environment variables from which `from_env` makes an equal deployment."""
        values = {
            "source": self.source,
            "data": str(self.data.absolute()) if self.data else "",
            "lake": str(self.lake.absolute()),
            "start": self.start.isoformat() if self.start else "",
            "end": self.end.isoformat() if self.end else "",
            "parameters": json.dumps(self.parameters, sort_keys=True, default=str),
            "gateways": json.dumps(self.gateways, sort_keys=True) if self.gateways else "",
        }
        return {f"ETF_PIPELINE_{name.upper()}": value for name, value in values.items()}

    def load_parameters(self) -> Parameters:
        """The strategy's parameters with this deployment's overrides applied."""
        return Parameters.load(self.parameters)


class TushareSettings(BaseModel):
    """The account at Tushare and how to talk to it. Read from the environment alone, so that no file holds the token.

    `shenzhen`: whether the dates of Shenzhen's shares are held against the exchange's own report (`verified`), or
    taken as Tushare labels them. `offline` answers from stored responses only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: SecretStr = SecretStr("")
    url: str = "https://api.tushare.pro"
    points: int = 5000
    minute_bars: bool = False
    shenzhen: Literal["verified", "as_labelled"] = "verified"
    offline: bool = False

    @classmethod
    def from_env(cls) -> Self:
        """Settings from TUSHARE_TOKEN, ETF_PIPELINE_OFFLINE and ETF_PIPELINE_TUSHARE_URL, _POINTS, …

        Raises:
            SettingsError: a variable that cannot be read; the message names it.
        """
        names = {name: f"ETF_PIPELINE_TUSHARE_{name.upper()}" for name in cls.model_fields}
        names |= {"token": "TUSHARE_TOKEN", "offline": "ETF_PIPELINE_OFFLINE"}
        given = {name: os.environ[variable] for name, variable in names.items() if os.environ.get(variable)}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            problems = "; ".join(f"{names[str(e['loc'][0])]}: {e['msg']}" for e in error.errors())
            raise SettingsError(f"environment: {problems}") from None
