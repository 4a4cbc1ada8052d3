import re
from pathlib import Path

import pandas as pd
import pytest
from folder import edit, valid_frames, write_valid_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etf_pipeline.contract import load_contract
from etf_pipeline.sources.base import SourceError
from etf_pipeline.sources.canonical import examine
from etf_pipeline.sources.files import FilesSource
from etf_pipeline.sources.overlap import PAIRS, strangers, unknown_to_all
from etf_pipeline.sources.vocabulary import EXCHANGES

CODED = [
    ("index_weight", "stock_code"),
    ("stock_industry", "stock_code"),
    ("etf_info", "etf_code"),
    ("etf_share", "etf_code"),
    ("etf_nav", "etf_code"),
    ("etf_bar", "etf_code"),
]
OF_EXCHANGE = {name: suffix for suffix, names in EXCHANGES.items() for name in names}
STOCKS = [f"60000{n}.SH" for n in range(10)] + [f"00000{n}.SZ" for n in range(10)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(CODED), wrong=st.sampled_from([*OF_EXCHANGE, "", "OF", "CSI", "SHA"]), data=st.data())
def test_a_wrong_suffix_is_refused_or_corrected(place: tuple[str, str], wrong: str, data: st.DataObject) -> None:
    """Any suffix on any number of codes: the same codes come out, or the first wrong one is named."""
    name, column = place
    frame = valid_frames()[name]
    codes = sorted(frame[column].unique())
    changed = data.draw(st.sets(st.sampled_from(codes), min_size=1))
    spelt = {code: f"{code[:6]}.{wrong}" if wrong else code[:6] for code in changed}
    canonical, violations = examine(
        load_contract()[name], frame.assign(**{column: frame[column].replace(spelt)}), "mine.csv"
    )
    if violations:
        assert any(column in text and any(other in text for other in spelt.values()) for text in violations)
    else:
        assert sorted(canonical[column].unique()) == codes


@pytest.mark.parametrize("suffix", [".SH", ".SZ"])
def test_an_exchange_whose_codes_are_unknown_is_named(suffix: str) -> None:
    known = [code for code in STOCKS if not code.endswith(suffix)]
    known += [code for code in STOCKS if code.endswith(suffix)][:4]
    (found,) = strangers(PAIRS[0], STOCKS, known)
    assert f"only 4 of 10 codes in `stock_code` with suffix {suffix} are in stock_industry" in found


def test_half_is_enough_and_codes_elsewhere_do_not_count() -> None:
    half = [code for n, code in enumerate(STOCKS) if n % 2]
    assert not list(strangers(PAIRS[0], [*STOCKS, "00700.HK"], half))
    # a few of an exchange may be new
    assert not list(strangers(PAIRS[0], [*STOCKS, *(f"83000{n}.BJ" for n in range(9))], STOCKS))
    assert list(strangers(PAIRS[0], STOCKS[:1], []))


def test_weights_of_indices_that_no_etf_tracks() -> None:
    (found,) = unknown_to_all({"index_weight": ["000300.CSI"], "etf_info": ["000300.SH", "000905.SH"]})
    assert re.search(r"none of its 1 indices \(000300\.CSI\) is tracked by an ETF of etf_info \(000300\.SH", found)
    assert not list(unknown_to_all({"index_weight": ["000300.SH", "931000.CSI"], "etf_info": ["000300.SH"]}))
    assert not list(unknown_to_all({"index_weight": [], "etf_info": ["000300.SH"]}))


def _renumbered(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Codes well formed, and of other instruments."""
    return frame.assign(**{column: frame[column].str[:1] + "9" + frame[column].str[2:]})


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.dataset)
def test_a_folder_of_two_vocabularies_is_refused(tmp_path: Path, pair: tuple[str, str, str]) -> None:
    dataset, column, known_to = pair
    folder = write_valid_folder(tmp_path / "data")
    FilesSource(folder).validate()
    edit(folder, dataset, lambda frame: _renumbered(frame, column))
    with pytest.raises(SourceError, match=f"{dataset}: only 0 of") as refusal:
        FilesSource(folder).validate()
    assert f"are in {known_to}; not there: " in str(refusal.value)
