"""What guests have written; the first release has it in another module."""

from __future__ import annotations


class Review:
    """A text."""

    def __init__(self, text: str) -> None:
        self.text = text
