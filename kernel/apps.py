from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from kernel import model_words


class KernelConfig(AppConfig):
    name = "kernel"
    verbose_name = _("Organisation")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from kernel import checks  # noqa: F401

        model_words.speak(
            self,
            {
                "Site": (_("site"), _("sites")),
                "Membership": (_("role of a person"), _("roles of people")),
                "Agent": (_("agent"), _("agents")),
                "ApiKey": (_("API key"), _("API keys")),
                "AuditEntry": (_("audit entry"), _("audit entries")),
            },
        )
