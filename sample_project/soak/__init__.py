"""Keep the sample site under load for a long time, kill its workers, and look for anything wrong.

`python -m soak --seconds 600` does all of it; see `soak.__main__`.
"""
