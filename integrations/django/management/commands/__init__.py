"""The command `manage.py pmemcache`."""
