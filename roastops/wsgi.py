"""Django's ordinary requests; roastops/asgi.py runs this in threads beside the streams."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "roastops.settings")
application = get_wsgi_application()
