"""What a shared cache does that others cannot: one management command for each thing.

Each starts what it needs, tells what it does, says whether what it promised came true, and ends
with an error if it did not.
"""
