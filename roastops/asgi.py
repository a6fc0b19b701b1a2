"""Placeholder until the dispatch below stands: Django alone."""

from roastops.wsgi import application as wsgi_application  # noqa: F401
