"""The database refuses what must never be: see `commands.records.order_guards`. History only grows."""

from django.db import migrations

from commands.records import order_guards
from kernel import append_only


class Migration(migrations.Migration):
    dependencies = [
        ("commands", "0001_initial"),
        ("kernel", "0002_append_only"),
        ("roasts", "0001_initial"),
    ]

    operations = [
        migrations.RunPython(order_guards.install, order_guards.remove),
        *append_only.protect("commands_proposaltransition"),
        *append_only.protect("commands_executionstage"),
    ]
