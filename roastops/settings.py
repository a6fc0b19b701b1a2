"""The one place that reads the environment. Names and bounds: roastops/environment.py; a fault refuses to boot."""

from __future__ import annotations

import os
from pathlib import Path

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from kernel import secret_files as _secret_files
from roastops import environment as _environment

BASE_DIR = Path(__file__).resolve().parent.parent
try:
    ENVIRONMENT = _environment.read(os.environ, base_dir=BASE_DIR)
except _environment.BadEnvironment as error:
    raise ImproperlyConfigured(str(error)) from None

VERSION = "0.1.0"
IS_PRODUCTION = ENVIRONMENT.name == "production"
IS_TEST = ENVIRONMENT.name == "test"
DATA_DIR = ENVIRONMENT.data_dir
DATA_DIR.mkdir(parents=True, exist_ok=True)
RUN_DIR = DATA_DIR / "run"
RUN_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
HOST_NAME = ENVIRONMENT.host_name
SPEED = ENVIRONMENT.speed
REDIS_URL = ENVIRONMENT.redis_url
IS_FLEET = bool(REDIS_URL)
REQUESTS_PER_MINUTE = ENVIRONMENT.requests_per_minute  # kernel/request_gate.py
AUDIT_KEY_FILE = ENVIRONMENT.audit_key_file or DATA_DIR / "audit-ed25519.key"

SECRET_KEY = ENVIRONMENT.secret_key or _secret_files.read_or_create(DATA_DIR / "secret.key")
DEBUG = False
ALLOWED_HOSTS = list(ENVIRONMENT.allowed_hosts) or ["*"]
CSRF_TRUSTED_ORIGINS = list(ENVIRONMENT.trusted_origins)

INSTALLED_APPS = [
    "kernel",
    "roastops",
    "drivers",
    "roasts",
    "commands",
    "evals",
    "trials",
    "agents",
    "simulation",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_prometheus",
    "django_htmx",
    "csp",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]

MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "kernel.middleware.RequestContextMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "kernel.content_policy.ContentPolicyMiddleware",
    "kernel.middleware.WellFormedMiddleware",
    "kernel.middleware.DrainMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "kernel.middleware.AdminByPasswordMiddleware",
    "kernel.middleware.PrincipalMiddleware",
    "kernel.request_gate.RequestLimitMiddleware",
    "kernel.middleware.AdminLanguageMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

ROOT_URLCONF = "roastops.urls"
WSGI_APPLICATION = "roastops.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "builtins": ["django.templatetags.i18n"],
        },
    }
]

DATABASES = {"default": _environment.database(ENVIRONMENT.database_url, DATA_DIR)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

# People sign in by session; see kernel.authentication for keys.
AUTHENTICATION_BACKENDS = ["kernel.sign_in.ThrottledBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "/sign-in/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/sign-in/"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_AGE = 12 * 3600  # a shift
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "kernel.error_pages.csrf_failure"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_PRODUCTION
SECURE_SSL_REDIRECT = IS_PRODUCTION and not ENVIRONMENT.behind_proxy
SECURE_HSTS_SECONDS = 31_536_000 if IS_PRODUCTION else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = IS_PRODUCTION
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
if ENVIRONMENT.behind_proxy:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    # The proxy redirects; the check for it is answered by the deployment, not by us.
    SILENCED_SYSTEM_CHECKS = ["security.W008"]
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "connect-src": [SELF],
        "font-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

# One body may not be larger than this; StrictSerializer and the parsers bound what is inside.
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000_000
DATA_UPLOAD_MAX_NUMBER_FIELDS = 200

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True  # pages (kernel/member_pages.py), the admin (kernel/middleware.py), field errors (kernel/languages.py)
LANGUAGES = [("en", "English"), ("de", "Deutsch")]  # as kernel.models.Language
LOCALE_PATHS = [BASE_DIR / "locale"]
FORMAT_MODULE_PATH = "kernel.formats"  # figures look alike in every language: a point, no thousands

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "staticfiles"
STATIC_ROOT.mkdir(exist_ok=True)
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
WHITENOISE_KEEP_ONLY_HASHED_FILES = False

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "kernel.authentication.KeyAuthentication",
        "kernel.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["kernel.permissions.MemberOnly"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["kernel.serializers.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "kernel.schema.HouseSchema",
    "DEFAULT_PAGINATION_CLASS": None,
    "EXCEPTION_HANDLER": "kernel.errors.answer_exception",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "DATETIME_FORMAT": "%Y-%m-%dT%H:%M:%S.%fZ",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
    "URL_FORMAT_OVERRIDE": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "RoastOps",
    "DESCRIPTION": "Software agents work real coffee roasters, under human command.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "SCHEMA_PATH_PREFIX": r"/v1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "POSTPROCESSING_HOOKS": [
        "kernel.schema.document_common_errors",
        "roastops.api_words.put_into_words",
    ],
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "kernel.log_lines.JsonFormatter"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "json"},
        "file": {"()": "kernel.log_files.handler", "formatter": "json"},  # for processes that serve: log_files.keep
    },
    "root": {"handlers": ["console", "file"], "level": ENVIRONMENT.log_level},
    "loggers": {
        "django": {"level": "WARNING"},
        "django.request": {"level": "ERROR"},
        "celery": {"level": "WARNING"},
        "uvicorn": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},  # a line for every batch that a bridge sends would bury the bridge's own words
    },
}
PROMETHEUS_EXPORT_MIGRATIONS = False
SILENCED_SYSTEM_CHECKS = [*globals().get("SILENCED_SYSTEM_CHECKS", [])]
