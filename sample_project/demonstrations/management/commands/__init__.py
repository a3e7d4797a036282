"""Management commands of the demonstrations."""
