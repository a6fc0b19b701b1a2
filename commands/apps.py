from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from kernel import model_words


class CommandsConfig(AppConfig):
    name = "commands"
    verbose_name = _("Orders")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from commands import checks  # noqa: F401  (registers them)
        from commands.history.services_alerts import note_requests_refused
        from kernel import request_gate

        request_gate.on_refusals(note_requests_refused)

        model_words.speak(
            self,
            {
                "Proposal": (_("order"), _("orders")),
                "Execution": (_("execution"), _("executions")),
                "Halt": (_("halt"), _("halts")),
                "Grant": (_("grant"), _("grants")),
                "Alarm": (_("alarm"), _("alarms")),
                "Suspension": (_("“I have it”"), _("“I have it”")),
            },
        )
