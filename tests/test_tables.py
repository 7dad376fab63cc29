"""Tables of the book."""

import pandas as pd

from alibi.book.tables import styled


def test_numbers_in_a_table_s_heads_are_as_short_as_they_are():
    heads = pd.MultiIndex.from_tuples([(64.0, "ALiBi"), (0.125, "Rotary")], names=["L", "method"])
    html = styled(pd.DataFrame({1.25: ["1.50", "2.00"], 16.0: ["3.00", ""]}, heads), "Perplexity").to_html()
    assert all(f">{head}</th>" in html for head in ("64", "0.125", "1.25", "16", "ALiBi"))
    assert "000</th>" not in html and ">1.50</td>" in html
