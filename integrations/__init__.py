"""Adapters of pmemcache to frameworks; each imports its framework, nothing here imports another."""
