from django.apps import AppConfig


class RoastsConfig(AppConfig):
    name = "roasts"
    default_auto_field = "django.db.models.BigAutoField"
