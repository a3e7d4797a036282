"""What the keepers of the site look at."""
