from django.apps import AppConfig


class RoastopsConfig(AppConfig):
    name = "roastops"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make our Celery application the current one in every process that sets Django up."""
        from roastops import celery, worker_process  # noqa: F401
