"""AKShare as a source: the free library's functions, run in a process of their own and held to what they promise.

`worker.py` is that process, `client.py` talks to it, `functions.py` says what every function returns and in which
units, `mapping.py` turns the answers into the contract's columns, `source.py` decides what to ask for and when.
"""
