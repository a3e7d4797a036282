"""The site's settings, with the addresses of the demonstrations besides."""

from config.settings import *  # noqa: F403 - settings extend settings so

ROOT_URLCONF = "demonstrations.urls"
