from django.apps import AppConfig


class RoastopsConfig(AppConfig):
    name = "roastops"
    default_auto_field = "django.db.models.BigAutoField"
