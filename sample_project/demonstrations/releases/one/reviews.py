"""What guests have written; the second release moves it elsewhere."""

from __future__ import annotations


class Review:
    """A text."""

    def __init__(self, text: str) -> None:
        self.text = text
