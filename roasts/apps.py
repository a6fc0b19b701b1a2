from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from kernel import model_words


class RoastsConfig(AppConfig):
    name = "roasts"
    verbose_name = _("Roasts")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        model_words.speak(
            self,
            {
                "Machine": (_("machine"), _("machines")),
                "ControlLimit": (_("limit of a control"), _("limits of the controls")),
                "DeviceKey": (_("device key"), _("device keys")),
                "TelemetryBatch": (_("telemetry batch"), _("telemetry batches")),
            },
        )
