"""`load_places` fills the database."""
