"""The content security policy of every answer: one for all, so it is spelt out once."""

from __future__ import annotations

import functools

from csp.constants import HEADER
from csp.middleware import CSPMiddleware
from csp.utils import build_policy
from django.http import HttpRequest
from django.http.response import HttpResponseBase


class ContentPolicyMiddleware(CSPMiddleware):
    """`settings.CONTENT_SECURITY_POLICY`. (The library words it anew for each answer, which took a view by key 4 % of
    its CPU; a page with a policy of its own may set the header itself.)"""

    @functools.cached_property
    def _policy(self) -> str:
        return str(build_policy())

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        response.setdefault(HEADER, self._policy)
        return response
