"""WSGI entry point, for gunicorn: `gunicorn --chdir sample_project config.wsgi`.

The style sheet is served by Django itself, so that one command shows the whole site. A site on
the internet leaves static files to its web server.
"""

from __future__ import annotations

import os

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = StaticFilesHandler(get_wsgi_application())
