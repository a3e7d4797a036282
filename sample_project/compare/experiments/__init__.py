"""One module for each figure of the report beyond the tables: it measures, and says what."""
