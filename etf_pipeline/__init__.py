"""ETF money flows looked through to industries, and the biweekly holdings that follow from them."""

import gc

# Every program here first imports some thousand modules, all of which stay: looking for garbage among them every 700
# objects, as Python does by default, takes a fifth of that time.
gc.set_threshold(50_000, 20, 50)
