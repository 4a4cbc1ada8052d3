"""Every word of the report in Chinese and English, from `texts.yaml`.

Here: looking texts up, as markup that holds both languages. Not here: which language is seen (the page decides).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Literal

import yaml
from markupsafe import Markup, escape

from etf_pipeline.core.factors import FEW_FLOWS, FEW_WEIGHT_SETS, LOW_COVERAGE, NOT_COMPARED, ONE_ETF
from etf_pipeline.settings import FACTORS

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, Language] = ("zh", "en")
_TOKEN = re.compile(r"⟦(.+?)⟧")
_MISSING_FACTOR = re.compile(r"^(\w+) missing for (\d+) of (\d+) industries$")

_DOUBTS = {
    LOW_COVERAGE: "reason.low_coverage",
    ONE_ETF: "reason.one_etf",
    FEW_WEIGHT_SETS: "reason.few_weight_sets",
}
_FACTOR_DOUBTS = {NOT_COMPARED: "reason.not_compared", FEW_FLOWS: "reason.few_flows"}


def word(key: str) -> str:
    """Stand-in for a text inside a chart; the page replaces it by the text in its language."""
    return f"⟦{key}⟧"


@dataclass(frozen=True)
class Texts:
    """Texts by key, with names of industries and meanings of parameters; remembers which keys were asked for."""

    entries: Mapping[str, tuple[str, str]]
    industries: Mapping[str, str]
    parameters: Mapping[str, str]
    used: set[str] = field(default_factory=set)

    @classmethod
    def load(cls) -> "Texts":
        """The texts that come with the package."""
        raw = yaml.safe_load(files("etf_pipeline.reports").joinpath("texts.yaml").read_text(encoding="utf-8"))
        return cls({key: tuple(pair) for key, pair in raw["texts"].items()}, raw["industries"], raw["parameters"])

    def pair(self, key: str, **values: object) -> tuple[str, str]:
        """Chinese and English text with `values` filled in; a value may itself be such a pair.

        Raises:
            KeyError: no such text, or a value it needs is not given.
        """
        if key.startswith("industry:"):
            return self.industry(key.removeprefix("industry:"))
        self.used.add(key)
        chinese, english = self.entries[key]
        sides = [{k: v[i] if isinstance(v, tuple) else v for k, v in values.items()} for i in (0, 1)]
        if any(isinstance(value, Markup) for value in sides[0].values()):
            # as plain text its entities and elements would be shown as they are written
            return escape(chinese).format(**sides[0]), escape(english).format(**sides[1])
        return chinese.format(**sides[0]), english.format(**sides[1])

    def industry(self, name: str) -> tuple[str, str]:
        """Name of an industry; one without translation stays as it is."""
        return name, self.industries.get(name, name)

    def reason(self, stated: str) -> tuple[str, str]:
        """A reason as the pipeline states it, with the forms known here told in Chinese too."""
        parts = [self._reason_part(part) for part in stated.split("; ")]
        return "；".join(p[0] for p in parts), "; ".join(p[1] for p in parts)

    def _reason_part(self, part: str) -> tuple[str, str]:
        if missing := _MISSING_FACTOR.match(part):
            factor, count, of = missing.groups()
            return self.pair("reason.factor_missing", factor=self.pair(f"factor.{factor}"), count=count, of=of)
        if part in _DOUBTS:
            return self.pair(_DOUBTS[part])
        if (factor := part.partition(": ")[0]) in FACTORS:
            return self.pair(_FACTOR_DOUBTS[part.partition(": ")[2]], factor=self.pair(f"factor.{factor}"))
        if part == "switched off by the parameter factors":
            return self.pair("reason.switched_off")
        if part.startswith("no data: "):
            return self.pair("reason.no_data", names=part.removeprefix("no data: "))
        return part, part

    def markup(self, pair: tuple[str, str]) -> Markup:
        """Both languages side by side; the page hides one. Equal ones stand once."""
        if pair[0] == pair[1]:
            return escape(pair[0])
        spans = (Markup('<span lang="{}">{}</span>').format(*both) for both in zip(LANGUAGES, pair, strict=True))
        return Markup("").join(spans)

    def __call__(self, key: str, **values: object) -> Markup:
        """`pair` as markup."""
        return self.markup(self.pair(key, **values))

    def of_charts(self, specification: str) -> dict[str, tuple[str, str]]:
        """Texts of all stand-ins in a chart specification, by key."""
        return {key: self.pair(key) for key in sorted(set(_TOKEN.findall(specification)))}
