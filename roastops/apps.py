from django.apps import AppConfig


class RoastopsConfig(AppConfig):
    name = "roastops"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Make our Celery application the current one in every process that sets Django up, and wire the rooms."""
        from roastops import celery, observation, worker_process  # noqa: F401

        observation.start()
