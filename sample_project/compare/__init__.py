"""Serve the sample site once per cache backend and put the figures side by side.

`python -m compare --output DIRECTORY` does all of it; see `compare.__main__`.
"""
