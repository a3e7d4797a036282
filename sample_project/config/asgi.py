"""ASGI entry point: `uvicorn --app-dir sample_project config.asgi:application`."""

from __future__ import annotations

import os

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ["SAMPLE_ASGI"] = "1"

application = ASGIStaticFilesHandler(get_asgi_application())
