"""ETF money flows looked through to industries, and the biweekly holdings that follow from them."""
