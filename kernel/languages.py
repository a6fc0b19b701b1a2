"""In which language the API words a field's error. Codes, statuses, field names and the record never change with it.

A person's browser is answered as it asks (`Accept-Language`); who comes with a key is a program and gets English. Pages
of the console and the admin follow the person's own choice instead: `kernel.preferences.language_of`.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils import translation


def browsers_language(request: Any) -> str:
    """A language of settings.LANGUAGES: what the browser of a person who is signed in asks for, else English."""
    principal = getattr(request, "principal", None)
    if principal is None or principal.via != "session" or "HTTP_ACCEPT_LANGUAGE" not in request.META:
        return settings.LANGUAGE_CODE
    return translation.get_language_from_request(request)
