"""Template tags: `{% load pmemcache %}`."""
